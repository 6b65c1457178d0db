"""One model in several ways side by side: asked by variants of a run, or quantised, and what each changes."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

from harness import stats
from harness.analysis.build import ModelScorecard
from harness.analysis.compare import difference, is_base
from harness.analysis.divergence import Divergence, diverge, has_options
from harness.analysis.summary import Column, Row, Summary
from harness.types import CellEntry, Estimate, Manifest, Struct

ASKED, DRAWN = "variant.", "sampling."
"""How fields of a protocol begin that say in which way a model is asked, and how its replies are drawn."""
FIRST = ("variant.mode", "variant.reasoning_effort", "variant.thinking_token_budget", "sampling.temperature")
"""Fields that are rather what was varied than what follows from it."""
PRECISION = "precision"
AS_USUAL = "as usual"
"""The value of a field that a model does not have."""

Options = Callable[[CellEntry], Mapping[str, Sequence[float]]]
"""Cell -> sample -> log-likelihoods of its options."""


class Way(Struct):
    """A model of a run, against the first of its kind."""

    row: Row
    """Of the summary."""
    values: dict[str, str]
    """What was varied -> its value here."""
    changes: tuple[Estimate | None, ...]
    """By column of the summary: less the first, paired by sample, mean over the benchmarks that both
    have. None for the first itself, and where they have none."""
    divergence: Divergence | None = None
    """From the first, mean over the multiple-choice suites that both have; None where there is none."""


class Ways(Struct):
    """Models of a run that are one: the first is what others are compared with."""

    model: str
    """That they are."""
    varied: dict[str, tuple[str, ...]]
    """What was varied -> its values in order."""
    follows: tuple[str, ...]
    """Other fields that differ, by what was varied."""
    ways: tuple[Way, ...]

    @property
    def crossed(self) -> bool:
        """Whether every combination of values is there, once each."""
        combinations = {tuple(way.values.values()) for way in self.ways}
        return len(combinations) == len(self.ways) == prod(map(len, self.varied.values()))


def side_by_side(summary: Summary, manifest: Manifest, options: Options | None) -> tuple[Ways, ...]:
    """Every model that a run has in several ways.

    Args:
        summary: of its models.
        manifest: what the run says about itself.
        options: reads the log-likelihoods of a cell; None leaves divergences out.
    """
    by_name = {row.card.model.name: row for row in summary.rows}
    order = [by_name[name] for name in manifest.models if name in by_name]
    cells = {(c.model, c.suite): c for c in manifest.cells.values() if has_options(c)}
    return (*_asked(order, summary.columns), *_quantised(order, summary.columns, cells, options))


def _asked(order: Sequence[Row], columns: Sequence[Column]) -> Iterator[Ways]:
    """Variants of one checkpoint."""
    groups: dict[str, list[Row]] = {}
    for row in order:
        groups.setdefault(row.card.model.variant_of or row.card.model.name, []).append(row)
    for name, group in groups.items():
        fields = _differing(group)
        varied, follows = _varied(fields, len(group))
        if varied:
            places = [
                [values.index(fields[field][i]) for field, values in varied.items()]
                for i in range(len(group))
            ]
            rows = sorted(range(len(group)), key=places.__getitem__)
            ways = [
                Way(
                    row=group[i],
                    values={field: fields[field][i] for field in varied},
                    changes=_changes(group[rows[0]].card, group[i].card, columns),
                )
                for i in rows
            ]
            yield Ways(model=name, varied=varied, follows=follows, ways=tuple(ways))


def _differing(group: Sequence[Row]) -> dict[str, list[str]]:
    """Field that says how models are asked -> its value of each, by the first suite in which they differ."""
    differing: dict[str, list[str]] = {}
    for suite in group[0].card.cells:
        asked = [_fields(row.card.cells[suite].protocol) for row in group if suite in row.card.cells]
        for field in sorted({field for fields in asked for field in fields}):
            values = [fields.get(field, AS_USUAL) for fields in asked]
            if len(values) == len(group) and len({*values}) > 1:
                differing.setdefault(field, values)
    return differing


def _fields(protocol: Mapping[str, str]) -> dict[str, str]:
    """How a suite asked a model, each keyword of its template and each field of sampling by itself."""
    fields = {field: value for field, value in protocol.items() if field.startswith((ASKED, DRAWN))}
    for outer in ("sampling", "chat_template_kwargs"):
        written = json.loads(fields.pop(f"{ASKED}{outer}", "{}")).items()
        texts = {f"{outer}.{key}": v if isinstance(v, str) else json.dumps(v) for key, v in written}
        fields = texts | fields  # what the suite used counts, not what the variant wanted
    return fields


def _varied(
    fields: Mapping[str, Sequence[str]], models: int
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """(fields that tell the models apart -> their values, those that only follow from them)."""
    varied: dict[str, tuple[str, ...]] = {}
    follows: list[str] = []
    for field in sorted(fields, key=_importance):
        known = [tuple(fields[other][i] for other in varied) for i in range(models)]
        if len({*known}) == len({*zip(known, fields[field], strict=True)}):
            follows.append(field)
        else:
            varied[field] = tuple(sorted({*fields[field]}, key=_in_order))
    return varied, tuple(follows)


def _importance(field: str) -> tuple[int, str]:
    return (FIRST.index(field) if field in FIRST else len(FIRST), field)


def _in_order(value: str) -> tuple[bool, float, str]:
    """Numbers by their size, then words."""
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _quantised(
    order: Sequence[Row],
    columns: Sequence[Column],
    cells: Mapping[tuple[str, str], CellEntry],
    options: Options | None,
) -> Iterator[Ways]:
    """A model with those of its run that hold the same weights in another precision."""
    for base in order:
        group = [base, *(row for row in order if _is_requantised(base.card, row.card))]
        if len(group) > 1:
            values = [_precision(row.card) for row in group]
            ways = [
                Way(
                    row=row,
                    values={PRECISION: value},
                    changes=_changes(base.card, row.card, columns),
                    divergence=_divergence(base.card.model.name, row.card.model.name, cells, options),
                )
                for row, value in zip(group, values, strict=True)
            ]
            varied = {PRECISION: tuple(dict.fromkeys(values))}
            yield Ways(model=base.card.model.name, varied=varied, follows=(), ways=tuple(ways))


def _is_requantised(base: ModelScorecard, card: ModelScorecard) -> bool:
    """Whether a checkpoint was made of another, has as many parameters, and stores them in another way."""
    ours, theirs = base.model.architecture, card.model.architecture
    if not is_base(base.model, card.model) or _precision(base) == _precision(card):
        return False
    return not (ours and theirs) or abs(ours.total_params - theirs.total_params) <= 0.02 * ours.total_params


def _precision(card: ModelScorecard) -> str:
    """How its weights are stored, as the engine said; their kind of number where they are not quantised."""
    details = card.model.engine.details if card.model.engine else {}
    return details.get("quantization") or details.get("dtype", "not loaded yet")


def _changes(
    first: ModelScorecard, card: ModelScorecard, columns: Sequence[Column]
) -> tuple[Estimate | None, ...]:
    changes: list[Estimate | None] = []
    for column in columns:
        both = [key for key in column.keys if key in first.metrics and key in card.metrics]
        gaps = [difference(first.metrics[key], card.metrics[key]) for key in both if card is not first]
        changes.append((gaps[0] if len(gaps) == 1 else stats.average(gaps)) if gaps else None)
    return tuple(changes)


def _divergence(
    base: str, name: str, cells: Mapping[tuple[str, str], CellEntry], options: Options | None
) -> Divergence | None:
    """Mean over the suites of choices that both were asked alike."""
    if options is None or name == base:
        return None
    both = [
        (cells[base, suite], cell)
        for (model, suite), cell in cells.items()
        if model == name and (base, suite) in cells and cells[base, suite].protocol == cell.protocol
    ]
    divergences = [diverge(options(own), options(cell)) for own, cell in both]
    if not divergences:
        return None
    return Divergence(
        kl=stats.average([one.kl for one in divergences]),
        same_choice=stats.average([one.same_choice for one in divergences]),
    )
