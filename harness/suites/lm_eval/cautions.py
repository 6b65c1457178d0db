"""What a reader of an lm-eval task's numbers should know: of its data, its config, and lm-eval's warnings."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.config import RunConfig
from harness.suites.lm_eval.documents import Fault, answerable, faults
from harness.suites.lm_eval.requests import budget_of
from harness.types import Sampling

UNSAID = ("is defined, but aggregation is not", "is defined, but higher_is_better is not")
"""Warnings of lm-eval about what the card says of every metric anyhow."""


def drawing(
    name: str, task: Any, drawn: Sampling | None, config: RunConfig, max_gen_toks: int | None
) -> Iterator[tuple[str, str]]:
    """(check, sentence) about how replies are drawn.

    Args:
        name: of the suite.
        task: of lm-eval.
        drawn: how its replies are drawn, None if it asks for log-likelihoods.
        config: of the run.
        max_gen_toks: the suite's own budget, which is meant; None if it leaves that to others.
    """
    if drawn is None:
        if config.attempts > 1:
            yield (
                "alike_attempts",
                f"suite {name} asks for log-likelihoods, which are the same at every attempt: one is made, "
                f"not {config.attempts}",
            )
        return
    if drawn.temperature == 0:
        remedy = "set sampling.temperature above 0"
        if config.sampling.temperature > 0:
            remedy = "`sampling: run` in the suite lets the run's temperature count"
        if config.attempts > 1:
            yield (
                "greedy_attempts",
                f"suite {name} draws its replies greedily (temperature 0), so that {config.attempts} "
                f"attempts would be one reply {config.attempts} times: one is made; {remedy}",
            )
        elif config.sampling.temperature > 0:
            yield (
                "temperature",
                f"suite {name} draws its replies greedily, as its task states, and not at the run's "
                f"temperature {config.sampling.temperature:g}: {remedy}",
            )
    if (repeats := task.config.repeats) > 1 and (drawn.temperature == 0 or _first_alone(task)):
        why = (
            "alike, since they are drawn greedily"
            if drawn.temperature == 0
            else "of which the first is scored"
        )
        yield (
            "repeats",
            f"suite {name} draws {repeats} replies to each question (`repeats` of its task), {why}: "
            "the others are paid for nothing, leave `repeats` out",
        )
    if max_gen_toks is None and config.sampling.max_tokens > drawn.max_tokens:
        source = budget_of(task.config.generation_kwargs or {}, None)[1]
        yield (
            "budget",
            f"suite {name} gives a reply {drawn.max_tokens} tokens ({source}), not the "
            f"{config.sampling.max_tokens} of the run's sampling.max_tokens: set max_gen_toks in the suite",
        )


def _first_alone(task: Any) -> bool:
    """Whether every filter throws all replies but the first away."""
    stated = task.config.filter_list or [{"filter": [{"function": "take_first"}]}]
    steps = [[step["function"] for step in pipeline["filter"]] for pipeline in stated]
    return all(
        "take_first" in names and not {"majority_vote", "take_first_k"} & set(names) for names in steps
    )


def documents(
    name: str, task: Any, docs: Sequence[tuple[int, Mapping[str, Any]]]
) -> Iterator[tuple[str, str, bool]]:
    """(check, sentence, whether nothing would be measured) about documents that are not whole."""
    alike: dict[tuple[str, str | None], list[Fault]] = {}
    for fault in faults(task, docs):
        alike.setdefault((fault.what, fault.field), []).append(fault)
    for faulty in alike.values():
        yield (
            "documents",
            f"suite {name}: {len(faulty)} of {len(docs)} documents are not whole, the first is {faulty[0]}: "
            "correct the data",
            False,
        )
    unanswerable = [number for number, doc in docs if not _answerable(task, doc)]
    if unanswerable:
        yield (
            "gold_out_of_range",
            f"suite {name}: {len(unanswerable)} of {len(docs)} documents have a right answer that is none "
            f"of their choices (first document {unanswerable[0]}): they are missing, not wrong; "
            "correct the data",
            len(unanswerable) == len(docs),
        )


def _answerable(task: Any, doc: Any) -> bool:
    try:
        return answerable(task, doc)
    except Exception:  # a fault of the document, which is told as one
        return True


def of_lm_eval(name: str, warned: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(check, sentence): what lm-eval warned of as it built the task, each once."""
    for text in dict.fromkeys(re.sub(r"^(\[(Task: )?[^\]]+\]|\S+:) ", "", text) for text in warned):
        if not any(unsaid in text for unsaid in UNSAID):
            yield "lm_eval_warning", f"lm-eval warns of suite {name}: {text}"
