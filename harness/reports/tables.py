"""What the scorecards say, as plain tables and sentences. How they look is for the formats to say.

Text here is raw: names come from configs and may hold anything, every format escapes them its own way.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import fsum

from msgspec.structs import replace

from harness.analysis.build import MetricResult, ModelScorecard
from harness.analysis.comparability import Setting
from harness.analysis.origins import CALLED, OriginMetric, OriginScorecard
from harness.analysis.pooled import Pooled, PooledRate
from harness.analysis.summary import Column, Row, Summary
from harness.reports import text
from harness.reports.words import plain_name
from harness.types import Estimate, Metric, Struct, Usage

BOOKS = "As its authors count, for comparison only: {}"
"""Title of a table of metrics with a `booking`."""
POOLED = "AgentDojo's suites, pooled"
TASK_COLUMNS = ("Injection task", "Harm", "Model")


WIDE = 3
"""Models, more than which get narrow columns."""


class Table(Struct):
    """A table of raw text. A cell may have two lines."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def ordered(cards: Sequence[ModelScorecard]) -> list[ModelScorecard]:
    """By country, developer and name, so that the models of an origin stand together."""
    return sorted(cards, key=lambda c: (c.model.origin.country, c.model.origin.developer, c.model.name))


def summary_table(summary: Summary) -> Table:
    """A row a model, the best first: what all its benchmarks come to."""
    header = ("Model", "Origin", *(f"{plain_name(c.metric)}{text.arrow(c.metric)}" for c in summary.columns))
    rows = tuple(_summary_row(row, summary.columns) for row in summary.rows)
    several = any(len(column.keys) > 1 for column in summary.columns)
    title = "Models, the best first" + (": means over benchmarks, each counting the same" if several else "")
    return Table(title=title, header=(*header, "Seconds/attempt"), rows=rows)


def _summary_row(row: Row, columns: Sequence[Column]) -> tuple[str, ...]:
    cells = []
    for estimate, measured, column in zip(row.estimates, row.measured, columns, strict=True):
        cell = _estimate_cell(estimate, column.metric)
        of = len(column.keys)
        cells.append(cell + (f"\n{measured} of {of} benchmarks" if 0 < measured < of else ""))
    seconds = "" if row.seconds_per_attempt is None else f"{row.seconds_per_attempt:.3g}"
    unranked = "" if row.ranked else "\n(not ranked)"
    return (_model_cell(row.card, unranked), row.card.model.origin.country, *cells, seconds)


def headline_table(summary: Summary, cards: Sequence[ModelScorecard]) -> Table:
    """A row a headline metric, a column a model in the order of the summary."""
    shown = {key: metric for key, metric in metrics_of(cards).items() if metric.headline} or metrics_of(cards)
    models = [row.card for row in summary.rows]
    cell = _metric_cell if len(models) <= WIDE else _narrow_cell
    rows = tuple(
        (f"{key}{text.arrow(metric)}", *(cell(card.metrics.get(key)) for card in models))
        for key, metric in sorted(shown.items())
    )
    header = ("Benchmark and metric", *(_model_cell(card) for card in models))
    return Table(title="Benchmarks", header=header, rows=rows)


def _narrow_cell(result: MetricResult | None) -> str:
    """A metric with its interval and what is missing on lines of their own, for a table of many models."""
    value, *rest = _metric_cell(result).split("\n")
    value, bracket, interval = value.partition(" [")
    count, missing, lost = rest[0].partition(" (") if rest else ("", "", "")
    lines = (f"{value} {count}".rstrip(), bracket.lstrip() + interval, missing.lstrip() + lost)
    return "\n".join(line for line in lines if line)


def member_tables(cards: Sequence[ModelScorecard]) -> list[Table]:
    """One table a benchmark of several suites: a row a suite and model, and lm-eval's own averages."""
    names = sorted({name for card in cards for name, suite in card.suites.items() if suite.members})
    return [_member_table(cards, name) for name in names]


def _member_table(cards: Sequence[ModelScorecard], name: str) -> Table:
    measured = [(card, card.suites[name]) for card in ordered(cards) if name in card.suites]
    suites = sorted({suite for _, whole in measured for suite in whole.members})
    metrics = [metric for metric in metrics_of(cards, name).values() if metric.headline]
    rows = [
        (suite, card.model.name, *(_metric_cell(card.members.get(f"{suite}/{m.name}")) for m in metrics))
        for suite in suites
        for card, _ in measured
    ]
    averages = [
        (
            f"lm-eval's own {key}",
            card.model.name,
            # A share, as lm-eval prints it.
            "not measured" if value is None else f"{value:.4f} (lm-eval gives no n)",
            *[""] * (len(metrics) - 1),
        )
        for card, whole in measured
        for key, value in whole.group_averages.items()
    ]
    header = ("Suite", "Model", *(_column_name(metric) for metric in metrics))
    return Table(title=f"{name}, suite by suite", header=header, rows=tuple([*averages, *rows]))


