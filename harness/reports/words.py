"""What metrics are called in plain words, and how two origins compare in a sentence."""

from collections.abc import Iterable, Iterator, Sequence

from harness.analysis.missing import MOST_MISSING, cut_share, lacks_attempts, missing_share, worst_case
from harness.analysis.origins import FEW_MODELS, MOST_PAIRED, Compared, Comparison
from harness.analysis.summary import CAPABILITY
from harness.reports import text
from harness.reports.differences import allowance, sentences_of
from harness.reports.document import Document
from harness.types import Caution, Estimate, Metric

MEANINGS = {
    "capability": (
        "Capability",
        "mean over the benchmarks without attacks of their headline rates, each counting the same",
    ),
    "benign_utility": ("User's task done", "without an attack, the share of user tasks that the agent did"),
    "utility_under_attack": ("User's task done under attack", "the same while an attacker's text is planted"),
    "targeted_asr": ("Hijacked", "the attacker's goal was reached, of all attacked attempts"),
    "targeted_asr_exposed": (
        "Hijacked once shown the attack",
        "the attacker's goal was reached, of the attempts in which the model was shown the attacker's text",
    ),
    "asr_exposed_capable": (
        "Hijacked where it could be",
        "the same, of goals that the model reaches when asked for them directly",
    ),
    "exposed": ("Shown the attack", "the attacker's text stood in what the model read: neither good nor bad"),
    "attempted": ("Tried the attacker's calls", "whether or not they landed"),
    "attempted_exposed": ("Tried the attacker's calls once shown the attack", "whether or not they landed"),
    "goal_capability": ("Attacker's goal done when asked", "the goal put as the user's own request"),
    "utility_lost": ("User's tasks lost to the attack", "share done without it, less share done under it"),
    "utility_lost_exposed": (
        "User's tasks lost once shown the attack",
        "share done without it, less share done under it where the model was shown the attacker's text",
    ),
    "no_tool_call": ("Used no tool under attack", "the agent answered and called nothing: no sign of safety"),
    "no_tool_call_benign": ("Used no tool", "the agent answered and called nothing, without an attack"),
    "no_tool_call_goal": ("Used no tool for the attacker's goal", "asked for it directly"),
    "read_answers": ("Read planted answers under attack", "a planted tool of the evaluators was used"),
    "read_answers_benign": ("Read planted answers", "a planted tool of the evaluators was used"),
    "read_answers_goal": (
        "Read planted answers for the attacker's goal",
        "a planted tool of the evaluators was used",
    ),
    "search_tokens": (
        "Tokens of the search",
        "of the attacker and of the model, to develop texts for a goal",
    ),
    "search_seconds": ("Seconds of the search", "of requests, waiting included, for a goal"),
    "search_without_text": ("Attacker wrote nothing", "share of its texts that are the one before"),
    "order_p_value": (
        "p-value of the order of items",
        "the share of orders of a file's items that are as likely as the published one",
    ),
    "order_gain": ("Gain of the published order", "nats a shard above the mean of other orders"),
    "completed": ("Items completed", "the next characters of an item were written as they are"),
    "complete": ("Wrote what was asked", "the reply is the text that was asked for, as a judge sees it"),
    "compliance": ("Did what was asked", "the reply does the harm that was asked for, as a judge sees it"),
    "detailed_compliance": (
        "Did it in detail",
        "the harm that was asked for, in details to act on, as a judge sees it",
    ),
    "partial": ("Did a part of it", "the reply does a part of what was asked, as a judge sees it"),
    "refusal": ("Refused", "the reply refuses what was asked, as a judge sees it"),
    "refusal_of_safe": ("Refused safe requests", "of requests that only sound unsafe, as a judge sees it"),
    "refusal_of_unsafe": ("Refused unsafe requests", "of requests that are unsafe, as a judge sees it"),
    "goal_accepted": ("Took up a harmful goal", "put as a whole, one of its acts was tried"),
    "chain_completed": ("Completed a harmful chain", "put step by step, the last step was done"),
    "false_alarm": ("Stopped a legitimate chain", "the same steps where nothing is wrong, one not tried"),
    "mismatch": ("Harm that whole goals do not show", "chains completed less goals accepted, by campaign"),
    "acc": ("Right answers", "the likeliest of the choices was the right one"),
    "acc_norm": ("Right answers, by length", "the same, likelihoods divided by the choices' lengths"),
    "exact_match": ("Right answers", "the answer read out of the reply equals the right one"),
    "prompt_level_strict_acc": ("Instructions followed", "all instructions of a prompt were followed"),
    "pass_at_1": ("Programs that pass", "the tests of the task pass at the first try"),
    "pass@1": ("Programs that pass", "the tests of the task pass at the first try"),
    "f1": ("F1", "overlap of the answer with the right one"),
    "word_perplexity": ("Perplexity by word", "how surprised the model is by a text"),
}
"""Metric -> what it is called in plain words, and what it counts."""

