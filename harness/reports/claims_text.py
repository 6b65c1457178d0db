"""Claims as a terminal table, Markdown or JSON, each with the words that say how it came about."""

from collections.abc import Iterator, Mapping

from harness import stats
from harness.analysis.claims import Claims
from harness.analysis.claims.adoption import AdoptionClaim
from harness.analysis.claims.contrasts import ContrastClaim
from harness.analysis.claims.costs import CostClaim
from harness.analysis.claims.gaps import GapClaim
from harness.analysis.claims.guardrails import GuardrailClaim
from harness.analysis.claims.hardware import USABLE
from harness.analysis.claims.lags import LagClaim
from harness.analysis.claims.mismatches import MismatchClaim
from harness.analysis.claims.models import ModelClaim
from harness.analysis.claims.sizes import SizeClaim
from harness.analysis.claims.trends import TrendClaim
from harness.analysis.origins import CALLED, MOST_PAIRED
from harness.analysis.summary import CAPABILITY
from harness.reports import text
from harness.reports.differences import allowance, sentences_of
from harness.reports.objects import claims_object, to_json
from harness.reports.render import markdown_table
from harness.reports.tables import Table
from harness.reports.terminal import Part, first_screen, sentence_lines, table_lines
from harness.reports.words import PAIRED, decided, gap_sentence, points, ratio_sentence, together
from harness.types import Estimate

METHODS = {
    "curve": "Cost ratio: of performance-averaged expenses, exp(E[log expense(y)]) with y uniform over the "
    "shares of solved tasks that both reach while a limit on the cost of a task rises (CAISI, Evaluation of "
    "DeepSeek AI Models, September 2025, appendix A6; there giving up a multiple-choice task is a random "
    "guess, here a failure).",
    "both-solved": "Cost ratio: of mean costs over the tasks that both models solved (CAISI, Evaluation of "
    "DeepSeek V4 Pro, May 2026).",
}


def render_claims(
    claims: Claims, form: str, *, width: int = 100, color: bool = False, full: bool = False
) -> str:
    """Claims as text: `table` (a first screen, or `full`), `md` or `json`."""
    if form == "json":
        return to_json(claims_object(claims))
    tables = claim_tables(claims)
    answers = claim_answers(claims)
    found_first = [sentence for name in FIRST for sentence in answers[name]]
    before = [*_absent(claims), *found_first, *_unlike(claims)]
    after = [*answers["sizes"], *claim_notes(claims)]
    if form == "md":
        first, last = (
            "\n".join(f"- {text.escape_markdown(sentence)}" for sentence in sentences)
            for sentences in (before, after)
        )
        return "\n\n".join([first, *(markdown_table(table) for table in tables), last]) + "\n"
    if not full:
        parts = [Part(body=tuple(before)), *(Part(body=table, least=8) for table in tables[:LEADING])]
        parts += [Part(body=table) for table in tables[LEADING:]]
        return "\n".join(first_screen(parts, width=width, more=MORE, bold=color)) + "\n"
    lines = [line for sentence in before for line in sentence_lines(sentence, width)] + [""]
    for table in tables:
        lines += table_lines(table, width, bold=color)
    lines += [line for sentence in after for line in sentence_lines(sentence, width)]
    return "\n".join(lines) + "\n"


def claim_tables(claims: Claims) -> list[Table]:
    """The tables that have anything in them."""
    return [table for table in _tables(claims) if table.rows]


def claim_answers(claims: Claims) -> dict[str, list[str]]:
    """Field of `Claims` -> what it comes to, in sentences; none where there is no evidence."""
    return {
        "lags": lag_sentences(claims),
        "gaps": [_gap_sentence(gap) for gap in claims.gaps],
        "hijacking": together(
            ratio_sentence(one) for one in claims.hijacking if one.comparison.metric.headline
        ),
        "judged": together(map(gap_sentence, claims.judged)),
        "mismatches": [
            f"{claim.key}: {claim.origin} {_difference(claim.mean)} points, {claim.models} models."
            for claim in claims.mismatches
        ],
        "contrasts": [
            f"{claim.suite}/{claim.metric}, {' less '.join(claim.kinds)}: {claim.a} less {claim.b} "
            f"{_difference(claim.difference)} points."
            for claim in claims.contrasts
        ],
        "guardrails": [
            f"{claim.derived} less {claim.base}, {guardrail.key}: {_difference(guardrail.change)} points."
            for claim in claims.guardrails
            for guardrail in claim.changes
            if guardrail.change is not None and guardrail.change.value is not None
        ],
        "sizes": [_size_sentence(size) for size in claims.sizes if claims.models],
    }