def models_table(cards: Sequence[ModelScorecard]) -> Table:
    """Who was measured, and on what."""
    header = ("Model", "Origin", "Developer", "Type", "Params total/active", "Licence", "Engine")
    return Table(title="Models", header=header, rows=tuple(_model_row(card) for card in ordered(cards)))


def _model_row(card: ModelScorecard) -> tuple[str, ...]:
    origin, architecture, engine = card.model.origin, card.model.architecture, card.model.engine
    bases = f"\nfrom {', '.join(origin.base_models)}" if origin.base_models else ""
    weights = f"\n{text.format_bytes(architecture.weight_bytes)}" if architecture else ""
    return (
        card.model.name + bases,
        origin.country,
        origin.developer,
        text.format_type(architecture),
        text.format_params(architecture) + weights,
        (origin.licence or "unknown") + (f"\n{origin.release_date}" if origin.release_date else ""),
        f"{engine.name} {engine.version}" if engine else "not loaded yet",
    )


def suite_names(cards: Sequence[ModelScorecard]) -> list[str]:
    """Every suite that some model was given."""
    return sorted({suite for card in cards for suite in card.suites})


def metrics_of(cards: Sequence[ModelScorecard], suite: str | None = None) -> dict[str, Metric]:
    """`<suite>/<metric>` -> the harness's own metric, of one suite or of all; headline metrics come first."""
    metrics = {key: metric for key, metric in _all_metrics(cards, suite).items() if not metric.booking}
    return dict(sorted(metrics.items(), key=lambda item: not item[1].headline))


def bookings_of(cards: Sequence[ModelScorecard], suite: str | None = None) -> dict[str, Metric]:
    """`<suite>/<metric>` -> metric that counts as a benchmark's authors do (`Metric.booking`)."""
    return {key: metric for key, metric in _all_metrics(cards, suite).items() if metric.booking}


def _all_metrics(cards: Sequence[ModelScorecard], suite: str | None) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for card in cards:
        for key, result in card.metrics.items():
            if suite in (None, result.suite):
                metrics.setdefault(key, result.metric)
    return metrics


def suite_table(cards: Sequence[ModelScorecard], suite: str) -> Table:
    """One suite: a row a model, a column a metric of the harness."""
    return _suite_table(cards, suite, metrics_of(cards, suite), suite)


def booking_tables(cards: Sequence[ModelScorecard]) -> list[Table]:
    """Metrics that count as a benchmark's authors do: pooled, by suite, and by injection task."""
    by_suite = [(suite, bookings_of(cards, suite)) for suite in suite_names(cards)]
    whole = [_suite_table(cards, suite, books, BOOKS.format(suite)) for suite, books in by_suite if books]
    split = [_injection_task_table(cards, suite, books) for suite, books in by_suite if books]
    return [
        *pooled_tables(cards),
        *whole,
        *(replace(t, title=BOOKS.format(t.title)) for t in split if t.header != TASK_COLUMNS),
    ]


def pooled_tables(cards: Sequence[ModelScorecard]) -> list[Table]:
    """AgentDojo's suites pooled, a row a model and protocol; none where no model has several of them."""
    rows = [(card, pooled) for card in ordered(cards) for pooled in card.pooled]
    own = _pooled_table(POOLED, [(card, one, one.own) for card, one in rows])
    books = _pooled_table(BOOKS.format(POOLED), [(card, one, one.rates) for card, one in rows])
    return [table for table in (own, books) if table.rows and len(table.header) > 2]


def _pooled_table(
    title: str, pooled_rows: Sequence[tuple[ModelScorecard, Pooled, Mapping[str, PooledRate]]]
) -> Table:
    metrics = {name: rate.metric for *_, rates in pooled_rows for name, rate in rates.items()}
    rows = tuple(
        (
            _model_cell(card),
            _pooled_over(card, pooled),
            *(
                _estimate_cell(rates[name].estimate if name in rates else None, metric)
                for name, metric in metrics.items()
            ),
        )
        for card, pooled, rates in pooled_rows
    )
    columns = tuple(_column_name(metric) for metric in metrics.values())
    return Table(title=title, header=("Model", "Pooled over", *columns), rows=rows)


