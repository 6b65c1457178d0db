"""Many runs as one table: models, columns of what may be compared, how sure a rank is. Numbers, no text."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.analysis.build import MetricResult, ModelScorecard, SuiteResult
from harness.analysis.claims.hardware import smallest_gpu
from harness.analysis.comparability import NONE
from harness.analysis.missing import misses_much
from harness.analysis.origins import GROUPINGS
from harness.analysis.summary import is_capability, is_of_attacks
from harness.config import ModelSpec, Openness
from harness.models.registry import Node, lineage, specs
from harness.site.reading import Store, Taken, TakenCell
from harness.site.settings import Change, SiteSettings
from harness.types import Estimate, Metric, ModelEntry, Struct

TOLD = 24
"""Characters of a protocol's value that are told; of a longer one, which is a digest, the first eight."""


@dataclass(frozen=True, eq=False)
class Number:
    """What one run says of one metric of one model."""

    result: MetricResult
    suite: SuiteResult
    run: Taken
    cells: tuple[TakenCell, ...]
    """Those that it was computed from."""
    withdrawn: Change | None = None
    corrected: Change | None = None

    @property
    def estimate(self) -> Estimate:
        """The number itself."""
        return self.result.estimate

    @property
    def again(self) -> tuple[int, int]:
        """(attempts that were scored again, of how many)."""
        return sum(c.again for c in self.cells), sum(c.published.attempts for c in self.cells)

    @property
    def created(self) -> str:
        """When its run began."""
        return self.run.created


@dataclass(frozen=True, eq=False)
class Column:
    """A metric of a benchmark under one protocol: what stands in it may be compared."""

    id: str
    suite: str
    metric: Metric
    protocol: Mapping[str, str]
    attacked: bool
    """Whether its benchmark attacks the model."""
    capability: bool
    """Whether it is a headline rate of a benchmark without attacks."""
    differs: tuple[tuple[str, str], ...] = ()
    """(field, value) of what is otherwise in other columns of the benchmark."""

    @property
    def key(self) -> str:
        """`<suite>/<metric>`."""
        return f"{self.suite}/{self.metric.name}"


