"""What differs between models that are compared, in sentences."""

from collections.abc import Iterator

from harness.analysis.comparability import TELLING, Differences, RunDifference, Setting
from harness.analysis.compare import ModelComparison


def allowance(setting: Setting) -> str:
    """What was allowed to differ, in words."""
    return (
        f"{', '.join(setting.suites)}: protocols differ in {setting.field} ({setting.by_model}), which was "
        "allowed."
    )


def sentences_of(differences: Differences) -> Iterator[str]:
    """What differs besides protocols, and may move scores."""
    differing = [f"{one.field} {one.by_model}" for one in differences.engines if one.field in TELLING]
    others = [one.field for one in differences.engines if one.field not in TELLING]
    if others:
        differing.append(f"{'also ' if differing else ''}{', '.join(others)}")
    if differing:
        yield f"Engines differ, which can move scores: {'; '.join(differing)}."
    for one in differences.attempts:
        yield (
            f"Attempts at each sample differ in {', '.join(one.suites)}: {one.by_model}. More attempts "
            "narrow intervals, and find more goals within a model's reach (asr_exposed_capable)."
        )


def comparison_differences(comparison: ModelComparison) -> list[str]:
    """The same of two models, their weights and their runs."""
    return [
        *_weights(comparison),
        *sentences_of(comparison.differences),
        *map(_of_runs, comparison.runs),
    ]


def _weights(comparison: ModelComparison) -> Iterator[str]:
    a, b = comparison.a, comparison.b
    hashes = [entry.architecture.weights_hash for entry in (a, b) if entry.architecture]
    if comparison.weights == "others under one name":
        hashes_text = (
            "their checkpoints differ" if None in hashes else " and ".join(str(h)[:12] for h in hashes)
        )
        yield f"Both are called {a.name}, but their weights are not the same ({hashes_text})."
    elif comparison.weights is not None:
        yield f"{a.name} and {b.name} have the same weights ({str(hashes[0])[:12]})."


def _of_runs(one: RunDifference) -> str:
    values = "; ".join(f"{key} {ours} and {theirs}" for key, (ours, theirs) in one.values.items())
    return f"{one.what} differ, which can move scores: {values}."


def comparison_notes(comparison: ModelComparison) -> list[str]:
    """What a reader has to know of two models' comparison."""
    a, b = comparison.a.name, comparison.b.name
    return [
        *(f"{name} is incomplete: {owed} attempts are owed." for name, owed in comparison.owed),
        *(
            f"Not compared, since only {name} has it: {', '.join(suites)}."
            for name, suites in comparison.alone
        ),
        *([f"{a} was derived from {b}: read the differences backwards."] if comparison.backwards else []),
        *_content_notes(comparison),
    ]


def _content_notes(comparison: ModelComparison) -> Iterator[str]:
    """How many samples are the same by name and not by content."""
    changed = [one for one in comparison.contents if one.unlike]
    if changed:
        total, unlike = sum(one.shared for one in changed), sum(one.unlike for one in changed)
        yield (
            f"{', '.join(one.suite for one in changed)}: {unlike} of the {total} shared samples do not hold "
            "the same for both (question, prompt, attack or right answer); they are paired all the same. "
            "Attacks that name the model and chat templates do that."
        )
    allowed = {suite for setting in comparison.allowed for suite in setting.suites}
    for one in sorted(comparison.contents, key=lambda one: one.suite):
        if one.suite in allowed and not one.unlike:
            yield f"{one.suite}: the {one.shared} shared samples hold the same for both."