def _pooled_over(card: ModelScorecard, pooled: Pooled) -> str:
    """Under which protocol, how much of the benchmark, and which suites of the run."""
    protocol = pooled.protocol
    suites = [card.suites[name] for name in pooled.suites.values()]
    owed, expected = sum(suite.owed for suite in suites), sum(suite.expected for suite in suites)
    under = [
        f"{protocol['attack']}, {protocol['benchmark_version']}",
        *([] if protocol["defence"] == "none" else [f"defence {protocol['defence']}"]),
        *([] if protocol["variant"] == "upstream" else [protocol["variant"]]),
    ]
    extent = pooled.extent + (f"\n({owed} of {expected} owed)" if owed else "")
    return ";\n".join([",\n".join(under), f"{extent}:\n" + ",\n".join(pooled.suites.values())])


def _suite_table(
    cards: Sequence[ModelScorecard], suite: str, metrics: Mapping[str, Metric], title: str
) -> Table:
    columns = tuple(_column_name(metric) for metric in metrics.values())
    rows = tuple(_suite_row(card, suite, list(metrics)) for card in ordered(cards))
    return Table(title=title, header=("Model", "Origin, type", *columns), rows=rows)


def _column_name(metric: Metric) -> str:
    return f"{metric.name}{text.arrow(metric)}"


def _model_cell(card: ModelScorecard, suffix: str = "") -> str:
    """A model's name, what is said of it here, and whether others ran it."""
    return card.model.name + suffix + ("\n(imported)" if card.model.imported else "")


def _suite_row(card: ModelScorecard, suite: str, keys: Sequence[str]) -> tuple[str, ...]:
    result = card.suites.get(suite)
    owed = f"\n({result.owed} of {result.expected} owed)" if result and result.owed else ""
    architecture = card.model.architecture
    return (
        _model_cell(card, owed),
        f"{card.model.origin.country}, {text.format_type(architecture)}\n{text.format_params(architecture)}",
        *(_metric_cell(card.metrics.get(key)) for key in keys),
    )


def _metric_cell(result: MetricResult | None) -> str:
    return "not run" if result is None else _estimate_cell(result.estimate, result.metric)


def _estimate_cell(estimate: Estimate | None, metric: Metric) -> str:
    if estimate is None:
        return "not run"
    lines = (text.format_interval, text.format_count, text.format_same_tasks, text.format_corrected)
    return "\n".join(text_line for line in lines if (text_line := line(estimate, metric)))


def injection_task_tables(cards: Sequence[ModelScorecard]) -> list[Table]:
    """One table a suite that attacks agents: a row an injection task and model, a column a rate of ours."""
    attacked = {name for card in cards for name, suite in card.suites.items() if suite.by_injection_task}
    return [_injection_task_table(cards, suite, metrics_of(cards, suite)) for suite in sorted(attacked)]


def _injection_task_table(cards: Sequence[ModelScorecard], suite: str, among: Mapping[str, Metric]) -> Table:
    results = [
        (task, card.model.name, result)
        for card in ordered(cards)
        if suite in card.suites
        for task, result in card.suites[suite].by_injection_task.items()
    ]
    split = {name for _, _, result in results for name in result.estimates}
    metrics = [metric for metric in among.values() if metric.name in split]
    rows = tuple(
        (
            task,
            result.harm or "none given",
            model,
            *(_estimate_cell(result.estimates.get(metric.name), metric) for metric in metrics),
        )
        for task, model, result in sorted(results, key=lambda row: _by_number(row[0]))
    )
    columns = tuple(_column_name(metric) for metric in metrics)
    return Table(title=f"By injection task: {suite}", header=(*TASK_COLUMNS, *columns), rows=rows)