@dataclass(eq=False)
class Row:
    """A model: its weights under one name, with every number that runs say of it."""

    id: str
    """In addresses."""
    model: ModelEntry
    facts: "Facts"
    apart: str = ""
    """What tells it from others of its name; empty where there are none."""
    numbers: dict[str, Number] = field(default_factory=dict)
    """Column -> the number that counts."""
    earlier: dict[str, list[Number]] = field(default_factory=dict)
    """Column -> those that do not count, the newest first: measured again since, or withdrawn."""
    ranks: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Column -> (best, worst, of how many): what the intervals leave open."""
    capability: Estimate | None = None
    """Mean over the benchmarks of `Board.capability`, where it has all of them."""

    @property
    def called(self) -> str:
        """Its name, with what tells it from others of that name."""
        return f"{self.model.name} ({self.apart})" if self.apart else self.model.name


class Facts(Struct):
    """What models are filtered by."""

    country: str
    developer: str
    base: str
    """Country of the weights that it goes back to."""
    licence: str
    openness: str
    kind: str
    """`dense`, `MoE`, or unknown."""
    total: int | None
    active: int | None
    gpu: str
    """The smallest that holds the weights."""
    quantised: str
    mode: str
    """Whether it thinks before it answers, and with what effort, as far as its engine says."""
    released: str
    measured: str
    """Day of its newest run."""


@dataclass(eq=False)
class Board:
    """Everything that a site shows."""

    settings: SiteSettings
    rows: list[Row]
    columns: list[Column]
    runs: list[Taken]
    """That were taken."""
    refused: list[Taken]
    capability: tuple[str, ...]
    """Columns whose mean is called capability: of each benchmark without attacks the one most models have."""

    @cached_property
    def main(self) -> list[Column]:
        """Those of the main protocol of each benchmark."""
        return main_columns(self.rows, self.columns)

    def having(self, column: Column) -> list[Row]:
        """The models that have a number in a column, the best first, those without a rank last."""
        rows = [row for row in self.rows if column.id in row.numbers]
        sign = -1 if column.metric.higher_is_better else 1

        def place(row: Row) -> tuple[bool, float, str]:
            value = row.numbers[column.id].estimate.value
            return column.id not in row.ranks, sign * (value or 0.0), row.model.name

        return sorted(rows, key=place)


def make_board(runs: Sequence[Taken], store: Store, settings: SiteSettings) -> Board:
    """The table of all runs that were taken."""
    taken = [run for run in runs if not run.refused]
    numbers: list[tuple[str, Number]] = []
    models: dict[str, tuple[bool, str, ModelEntry]] = {}
    for run in taken:
        for card in store.cards(run):
            identity = _identity(card.model)
            candidate = (run.signer is not None, run.created, card.model)
            models[identity] = max(candidate, models.get(identity, candidate), key=lambda one: one[:2])
            numbers += ((identity, number) for number in _numbers(card, run, settings))
    rows = _rows({identity: model for identity, (*_, model) in models.items()}, numbers)
    columns = _columns(numbers)
    for identity, number in numbers:
        _put(rows[identity], columns[_column_of(number)].id, number)
    board = Board(
        settings=settings,
        rows=sorted(rows.values(), key=lambda row: row.model.name.lower()),
        columns=_told_apart(list(columns.values()), rows.values()),
        runs=taken,
        refused=[run for run in runs if run.refused],
        capability=(),
    )
    for column in board.columns:
        _rank(column, board.rows)
    _add_capability(board)
    return board


def _rows(models: Mapping[str, ModelEntry], numbers: Sequence[tuple[str, Number]]) -> dict[str, Row]:
    """A row for each model, whose addresses are all different."""
    days: dict[str, str] = {}
    for identity, number in numbers:
        days[identity] = max(number.created, days.get(identity, ""))
    names = Counter(slug(model.name) for model in models.values())
    others = {model.name: model for model in models.values()}
    rows = {}
    for identity, model in models.items():
        own = slug(model.name)
        row_id = own if own and names[own] == 1 else f"{own}-{identity[:8]}".lstrip("-")
        rows[identity] = Row(
            id=row_id,
            model=model,
            facts=_facts(model, others, days.get(identity, "")),
            apart=_apart(model, [other for other in models.values() if other.name == model.name]),
        )
    return rows


def _apart(model: ModelEntry, same: Sequence[ModelEntry]) -> str:
    """In what a model is unlike others of its name: of that an identity is made."""

    def weights(one: ModelEntry) -> str:
        known = one.architecture.weights_hash if one.architecture else None
        return known[:8] if known else "not known"

    told: dict[str, Callable[[ModelEntry], str]] = {
        "quantised": _quantised,
        "repository": lambda one: one.repository or "not known",
        "weights": weights,
    }
    return ", ".join(
        f"{what} {tell(model)}" for what, tell in told.items() if len({tell(one) for one in same}) > 1
    )


def _put(row: Row, column: str, number: Number) -> None:
    """Let a number be the one of its place that counts, or one of the earlier ones."""
    earlier = row.earlier.setdefault(column, []) if number.withdrawn or column in row.numbers else []
    if number.withdrawn:
        earlier.append(number)
    elif (had := row.numbers.get(column)) is None:
        row.numbers[column] = number
    else:
        row.numbers[column], other = sorted((had, number), key=_counts_more, reverse=True)
        earlier.append(other)
    earlier.sort(key=lambda one: one.created, reverse=True)


def _counts_more(number: Number) -> tuple[bool, str, str]:
    """Of two numbers in one place that one counts which somebody signed, else the newer one."""
    return number.run.signer is not None, number.created, number.run.name


def _identity(model: ModelEntry) -> str:
    """Of its name and its weights, where they are known, else of where they came from."""
    weights = model.architecture.weights_hash if model.architecture else None
    quantised = _quantised(model)
    identity = "\0".join((model.name, weights or model.repository or "", quantised))
    return hashlib.sha256(identity.encode()).hexdigest()


def slug(name: str) -> str:
    """A name in an address; empty where nothing of it can be."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]