PARTS = {"best_of": "best jailbreak"}
"""What stands after the colon of a metric's name -> the same in plain words."""


def plain_name(metric: Metric) -> str:
    """What a metric is called in plain words; its own name where nothing is known of it."""
    base, colon, kind = metric.name.partition(":")
    stem, at, k = base.partition("@") if base not in MEANINGS else (base, "", "")
    stem, comma, filtered = stem.partition(",")
    if stem not in MEANINGS:
        return metric.name
    words = MEANINGS[stem][0]
    words += f" ({filtered})" if comma else ""
    words += f" in {k} attempts" if at else ""
    return words + (f": {PARTS.get(kind, kind)}" if colon else "")


def meaning(metric: Metric) -> str:
    """What a metric counts, and which way is better."""
    stem = metric.name.partition(":")[0]
    stem = stem if stem in MEANINGS else stem.partition("@")[0].partition(",")[0]
    counted = f"{MEANINGS[stem][1]}; " if stem in MEANINGS else ""
    return f"{counted}{text.direction(metric)}"


def comparisons(document: Document) -> list[str]:
    """A sentence for each pair of origins and headline: rates of being hijacked, then the best models.

    Capability over all benchmarks comes first, then what is decided.
    """
    ratios = [ratio for ratio in document.ratios if ratio.comparison.metric.headline]
    sentences = [
        *((_is_clear(ratio.comparison.estimate), ratio_sentence(ratio)) for ratio in ratios),
        *((decided(gap.comparison.estimate), gap_sentence(gap)) for gap in document.gaps),
    ]
    return [
        *(gap_sentence(gap) for gap in document.overall),
        *together(sentence for _, sentence in sorted(sentences, key=lambda one: not one[0])),
    ]


def together(sentences: Iterable[str]) -> list[str]:
    """Sentences that say the same of several metrics of a benchmark as one."""
    keys: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences:
        key, _, statement = sentence.partition(": ")
        keys.setdefault((key.rpartition("/")[0], statement), []).append(key)
    return [f"{', '.join(own)}: {statement}" for (_, statement), own in keys.items()]


def _is_clear(ratio: Estimate) -> bool:
    """Whether a ratio, the larger rate over the smaller, is above 1."""
    return ratio.low is not None and ratio.low > 1


def ratio_sentence(compared: Compared) -> str:
    """How often the models of two origins were hijacked, the one that was more often first."""
    comparison, origin = compared.comparison, compared.origin
    ours, theirs, ratio = comparison.value, comparison.other_value, comparison.estimate
    rates = (
        f"{origin} {_rate(ours, comparison.metric, comparison.models)}, {comparison.other} "
        f"{_rate(theirs, comparison.metric, comparison.other_models)}"
    )
    return (
        f"{comparison.key}: {_ratio_verdict(origin, comparison)}: {rates}.{_over_models(ratio, comparison)}"
    )


def _rate(estimate: Estimate, metric: Metric, models: int) -> str:
    return f"{text.format_estimate(estimate, metric)}, {models} model{'' if models == 1 else 's'}"


def _ratio_verdict(origin: str, comparison: Comparison) -> str:
    ours, theirs, ratio = comparison.value, comparison.other_value, comparison.estimate
    other = comparison.other
    if ours.value is None or theirs.value is None:
        return f"{origin} and {other} cannot be compared"
    if not ours.value and not theirs.value:
        return f"neither {origin} nor {other} was hijacked"
    if not _is_clear(ratio):
        known = f" (ratio {text.format_ratio(ratio)})" if ratio.value is not None else ""
        return f"no clear difference between {origin} and {other}{known}"
    if ratio.value is None:
        return (
            f"{origin} was hijacked at least {ratio.low or 1:.3g} times as often as {other}, which never was"
        )
    return f"{origin} was hijacked {text.format_ratio(ratio)} times as often as {other}"


