"""What is known before anything is loaded: told by the plan, kept in the manifest, a status of its own."""

import json
import shutil
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from harness.cli import main
from harness.config import ModelSpec, RunConfig, SuiteSpec, load_config, load_model
from harness.errors import Status
from harness.models.planted import FOLDER
from harness.models.registry import behind
from harness.run import preflight
from harness.run.models import PlannedModel
from harness.run.plan import make_manifest, make_plan
from harness.run.preflight import Subject
from harness.suites import load_suites
from harness.suites.base import ModelRole, Needs, SecondModel
from harness.types import Caution, Origin, Sampling
from tests.conftest import ROOT, shared_data
from tests.run.test_runner import config as written


def short_budget(subject: Subject) -> Iterator[Caution]:
    yield subject.caution("short_budget", f"{subject.model.spec.name} has a short budget: raise it")


def nothing_shown(subject: Subject) -> Iterator[Caution]:
    yield subject.caution("nothing_shown", "nothing is shown", void=True)


def test_an_origin_that_is_not_at_its_best_is_told_where_origins_are_compared() -> None:
    made = {country: Origin(developer=country, country=country) for country in ("XA", "XB")}
    old = ModelSpec(name="old", path="a/old", called="A", origin=made["XA"])
    new = ModelSpec(name="new", path="a/new", called="A", origin=made["XA"], current=True)
    other = ModelSpec(name="b", path="b/b", called="B", origin=made["XB"], current=True)
    own = ModelSpec(name="own", path="./own", called="A", origin=made["XA"])
    known = [old, new, other]
    assert behind([old, other, own], known) == {"old": "new"}
    assert behind([old, new, other], known) == behind([own], known) == {}
    qwen, granite = map(load_model, ("qwen2.5-7b-instruct", "granite-3.3-8b-instruct"))
    (said, *_) = preflight.not_current([qwen, granite])
    assert "does not lead its family any more" in said.text and said.model == qwen.name
    assert not list(preflight.not_current([qwen]))


def test_a_caution_is_told_kept_and_has_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path)
    assert main(["plan", str(config), "--strict"]) == Status.DONE
    capsys.readouterr()
    monkeypatch.setattr(preflight, "CHECKS", (short_budget,))
    assert main(["plan", str(config)]) == Status.DONE
    assert "warning: " in capsys.readouterr().out
    assert main(["plan", str(config), "--strict"]) == Status.WARNED
    kept = make_manifest(make_plan(load_config(config))).cautions
    assert {caution.check for caution in kept} == {"short_budget"}
    assert all(caution.model and caution.suite for caution in kept)


def test_what_measures_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CHECKS", (nothing_shown,))
    plan = make_plan(load_config(written(tmp_path)))
    assert plan.cells == []
    assert {problem.text for problem in plan.problems} == {"nothing is shown"}


ENDPOINT = """\
name: endpoint
models: [aster-dense]
suites:
  - {adapter: tests.fakes, name: digits, samples: 2}
  - {adapter: lm_eval, task: planted_choice, include_path: TASKS, name: choice}
  - {adapter: lm_eval, task: planted_arithmetic, include_path: TASKS, name: chat, apply_chat_template: true}
sampling: {}
engine: {kind: endpoint, args: {base_url: "http://localhost:1/v1"}}
"""


def test_what_an_endpoint_cannot_do_is_refused_by_the_plan_and_its_suite_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(ENDPOINT.replace("TASKS", str(ROOT / "harness" / "suites" / "planted")))
    plan = make_plan(load_config(path))
    assert {(p.suite, p.check) for p in plan.problems} == {("choice", "endpoint"), ("chat", "endpoint")}
    said = {p.suite: p.text for p in plan.problems}
    assert "cannot score log-likelihoods, which suite choice needs" in said["choice"]
    assert "cannot show the text that a chat template makes" in said["chat"]
    assert [cell.suite.name for cell in plan.cells] == ["digits"]