def _numbers(card: ModelScorecard, run: Taken, settings: SiteSettings) -> Iterator[Number]:
    """The numbers of a scorecard that count as its authors' do not; those are of one's own table."""
    for result in card.metrics.values():
        if result.metric.booking:
            continue
        suite = card.suites[result.suite]
        parts = suite.members or {result.suite: suite}
        cells = tuple(c for c in run.cells if c.entry.model == card.model.name and c.entry.suite in parts)

        def about(changes: Iterable[Change], suite: str = result.suite) -> Change | None:
            return next((c for c in changes if c.concerns(card.model.name, suite, run.name)), None)

        yield Number(
            result=result,
            suite=suite,
            run=run,
            cells=cells,
            withdrawn=about(settings.withdrawn),
            corrected=about(settings.corrected),
        )


def _protocol(number: Number) -> dict[str, str]:
    """What may not differ: as `comparability` has it, a chat template is a fact of the model.

    So is whether it tells the date; which date counts, and is left out for a model that tells none.
    """
    parts = number.suite.members or {number.suite.suite: number.suite}
    fields = {
        f: v for f, v in number.suite.protocol.items() if f != "chat_template" and (f, v) != ("date", NONE)
    }
    for name, part in parts.items():
        own = {
            f: v
            for f, v in part.protocol.items()
            if f not in ("chat_template", *fields) and (f, v) != ("date", NONE)
        }
        if own:
            encoded = msgspec.json.encode(own, order="sorted")
            fields[f"of {name}"] = hashlib.sha256(encoded).hexdigest()
    return fields


def _column_of(number: Number) -> str:
    fields = msgspec.json.encode(_protocol(number), order="sorted")
    identity = f"{number.result.suite}\0{number.result.metric.name}\0".encode() + fields
    return hashlib.sha256(identity).hexdigest()[:10]


def _columns(numbers: Sequence[tuple[str, Number]]) -> dict[str, Column]:
    """Capability first, then what attacks, by benchmark; of one benchmark the headlines first."""
    attacked: set[str] = set()
    for _, number in numbers:
        if is_of_attacks(number.result) or number.suite.by_injection_task:
            attacked.add(number.result.suite)
    columns: dict[str, Column] = {}
    for _, number in numbers:
        name = _column_of(number)
        if name not in columns:
            result = number.result
            columns[name] = Column(
                id=name,
                suite=result.suite,
                metric=result.metric,
                protocol=_protocol(number),
                attacked=result.suite in attacked,
                capability=is_capability(result, attacked),
            )
    return columns


def _told_apart(columns: list[Column], rows: Iterable[Row]) -> list[Column]:
    """Columns in their order, each with the fields in which it is unlike others of its metric."""
    sizes = Counter(name for row in rows for name in row.numbers)
    by_key: dict[str, list[Column]] = {}
    for column in columns:
        by_key.setdefault(column.key, []).append(column)
    distinct = []
    for same in by_key.values():
        fields = {f for column in same for f in column.protocol}
        unlike = sorted(f for f in fields if len({column.protocol.get(f, NONE) for column in same}) > 1)
        for column in same:
            values = ((f, column.protocol.get(f, NONE)) for f in unlike)
            told = tuple((f, value if len(value) <= TOLD else value[:8]) for f, value in values)
            distinct.append(replace(column, differs=told))

    def place(column: Column) -> tuple[bool, bool, str, bool, str, int, str]:
        metric = column.metric
        return (
            not metric.headline,
            column.attacked,
            column.suite.lower(),
            metric.hijack,
            metric.name,
            -sizes[column.id],
            column.id,
        )

    return sorted(distinct, key=place)