def lag_sentences(claims: Claims) -> list[str]:
    """How far the best of each origin is behind the first model that was as able."""
    return [
        f"{lag.behind} behind {lag.leader}: {_months(lag)} months, {lag.model} against {lag.reached_by}."
        for lag in claims.lags
    ]


def claim_cautions(claims: Claims) -> list[str]:
    """What a reader has to know before any number: what is not here, and what differs between the models."""
    return [*_absent(claims), *_unlike(claims)]


def claim_notes(claims: Claims) -> list[str]:
    """How each number was computed."""
    return list(_notes(claims))


FIRST = ("gaps", "hijacking", "judged")
"""Claims that are said before the tables."""
LEADING = 3
"""Tables of which a first screen shows at least something."""
MORE = "More, and how each number was computed: --full here, or --format md and json."


# Tables


def _tables(claims: Claims) -> Iterator[Table]:
    yield _models_table(claims)
    yield _cost_table(claims)
    yield _gaps_table(claims)
    yield _hardware_table(claims)
    yield _trends_table(claims)
    yield _lags_table(claims)
    yield _ratios_table(claims)
    yield _mismatch_table(claims)
    yield _contrast_table(claims)
    yield _guardrail_table(claims)
    yield _adoption_table(claims)


def _ranked(claims: Claims) -> list[ModelClaim]:
    return sorted(claims.models, key=lambda model: (-model.ability, model.model))


def _models_table(claims: Claims) -> Table:
    header = (
        "Model", "Origin", "Released", "Active", "Weights", "Smallest GPU", "Capability", "Ability",
    )  # fmt: skip
    rows = tuple(
        (
            model.model,
            model.origin,
            model.release_date or "unknown",
            "unknown" if model.active_params is None else text.format_size(model.active_params),
            "unknown" if not model.weight_bytes else text.format_bytes(model.weight_bytes),
            model.gpu,
            _percent(model.capability),
            _own_ability(model),
        )
        for model in _ranked(claims)
    )
    title = f"Capability, size and release; origin: {CALLED[claims.by]}"
    return Table(title=title, header=header, rows=rows)


def _percent(share: Estimate) -> str:
    """`50.0% [35.2, 64.8]`."""
    assert share.value is not None, "models without a measured rate make no claim"
    limits = _limits(share.low, share.high, ".1f", 100)
    return f"{100 * share.value:.1f}% {limits}\n{text.format_count(share, CAPABILITY)}"


def _own_ability(model: ModelClaim) -> str:
    ability = f"{model.ability:+.2f} ± {stats.Z * model.ability_error:.2f}" if model.finite else "not finite"
    return f"{ability}\n{text.format_count(model.capability, CAPABILITY)}"


def _cost_table(claims: Claims) -> Table:
    def said(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.3g}"

    rows = tuple(
        (
            model.model,
            f"{model.solved:.0f}\n{text.format_count(model.capability, CAPABILITY)}",
            "not said" if model.gpus is None else str(model.gpus),
            said(model.seconds_per_solved),
            said(model.tokens_per_solved),
            text.format_energy(model.joules_per_solved),
            said(model.cost_per_solved),
        )
        for model in _ranked(claims)
    )
    header = ("Model", "Solved", "GPUs", "Engine seconds", "Tokens", "Energy", "Money")
    return Table(title="Cost per solved task", header=header, rows=rows)


def _gaps_table(claims: Claims) -> Table:
    counts = {model.model: model.capability for model in claims.models}
    rows = tuple(
        (
            f"{gap.a} over {gap.b}",
            f"{gap.best_a} over {gap.best_b}",
            str(gap.suites),
            _gap_points(gap.points),
            _odds(gap.odds_ratio),
            _ability(gap, counts),
            "unknown" if gap.ability_corrected is None else f"{gap.ability_corrected:+.2f}",
        )
        for gap in claims.gaps
    )
    header = ("Origins", "Best models", "Benchmarks", "Points", "Odds ratio", "Ability", "without luck")
    return Table(title="Gap of the best models, by three instruments", header=header, rows=rows)


def _gap_points(gap: Estimate) -> str:
    if gap.value is None:
        return "no benchmark in common"
    return f"{100 * gap.value:+.1f} {_limits(gap.low, gap.high, '+.1f', 100)}\n{_count(gap)}"