TAGGED = """
task: tagged
dataset_path: json
dataset_kwargs: {data_files: {test: test.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{q}}"
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
BY_PATTERN = "filter_list: [{name: f, filter: [{function: regex, regex_pattern: 'PATTERN'}]}]\n"
BY_FUNCTION = "filter_list: [{name: f, filter: [{function: custom, filter_fn: !function own.read}]}]\n"
OWN = (
    "def read(resps, docs):\n    return [[r.partition('<|im_start|>')[2] for r in each] for each in resps]\n"
)


@pytest.mark.parametrize("kind", ["endpoint", "vllm"])
@pytest.mark.parametrize(
    ("filters", "read"),
    [
        (BY_PATTERN.replace("PATTERN", r"<\|im_start\|>(.*)"), True),
        (BY_PATTERN.replace("PATTERN", "<answer>(.*)</answer>"), False),  # plain text
        (BY_FUNCTION, True),
        ("", False),
    ],
)
def test_special_tokens_that_a_filter_reads_and_a_server_takes_out_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: str, read: bool, kind: str
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "tagged.yaml").write_text(TAGGED + filters)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "test.jsonl").write_text('{"q": "x"}\n')
    arguments = '{base_url: "http://localhost:1/v1"}' if kind == "endpoint" else "{}"
    path = tmp_path / "run.yaml"
    path.write_text(
        f"name: x\nmodels: [aster-dense]\n"
        f"suites: [{{adapter: lm_eval, task: tagged, include_path: {tmp_path}}}]\n"
        f"sampling: {{max_tokens: 8}}\nengine: {{kind: {kind}, args: {arguments}}}\n"
    )
    told = [c.text for c in make_plan(load_config(path)).cautions if c.check == "special_tokens"]
    assert bool(told) == (read and kind == "endpoint")
    assert all("looks for <|im_start|> in replies, special tokens of model aster-dense" in t for t in told)


def test_the_demo_has_nothing_to_warn_of() -> None:
    assert make_plan(load_config(ROOT / "configs" / "runs" / "demo.yaml")).cautions == []


def test_injecagent_needs_a_parser_of_tool_calls(tmp_path: Path) -> None:
    data = shared_data("injecagent")
    path = tmp_path / "run.yaml"
    path.write_text(
        f"name: x\nmodels: [{{name: m, path: {FOLDER}/aster-dense, origin: {{developer: A, country: XA}}}}]\n"
        f"suites: [{{adapter: injecagent, data_dir: {data}, limit: 2}}]\nsampling: {{}}\n"
    )
    plan = make_plan(load_config(path))
    assert [(p.check, p.void) for p in plan.problems] == [("tool_call_parser", True)]
    assert "has no tool_call_parser, which suite injecagent_base needs" in plan.problems[0].text


@pytest.mark.parametrize(
    ("config", "stated"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 131072}}, 131072),
        ({"max_position_embeddings": 32768, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 131072),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"factor": 32.0, "original_max_position_embeddings": 8192},
            },
            4194304,  # the larger reading: what vLLM may take is not refused
        ),
        ({"model_type": "mamba"}, None),
    ],
)
def test_the_context_that_a_config_states(config: dict[str, object], stated: int | None) -> None:
    assert preflight.stated_context(config) == stated


def test_a_context_beyond_the_models_is_known_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "name: x\nmodels: [aster-dense]\nsuites: [{adapter: tests.fakes, name: digits, samples: 2}]\n"
        "sampling: {}\nengine: {args: {max_model_len: 1000000}}\n"
    )
    (found,) = make_plan(load_config(path)).problems
    assert found.check == "max_model_len" and "1000000 is beyond the" in found.text
    monkeypatch.setenv("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
    assert make_plan(load_config(path)).problems == []


WRITING = """\
name: writing
models: [aster-dense]
suites:
  - {adapter: lm_eval, task: planted_arithmetic, include_path: TASKS, name: bare, limit: 5}
  - adapter: lm_eval
    task: planted_arithmetic
    include_path: TASKS
    name: chat
    limit: 5
    apply_chat_template: true
  - {adapter: lm_eval, task: planted_choice, include_path: TASKS, name: choice, limit: 5}
  - {adapter: tests.fakes, name: digits, samples: 2}