def _rank(column: Column, rows: Sequence[Row]) -> None:
    """The ranks that the intervals of a column leave open.

    One model is above another where the 95% interval of their difference, by MOVER from both intervals
    (`stats.difference`), is on one side of 0. So a rank is from 1 + the models above to all but those below.
    A model that misses much has none, and is nobody's rival; nor has anybody where neither way is better.
    """
    if column.metric.higher_is_better is None:
        return
    ranked = [
        (row, number.estimate)
        for row in rows
        if (number := row.numbers.get(column.id)) is not None
        and number.estimate.value is not None
        and number.estimate.low is not None
        and number.estimate.high is not None
        and not misses_much(number.estimate)
    ]
    if not ranked:
        return
    values: NDArray[np.float64] = np.array([(e.value, e.low, e.high) for _, e in ranked], dtype=np.float64)
    if not column.metric.higher_is_better:
        values = -values[:, [0, 2, 1]]
    value, low, high = values.T
    # above[i, j]: model i is above model j
    above = (value[:, None] - value) > np.hypot(value[:, None] - low[:, None], high - value)
    for place, (row, _) in enumerate(ranked):
        best = 1 + int(above[:, place].sum())
        worst = len(ranked) - int(above[place].sum())
        row.ranks[column.id] = (best, worst, len(ranked))


def main_columns(rows: Sequence[Row], columns: Iterable[Column]) -> list[Column]:
    """Of some columns those of the main protocol of each benchmark, the one that most models have."""
    under: dict[tuple[str, tuple[tuple[str, str], ...]], list[Column]] = {}
    for column in columns:
        under.setdefault((column.suite, tuple(sorted(column.protocol.items()))), []).append(column)
    main: dict[str, tuple[int, list[Column]]] = {}
    for (suite, _), own in under.items():
        models = sum(any(column.id in row.numbers for column in own) for row in rows)
        if suite not in main or models > main[suite][0]:
            main[suite] = models, own
    return [column for _, own in main.values() for column in own]


def _add_capability(board: Board) -> None:
    """The mean over benchmarks without attacks, of models that have all of them."""
    able = [c for c in board.columns if c.capability and any(c.id in row.numbers for row in board.rows)]
    board.capability = tuple(column.id for column in main_columns(board.rows, able))
    for row in board.rows:
        own = [row.numbers[name].estimate for name in board.capability if name in row.numbers]
        whole = len(own) == len(board.capability) and all(e.value is not None for e in own)
        if own and whole and not any(misses_much(e) for e in own):
            row.capability = own[0] if len(own) == 1 else stats.average(own)


# Facts


@cache
def registry_nodes() -> dict[str, Node]:
    """Hub id -> what it derives from, of the registry."""
    return lineage(specs())


@cache
def _specs() -> dict[str, ModelSpec]:
    return {
        spec.repository.lower(): spec
        for node in registry_nodes().values()
        if (spec := node.spec) and spec.repository
    }


UNSTATED = "not stated"


def _facts(model: ModelEntry, models: Mapping[str, ModelEntry], day: str) -> Facts:
    architecture = model.architecture
    spec = _specs().get(model.repository.lower()) if model.repository else None
    return Facts(
        country=model.origin.country if model.origin.stated else UNSTATED,
        developer=model.origin.developer,
        base=GROUPINGS["base"](model, models).replace("ZZ", UNSTATED),
        licence=model.origin.licence or "unknown",
        openness=_openness(spec.openness if spec else Openness()),
        kind=GROUPINGS["type"](model, models),
        total=architecture.total_params if architecture else None,
        active=architecture.active_params if architecture else None,
        gpu=smallest_gpu(architecture.weight_bytes if architecture else 0),
        quantised=_quantised(model),
        mode=_mode(model),
        released=model.origin.release_date or "unknown",
        measured=day[:10],
    )


def _openness(openness: Openness) -> str:
    published = [what for what in ("weights", "code", "data") if getattr(openness, what)]
    return " + ".join(published) or "unknown"


def _quantised(model: ModelEntry) -> str:
    details = model.engine.details if model.engine else {}
    value = details.get("quantization", "None")
    return "no" if value in ("None", "none", "") else value


def _mode(model: ModelEntry) -> str:
    details = model.engine.details if model.engine else {}
    parts = [
        f"{name} {value}"
        for name, value in sorted(details.items())
        if re.search("think|reasoning_effort", name)
    ]
    parser = details.get("reasoning_parser", "")
    return ", ".join(parts) or ("thinking" if parser not in ("", "None", "none") else "not said")
