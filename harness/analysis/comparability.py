"""What may be compared: the same suite under the same protocol. Whatever else differs is said beside it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from harness.analysis.build import ModelScorecard
from harness.errors import UserError
from harness.types import Manifest, ModelEntry, Struct

NONE = "none"
"""The value of a field that a model does not have."""

TELLING = ("engine", "dtype", "quantization", "kv_cache_dtype", "max_model_len", "device")
"""Facts of an engine that are given with their values where they differ; of others the names are given."""


class Setting(Struct):
    """A field, and the values that it had for the models that are compared."""

    field: str
    values: dict[str, tuple[str, ...]]
    """Value -> the models that had it."""
    suites: tuple[str, ...] = ()
    """Where, nothing for what holds of a model in all suites."""

    @property
    def differs(self) -> bool:
        """Whether the models had more than one value."""
        return len(self.values) > 1

    @property
    def by_model(self) -> str:
        """`0 for aster-dense, 5 for 3 models`."""
        return ", ".join(f"{value} for {_models(models)}" for value, models in self.values.items())


def _models(models: Sequence[str]) -> str:
    return f"{len(models)} models" if len(models) > 2 else " and ".join(models)


class Differences(Struct):
    """What differs between models besides their protocols, and may move their scores."""

    engines: tuple[Setting, ...] = ()
    """Facts of engines, those of `TELLING` first."""
    attempts: tuple[Setting, ...] = ()
    """At each sample, by suite."""


class RunDifference(Struct):
    """What differs between two runs."""

    what: Literal["Packages", "Machines"]
    values: dict[str, tuple[str, str]]
    """Package, or fact of the machine -> what it was in each run."""


Weights = Literal["others under one name", "the same under two names"]
"""What is odd about the weights of two models."""


def check_protocols(cards: Sequence[ModelScorecard], allow: Collection[str] = ()) -> tuple[Setting, ...]:
    """What was allowed to differ between models that have a suite in common.

    Args:
        cards: that are to be compared.
        allow: protocol fields that may differ.

    Raises:
        UserError: a suite was run under different protocols, in a field that may not differ.
    """
    differing = [setting for setting in _by_suite(cards) if _is_unlike(setting)]
    refused = [s for s in differing if s.field not in allow and not _is_chosen(s, cards)]
    if refused:
        suite = refused[0].suites[0]
        a, b = (models[0] for models in list(refused[0].values.values())[:2])
        fields = sorted(setting.field for setting in refused if setting.suites[0] == suite)
        raise UserError(
            f"suite {suite!r} was run under different protocols on {a} and {b} "
            f"(fields that differ: {', '.join(fields)}): run it again with the same settings, or "
            f"give {' '.join(f'--allow {field}' for field in fields)} to compare all the same"
        )
    return _merged(differing, cards)


def _is_unlike(setting: Setting) -> bool:
    """Whether what differs makes numbers unlike.

    What a chat template does is a fact about its model. So is whether it writes the date, but not which.
    """
    if setting.field == "chat_template":
        return False
    return len(setting.values.keys() - {NONE}) > 1 if setting.field == "date" else setting.differs


def _is_chosen(setting: Setting, cards: Sequence[ModelScorecard]) -> bool:
    """Whether what differs is what variants were made for, to be put side by side under names of their own.

    Of two runs of one name neither is a variant of the other. How replies are drawn is chosen where a variant
    has a sampling of its own; all others have to agree.
    """
    if len({card.model.name for card in cards}) < len(cards):
        return False
    if not setting.field.startswith("sampling."):
        return setting.field.startswith("variant.")
    (suite,) = setting.suites
    own = {
        card.model.name
        for card in cards
        if suite in card.cells and "variant.sampling" in card.cells[suite].protocol
    }
    return sum(not own.issuperset(models) for models in setting.values.values()) < 2


def _labels(cards: Sequence[ModelScorecard]) -> list[str]:
    """What the models are called beside each other: one of two runs may have the name of the other's."""
    names = [card.model.name for card in cards]
    return [f"{name} of the other run" if name in names[:place] else name for place, name in enumerate(names)]


def protocols(cards: Sequence[ModelScorecard]) -> tuple[Setting, ...]:
    """Every field of every suite's protocol with its values, suites that agree in one entry."""
    return _merged(_by_suite(cards), cards)