attempts: 3
sampling: {temperature: 0.0, max_tokens: 8}
engine: {args: {max_model_len: CONTEXT}}
"""


SUITES = ("bare", "chat", "choice")


def cautions(tmp_path: Path, context: int) -> dict[str | None, set[str]]:
    """Suite -> checks that tell something of it."""
    path = tmp_path / "run.yaml"
    tasks = str(ROOT / "harness" / "suites" / "planted")
    path.write_text(WRITING.replace("TASKS", tasks).replace("CONTEXT", str(context)))
    found: dict[str | None, set[str]] = {}
    for caution in make_plan(load_config(path)).cautions:
        found.setdefault(caution.suite, set()).add(caution.check)
    return found


def test_a_chat_model_that_writes_without_its_template_is_told(tmp_path: Path) -> None:
    found = cautions(tmp_path, 512)
    assert [suite for suite, checks in found.items() if "apply_chat_template" in checks] == ["bare"]


def test_attempts_that_are_drawn_greedily_are_told(tmp_path: Path) -> None:
    found = cautions(tmp_path, 512)
    assert {suite for suite, checks in found.items() if "greedy_attempts" in checks} == {
        "bare",
        "chat",
        "digits",
    }
    assert "alike_attempts" in found["choice"]


def test_the_longest_prompt_is_held_against_the_context(tmp_path: Path) -> None:
    assert not any("longest_prompt" in checks for checks in cautions(tmp_path, 512).values())
    assert "longest_prompt" in cautions(tmp_path, 20)["bare"]


def test_the_longest_prompt_is_counted_to_the_last_token(tmp_path: Path) -> None:
    """With the template's own tokens, and the one that vLLM generates where it only scores."""

    def warned(context: int) -> set[str | None]:
        return {suite for suite, checks in cautions(tmp_path, context).items() if "longest_prompt" in checks}

    contexts = range(20, 400)
    smallest = {
        suite: contexts[bisect_left(contexts, True, key=lambda n, suite=suite: suite not in warned(n))]
        for suite in SUITES
    }
    tokenizer = Tokenizer.from_file(str(FOLDER / "aster-dense" / "tokenizer.json"))
    (bare, chat, choice) = (load_suites(spec)[0] for spec in load_config(tmp_path / "run.yaml").suites[:3])
    tokens = {}
    for suite in (bare, chat, choice):
        longest = suite.longest_prompt()
        assert longest is not None
        tokens[suite.name] = len(tokenizer.encode(longest[1]).ids)
    budget = 16  # of the task
    assert smallest["bare"] == tokens["bare"] + budget
    assert smallest["choice"] == tokens["choice"] + 1
    assert smallest["chat"] > tokens["chat"] + budget, "the template writes more than the text"


def test_what_holds_for_several_suites_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cautions(tmp_path, 512)
    main(["plan", str(tmp_path / "run.yaml")])
    greedy = [line for line in capsys.readouterr().out.splitlines() if "one is made; set sampling" in line]
    assert len(greedy) == 1 and greedy[0].endswith("(the same of chat)")


ENDS = """\
name: ends
models:
  - {name: m, path: MODEL, origin: {developer: A, country: XA}}
suites:
  - {adapter: lm_eval, task: planted_arithmetic, include_path: TASKS, apply_chat_template: true}
sampling: {}
"""


@pytest.mark.parametrize("kind", ["plain", "bos", "eos"])
def test_special_tokens_around_texts_are_told(tmp_path: Path, kind: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(FOLDER / "aster-dense", model)
    told = json.loads((model / "tokenizer.json").read_text())
    around = {"plain": ["$"], "bos": ["<|endoftext|>", "$"], "eos": ["$", "<|im_end|>"]}[kind]
    pieces = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if each == "$"
        else {"SpecialToken": {"id": each, "type_id": 0}}
        for each in around
    ]
    ids = {"<|endoftext|>": 0, "<|im_end|>": 2}
    told["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            text: {"id": text, "ids": [number], "tokens": [text]} for text, number in ids.items()
        },
    }
    (model / "tokenizer.json").write_text(json.dumps(told))
    tasks = FOLDER.parents[1] / "suites" / "planted"
    text = ENDS.replace("MODEL", str(model)).replace("TASKS", str(tasks))
    plan = make_plan(load_config(written(tmp_path, text)))
    found = {caution.check: caution.text for caution in plan.cautions}
    assert ("bos_in_chat" in found) == (kind == "bos")
    assert ("appended_tokens" in found) == (kind == "eos")
    if kind != "plain":
        assert around[kind == "eos"] in found["bos_in_chat" if kind == "bos" else "appended_tokens"]


@pytest.mark.parametrize(
    ("device", "arguments", "said"),
    [
        ("cuda:0", {}, True),
        ("cuda:0", {"gpu_memory_utilization": 0.8}, False),
        ("cpu", {}, False),
    ],
)
def test_a_second_model_on_the_gpu_is_left_its_memory(
    monkeypatch: pytest.MonkeyPatch, device: str, arguments: dict[str, Any], said: bool
) -> None:
    second = SecondModel(role=ModelRole.USER, path="a/b", device=device, weight_bytes=3 << 30)
    monkeypatch.setattr("tests.fakes.DigitSuite.needs", Needs(models=(second,)), raising=False)
    spec = ModelSpec(name="m", path="m", origin=Origin(), engine_args=arguments)
    suites = load_suites(SuiteSpec(adapter="tests.fakes"))
    config = RunConfig(name="r", models=(spec,), suites=(), sampling=Sampling(temperature=1.0))
    found = [caution.text for caution in preflight.preflight(config, [PlannedModel(spec, None)], suites)]
    wanted = (
        "suite digits asks its user simulator (a/b), with 3.0 GiB of weights on cuda:0, of which vLLM takes "
        "92%: leave it room by gpu_memory_utilization in engine.args"
    )
    assert found == ([wanted] if said else [])


