"""Run configs: what is accepted, what is refused, and what the refusal says."""

import json
import re
from pathlib import Path

import pytest

from harness import config as configs
from harness.config import RunConfig, load_config, load_model, to_yaml
from harness.errors import UserError
from harness.suites import ADAPTERS, load_suites
from harness.trust import load_object
from tests.conftest import ROOT

GOOD = """\
name: small
models:
  - name: m
    path: ./weights
    origin: {developer: D, country: XA}
suites:
  - adapter: agentdojo
    suite: banking
sampling:
  temperature: 0.5
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(write(folder, text), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_config_is_resolved(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.sampling.temperature == 0.5
    assert Path(config.models[0].path) == tmp_path / "weights"
    assert config.suites[0].options == {"suite": "banking"}


def test_the_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    again = tmp_path / "resolved.yaml"
    again.write_text(to_yaml(config))
    assert to_yaml(load_config(again)) == to_yaml(config)
    assert configs.digest(load_config(again)) == configs.digest(config)


def test_a_checkpoint_without_a_spec_is_a_model_of_no_stated_origin(tmp_path: Path) -> None:
    listed = GOOD.replace(
        GOOD[GOOD.index("  - name: m") : GOOD.index("suites:")], "  - ./My Model\n  - us/Ours-8B\n"
    )
    config = load_config(write(tmp_path, listed))
    assert [model.name for model in config.models] == ["my-model", "ours-8b"]
    assert Path(config.models[0].path) == tmp_path / "My Model"
    assert config.models[1].path == "us/Ours-8B"
    assert not any(model.origin.stated for model in config.models)
    again = tmp_path / "resolved.yaml"
    again.write_text(to_yaml(config))
    assert load_config(again).models[0].path == config.models[0].path


def test_unknown_key_names_line_and_valid_keys(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD + "  temprature: 1\n")
    assert f"{tmp_path / 'run.yaml'}:11: unknown key `temprature`" in said
    assert "did you mean `temperature`" in said
    assert "max_tokens" in said


def test_unknown_key_inside_a_model(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("country: XA", "country: XA, county: XB"))
    assert "run.yaml:5: unknown key `county`" in said
    assert "developer, country" in said


def test_wrong_type_names_line_and_key(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("0.5", "warm"))
    assert "run.yaml:10: key `sampling.temperature`: expected `float`, got `str`" in said


def test_missing_key_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("    path: ./weights\n", ""))
    assert "run.yaml:3: key `models.0.path` is missing" in said


def test_missing_file_and_bad_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.yaml"):
        load_config(tmp_path / "absent.yaml")
    assert "run.yaml:2" in refusal(tmp_path, "name: a\nmodels: [")
    assert "expected a mapping" in refusal(tmp_path, "- a\n- b\n")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        load_config(path)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    assert "run.yaml:11: key `sampling.temperature` is written twice" in refusal(
        tmp_path, GOOD + "  temperature: 1.0\n"
    )


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    said = refusal(tmp_path, "name: a\nmodels: [aster-dens]\nsuites: [banking]\nsampling: {}\n")
    assert "run.yaml:2: there is no model 'aster-dens'" in said
    assert "aster-dense" in said
    said = refusal(tmp_path, "name: a\nmodels: [aster-dense]\nsuites: [bank]\nsampling: {}\n")
    assert "there is no suite 'bank'" in said
    assert "banking" in said


def test_the_same_model_twice_is_refused(tmp_path: Path) -> None:
    text = "name: a\nmodels: [aster-dense, aster-dense]\nsuites: [banking]\nsampling: {}\n"
    assert "aster-dense is listed twice" in refusal(tmp_path, text)


def test_remote_code_needs_a_pinned_revision(tmp_path: Path) -> None:
    text = GOOD.replace("path: ./weights", "path: some/model\n    trust_remote_code: true")
    assert "pin the `revision`" in refusal(tmp_path, text)
    pinned = text.replace("path: some/model", "path: some/model\n    revision: abc123")
    assert load_config(write(tmp_path, pinned)).models[0].trust_remote_code


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("attempts: 0", "key `attempts`: expected `int` >= 1"),
        ("limit: 0", "key `limit`: expected `int` >= 1"),
        ("limit: -3", "key `limit`: expected `int` >= 1"),
        ("limit: 2.5", "key `limit`: expected `int"),
        ("limit: true", "key `limit`: expected `int"),
        ("engine: {max_concurrency: 0}", "key `engine.max_concurrency`: expected `int` >= 1"),
        ("engine: {kind: vlm}", "key `engine.kind`: there is no engine 'vlm': use one of vllm, endpoint, or"),
        ("engine: {kind: my.module}", "key `engine.kind`: there is no engine 'my.module'"),
    ],
)
def test_wrong_values_are_refused_where_they_stand(tmp_path: Path, line: str, says: str) -> None:
    assert f"run.yaml:11: {says}" in refusal(tmp_path, f"{GOOD}{line}\n")


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load_config(path, ["sampling.max_tokens=7", "suites.0.limit=3", "engine.args.dtype=float32"])
    assert config.sampling.max_tokens == 7
    assert config.suites[0].options["limit"] == 3
    assert config.engine.args == {"dtype": "float32"}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampling", "expected key=value"),
        ("suites.9.limit=3", "nothing at '9'"),
        ("sampling.tempo=3", "unknown key `tempo`"),
        ("name.x=1", "nothing at"),
        ("sampling.seed=[1", "the value is not YAML"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, says: str) -> None:
    assert says in refusal(tmp_path, GOOD, override) or "is a name" in refusal(tmp_path, GOOD, override)


def test_what_changes_a_result_changes_the_digest(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    one = load_config(path)
    two = load_config(path, ["sampling.seed=4", "engine.max_concurrency=2", "suites.0.limit=3"])
    assert configs.digest(one) != configs.digest(two)


def test_concurrency_does_not_change_the_digest(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert configs.digest(load_config(path)) == configs.digest(
        load_config(path, ["engine.max_concurrency=2"])
    )


def test_locate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", "/data")
    assert configs.locate("${SOME_FOLDER}/x") == "/data/x"
    assert configs.locate("org/name") == "org/name"
    assert Path(configs.locate("harness:types.py")).is_file()
    monkeypatch.delenv("SOME_FOLDER")
    with pytest.raises(UserError, match="SOME_FOLDER"):
        configs.locate("${SOME_FOLDER}/x")


@pytest.mark.parametrize(
    ("suite", "says"),
    [
        ("tests.fakes,\n  sampels: 3", "run.yaml:4: suite tests.fakes: unknown key `sampels` (did you mean"),
        ("tests.fakes,\n  samples: few", "run.yaml:4: suite tests.fakes: key `samples`: expected `int`"),
        ("nobody", "run.yaml:3: there is no adapter 'nobody'"),
        ("tests.fakes,\n  scorer: '${ABSENT}'", "run.yaml:4: suite tests.fakes: '${ABSENT}' needs"),
    ],
    ids=["unknown", "type", "adapter", "variable"],
)
def test_errors_about_suites_name_the_line(tmp_path: Path, suite: str, says: str) -> None:
    path = write(
        tmp_path, f"name: a\nmodels: [aster-dense]\nsuites: [{{adapter: {suite}}}]\nsampling: {{}}\n"
    )
    (spec,) = load_config(path).suites
    with pytest.raises(UserError) as caught:
        load_suites(spec)
    assert f"{tmp_path}/{says}" in str(caught.value)


def test_errors_about_suites_of_the_registry_name_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    (spec,) = load_config(
        write(tmp_path, GOOD.replace("- adapter: agentdojo\n    suite: banking", "- local_gsm8k"))
    ).suites
    with pytest.raises(
        UserError, match=r"configs/suites/local_gsm8k\.yaml:\d+: suite local_gsm8k: .*HARNESS_DATA"
    ):
        load_suites(spec)


def test_the_folder_of_a_config_is_no_part_of_it(tmp_path: Path) -> None:
    """Two copies of a folder are the same config, kept in the same words."""
    text = GOOD.replace("suite: banking", "suite: banking\n    extra: ../tasks")
    text += "description: ./as it is\n"
    found = []
    for name in ("a", "far/b"):
        folder = tmp_path / name / "configs"
        folder.mkdir(parents=True)
        found.append(load_config(write(folder, text)))
        assert Path(found[-1].models[0].path).resolve() == folder / "weights"
        assert Path(found[-1].suites[0].options["extra"]).resolve() == tmp_path / name / "tasks"
    assert configs.digest(found[0]) == configs.digest(found[1])
    assert to_yaml(found[0]) == to_yaml(found[1])
    assert str(tmp_path) not in to_yaml(found[0])
    assert "path: ./weights" in to_yaml(found[0]) and "extra: ../tasks" in to_yaml(found[0])


def test_relative_paths_of_other_files_are_told_from_the_config(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = "name: m\npath: ./weights\norigin: {developer: D, country: XA}\n"
    (tmp_path / "models" / "m.yaml").write_text(model)
    text = "name: a\nmodels: [./models/m.yaml]\nsuites: [local_gsm8k]\nsampling: {}\n"
    config = load_config(write(tmp_path, text))
    assert Path(config.models[0].path) == tmp_path / "models" / "weights"
    assert configs.as_written(config.models[0].path) == "./models/weights"
    include_path = config.suites[0].options["include_path"]
    assert include_path == "configs:suites/lm_eval_local"
    assert Path(configs.locate(include_path)) == ROOT / "configs" / "suites" / "lm_eval_local"


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_suite_has_options_that_its_adapter_knows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    text = f"name: a\nmodels: [aster-dense]\nsuites: [{path.stem}]\nsampling: {{}}\n"
    (spec,) = load_config(write(tmp_path, text)).suites
    assert spec.name == path.stem
    module = ADAPTERS[spec.adapter]
    kind = load_object(f"{module}:Options", "adapter")
    options = configs.load_options(spec.options, kind, path.stem)
    assert {key for key in spec.options if not hasattr(options, key)} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "runs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_run_config_loads(path: Path) -> None:
    config = load_config(path)
    assert isinstance(config, RunConfig)
    assert config.name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "models").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_model_spec_loads(path: Path) -> None:
    assert configs.load_model(path.stem).name == path.stem


def test_a_published_run_needs_pinned_models(tmp_path: Path) -> None:
    text = GOOD.replace("./weights", "organisation/model") + "published: true\n"
    assert "a published run needs the revision of m" in refusal(tmp_path, text)
    pinned = text.replace("organisation/model", "organisation/model\n    revision: abc")
    assert load_config(write(tmp_path, pinned)).published


def test_a_price_is_no_part_of_what_is_measured(tmp_path: Path) -> None:
    without, priced = (
        load_config(write(tmp_path, GOOD), given) for given in ([], ["price_per_gpu_hour=2.5"])
    )
    assert priced.price_per_gpu_hour == 2.5
    assert configs.digest(without) == configs.digest(priced)


@pytest.mark.parametrize("price", ["0", "-1", ".inf", ".nan", "cheap"])
def test_a_price_is_a_number_above_0(tmp_path: Path, price: str) -> None:
    said = refusal(tmp_path, GOOD, f"price_per_gpu_hour={price}")
    assert "price_per_gpu_hour" in said


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    said = refusal(tmp_path, GOOD.replace("name: small", f"name: {name!r}"))
    assert f"run.yaml:1: key `name`: {name!r} cannot be the name of a folder" in said


def test_a_country_is_two_capitals(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("country: XA", "country: China"))
    assert "run.yaml:5: model m: key `origin.country`: expected two capitals of ISO 3166-1" in said


def test_a_config_that_ships_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("demo")) == load_config(ROOT / "configs" / "runs" / "demo.yaml")
    with pytest.raises(UserError, match=r"there is no run 'demmo' .*: use one of demo"):
        load_config(Path("demmo"))


@pytest.mark.parametrize("written", ["2026-11-27", "'2026-11-27'"])
def test_a_day_may_be_written_with_and_without_quotes(tmp_path: Path, written: str) -> None:
    config = load_config(write(tmp_path, f"{GOOD}date: {written}\n"))
    assert (config.date, config.day) == ("2026-11-27", "2026-11-27")
    assert configs.digest(config) == configs.digest(load_config(write(tmp_path, GOOD)))


def test_what_is_no_day_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="date 'tomorrow' is not a day: expected one such as 2026-11-27"):
        load_config(write(tmp_path, GOOD), ["date=tomorrow"])


def test_a_hub_id_that_the_registry_knows_has_the_facts_of_its_spec(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "name: r\nmodels: [Qwen/Qwen3-8B, Qwen/Qwen3-8B-of-mine]\nsuites: [banking]\nsampling: {}\n"
    )
    known, unknown = load_config(config).models
    assert known == configs.load_model("qwen3-8b") and known.tool_call_parser
    assert (unknown.name, unknown.path, unknown.tool_call_parser) == (
        "qwen3-8b-of-mine",
        "Qwen/Qwen3-8B-of-mine",
        None,
    )


def test_a_mistyped_name_is_told_with_those_that_are_near(tmp_path: Path) -> None:
    for typed, near in (
        ("qwen3-8", "qwen3-8b, "),
        ("Qwen3-8B", "qwen3-8b, "),
        ("llama", "deepseek-r1-distill-llama-70b, llama-3.1-70b-instruct, "),
        ("gpt-os-20b", "gpt-oss-20b"),
    ):
        with pytest.raises(UserError, match=f"there is no model '{typed}' .*: use one of {near}"):
            load_model(typed)
    with pytest.raises(UserError, match=r"use one of .* and \d+ more, or the path") as told:
        load_model("unheard")
    assert len(str(told.value)) < 500
    (tmp_path / "first.yaml").write_text("name: first\n")
    with pytest.raises(UserError, match=r"cannot read \S+/frist\.yaml: .*; did you mean \S+/first\.yaml\?"):
        load_config(tmp_path / "frist.yaml")


def test_what_the_command_line_sets_is_where_it_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: r\nmodels: [aster-dense]\nsuites: [planted_choice]\n")
    with pytest.raises(UserError, match=r"^override 'models=\[\"aster-dens\"\]': there is no model"):
        load_config(tmp_path / "run.yaml", ['models=["aster-dens"]'])
    with pytest.raises(UserError, match=r"^override 'models\.0=x': there is no model 'x'"):
        load_config(tmp_path / "run.yaml", ["models.0=x"])


def test_every_model_of_the_registry_may_be_in_a_run_that_is_read_again(tmp_path: Path) -> None:
    # code of a checkpoint's own is run at a commit alone, which specs of the registry do not pin
    models = [name for name in configs.names("models") if not load_model(name).trust_remote_code]
    asked = [f"models={json.dumps(models)}", 'suites=["planted_choice"]', "name=r", "sampling={}"]
    run = load_config(None, asked)
    assert any(spec.layouts for spec in run.models)
    assert re.fullmatch(r"[0-9a-f]{12}", configs.digest(run))
    (tmp_path / "again.yaml").write_text(to_yaml(run))
    assert configs.digest(load_config(tmp_path / "again.yaml")) == configs.digest(run)
