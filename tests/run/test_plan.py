"""Plans name what is wrong before any model is loaded."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import main
from harness.config import ModelSpec, RunConfig, load_config
from harness.judges.spec import load_judge
from harness.models.parsers import registered
from harness.run.judging import PlannedJudge
from harness.run.models import PlannedModel
from harness.run.plan import Plan, leave_out_too_large, make_manifest, make_plan, requests
from harness.suites.base import ModelRole, Needs, SecondModel
from harness.types import Origin, Sampling
from tests.models.fake_hub import serve
from tests.models.test_checkpoint import make
from tests.run.test_runner import CONFIG, config

TINY = {
    "model_type": "llama", "num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": 8,
    "intermediate_size": 16, "vocab_size": 100,
}  # fmt: skip
OF_TOMORROW = {"architectures": ["OfTomorrow"], "model_type": "of_tomorrow"}
REPOSITORIES = {
    "Qwen/Qwen3-8B": "Qwen/Qwen3-8B",
    "harness:models/planted/x": None,
    "/data/Qwen3-8B": None,
    "${MODELS}/Qwen3-8B": None,
    "gpt2": None,
}
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"


@dataclass
class Setup:
    """A run of one local model on a suite that uses tools."""

    folder: Path
    run: Path

    def said(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        """What the plan says is missing."""
        main(["plan", str(self.run), *arguments])
        return capsys.readouterr().out


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr("tests.fakes.DigitSuite.needs", Needs(tools=True), raising=False)
    folder = make(tmp_path / "weights", **TINY)
    (folder / "chat_template.jinja").write_text("{{ tools }}" + PLAIN)
    text = f"""\
name: tools
models:
  - name: one
    path: {folder}
    tool_call_parser: hermes
    origin: {{developer: D, country: XA}}
suites:
  - {{adapter: tests.fakes, name: tools, samples: 1}}