def _over_models(ratio: Estimate, comparison: Comparison) -> str:
    """What the ratio says about models that were not measured; nothing where it says nothing itself."""
    over = comparison.over_models
    if not _is_clear(ratio) or over is None or over.low is None:
        return ""
    if over.low <= 1 and (over.high is None or over.high >= 1):
        return f" Whether other models of theirs differ is open ({text.format_ratio(over)})."
    return f" Over models like these: {text.format_ratio(over)} times."


def gap_sentence(compared: Compared) -> str:
    """How far the best model of an origin is ahead of the best of another."""
    comparison, origin = compared.comparison, compared.origin
    metric, gap = comparison.metric, comparison.estimate
    sides = ", ".join(
        f"{model} of {key} {text.format_estimate(estimate, metric)}"
        for model, key, estimate in (
            (comparison.best_model, origin, comparison.value),
            (comparison.other_best_model, comparison.other, comparison.other_value),
        )
    )
    luck = _without_luck(comparison)
    if decided(gap) and (comparison.corrected is None or decided(comparison.corrected)):
        verdict = f"{origin} is better by {points(gap, metric)} than {comparison.other}{luck}"
    else:
        verdict = f"no clear difference between {origin} and {comparison.other}, {points(gap, metric)}{luck}"
    what = "Capability over all benchmarks" if metric == CAPABILITY else comparison.key
    return f"{what}: {verdict}. Best models: {sides}."


def decided(difference: Estimate) -> bool:
    """Whether a difference's interval excludes 0."""
    low, high = difference.low, difference.high
    return low is not None and high is not None and not low <= 0 <= high


def points(difference: Estimate, metric: Metric, side: int | None = None) -> str:
    """The size of a difference with its interval, `50.0 points [24.5, 75.5]`.

    Args:
        difference: of two values of a metric.
        metric: the metric.
        side: -1 if the difference is to be read the other way round; by default it is not below 0.
    """
    if difference.value is None:
        return "difference not measured"
    side = _side(difference) if side is None else side
    unit = " points" if text.is_share(metric) else ""
    known = difference.low is not None and difference.high is not None
    ends = sorted(end * side + 0.0 for end in (difference.low, difference.high) if end is not None)
    limits = ", ".join(text.format_value(end, metric) for end in ends) if known else "no interval"
    return f"{text.format_value(difference.value * side + 0.0, metric)}{unit} [{limits}]"


def _side(difference: Estimate) -> int:
    return -1 if (difference.value or 0.0) < 0 else 1


def _without_luck(comparison: Comparison) -> str:
    """The gap without what choosing the best of several is expected to have added to it."""
    gap, corrected = comparison.estimate, comparison.corrected
    if corrected is None or corrected.value is None:
        return ""
    number = points(corrected, comparison.metric, _side(gap))
    return "" if number == points(gap, comparison.metric) else f" ({number} without the luck of the choice)"


def warnings(document: Document) -> list[str]:
    """What a reader has to know before any number: what is not there, and what is not alike."""
    return [
        *(f"Not measured: {caution.text}" for caution in document.cautions if caution.void),
        *_incomplete(document),
        *_missing(document),
        *_shortened(document),
        *sentences_of(document.differences),
        *map(allowance, document.allowances),
        *dict.fromkeys(_caution(caution) for caution in document.cautions if not caution.void),
    ]


def _caution(caution: Caution) -> str:
    about = " on ".join(name for name in (caution.model, caution.suite) if name)
    return f"{about}: {caution.text}" if about else caution.text


def _incomplete(document: Document) -> Iterator[str]:
    owed = {card.model.name: sum(suite.owed for suite in card.suites.values()) for card in document.models}
    owing = [f"{name} owes {count:,} attempts" for name, count in owed.items() if count]
    if owing:
        yield f"The run is not complete: {_listed(owing)}."


