"""Groups of lm-eval's tasks against lm-eval's own averages."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.benchmarks import group_average
from harness.cli import main
from harness.config import EngineSpec, ModelSpec, RunConfig, SuiteSpec
from harness.engines.scripted import ScriptedEngine, hashed_score
from harness.records.directory import RunDirectory
from harness.reports.document import read_document
from harness.run.plan import make_manifest, make_plan
from harness.suites.access import Access
from harness.suites.lm_eval.data import Source
from harness.suites.lm_eval.suite import Options, build
from harness.suites.lm_eval.tasks import load_tasks
from harness.types import GroupMetric, Origin, Sampling, SuiteGroup

SIZES = {"birds": 3, "fish": 11, "ferns": 5}

TASK = """
task: {name}
tag: living
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_target: gold
doc_to_choice: [surely, never, perhaps]
metric_list: [{metrics}]
"""

GROUPS = {
    "life": """
group: life
task:
  - {group: animals, task: [birds, fish], aggregate_metric_list: {metric: acc, weight_by_size: false}}
  - ferns
aggregate_metric_list:
  - {metric: acc}
  - {metric: acc_norm, weight_by_size: true, filter_list: none}
  - {metric: acc, filter_list: [absent, none], weight_by_size: false}
""",
    "bare": "group: bare\ntask: [birds, ferns]\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three tasks of unequal size, one without `acc_norm`, and groups of them."""
    import datasets.config

    root = tmp_path_factory.mktemp("tasks")
    for name, size in SIZES.items():
        rows = [{"q": f"Is {name} {n} alive?", "gold": n % 3} for n in range(size)]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        metrics = "{metric: acc}" if name == "ferns" else "{metric: acc}, {metric: acc_norm}"
        (root / f"{name}.yaml").write_text(TASK.format(name=name, metrics=metrics))
    for name, text in GROUPS.items():
        (root / f"{name}.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield root


def lm_evals_own(folder: Path, group: str) -> dict[str, dict[str, Any]]:
    """Group -> what lm-eval's evaluator makes of it."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate

    class Model(LM):
        def loglikelihood(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            return [(hashed_score(*request.args), False) for request in requests]

        def generate_until(self, requests: Any, **_: Any) -> list[str]:
            raise NotImplementedError

        def loglikelihood_rolling(self, requests: Any, **_: Any) -> list[float]:
            raise NotImplementedError

    loaded = load_tasks(group, str(folder), None, Source(None, Access()))
    for task in loaded.tasks.values():
        task.set_config("num_fewshot", 0)
    result: dict[str, Any] = evaluate(lm=Model(), task_dict=loaded._asdict(), bootstrap_iters=0)
    return result["groups"]


def ours(folder: Path, name: str | None, group: str) -> dict[str, dict[str, float | None]]:
    """Group -> averages of the suites' own numbers."""

    async def means(suite: Any) -> dict[str, float]:
        engine, found = ScriptedEngine(), []
        for sample in suite.samples("m", None):
            found += suite.score(sample, await suite.run(sample, engine, Sampling()))
        names = {score.metric for score in found}
        return {n: sum(s.value for s in found if s.metric == n) / suite.count() for n in names}

    suites = build(name, Options(task=group, include_path=str(folder)))
    values = {suite.name: asyncio.run(means(suite)) for suite in suites}
    sizes = {suite.name: suite.count() for suite in suites}
    return {
        found.name: {
            metric.name: group_average(metric, {s: values[s][m] for s, m in metric.members.items()}, sizes)
            for metric in found.metrics
        }
        for found in suites[0].groups
    }


@pytest.mark.parametrize("name", [None, "mine"])
def test_averages_are_lm_evals(folder: Path, name: str | None) -> None:
    theirs, found = lm_evals_own(folder, "life"), ours(folder, name, "life")
    called = {"life": name or "life", "life::animals": f"{name}/life::animals" if name else "life::animals"}
    assert list(found) == list(called.values())
    for group, averages in theirs.items():
        numbers = {
            key: value for key, value in averages.items() if key.startswith("acc") and "std" not in key
        }
        assert found[called[group]] == numbers
        assert len(numbers) >= 1
    # Weighted or not is told apart by these data.
    assert theirs["life"]["acc,none"] != pytest.approx(theirs["life::animals"]["acc,none"])


def test_members_and_inner_groups_are_named_as_the_suites_are(folder: Path) -> None:
    suites = build("mine", Options(task="life", include_path=str(folder)))
    life, animals = suites[0].groups
    assert all(suite.groups is suites[0].groups for suite in suites)
    assert life.members == ("mine/birds", "mine/fish", "mine/ferns")
    assert (life.name, life.subgroups) == ("mine", ("mine/life::animals",))
    assert (animals.members, animals.subgroups) == (("mine/birds", "mine/fish"), ())
    weighted, normed, even = life.metrics
    assert weighted == GroupMetric(
        name="acc,none",
        weight_by_size=True,
        members={"mine/birds": "acc", "mine/fish": "acc", "mine/ferns": "acc"},
    )
    assert (normed.name, list(normed.members)) == ("acc_norm,none", ["mine/birds", "mine/fish"])
    assert even.name == "acc,none" and not even.weight_by_size


def test_what_lm_eval_makes_no_average_of(folder: Path) -> None:
    (bare,) = build(None, Options(task="bare", include_path=str(folder)))[0].groups
    assert bare == SuiteGroup(name="bare", members=("birds", "ferns"), version="N/A")
    (tag,) = build(None, Options(task="living", include_path=str(folder)))[0].groups
    assert tag == SuiteGroup(name="living", members=("birds", "ferns", "fish"))
    assert build(None, Options(task="fish", include_path=str(folder)))[0].groups == ()


def test_an_average_needs_every_member() -> None:
    metric = GroupMetric(name="acc,none", weight_by_size=True, members={"a": "acc", "b": "acc"})
    assert group_average(metric, {"a": 0.5, "b": 1.0}, {"a": 1, "b": 3}) == 0.875
    assert group_average(metric, {"a": 0.5, "b": None}, {"a": 1, "b": 3}) is None
    assert group_average(metric, {"a": 0.5}, {"a": 1, "b": 0}) is None


def test_the_manifest_keeps_each_group_once(folder: Path) -> None:
    def suite(name: str | None, task: str) -> SuiteSpec:
        return SuiteSpec(adapter="lm_eval", name=name, options={"task": task, "include_path": str(folder)})

    def config(*suites: SuiteSpec) -> RunConfig:
        models = tuple(
            ModelSpec(name=name, path=f"scripted/{name}", origin=Origin(developer="D", country="XA"))
            for name in "ab"
        )
        return RunConfig(
            name="groups",
            models=models,
            suites=suites,
            sampling=Sampling(),
            engine=EngineSpec(kind="tests.fakes:start"),
        )

    kept = make_manifest(make_plan(config(suite(None, "life"), suite("again", "life")))).groups
    assert [group.name for group in kept] == ["life", "life::animals", "again", "again/life::animals"]
    problems = make_plan(config(suite("one", "life"), suite("one", "fish"))).problems
    assert [problem.text for problem in problems] == [
        "two suites are called 'one': give one of them another `name`"
    ]


def test_averages_out_of_a_run_are_lm_evals_to_the_last_digit(folder: Path, tmp_path: Path) -> None:
    """Files keep the keys of mappings sorted, which is not the order in which lm-eval adds up."""
    suite = {"adapter": "lm_eval", "task": "life", "include_path": str(folder), "num_fewshot": 0}
    config = {
        "name": "groups",
        "models": ["aster-dense"],
        "suites": [suite],
        "sampling": {},
        "engine": {"kind": "tests.fakes:start"},
    }
    (tmp_path / "run.json").write_text(json.dumps(config))
    assert main(["run", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]) == 0
    found = read_document(RunDirectory(tmp_path / "out")).models[0].suites["life"].group_averages
    assert found == {
        f"{group}/{key}": value
        for group, averages in lm_evals_own(folder, "life").items()
        for key, value in averages.items()
        if key.startswith("acc") and "stderr" not in key
    }