def _by_number(name: str) -> tuple[str, str]:
    """A sort key under which `task_2` stands before `task_10`."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), name), name


def attempts_table(cards: Sequence[ModelScorecard]) -> Table:
    """How every benchmark went on every model: finished, failed by kind, cut off, agents without a tool."""
    idle = any(suite.no_tool_call for card in cards for suite in card.suites.values())
    read = any(suite.answers_read is not None for card in cards for suite in card.suites.values())
    short = any(suite.contexts_cut for card in cards for suite in card.suites.values())
    cut = any(suite.thoughts_cut for card in cards for suite in card.suites.values())
    ended = any(suite.thoughts_ended for card in cards for suite in card.suites.values())
    rows = []
    for card in ordered(cards):
        for name in sorted(card.suites):
            suite = card.suites[name]
            failures = ", ".join(f"{kind} {count}" for kind, count in suite.failures.items())
            finished = f"{suite.finished} of {suite.expected}"
            unused = "no agent" if suite.no_tool_call is None else str(suite.no_tool_call)
            answers = "none planted" if suite.answers_read is None else str(suite.answers_read)
            row = (card.model.name, name, finished, failures or "none", str(suite.truncated))
            further = (
                (cut, str(suite.thoughts_cut)),
                (ended, str(suite.thoughts_ended)),
                (short, str(suite.contexts_cut)),
                (idle, unused),
                (read, answers),
            )
            rows.append((*row, *(value for shown, value in further if shown)))
    header = ("Model", "Suite", "Attempts finished", "Failures by kind", "Replies cut off")
    last = (
        (cut, "of them in mid-thought"),
        (ended, "Thoughts ended by budget"),
        (short, "Contexts cut"),
        (idle, "No tool called"),
        (read, "Planted answers read"),
    )
    names = (*header, *(name for shown, name in last if shown))
    return Table(title="Attempts and failures", header=names, rows=tuple(rows))


def booking_notes(cards: Sequence[ModelScorecard]) -> list[str]:
    """Which numbers count failed attempts too, and by what rule."""
    return booking_rules(bookings_of(cards))


def booking_rules(metrics: Mapping[str, Metric]) -> list[str]:
    """The same of metrics by their keys."""
    rules: dict[str, list[str]] = {}
    for key, metric in metrics.items():
        if metric.booking:
            rules.setdefault(metric.booking, []).append(key)
    return [f"{', '.join(keys)}: {rule}." for rule, keys in rules.items()]


def cost_table(cards: Sequence[ModelScorecard]) -> Table:
    """What every suite cost on every model. Energy and thinking have a column where there is any."""
    energy = any(_measured_energy(card) for card in cards)
    thinking = any(suite.usage.reasoning_tokens for card in cards for suite in card.suites.values())
    rows = []
    for card in ordered(cards):
        usages = [(name, card.suites[name].usage) for name in sorted(card.suites)]
        make = _imported_cost_row if card.model.imported else _cost_row
        rows += [
            make(card.model.name, name, used, energy=energy, thinking=thinking)
            for name, used in (*usages, ("all", card.usage))
        ]
    header = ("Model", "Suite", "Engine seconds", "Prompt tokens", "of them cached", "Generated")
    thought = ("of them thinking",) if thinking else ()
    last = ("Requests", "Energy") if energy else ("Requests",)
    return Table(title="Cost", header=(*header, *thought, *last), rows=tuple(rows))


def _measured_energy(card: ModelScorecard) -> bool:
    return any(suite.usage.joules is not None for suite in card.suites.values())


def _cost_row(model: str, suite: str, usage: Usage, *, energy: bool, thinking: bool) -> tuple[str, ...]:
    tokens = (
        text.count(usage.prompt_tokens),
        _part(usage.cached_tokens, usage.prompt_tokens),
        text.count(usage.completion_tokens),
        *((_part(usage.reasoning_tokens, usage.completion_tokens),) if thinking else ()),
        f"{usage.requests:,}",
    )
    seconds = f"{usage.engine_seconds:.1f}" if usage.engine_seconds else "unknown"
    row = (model, suite, seconds, *tokens)
    return (*row, text.format_energy(usage.joules)) if energy else row


def _part(tokens: int | None, whole: int | None) -> str:
    """Some of the tokens, and which share of all of them they are."""
    share = f" ({tokens / whole:.0%})" if whole and tokens is not None else ""
    return f"{text.count(tokens)}{share}"


def _imported_cost_row(
    model: str, suite: str, usage: Usage, *, energy: bool, thinking: bool
) -> tuple[str, ...]:
    """Transcripts tell how many requests there were, and nothing else of what they cost."""
    row = (f"{model}\n(imported)", suite, *["unknown"] * (4 + thinking), f"{usage.requests:,}")
    return (*row, text.format_energy(usage.joules)) if energy else row


def cost_notes(cards: Sequence[ModelScorecard]) -> list[str]:
    """How much of the time was loading; how energy was measured, or that it was not; unknown tokens."""
    return [*_load_notes(cards), *_energy_notes(cards), *_token_notes(cards)]


def _load_notes(cards: Sequence[ModelScorecard]) -> list[str]:
    """The share of loading in the time that engines had their GPUs, but for pauses between requests."""
    known = [(card, card.model.load_seconds) for card in cards if card.model.load_seconds is not None]
    loading = fsum(seconds for _, seconds in known)
    engines = loading + fsum(card.usage.engine_seconds for card, _ in known)
    if not loading:
        return []
    most, seconds = max(known, key=lambda one: one[1])
    each = f", most of it for {most.model.name} ({seconds:.0f} s)" if len(known) > 1 else ""
    return [f"Loading models took {loading / engines:.0%} of the engines' {engines:,.0f} s{each}."]


def _token_notes(cards: Sequence[ModelScorecard]) -> list[str]:
    own = [card.usage for card in cards if not card.model.imported]
    if all(None not in (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) for usage in own):
        return []
    return ["Tokens are unknown, which is not 0, where a server did not report them for every reply."]


def _energy_notes(cards: Sequence[ModelScorecard]) -> list[str]:
    if any(_measured_energy(card) for card in cards):
        return [
            "Energy: of the GPUs' whole boards by their own counters (NVML) while requests were in flight, "
            "divided between them like engine seconds; the rest of the machine is not in it."
        ]
    return ["Energy was not measured: no engine ran on a GPU with a counter (NVML)."]


def origins_table(origins: Sequence[OriginScorecard]) -> Table:
    """Best and median model of every origin."""
    rows = []
    for key in sorted({key for origin in origins for key in origin.metrics}):
        for origin in origins:
            result = origin.metrics.get(key)
            if result is None:
                rows.append((key, origin.key, *["not run"] * 3, f"0 of {len(origin.models)}"))
                continue
            models = f"{result.models} of {len(origin.models)}"
            models += "".join(f"\nwithout {name}" for name in result.left_out)
            row = (_best(result), _estimate_cell(result.median, result.metric), _models_mean(result), models)
            rows.append((key, origin.key, *row))
    by = origins[0].by if origins else "country"
    return Table(
        title=f"Origins, by {CALLED[by]}",
        header=("Metric", "Origin", "Best", "Median", "Mean, spread", "Models"),
        rows=tuple(rows),
    )


def _best(result: OriginMetric) -> str:
    if result.metric.higher_is_better is None:
        return "none is better"
    if result.best is None:
        return "too much is missing" if result.left_out else "not measured"
    return f"{_estimate_cell(result.best, result.metric)}\n{result.best_model}"


def _models_mean(result: OriginMetric) -> str:
    """Mean over models with its interval, and the standard deviation between models."""
    if result.mean is None:
        return "not given"
    if result.mean.low is None:
        return "unknown from 1 model" if result.models < 2 else "unknown, no spread seen"
    spread = "unknown" if result.spread is None else text.format_value(result.spread, result.metric)
    return f"{_estimate_cell(result.mean, result.metric)}\nspread {spread}"


def methods_table(cards: Sequence[ModelScorecard]) -> Table:
    """How every number was computed, and on what assumptions."""
    rows = tuple(
        (key, card.model.name, card.metrics[key].estimate.method)
        for key in (*metrics_of(cards), *bookings_of(cards))
        for card in ordered(cards)
        if key in card.metrics
    )
    pooled = tuple(
        (f"{name}, {one.extent}", card.model.name, rate.estimate.method)
        for card in ordered(cards)
        for one in card.pooled
        for name, rate in {**one.own, **one.rates}.items()
    )
    return Table(title="Methods", header=("Metric", "Model", "Method"), rows=rows + pooled)


def engines_table(settings: Sequence[Setting]) -> Table:
    """What computed the tokens, since it can move a score: what differs comes first."""
    rows = tuple(
        (one.field, value, models) for one in _differing_first(settings) for value, models in _values(one)
    )
    return Table(title="Engines", header=("Fact", "Value", "Models"), rows=rows)


def protocols_table(settings: Sequence[Setting]) -> Table:
    """What else could move a score of each suite; where it was not the same for all models, with theirs."""
    rows = tuple(
        (", ".join(one.suites), one.field, value, models)
        for one in _differing_first(settings)
        for value, models in _values(one)
    )
    return Table(title="Protocols", header=("Suites", "Field", "Value or digest", "Models"), rows=rows)


def _differing_first(settings: Sequence[Setting]) -> list[Setting]:
    return sorted(settings, key=lambda one: not one.differs)


def _values(setting: Setting) -> Iterator[tuple[str, str]]:
    """(value, the models that had it): all of them where there is one value."""
    for value, models in setting.values.items():
        yield value, ", ".join(models) if setting.differs else "all"
