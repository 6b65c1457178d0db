"""What lm-eval's tasks measure: their metrics, and scores out of what they make of a reply."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from harness.errors import AttemptFailure, UserError
from harness.trust import load_object
from harness.types import FailureKind, Metric, Score

FRACTIONS = ("exact_match", "acc", "acc_norm", "acc_bytes", "acc_mutual_info")
"""Metrics of lm-eval that lie between 0 and 1, and are 0 or 1 where lm-eval itself computes them."""

NO_SCORE = "the task gives this document no score"
"""Why a score has no value."""

VERDICTS = {
    "hendrycks_math": ("exact_match",),
    "humaneval": ("pass_at_k",),
    "ifeval": ("prompt_level_strict_acc", "prompt_level_loose_acc"),
    "mbpp": ("pass_at_1",),
    "minerva_math": ("exact_match", "math_verify"),
}
"""Folder of lm-eval's tasks -> metrics that the functions there give as 0 or 1 for one reply."""


def metrics_of(name: str, task: Any) -> tuple[Metric, ...]:
    """The metrics that a task announces, once a filter.

    Raises:
        UserError: there is none, or one is aggregated by a function that cannot be found again by name.
    """
    keys = [key for key in task.aggregation() if key != "bypass"]
    if not keys:
        raise UserError(f"lm-eval task {name} has no metric: add metric_list to its YAML")
    headline = next((key for key in keys if key in ("exact_match", "acc")), keys[0])
    names = [(key, scored) for key in keys for scored in score_keys(task, key)]
    first = task._filters[0].name, next(scored for key, scored in names if key == headline)
    return tuple(
        to_metric(name, task, key, scored, pipeline.name, (pipeline.name, scored) == first)
        for pipeline in task._filters
        for key, scored in names
    )


def metric_keys(task: Any) -> list[tuple[str, str]]:
    """(metric, filter) of the scores that a task announces."""
    keys = [key for key in task.aggregation() if key != "bypass"]
    return [
        (scored, pipeline.name)
        for pipeline in task._filters
        for key in keys
        for scored in score_keys(task, key)
    ]


def score_keys(task: Any, key: str) -> list[str]:
    """What the scores of a metric that a task announces are called: `pass_at_k` gives `pass@k` for each k."""
    stated = getattr(task, "_metric_fn_kwargs", {}).get(key, {}).get("k") if key == "pass_at_k" else None
    if stated is None:
        return [key]
    return [f"pass@{k}" for k in (stated if isinstance(stated, list) else [stated])]


def to_metric(name: str, task: Any, key: str, scored: str, filter_name: str, headline: bool) -> Metric:
    """One metric of a task, whose scores are called `scored`, under one filter."""
    aggregation = aggregation_name(name, key, task.aggregation()[key])
    averaged = aggregation == "mean"
    kind: Literal["rate", "mean", "corpus"] = "corpus"
    if averaged:
        kind = "rate" if _is_binary(task, key) else "mean"
    return Metric(
        name=metric_name(task, scored, filter_name),
        higher_is_better=task.higher_is_better().get(key) is not False,
        aggregation=aggregation,
        kind=kind,
        bounds=(0.0, 1.0) if kind == "rate" or (averaged and key in FRACTIONS) else None,
        headline=headline,
        filter=filter_name,
    )


def metric_name(task: Any, key: str, filter_name: str) -> str:
    """lm-eval's name of a metric, with the filter where there are several."""
    return key if len(task._filters) == 1 else f"{key},{filter_name}"


def _is_binary(task: Any, key: str) -> bool:
    """Whether the metric is computed from one reply, as 0 or 1: by lm-eval itself, or as in `VERDICTS`."""
    from lm_eval.api.registry import METRIC_REGISTRY

    if not _lm_evals_task(task) or task.config.repeats != 1:
        return False
    own, function = task.config.process_results, task._metric_fn_list.get(key)
    if key in VERDICTS.get(_shipped_with(own if callable(own) else function), ()):
        return True
    return not callable(own) and key in FRACTIONS and function is METRIC_REGISTRY[key]


