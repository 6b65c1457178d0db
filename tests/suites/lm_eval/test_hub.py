"""lm-eval's own tasks on data in the hub's layouts: the capability battery, and the local variants."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.config import load_config, registry
from harness.engines.scripted import ScriptedEngine
from harness.errors import UserError
from harness.suites import load_suites
from harness.suites.lm_eval.suite import Options, build
from harness.types import Sampling
from tests.conftest import shared_data
from tests.suites import hub_layouts

SUITES = registry() / "suites"
LOCAL = SUITES / "lm_eval_local"
BATTERY = sorted(path.stem for path in SUITES.glob("battery_*.yaml"))
GATED = {"Idavidrein/gpqa"}
RUNS_CODE = ("humaneval", "mbpp")

COPIES = {
    "battery_arc_challenge": "local_arc_challenge",
    "battery_gsm8k": "local_gsm8k",
    "battery_hellaswag": "local_hellaswag",
    "battery_humaneval": "local_humaneval_instruct",
    "battery_ifeval": "local_ifeval",
    "battery_math500": "local_math500",
    "battery_mbpp": "local_mbpp_instruct",
    "battery_mmlu": "local_mmlu",
}
"""Suites of the battery whose data there is a copy of."""
OWN_EXAMPLES = ("battery_arc_challenge", "battery_hellaswag")
"""Their copies lack the split that solved examples are drawn from: compared without examples."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """`datasets` finds the repositories on this machine. Local files are loaded as ever."""
    import datasets
    import nltk.data

    original, find = datasets.load_dataset, nltk.data.find

    def load_dataset(path: str, name: str | None = None, revision: str | None = None, **more: Any) -> Any:
        if path in hub_layouts.HUB:
            assert revision is None
            return hub_layouts.load(path, name)
        return original(path, name, **more)

    def found(resource: str, *arguments: Any) -> Any:
        return resource if "punkt_tab" in resource else find(resource, *arguments)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(nltk.data, "find", found)  # IFEval's prompts do without its tokenizer
    before = set(sys.modules)
    yield
    for name in [name for name in set(sys.modules) - before if "ifeval" in name]:
        del sys.modules[name]  # they look for the tokenizer only once


def render(messages: Any, add_generation_prompt: bool) -> str:
    turns = "".join(f"<{m.role}>{m.content.strip()}</{m.role}>\n" for m in messages)
    return turns + ("<assistant>" if add_generation_prompt else "")


def asked(suite: Any) -> list[Any]:
    """What a suite asks, document by document, and what it holds for right."""
    return [
        ([i.args for i in sample.payload.instances], str(suite._task.doc_to_target(sample.payload.doc)))
        for sample in suite.samples("m", render)
    ]


def local(name: str, options: dict[str, Any]) -> Sequence[Any]:
    data = str(shared_data("SOURCES.md").parent)
    return build(None, Options(**{**options, "task": name, "include_path": str(LOCAL), "data_dir": data}))


def battery(folder: Path, name: str, **more: Any) -> tuple[list[Any], dict[str, Any]]:
    path = folder / "run.yaml"
    path.write_text(f"name: a\nmodels: [aster-dense]\nsuites: [{name}]\nsampling: {{}}\n")
    (spec,) = load_config(path).suites
    spec = msgspec.structs.replace(spec, options={**spec.options, **more})
    try:
        return list(load_suites(spec)), dict(spec.options)
    except UserError as error:
        if "bwrap" in str(error) and any(task in name for task in RUNS_CODE):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", BATTERY)
def test_the_battery_can_be_asked_and_scored(name: str, tmp_path: Path) -> None:
    suites, _ = battery(tmp_path, name, limit=2)
    text = (SUITES / f"{name}.yaml").read_text()
    (data_set,) = {asked for suite in suites for asked in suite.needs.data}
    assert f"# Data: {data_set} on the hub, " in text
    assert ("GATED" in text) == (data_set in GATED)
    for suite in suites[:3]:
        assert sum(metric.headline for metric in suite.metrics) == 1
        sample = suite.samples("m", render)[0]
        transcript = asyncio.run(suite.run(sample, ScriptedEngine(), Sampling()))
        assert transcript.generations or transcript.loglikelihoods
        measured = {score.metric for score in suite.score(sample, transcript)}
        assert measured == {metric.name for metric in suite.metrics}


@pytest.mark.parametrize("name", sorted(COPIES))
def test_local_variants_ask_what_the_battery_asks(name: str, tmp_path: Path) -> None:
    more = {"limit": 40} | ({"num_fewshot": 0} if name in OWN_EXAMPLES else {})
    suites, options = battery(tmp_path, name, **more)
    found = {suite._task_name: suite for suite in suites}
    copies = local(COPIES[name], options)
    assert len(copies) == {"local_mmlu": 14}.get(COPIES[name], 1)
    for copy in copies:
        theirs = asked(found[copy._task_name])
        assert asked(copy) == theirs and len(theirs) == 40


@pytest.mark.parametrize("name", ["battery_arc_challenge", "battery_hellaswag", "battery_mmlu"])
def test_solved_examples_come_before_the_question(name: str, tmp_path: Path) -> None:
    suites, options = battery(tmp_path, name, limit=5)
    bare, _ = battery(tmp_path, name, limit=5, num_fewshot=0)
    for (shown, _), (question, _) in zip(asked(suites[0]), asked(bare[0]), strict=True):
        for (prompt, answer), (end, same) in zip(shown, question, strict=True):
            assert answer == same
            assert prompt.endswith("\n\n" + end.rpartition("\n\n")[2])
            assert prompt.count("\n\n") >= options["num_fewshot"]


NOT_ALIKE = {"local_mmlu_redux"}
"""Whose data set on the hub holds more than the copy."""


@pytest.mark.parametrize("name", sorted({path.stem for path in LOCAL.glob("*.yaml")} - NOT_ALIKE))
def test_local_variants_ask_what_lm_eval_asks(name: str) -> None:
    """The task of the same name, lm-eval's own file unchanged, on the same data in the hub's layout."""
    for copy in local(name, {"limit": 60}):
        (own,) = build(None, Options(task=copy._task_name, limit=60))
        assert isinstance(own, type(copy)) and own.needs.data and not copy.needs.data
        theirs = asked(own)
        assert asked(copy) == theirs and len(theirs) == 60
        assert copy.metrics == own.metrics


def test_arc_easy_is_whole_and_without_copies_of_choices() -> None:
    (suite,) = local("local_arc_easy", {})
    documents = [sample.payload.doc for sample in suite.samples("m", None)]
    assert len(documents) == 2376
    assert all(len(set(doc["choices"])) == len(doc["choices"]) for doc in documents)
    rows = hub_layouts.lines("arc/llmfoundry_arc_easy.jsonl")
    right = [doc["choices"][doc["gold"]] for doc in documents]
    assert right == [row["choices"][row["gold"]] for row in rows]
    assert sum(len(doc["choices"]) == 3 for doc in documents) == 7


def test_mmlu_redux_has_the_questions_in_which_nothing_is_wrong() -> None:
    """Choices are compared with those of MMLU itself, for the questions that stand there word by word."""
    suites = local("local_mmlu_redux", {})
    assert [suite.count() for suite in suites] == [97, 89, 43]
    for suite in suites:
        (own,) = build(None, Options(task=suite._task_name))
        ours, theirs = asked(suite), asked(own)
        assert len(theirs) > 0.9 * len(ours)
        assert [pair for pair in ours if pair in theirs] == theirs