sampling: {{max_tokens: 64}}
"""
    return Setup(folder, config(tmp_path, text))


def test_a_good_model_has_no_problems(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing" not in setup.said(capsys)


def test_second_models_of_suites_are_reckoned_with_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = SecondModel(role=ModelRole.DETECTOR, path="a/b", device="cuda:0", weight_bytes=3 << 30)
    afterwards = SecondModel(role=ModelRole.JUDGE, path="a/c", device="cuda:0", weight_bytes=9 << 30)
    on_cpu = SecondModel(role=ModelRole.USER, path="a/d", weight_bytes=9 << 30)
    needs = Needs(tools=True, models=(beside, afterwards, on_cpu))
    monkeypatch.setattr("tests.fakes.DigitSuite.needs", needs, raising=False)
    again = "  - {adapter: tests.fakes, name: again, samples: 2}\nsampling"
    setup.run.write_text(setup.run.read_text().replace("sampling", again, 1))
    (found,) = requests(make_plan(load_config(setup.run)))
    assert len(found.tasks) == 2 and found.beside == 3 << 30


def test_a_model_may_be_named_beside_the_config(
    setup: Setup, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(setup.folder.parent)
    said = setup.said(capsys, "--model", "weights")
    assert "model weights has no tool_call_parser" in said
    assert f"`harness models add {setup.folder}` proposes what its template writes" in said
    spec = setup.folder.parent / "own.yaml"
    (setup.folder / "chat_template.jinja").write_text("{{ tools }}" + PLAIN + "<tool_call></tool_call>")
    assert main(["models", "add", "weights", "--out", str(spec)]) == 0
    capsys.readouterr()
    assert "missing" not in setup.said(capsys, "--model", "own.yaml")


@pytest.mark.skipif(not registered("tool_parsers"), reason="vLLM is not installed")
def test_a_class_that_vllm_lacks_is_said_with_the_version_that_has_it(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = setup.folder / "config.json"
    stated.write_text(json.dumps(json.loads(stated.read_text()) | OF_TOMORROW))
    said = setup.said(capsys, "models.0.min_vllm='99.0.0'")
    assert "model one: vLLM has no class OfTomorrow; the model needs vLLM 99.0.0 or later, and" in said


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (PLAIN, "model one: the chat template does not show tools"),
        ("{{ tools }}{{ raise_exception('never') }}", "fails to render a conversation (never)"),
        ("{{ tools }}{% if %}", "the chat template is broken in line 1"),
        ("", "model one has no chat template, which suite"),
    ],
)
def test_templates(setup: Setup, capsys: pytest.CaptureFixture[str], template: str, says: str) -> None:
    file = setup.folder / "chat_template.jinja"
    file.write_text(template) if template else file.unlink()
    assert says in setup.said(capsys)


def test_prompts_that_vllm_writes_in_code_need_no_template(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    (setup.folder / "chat_template.jinja").unlink()
    text = setup.run.read_text()
    setup.run.write_text(text.replace(ASKS, ASKS + "    engine_args: {tokenizer_mode: deepseek_v32}\n"))
    assert "missing" not in setup.said(capsys)


def test_parsers(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    if not registered("tool_parsers"):
        pytest.skip("vLLM is not installed")
    text = setup.run.read_text()
    setup.run.write_text(text.replace("hermes", "hermse"))
    assert "tool_call_parser: vLLM has no 'hermse'; did you mean hermes?" in setup.said(capsys)
    setup.run.write_text(text.replace("    tool_call_parser: hermes\n", ""))
    assert "model one has no tool_call_parser, which suite" in setup.said(capsys)


def test_damaged_weights(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    weights = setup.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "is damaged or cut short" in setup.said(capsys)
    weights.rename(setup.folder / "pytorch_model.bin")
    assert "a pickle, which can run any code" in setup.said(capsys)


def test_a_revision_that_does_not_exist(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = setup.run.read_text().replace(str(setup.folder), "some/model\n    revision: v9")
    setup.run.write_text(text)
    with serve(setup.folder, "some/model", monkeypatch, tmp_path / "cache"):
        assert "some/model has no revision v9" in setup.said(capsys)
        setup.run.write_text(text.replace("v9", "main"))
        assert "to download: model one: some/model is not on this machine" in setup.said(capsys)


def test_more_gpus_than_there_are(
    setup: Setup, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("harness.models.forecast.machine_gpus", list)
    text = setup.run.read_text() + "engine: {args: {tensor_parallel_size: 4}}\n"
    setup.run.write_text(text)
    assert main(["run", str(setup.run), "--out", str(tmp_path / "out")]) == 2
    assert "model one asks for 4 GPUs, and there are 0" in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


ASKS = "    tool_call_parser: hermes\n"


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _template(source: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "chat_template.jinja").write_text(source) and None


def _as_it_is(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "asks", "says"),
    [
        (_without_weights, ASKS, "has no *.safetensors files"),
        (_cut_short, ASKS, "is damaged or cut short"),
        (_pickled, ASKS, "a pickle, which can run any code"),
        (_without_config, ASKS, "config.json is missing"),
        (_without_tokenizer, ASKS, "has no tokenizer"),
        (_template("{{ tools }}{{ messages[9].content }}"), ASKS, "fails to render a conversation"),
        (_template(PLAIN), ASKS, "does not show tools"),
        (_as_it_is, "    tool_call_parser: hermse\n", "vLLM has no 'hermse'; did you mean hermes?"),
        (_as_it_is, ASKS + "    reasoning_parser: qwen\n", "reasoning_parser: vLLM has no 'qwen'"),
        (
            _as_it_is,
            ASKS + "    engine_args: {pipeline_parallel_size: 3}\n",
            "asks for 3 GPUs, and there are",
        ),
    ],
)
def test_a_bad_model_is_refused_in_one_sentence_before_any_is_loaded(
    setup: Setup,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    asks: str,
    says: str,
) -> None:
    if "parser: vLLM" in says and not registered("tool_parsers"):
        pytest.skip("vLLM is not installed")
    monkeypatch.setattr("harness.models.forecast.machine_gpus", list)
    monkeypatch.setattr("harness.engines.vllm.engine.VllmEngine.start", None)
    spoil(setup.folder)
    setup.run.write_text(setup.run.read_text().replace(ASKS, asks))
    assert main(["run", str(setup.run), "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert f": {setup.run}:" in line
    assert not (tmp_path / "out" / "run.json").exists()


def test_what_a_spec_states_wrongly_is_named_by_its_own_file_and_line(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = setup.run.parent / "mine.yaml"
    facts = f"name: mine\npath: {setup.folder}\ntool_call_parser: hermse\norigin:\n  developer: D\n"
    spec.write_text(facts + "  country: China\n")
    text = setup.run.read_text()
    first, last = text.index("  - name: one"), text.index("suites:")
    setup.run.write_text(f"{text[:first]}  - ./mine.yaml\n{text[last:]}")
    assert main(["plan", str(setup.run)]) == 2
    assert f"{spec}:6: model mine: key `origin.country`: expected two capitals" in capsys.readouterr().err
    spec.write_text(facts + "  country: CN\n")
    said = setup.said(capsys)
    assert f"{spec}:3: model mine: tool_call_parser: vLLM has no" in said or not registered("tool_parsers")
    spec.write_text(facts.replace(str(setup.folder), "/nowhere/at/all") + "  country: CN\n")
    assert f"missing: {spec}:2: model mine: there is no folder /nowhere/at/all" in setup.said(capsys)
    spec.write_text(facts + "  country: CN\nlines: {}\n")
    assert main(["plan", str(setup.run)]) == 2
    assert f"{spec}:7: unknown key `lines`; valid keys here: name, path" in capsys.readouterr().err


def test_fit_is_shown_for_the_gpus_asked_for(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    said = setup.said(capsys, "--gpus", "8xH200", "--price", "3")
    assert "one: TP1, as stored; GiB a GPU" in said
    assert "makespan" in said
    assert "cost" in said


def test_the_speed_of_an_earlier_run_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = config(tmp_path, CONFIG)
    main(["run", str(run), "--out", str(tmp_path / "out")])
    folder = make(tmp_path / "w", **TINY)
    text = CONFIG.replace("path: one", f"path: {folder}").replace("path: two", f"path: {folder}")
    later = tmp_path / "later.yaml"
    later.write_text(text)
    capsys.readouterr()
    assert main(["plan", str(later), "--gpus", "H100", "--measured", str(tmp_path / "out")]) == 0
    assert "measured throughput" in capsys.readouterr().out


@pytest.mark.parametrize("path", REPOSITORIES)
def test_the_manifest_knows_hub_ids_and_no_folders(path: str) -> None:
    spec = ModelSpec(name="m", path=path, origin=Origin(developer="D", country="XA"))
    config = RunConfig(name="r", models=(spec,), suites=(), sampling=Sampling())
    plan = Plan(config, models={"m": PlannedModel(spec, None)})
    assert make_manifest(plan).models["m"].repository == REPOSITORIES[path]


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("{kind: endpoint}", "engine.args of `endpoint`: Object missing required field `base_url`"),
        ("{kind: endpoint, args: {base_url: 5}}", "Expected `str`, got `int`"),
        ("{kind: endpoint, args: {base_url: x, speed: 5}}", "unknown field `speed`"),
        ("{kind: 'os:getcwd'}", "engine.kind 'os:getcwd' is not a factory of engines"),
    ],
)
def test_engines_are_checked_before_a_run(tmp_path: Path, engine: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "name: x\nmodels: [aster-dense]\nsuites: [{adapter: tests.fakes, name: few, samples: 2}]\n"
        f"sampling: {{}}\nengine: {engine}\n"
    )
    assert any(says in problem.text for problem in make_plan(load_config(path)).problems)


def test_what_a_template_does_is_told_refused_and_kept_in_the_protocol(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    shows = "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    body = "{% for m in messages %}{{ m.content }}" + shows + "{% endfor %}"
    template = setup.folder / "chat_template.jinja"
    template.write_text("{{ tools }}{{ strftime_now('%d %b %Y') }}" + body.replace(shows, ""))
    said = setup.said(capsys, "date=2026-11-27")
    assert "warning: " in said
    assert "the chat template does not show the model the tool calls that it made" in said
    assert "the chat template writes the date: 2026-11-27" in said
    (cell,) = make_plan(load_config(setup.run, ["date=2026-11-27"])).cells
    (other,) = make_plan(load_config(setup.run, ["date=2026-11-28"])).cells
    assert (cell.entry.protocol["date"], other.entry.protocol["date"]) == ("2026-11-27", "2026-11-28")
    assert cell.entry.key != other.entry.key
    assert "tool calls that it made" in cell.entry.protocol["chat_template"]
    template.write_text("{{ tools }}" + body)
    (cell,) = make_plan(load_config(setup.run)).cells
    assert not {"date", "chat_template"} & cell.entry.protocol.keys()
    template.write_text(
        "{{ tools }}" + body.replace("{{ m.content }}", "{{ m.content if m.role != 'tool' }}")
    )
    assert "missing: " in setup.said(capsys)
    assert make_plan(load_config(setup.run)).cells == []


def test_a_template_of_a_processor_alone_is_not_one_for_tools(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    (setup.folder / "chat_template.jinja").unlink()
    (setup.folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ tools }}" + PLAIN}))
    assert "only one of a processor (copy it to chat_template.jinja)" in setup.said(capsys)


def test_a_judge_is_held_to_the_gpus_where_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(
        "{name: big, asks: What?, classes: [a], verdicts: {a: a}, "
        "model: {name: m, path: m/m, engine_args: {tensor_parallel_size: 2}}}\n"
    )
    judge = PlannedJudge(load_judge(str(path)))

    def said(judge_gpus: int) -> list[str]:
        plan = Plan(load_config(config(tmp_path)), judges={"big": judge})
        leave_out_too_large(plan, 8, judge_gpus)
        assert len(plan.judges) + len(plan.problems) == 1
        return [problem.text for problem in plan.problems]

    assert said(2) == []
    (text,) = said(1)
    assert text.startswith("judge big: ") and "model m asks for 2 GPUs, and there is 1" in text