def _lm_evals_task(task: Any) -> bool:
    """Whether a task is told by its config alone, without a class of its own that scores."""
    from lm_eval.api.task import ConfigurableTask

    return type(task).process_results is ConfigurableTask.process_results


def scores_as_lm_eval(task: Any) -> bool:
    """Whether lm-eval itself makes the scores, and no code of the task's own."""
    return _lm_evals_task(task) and not callable(task.config.process_results)


def _shipped_with(function: Any) -> str:
    """The folder of lm-eval's tasks that a function comes from, empty if it is not one of theirs."""
    # lm-eval keeps the bound `__call__` of a metric's function.
    code = getattr(getattr(function, "__self__", function), "__code__", None)
    _, _, place = getattr(code, "co_filename", "").partition("/lm_eval/tasks/")
    return str(place).partition("/")[0]


def aggregation_name(name: str, key: str, function: Any) -> str:
    """What `aggregate` finds the function by: lm-eval's name, or `package.module:function`.

    Raises:
        UserError: the function has no such name.
    """
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    for known, registered in AGGREGATION_REGISTRY.items():
        if registered is function:
            # A sample whose score is not a number is not measured, and enters no mean.
            return "mean" if known == "nanmean" else str(known)
    if (shipped := _shipped_aggregation(function)) is not None:
        return shipped
    module, qualname = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    # lm-eval calls a module that lies beside a YAML by its path.
    if "/" not in module and getattr(sys.modules.get(module), qualname, object) is function:
        _OF_BUILT_TASKS[f"{module}:{qualname}"] = function
        return f"{module}:{qualname}"
    raise UserError(
        f"lm-eval task {name}: metric {key} is aggregated by a function that no installed module defines: "
        "move it into one, so that scorecards can be made without the task"
    )


def _shipped_aggregation(function: Any) -> str | None:
    """Our name of a function that lies beside one of lm-eval's own task YAMLs, if it has one here."""
    same = {"agg_inst_level_acc": mean_of_lists}
    known = same.get(getattr(function, "__qualname__", ""))
    if known is None or not _shipped_with(function):
        return None
    return f"{known.__module__}:{known.__qualname__}"


MEAN_OF_LISTS = (
    "harness.suites.lm_eval.metrics:mean_of_lists",
    "harness.suites.lm_eval_metrics:mean_of_lists",
)
"""How records name `mean_of_lists`: now, and in runs of version 0.1."""


def mean_of_lists(lists: Sequence[Sequence[float]]) -> float:
    """Mean of the elements of all lists, as lm-eval's `agg_inst_level_acc` of IFEval computes it."""
    flat = [value for values in lists for value in values]
    return sum(flat) / len(flat)


_OF_BUILT_TASKS: dict[str, Callable[..., Any]] = {}
"""Aggregations of the tasks that were built in this process, by the names that their metrics give them."""


def items_of(operands: Sequence[Sequence[Any]]) -> list[Any]:
    """What lm-eval's aggregations are handed of each sample: its one operand, or all of them as a tuple."""
    return [each[0] if len(each) == 1 else tuple(each) for each in operands]


def aggregate(aggregation: str, operands: Sequence[Sequence[Any]]) -> float:
    """A corpus metric from the operands of its samples' scores; infinite where it is no float any more.

    Args:
        aggregation: a name of lm-eval's registry, or `package.module:function`.
        operands: of each sample, as in `Score.operands`.

    Raises:
        Untrusted: it names code that may not be run.
        ArithmeticError: it is not defined on these samples.
        UserError: there is no such aggregation, or the operands are not what it takes.
    """
    function = _aggregation(aggregation)
    try:
        return float(function(items_of(operands)))
    except OverflowError:  # the perplexity of very unlikely texts
        return math.inf
    except ArithmeticError:  # not defined on these samples: none of them has a weight, for example
        raise
    except Exception as error:  # operands stand in records, which may hold anything
        raise UserError(
            f"{aggregation} cannot be computed from the operands of its records "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}): restore them from a copy"
        ) from error