THINKS = """\
name: thinks
models:
  - model:
      name: m
      path: "harness:models/planted/aster-dense"
      modes: {thinking: {}, instruct: {}}
      sampling: {thinking: {temperature: 0.6}}
    MORE
suites:
  - {adapter: lm_eval, task: planted_choice, include_path: TASKS, name: choice, apply_chat_template: true}
  - {adapter: lm_eval, task: planted_arithmetic, include_path: TASKS, name: bare}
  - {adapter: tests.fakes, name: digits, samples: 2}
sampling: SAMPLING
"""


def thinking(tmp_path: Path, more: str, sampling: str = "{}") -> dict[str, dict[str | None, str]]:
    """Check -> suite -> what is said of a model that thinks."""
    path = tmp_path / "run.yaml"
    text = THINKS.replace("TASKS", str(ROOT / "harness" / "suites" / "planted"))
    path.write_text(text.replace("MORE", more).replace("SAMPLING", sampling))
    plan = make_plan(load_config(path))
    found: dict[str, dict[str | None, str]] = {}
    for caution in (*plan.problems, *plan.cautions):
        found.setdefault(caution.check, {})[caution.suite] = caution.text
    return found


def test_greedy_thinking_is_warned_of(tmp_path: Path) -> None:
    found = thinking(tmp_path, "mode: thinking")
    assert {*found["greedy_thinking"]} == {"bare", "digits"}
    assert (
        "its developer recommends temperature 0.6: give it `sampling: recommended`"
        in (found["greedy_thinking"]["digits"])
    )
    found = thinking(tmp_path, "mode: thinking", "recommended")
    assert {*found["greedy_thinking"]} == {"bare"}  # the task is greedy, and wins
    assert "`sampling: run` in the suite lets the run's count" in found["greedy_thinking"]["bare"]
    assert "greedy_thinking" not in thinking(tmp_path, "mode: instruct")


def test_the_plan_says_how_a_variant_is_asked(tmp_path: Path) -> None:
    thinking(tmp_path, "mode: thinking\n    sampling: recommended")
    lines = list(make_plan(load_config(tmp_path / "run.yaml")).lines())
    asked = "asked with mode thinking, temperature 0.6, top_p 1, top_k 0, min_p 0, repetition_penalty 1"
    assert f"  {asked}" in lines
    thinking(tmp_path, "as: plain")
    assert not any("asked with" in line for line in make_plan(load_config(tmp_path / "run.yaml")).lines())


def test_answers_are_not_scored_where_a_thought_comes_first(tmp_path: Path) -> None:
    assert {*thinking(tmp_path, "mode: thinking")["scored_in_a_thought"]} == {"choice"}
    assert "scored_in_a_thought" not in thinking(tmp_path, "mode: instruct")


def test_a_variant_that_switches_nothing_is_said(tmp_path: Path) -> None:
    found = thinking(tmp_path, "as: x\n    chat_template_kwargs: {enable_thinking: true}")
    assert {*found["variant_without_template"]} == {"bare"}
    assert {*found["chat_template"]} == {"choice", "digits"}
    assert "the chat template does not read enable_thinking" in found["chat_template"]["digits"]


def test_thoughts_that_nobody_tells_from_answers_are_warned_of(tmp_path: Path) -> None:
    found = thinking(tmp_path, "mode: thinking")
    assert {*found["thoughts_in_answers"]} == {"digits"}
    assert "no reasoning_parser is named" in found["thoughts_in_answers"]["digits"]
    for mode in ("mode: instruct", "as: unasked"):
        assert "thoughts_in_answers" not in thinking(tmp_path, mode)


def test_a_budget_of_thoughts_needs_a_parser_and_thoughts(tmp_path: Path) -> None:
    found = thinking(tmp_path, "thinking_token_budget: 8")
    assert "name its reasoning_parser, or give reasoning_config" in found["thinking_budget"]["digits"]
    found = thinking(tmp_path, "mode: instruct\n    thinking_token_budget: 8")
    assert "is asked not to think" in found["thinking_budget"]["digits"]