def _count(estimate: Estimate) -> str:
    """`n=40 (2 missing)`, of a number that is no share itself."""
    return f"n={estimate.n}" + (f" ({estimate.missing} missing)" if estimate.missing else "")


def _odds(ratio: Estimate) -> str:
    if ratio.value is None:
        return "none"
    return f"{ratio.value:.3g} {_limits(ratio.low, ratio.high)}\n{_count(ratio)}"


def _ability(gap: GapClaim, counts: Mapping[str, Estimate]) -> str:
    """Args: counts: model -> its capability, of the attempts that its ability is made of."""
    if gap.ability is None:
        return "not finite"
    ability = f"{gap.ability:+.2f} {_limits(gap.ability_low, gap.ability_high, '+.2f')}"
    both = [counts[model] for model in (gap.best_a, gap.best_b) if model in counts]
    n, missing = sum(one.n for one in both), sum(one.missing for one in both)
    return f"{ability}\nn={n}" + (f" ({missing} missing)" if missing else "") if both else ability


def _hardware_table(claims: Claims) -> Table:
    known = {model.model: (_percent(model.capability), _own_ability(model)) for model in claims.models}
    unknown = ("not computed", "not computed")  # where the claims of models are that could not be
    rows = tuple(
        (claim.origin, claim.gpu, claim.model, *known.get(claim.model, unknown)) for claim in claims.hardware
    )
    header = ("Origin", "From", "Best model", "Capability", "Ability")
    return Table(title="Best model that a machine holds", header=header, rows=rows)


def _trends_table(claims: Claims) -> Table:
    rows = tuple((trend.origin, str(trend.models), _slope(trend)) for trend in claims.trends)
    header = ("Origin", "Models", "Ability a year")
    return Table(title="Ability against release date, by origin", header=header, rows=rows)


def _slope(trend: TrendClaim) -> str:
    if trend.per_year is None or trend.low is None or trend.high is None:
        few = "fewer than three models" if trend.models < 3 else "all were released on one day"
        return f"no trend: {few}"
    return f"{trend.per_year:+.2f} [{trend.low:+.2f}, {trend.high:+.2f}]"


def _lags_table(claims: Claims) -> Table:
    rows = tuple(
        (f"{lag.behind} behind {lag.leader}", lag.model, lag.reached_by, _months(lag)) for lag in claims.lags
    )
    header = ("Origins", "Best of the one behind", "The other's first as able", "Months")
    return Table(title="Lag", header=header, rows=rows)


def _months(lag: LagClaim) -> str:
    least = "at least " if lag.at_least else ""
    if lag.low is None and lag.high is None:
        return f"{least}{lag.months:.1f} [no interval]"
    low = "not behind" if lag.low is None else f"{lag.low:.1f}"
    high = "∞" if lag.high is None else f"{lag.high:.1f}"
    return f"{least}{lag.months:.1f} [{low}, {high}]"


def _ratios_table(claims: Claims) -> Table:
    rows = tuple(
        (f"{claim.a} over {claim.b}", claim.key, _ratio(claim), str(claim.ratio.n)) for claim in claims.costs
    )
    header = ("Best models", "Metric", "Cost ratio", "Tasks")
    return Table(title=f"Cost ratio ({claims.cost_method})", header=header, rows=rows)


def _ratio(claim: CostClaim) -> str:
    if claim.ratio.value is None:
        return f"none: {claim.why}"
    return f"{claim.ratio.value:.3g} {_limits(claim.ratio.low, claim.ratio.high)}\n{_count(claim.ratio)}"


def _limits(low: float | None, high: float | None, digits: str = ".3g", scale: int = 1) -> str:
    """Both limits, times `scale`, as the format specification `digits` writes them."""
    if low is None or high is None:
        return "[no interval]"
    return f"[{scale * low:{digits}}, {scale * high:{digits}}]"


def _difference(estimate: Estimate | None) -> str:
    """`+12.5 [+3.0, +22.0]`, in points."""
    if estimate is None or estimate.value is None:
        return "not measured"
    return f"{100 * estimate.value:+.1f} {_limits(estimate.low, estimate.high, '+.1f', 100)}"