def _aggregation(name: str) -> Callable[..., Any]:
    """The function that a metric is aggregated by. Raises as `aggregate`."""
    from lm_eval.api.registry import AGGREGATION_REGISTRY, get_aggregation

    if name in MEAN_OF_LISTS:
        return mean_of_lists
    if ":" in name:
        aggregation: Callable[..., Any] = _OF_BUILT_TASKS.get(name) or load_object(
            name, "aggregation", in_records=True
        )
        return aggregation
    registered: Callable[..., Any] | None = get_aggregation(name)
    if registered is None:
        known = ", ".join(sorted(AGGREGATION_REGISTRY.keys()))
        raise UserError(f"lm-eval has no aggregation {name!r}: use one of {known}")
    return registered


def to_score(name: str, metric: Metric | None, value: Any, answer: str | None, reason: str | None) -> Score:
    """What a task made of a reply, as a score.

    Raises:
        AttemptFailure: it is no number where there must be one, or lies outside of the metric's bounds.
    """
    number = to_number(value)
    if (metric is None and number is None) or (metric is not None and metric.kind == "corpus"):
        return Score(metric=name, value=None, answer=answer, reason=reason, operands=to_operands(name, value))
    if value is not None and number is None:
        raise AttemptFailure(FailureKind.SCORER_ERROR, f"{name} is {value!r:.100}, not a number")
    if number is None or math.isnan(number):
        return Score(metric=name, value=None, answer=answer, reason=NO_SCORE)
    low, high = metric.bounds if metric and metric.bounds else (-sys.float_info.max, sys.float_info.max)
    if not low <= number <= high or (metric and metric.kind == "rate" and number not in (0.0, 1.0)):
        raise AttemptFailure(FailureKind.SCORER_ERROR, f"{name} is {number}, which it cannot be")
    return Score(metric=name, value=number, answer=answer, reason=reason)


def to_number(value: Any) -> float | None:
    """A number of Python's or numpy's as a float, None for anything else."""
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
    return float(value) if isinstance(value, bool | int | float) else None


def to_operands(name: str, value: Any) -> tuple[Any, ...]:
    """What an aggregation needs of one sample, as JSON can hold it.

    A tuple's elements, or the one value that is not a tuple.
    """
    plain = _plain(name, value)
    return tuple(plain) if isinstance(value, tuple) and len(value) > 1 else (plain,)


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, str | bool | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise AttemptFailure(FailureKind.SCORER_ERROR, f"{name} holds {value!r:.100}, which cannot be kept")


def right_answer(task: Any, doc: Any) -> Any:
    """The right answer: a choice's number, a text, or a list of either."""
    # Where the choices are put into the context, the text names the right one.
    return task.doc_to_text(doc) if getattr(task, "multiple_input", False) else task.doc_to_target(doc)


def target_text(task: Any, doc: Any) -> str:
    """The right answer, as text."""
    target = right_answer(task, doc)
    choices = choices_of(task, doc)
    if choices and isinstance(target, int) and 0 <= target < len(choices):
        return str(choices[target])
    return str(target)


def answer_text(task: Any, doc: Any, key: str, filtered: Sequence[Any]) -> str | None:
    """What was read out of the replies: the filtered text, or the most likely choice for plain accuracy."""
    if task.OUTPUT_TYPE == "generate_until":
        return str(filtered[0])
    choices = choices_of(task, doc)
    if task.OUTPUT_TYPE == "multiple_choice" and key == "acc" and choices:
        return str(choices[max(range(len(choices)), key=lambda i: filtered[i][0])])
    return None


def choices_of(task: Any, doc: Any) -> list[str]:
    """The choices of a document, none where the task has none."""
    return list(task.doc_to_choice(doc)) if task.config.doc_to_choice is not None else []