def _by_suite(cards: Sequence[ModelScorecard]) -> list[Setting]:
    """A setting for each suite and field, by suite and field."""
    cells = [(name, card.cells) for name, card in zip(_labels(cards), cards, strict=True)]
    suites: dict[str, dict[str, Mapping[str, str]]] = {}
    for model, own in cells:
        for name, result in own.items():
            suites.setdefault(name, {})[model] = result.protocol
    return [
        _setting(field, {model: fields.get(field, NONE) for model, fields in by_model.items()}, (suite,))
        for suite, by_model in sorted(suites.items())
        for field in sorted({field for fields in by_model.values() for field in fields})
    ]


def _setting(field: str, values: Mapping[str, str], suites: tuple[str, ...] = ()) -> Setting:
    """Args: values: of each model."""
    models: dict[str, list[str]] = {}
    for model in sorted(values):
        models.setdefault(values[model], []).append(model)
    return Setting(field=field, values={v: tuple(models[v]) for v in sorted(models)}, suites=suites)


def _merged(settings: Iterable[Setting], cards: Sequence[ModelScorecard]) -> tuple[Setting, ...]:
    """Suites in which a field had the same values for the same models, in one entry."""
    alike: dict[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], list[str]] = {}
    for one in settings:
        alike.setdefault((one.field, tuple(one.values.items())), []).extend(one.suites)
    wholes = {
        name: set(whole.members) for card in cards for name, whole in card.suites.items() if whole.members
    }
    return tuple(
        Setting(field=field, values=dict(values), suites=_benchmarks(suites, wholes))
        for (field, values), suites in sorted(alike.items(), key=lambda item: (item[1][0], item[0][0]))
    )


def _benchmarks(suites: Sequence[str], wholes: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Suites, with the name of a benchmark in place of all of its suites."""
    names = list(suites)
    for name, members in wholes.items():
        if set(members) <= set(names):
            names = [suite for suite in names if suite not in members] + [name]
    return tuple(sorted(names))


def engine_settings(cards: Sequence[ModelScorecard]) -> tuple[Setting, ...]:
    """Every fact of the models' engines with its values; nothing of models that were never loaded."""
    engines = {name: card.model.engine for name, card in zip(_labels(cards), cards, strict=True)}
    facts = {
        name: {"engine": f"{engine.name} {engine.version}", **engine.details}
        for name, engine in engines.items()
        if engine is not None
    }
    fields = sorted({field for own in facts.values() for field in own}, key=_telling_first)
    return tuple(
        _setting(field, {model: own.get(field, "not said") for model, own in facts.items()})
        for field in fields
    )


def _telling_first(field: str) -> tuple[int, str]:
    return (TELLING.index(field) if field in TELLING else len(TELLING)), field


def differences(cards: Sequence[ModelScorecard]) -> Differences:
    """What differs between models besides their protocols."""
    labelled = [*zip(_labels(cards), cards, strict=True)]
    attempts = [
        _setting(
            "attempts",
            {name: str(card.cells[suite].attempts) for name, card in labelled if suite in card.cells},
            (suite,),
        )
        for suite in sorted({suite for card in cards for suite in card.cells})
    ]
    return Differences(
        engines=tuple(setting for setting in engine_settings(cards) if setting.differs),
        attempts=_merged([setting for setting in attempts if setting.differs], cards),
    )


def run_differences(a: Manifest, b: Manifest) -> Iterator[RunDifference]:
    """What differs between two runs: the packages that they used, and their machines."""
    packages = [{"harness": run.harness_version, **run.versions} for run in (a, b)]
    sides: dict[Literal["Packages", "Machines"], tuple[Mapping[str, str], Mapping[str, str]]] = {
        "Packages": (packages[0], packages[1]),
        "Machines": (a.hardware, b.hardware),
    }
    for what, (ours, theirs) in sides.items():
        both = {
            key: (ours.get(key, NONE), theirs.get(key, NONE)) for key in sorted(ours.keys() | theirs.keys())
        }
        values = {key: pair for key, pair in both.items() if pair[0] != pair[1]}
        if values:
            yield RunDifference(what=what, values=values)


def odd_weights(a: ModelEntry, b: ModelEntry) -> Weights | None:
    """Whether there are other weights under one name, or the same under two; None where neither is known."""
    one, other = a.architecture, b.architecture
    if one is None or other is None:
        return None
    hashes = (one.weights_hash, other.weights_hash)
    known = None not in hashes
    unlike = hashes[0] != hashes[1] if known else one != other
    if a.name == b.name and unlike:
        return "others under one name"
    return "the same under two names" if a.name != b.name and known and not unlike else None