def _mismatch_table(claims: Claims) -> Table:
    def row(claim: MismatchClaim) -> tuple[str, ...]:
        mean, best = (f"{_difference(one)}\n{_count(one)}" for one in (claim.mean, claim.best))
        return (claim.origin, claim.key, str(claim.models), mean, f"{best} {claim.best_model}")

    header = ("Origin", "Metric", "Models", "Mean over models, points", "Smallest of a model")
    return Table(
        title="One thing asked for in two ways: by how much the rates differ",
        header=header,
        rows=tuple(map(row, claims.mismatches)),
    )


def _contrast_table(claims: Claims) -> Table:
    def row(claim: ContrastClaim) -> tuple[str, ...]:
        one, other = claim.kinds
        return (
            f"{claim.suite}/{claim.metric}",
            f"{one} less {other}",
            f"{claim.a} {100 * claim.of_a:+.1f}\n{claim.b} {100 * claim.of_b:+.1f}",
            f"{_difference(claim.difference)}\nn={claim.difference.n}",
        )

    header = ("Metric", "Kinds", "Of each origin, points", "Difference, points")
    return Table(
        title="Between two kinds of requests: by how much origins differ on the same requests",
        header=header,
        rows=tuple(map(row, claims.contrasts)),
    )


def _guardrail_table(claims: Claims) -> Table:
    def change(estimate: Estimate | None) -> str:
        said = _difference(estimate)
        return said if estimate is None or estimate.value is None else f"{said}\n{_count(estimate)}"

    def rows(claim: GuardrailClaim) -> Iterator[tuple[str, ...]]:
        pair = f"{claim.base}\n{claim.derived}"
        for guardrail in claim.changes:
            sides = (
                text.format_interval(side, guardrail.metric) for side in (guardrail.base, guardrail.derived)
            )
            name = f"{guardrail.key}{text.arrow(guardrail.metric)}"
            yield pair, name, "\n".join(sides), change(guardrail.change)
        if claim.capability is not None:
            yield (
                pair,
                f"{CAPABILITY.name} of {claim.benchmarks}{text.arrow(CAPABILITY)}",
                "",
                change(claim.capability),
            )

    return Table(
        title="Guardrails: what derivations changed, paired by sample",
        header=("Base, derived", "Metric", "Of each", "Change, points"),
        rows=tuple(row for claim in claims.guardrails for row in rows(claim)),
    )


def _adoption_table(claims: Claims) -> Table:
    def said(count: int | None) -> str:
        return "unknown" if count is None else f"{count:,}"

    def row(claim: AdoptionClaim) -> tuple[str, ...]:
        name = f"all of {claim.origin}" if claim.model is None else claim.model
        models = f"{claim.models} of {claim.of}"
        return (claim.origin, name, said(claim.downloads), said(claim.derivatives), models)

    rows = tuple(row(claim) for claim in claims.adoption)
    date = claims.snapshot.date.isoformat() if claims.snapshot else ""
    header = ("Origin", "Model", "Downloads", "Derivatives", "Models with figures")
    return Table(title=f"Adoption, as read on {date}", header=header, rows=rows)


# Words


def _absent(claims: Claims) -> Iterator[str]:
    yield from (f"Not computed: {name} ({why})." for name, why in claims.problems.items())
    yield from (f"Not read: {said}." for said in claims.unread)


def _unlike(claims: Claims) -> Iterator[str]:
    """What differs between the models, and may be why their numbers do."""
    yield from sentences_of(claims.differences)
    yield from map(allowance, claims.allowed)
    yield from _partial_notes(claims)


def _gap_sentence(gap: GapClaim) -> str:
    """How far the best model of an origin is ahead of the best of another, over the benchmarks of both."""
    over = f"over {gap.suites} benchmark{'' if gap.suites == 1 else 's'}"
    if gap.points.value is None:
        return f"{gap.a} and {gap.b} cannot be compared: {gap.best_a} and {gap.best_b} share no benchmark."
    ahead, behind = (gap.a, gap.b) if gap.points.value >= 0 else (gap.b, gap.a)
    size = points(gap.points, CAPABILITY)
    models = f"{gap.best_a} of {gap.a} and {gap.best_b} of {gap.b}"
    if not decided(gap.points):
        return f"No clear difference between {gap.a} and {gap.b}, {size} {over}: {models}."
    return f"{ahead} is ahead of {behind} by {size}, mean {over}: {models}."


