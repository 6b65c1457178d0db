"""What the documents of a task ask and answer, looked at before any of them is put to a model."""

import traceback
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from harness.suites.lm_eval.data import load_errors, local_files, one_line
from harness.suites.lm_eval.metrics import choices_of, right_answer, scores_as_lm_eval


class Fault(NamedTuple):
    """What is wrong with a document."""

    number: int
    """Of the document, from 0."""
    what: str
    """In words, such as `a choice is empty`."""
    field: str | None
    """The field of the data that it comes from, None where a template or code makes it of several."""

    def __str__(self) -> str:
        where = f" (field {self.field})" if self.field else ""
        return f"document {self.number}: {self.what}{where}"


def faults(task: Any, documents: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[Fault]:
    """What documents lack that must be there for a question to be asked and answered.

    Args:
        task: of lm-eval, as far as it is built.
        documents: with their numbers.
    """
    for number, doc in documents:
        try:
            yield from (Fault(number, *fault) for fault in _faults(task, doc))
        except Exception as error:  # templates and code of the task's own
            yield Fault(number, f"it cannot be read ({type(error).__name__}: {one_line(error)})", None)


def _faults(task: Any, doc: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """(what is wrong, the field that it comes from)."""
    parts = {"question": "doc_to_text", "choices": "doc_to_choice"}
    if scores_as_lm_eval(task):  # code of the task's own may look for the answer elsewhere
        parts["answer"] = "doc_to_target"
    for part, key in parts.items():
        field = _field(task, getattr(task.config, key))
        if field is not None and doc.get(field) is None:
            yield f"its {part} is null", field
            if part == "choices":
                return
    if (shown := _null_shown(task, doc)) is not None:
        yield "a null is shown to the model as the text None", shown
    yield from _faulty_choices(task, doc)


def _faulty_choices(task: Any, doc: Any) -> Iterator[tuple[str, str | None]]:
    choices: list[Any] = choices_of(task, doc)
    field = _field(task, task.config.doc_to_choice)
    if task.config.doc_to_choice is not None and not choices:
        yield "it has no choices", field
    if "" in choices:
        yield "a choice is empty", field
    for choice in choices:
        if not isinstance(choice, str):
            yield f"the choice {choice!r} is not text (quote it where it is written)", field
            return


def _field(task: Any, stated: Any) -> str | None:
    """The one field that a `doc_to_...` is, by name or as a template of nothing else."""
    if not isinstance(stated, str):
        return None
    bare = stated.strip().removeprefix("{{").removesuffix("}}").strip()
    return bare if bare in task.features else None


def _null_shown(task: Any, doc: Any) -> str | None:
    """A field that is null, and that the template of the question writes all the same."""
    from lm_eval.utils import apply_template

    if not isinstance(doc, Mapping):
        return None
    template = task.config.doc_to_text
    nulls = [key for key, value in doc.items() if value is None]
    if not nulls or not isinstance(template, str) or template in task.features:
        return None
    mark = "\x00"
    for key in map(str, nulls):
        if key in template and mark in apply_template(template, {**doc, key: mark}):
            return key
    return None


def why_not_built(error: Exception) -> str | None:
    """What of its data a task stumbled over as lm-eval built it, with the number of the document; None if it
    is something else.
    """
    from lm_eval.api.task import ConfigurableTask

    seen = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    task = next((one for one in seen if isinstance(one, ConfigurableTask) and one.config is not None), None)
    if task is None:
        return None
    if (stray := _stray_split(task)) is not None:
        return stray
    files = local_files((task.config.dataset_kwargs or {}).get("data_files"))
    of = f" of {', '.join(map(str, files))}" if files else ""
    docs = getattr(task, "task_docs", None)
    if docs is None and files and isinstance(error, load_errors()):
        return f"its data{of} cannot be read ({one_line(error.__cause__ or error)}): get them again"
    if docs is None:
        return None
    if not len(docs):
        return f"no document{of} is left: see that its data are whole, and what its process_docs leaves"
    wrong = list(faults(task, enumerate(islice(docs, 1))))
    return f"{'; '.join(str(fault) for fault in wrong)}{of}: correct the data" if wrong else None


def _stray_split(task: Any) -> str | None:
    """A split that a task names and its data do not have."""
    there = getattr(task, "dataset", None)
    for key in ("test_split", "validation_split", "training_split", "fewshot_split"):
        name = getattr(task.config, key)
        if isinstance(there, Mapping) and name is not None and name not in there:
            return f"its {key} {name!r} is none of the splits of its data: {', '.join(map(str, there))}"
    return None


def answerable(task: Any, doc: Any) -> bool:
    """Whether the right answer is one of the choices, where lm-eval itself picks among choices.

    Where it is not, lm-eval warns (`Label index was not in within range`) and counts every model as wrong; of
    a negative label it does not warn.
    """
    if task.config.doc_to_choice is None or not scores_as_lm_eval(task):
        return True
    choices, gold = choices_of(task, doc), right_answer(task, doc)
    several = gold if isinstance(gold, list) else [gold]
    return any(one in choices if isinstance(one, str) else one in range(len(choices)) for one in several)