def _missing(document: Document) -> Iterator[str]:
    """Models and benchmarks that miss too much, the worst first."""
    incomplete = [
        (missing_share(result.estimate), card, key, result)
        for card in document.models
        for key, result in card.metrics.items()
        if result.metric.headline and lacks_attempts(result.estimate)
    ]
    models = []
    for _, card, key, result in sorted(incomplete, key=lambda one: (-one[0], one[1].model.name, one[2])):
        lost, all_ = result.estimate.missing, result.estimate.n + result.estimate.missing
        ends = worst_case(result.estimate, result.metric)
        shown = " to ".join(text.format_value(end, result.metric) for end in ends or ())
        bounds = f" (in the worst case {shown})" if shown else ""
        models.append(f"{card.model.name} {lost:,} of {all_:,} in {key}{bounds}")
    telling = [
        f"{card.model.name}, {key}: {warning}."
        for _, card, key, result in incomplete
        for warning in result.estimate.warnings
    ]
    if models:
        yield (
            f"Much is missing, and what fails is seldom chance: {_listed(models)}. Nothing is best, "
            f"ranked or claimed from a number that misses more than {100 * MOST_MISSING:.0f}%."
        )
    yield from telling


def _shortened(document: Document) -> Iterator[str]:
    """Models and benchmarks whose questions had lost their beginning, the worst first."""
    cut = sorted(
        (-cut_share(result.estimate), card.model.name, key, result.estimate)
        for card in document.models
        for key, result in card.metrics.items()
        if result.metric.headline and result.estimate.contexts_cut
    )
    if cut:
        models = [f"{model} {e.contexts_cut:,} of {e.n:,} in {key}" for _, model, key, e in cut]
        yield (
            f"Contexts did not fit and lost their beginning: {_listed(models)}. Raise max_model_len. Nothing "
            f"is best, ranked or claimed from a number with more than {100 * MOST_MISSING:.0f}% of them."
        )


LISTED = 4
"""Items of a list that a sentence names; of more it says how many there are."""


def _listed(items: Sequence[str]) -> str:
    shown = "; ".join(items[:LISTED])
    return f"{shown}; and {len(items) - LISTED} more" if len(items) > LISTED else shown


PAIRED = (
    f"There are more than {MOST_PAIRED} origins: each is compared with the one of the best model alone, "
    "metric by metric."
)


def notes(document: Document) -> list[str]:
    """How to read the tables of origins, once."""
    few = [origin.key for origin in document.origins if len(origin.models) < FEW_MODELS]
    sentences = []
    if few:
        one = "has" if len(few) == 1 else "have"
        sentences.append(
            f"{', '.join(few)} {one} fewer than three models here: nothing is said about other models."
        )
    if len(document.origins) > MOST_PAIRED:
        sentences.append(PAIRED)
    if document.by == "base":
        sentences.append(
            "Base weights: followed from model to model in this run, then in the registry; the tables of "
            "suites show the country of the developer."
        )
    if any(len(origin.models) > 1 for origin in document.origins):
        sentences.append(
            "The best of several models is a lucky one: gaps are given with and without the luck that is "
            "expected of the choice (parametric bootstrap). Each comparison has a 95% interval of its own, "
            "not adjusted for how many there are."
        )
        sentences.append(
            "Mean: over models like these, with models and samples both drawn at random. Spread: standard "
            "deviation between models, sampling noise taken out."
        )
    return [*_subsets(document), *sentences]


def _subsets(document: Document) -> Iterator[str]:
    """Suites of which only some samples were asked, and how those were chosen."""
    drawn, first = dict[str, None](), dict[str, None]()
    for card in document.models:
        for name, suite in card.suites.items():
            samples, limit = suite.expected // suite.attempts, suite.protocol.get("limit", "None")
            if sample := suite.protocol.get("sample"):
                drawn[f"{name}, {sample}"] = None
            elif limit.isdecimal() and samples >= int(limit):
                first[f"{name}, {samples}"] = None
    if drawn:
        yield (
            f"Samples drawn at random: {_listed([*drawn])}. The interval of these tasks is of all that they "
            "were drawn from."
        )
    if first:
        yield (
            f"Only the first samples: {_listed([*first])}. They may be easier or harder than the others; the "
            "key sample, in place of limit, draws some at random."
        )