def _notes(claims: Claims) -> Iterator[str]:
    if claims.models:
        yield from _ability_notes(claims)
    yield from _time_notes(claims)
    for key, mismatch in {claim.key: claim for claim in claims.mismatches}.items():
        yield f"{key}, in points: {mismatch.best.method}."  # what was subtracted from what, once a metric
    yield from _contrast_notes(claims)
    yield from _cost_notes(claims)
    if claims.snapshot is not None:
        yield f"Adoption: {claims.snapshot.source} (read on {claims.snapshot.date.isoformat()}, as supplied)."


def _ability_notes(claims: Claims) -> Iterator[str]:
    """How capability and its abilities were computed, and what holds the models."""
    yield (
        f"Ability: Rasch model by marginal maximum likelihood over {claims.questions} questions, in logits, "
        "with 95% limits; 0 solves the average question half of the time; difficulties have a spread of "
        f"{claims.spread:.2f}."
    )
    if not claims.finite:
        yield (
            "Not finite: who solves all or nothing has no ability, nor has anybody where models solve the "
            "same questions as every weaker one and more; abilities then rank, and no lines go through them."
        )
    yield (
        "Capability: the mean over benchmarks of their headline rates, each counting the same, with 95% "
        "limits from theirs (MOVER); ability counts each question the same."
    )
    yield (
        "Best models are those of the highest ability, and the best of several is a lucky one: points and "
        "odds (of the mean over the suites that both have; points paired by sample) are not corrected for "
        "that, ability is given with and without the luck that is expected of the choice (parametric "
        "bootstrap)."
    )
    if len({model.origin for model in claims.models}) > MOST_PAIRED:
        yield PAIRED
    yield f"Smallest GPU: holds the weights in {100 * USABLE:.0f}% of its memory; caches come on top."


def _contrast_notes(claims: Claims) -> Iterator[str]:
    if claims.contrasts:
        yield (
            "Some kinds of requests are harder than others for every model, so that their rates are not "
            "compared with each other. That cancels out in the difference between origins, which is true of "
            "the models measured, on requests that all of them have a measurement of."
        )
    if named := sorted({claim.shared for claim in claims.contrasts} - {""}):
        yield f"Kinds that ask the same, by {', '.join(named)}, are paired by it; others are independent."


def _partial_notes(claims: Claims) -> Iterator[str]:
    """Which models lack a suite that others have: their means are over other suites."""
    every = {key for model in claims.models for key in model.suites}
    for model in claims.models:
        lacking = sorted(every - set(model.suites))
        if lacking:
            yield (
                f"{model.model} has no number, or too many missing attempts, on {', '.join(lacking)}: "
                "its capability and its cost per solved task are over other benchmarks than those of the "
                "rest; ability allows for how hard benchmarks are, and points and odds are over those that "
                "both have."
            )


def _time_notes(claims: Claims) -> Iterator[str]:
    if claims.trends:
        yield (
            "Trend: ability over release date by least squares through all models of an origin in this run, "
            "with a 95% t interval."
        )
    if claims.lags:
        yield (
            "Lag: from the release of the first model here that is as able as the best of the origin behind, "
            "to the release of that one, with 95% of the lags that abilities drawn within their errors give; "
            "below 0 the origin behind was first. It is about the models of this run alone."
        )
    if claims.undated:
        yield f"In no trend and no lag, for want of a release date: {', '.join(claims.undated)}."


def _size_sentence(size: SizeClaim) -> str:
    if size.per_doubling is None or size.low is None or size.high is None:
        few = "fewer than three models" if size.models < 3 else "all models have the same"
        return f"Ability against {size.size}: no line, {few}."
    return (
        f"Ability against {size.size}: {size.per_doubling:+.2f} [{size.low:+.2f}, {size.high:+.2f}] for each "
        f"doubling, by least squares through {size.models} models of all origins."
    )


def _cost_notes(claims: Claims) -> Iterator[str]:
    priced = (
        "; give --price, or price_per_gpu_hour in the config, for money"
        if claims.price is None
        else f", at {claims.price:g} an hour of a GPU (one is counted where the engine does not say how many)"
    )
    yield (
        "Cost: engine seconds, tokens read and written, and energy of the suites without attacks, failed "
        f"attempts included, over attempts solved{priced}."
    )
    if all(model.joules_per_solved is None for model in claims.models):
        yield "Energy was not measured: no engine ran on a GPU with a counter (NVML)."
    if claims.cost_method is not None:
        yield METHODS[claims.cost_method]
        yield (
            "Costs in these ratios are engine seconds x GPUs of measured attempts, where CAISI has prices of "
            "tokens; 95% bootstrap intervals over tasks."
        )
