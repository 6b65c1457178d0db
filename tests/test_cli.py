"""The command line as its users meet it: one sentence and status 2 for bad input, never a traceback."""

import argparse
import errno
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.analysis.build import build_scorecards
from harness.analysis.origins import build_origins
from harness.cli import main, parse, parser
from harness.config import digest, load_config
from harness.errors import Status
from harness.records.directory import RunDirectory
from tests.conftest import ROOT
from tests.run.test_runner import CONFIG, config


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_quick() -> None:
    began = processor_seconds()
    answer = subprocess.run(
        [sys.executable, "-m", "harness.cli", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert processor_seconds() - began < 2.0  # a tenth of it; an engine's imports take ten
    for command in ("run", "plan", "models", "suites", "scorecard", "doctor"):
        assert command in answer.stdout


FULL = "harness: No space left on device; free or mend the disk, and try again"


@pytest.mark.parametrize(
    ("command", "ends", "status", "said"),
    [
        ("status results/demo", ">/dev/full", Status.WRONG_INPUT, FULL),
        ("suites", ">/dev/full", Status.WRONG_INPUT, FULL),
        ("--help", ">/dev/full", Status.WRONG_INPUT, FULL),
        ("completion bash", ">/dev/full 2>/dev/full", Status.WRONG_INPUT, ""),
        ("nonsense", "2>/dev/full", Status.WRONG_INPUT, ""),
        ("status /nowhere", "2>/dev/full", Status.WRONG_INPUT, ""),
        ("status results/demo", ">&-", Status.DONE, ""),
        ("status results/demo", ">&- 2>&-", Status.DONE, ""),
        ("status results/demo", "| true", Status.UNREAD, ""),
        ("scorecard results/demo --format json", "| head -c 1 >&2", Status.UNREAD, "{"),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_takes(
    command: str, ends: str, status: Status, said: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    line = f"set -o pipefail; {sys.executable} -m harness.cli {command} {ends}"
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (answer.returncode, answer.stderr.strip()) == (status, said)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("name: digits", "name: digits\nspeed: 3"), "unknown key `speed`"),
        (("samples: 20", "samples: many"), "key `samples`: expected `int`, got `str`"),
        (("samples: 20", "sample: 20"), "unknown key `sample` (did you mean `samples`?)"),
        (("adapter: tests.fakes, name: few", "adapter: lm_evil, name: few"), "there is no adapter 'lm_evil'"),
        (("max_concurrency: 8", "max_concurrency: 0"), "key `engine.max_concurrency`: expected `int` >= 1"),
        (("temperature: 1.0", "temperature: -1.0"), "temperature must be a number from 0"),
        (("temperature: 1.0", "temperature: .nan"), "temperature must be a number from 0"),
        (("kind: tests.fakes:start", "kind: vlm"), "there is no engine 'vlm'"),
        (("name: few", "name: many"), "two suites are called 'many'"),
    ],
)
def test_bad_configs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], says: str
) -> None:
    path = config(tmp_path, CONFIG.replace(*change))
    assert says in refused(capsys, "run", str(path), "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("path: one", "path: ./no-such-folder"), "there is no folder"),
        (("path: one", "path: ./empty"), "config.json is missing"),
    ],
)
def test_bad_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    text = CONFIG.replace(*change).replace("kind: tests.fakes:start", "kind: vllm")
    assert says in refused(capsys, "run", str(config(tmp_path, text)), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out" / "run.json").exists()


def test_bad_directories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no results" in refused(capsys, "scorecard", str(tmp_path))
    assert "cannot read" in refused(capsys, "run", str(tmp_path / "absent.yaml"))
    (tmp_path / "manifest.json").write_text("{")
    assert "not JSON" in refused(capsys, "scorecard", str(tmp_path))


def test_unknown_arguments_are_refused(tmp_path: Path) -> None:
    for arguments in (["run", "x.yaml", "--fast"], ["plan", "x.yaml", "--out=3"], ["doctor", "a=b"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_plan_shows_cells_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config(tmp_path)), "limit=7"]) == 0
    said = capsys.readouterr().out
    assert "one on few, 7 samples x 2 attempts" in said
    assert "4 cells, 56 attempts" in said


def test_plan_names_all_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONFIG.replace("kind: tests.fakes:start", "kind: vllm").replace("path: one", "path: /nowhere")
    text = text.replace("adapter: tests.fakes, name: few", "adapter: nowhere, name: few")
    assert main(["plan", str(config(tmp_path, text))]) == 2
    said = capsys.readouterr().out
    assert re.search(r"missing: \S+/digits\.yaml:3: model one: there is no folder /nowhere", said)
    assert re.search(r"missing: .*digits\.yaml:6: there is no adapter 'nowhere'", said)


def test_scorecard_prints_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(config(tmp_path)), "--out", str(tmp_path / "out"), "limit=5"])
    capsys.readouterr()
    for form, begins in (("json", "{"), ("html", "<!doctype html>"), ("md", "#"), ("table", "")):
        assert main(["scorecard", str(tmp_path / "out"), "--format", form, "--by", "developer"]) == 0
        assert capsys.readouterr().out.lower().startswith(begins)


def test_models_and_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert main(["suites"]) == 0
    said = capsys.readouterr().out
    assert "aster-moe" in said
    assert "MoE" in said
    assert "agentdojo_mini" in said


def test_a_shell_completes_commands_options_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "harness.bash").write_text(capsys.readouterr().out)
    for typed, offered in (
        ("scor", {"scorecard"}),
        ("scorecard --fo", {"--format"}),
        ("scorecard --by ", {"country", "developer", "base", "licence", "type", "size"}),
    ):
        words = ["harness", *typed.split(" ")]
        typing = f"source harness.bash; COMP_WORDS=({shlex.join(words)}); "
        typing += f"COMP_CWORD={len(words) - 1}; _shtab_harness; echo ${{COMPREPLY[@]}}"
        found = subprocess.run(
            ["bash", "-c", typing], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert set(found.stdout.split()) == offered


@pytest.mark.parametrize(("lacking", "says"), [(None, "`harness run demo`"), ("vllm", "pip install")])
def test_doctor_ends_with_what_to_do_next(
    lacking: str | None, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.run.doctor.installed", lambda package: None if lacking else "1.0")
    assert main(["doctor"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: ") and says in last


def test_doctor_gives_a_remedy_for_what_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("harness.run.doctor.installed", lambda package: None)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok  Python 3.")
    assert any(line.startswith("!!  vLLM is not installed") and "install" in line for line in lines)
    assert any("HF_HUB_OFFLINE is set" in line for line in lines)


def test_doctor_says_whether_ifeval_can_be_scored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    monkeypatch.setattr("harness.run.doctor.installed", lambda package: "1")

    def says() -> str:
        assert main(["doctor"]) == 0
        return capsys.readouterr().out

    assert "!!  punkt_tab of nltk is not on this machine: IFEval cannot be run; `python -m nltk" in says()
    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    assert "ok  punkt_tab of nltk is here" in says()


def test_doctor_says_when_the_hub_is_out_of_reach(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    main(["doctor"])
    assert "the hub at 127.0.0.1:9 cannot be reached" in capsys.readouterr().out


def test_doctor_says_what_data_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)

    def says(*, data: str) -> str:
        monkeypatch.setenv("HARNESS_DATA", data)
        assert main(["doctor"]) == 0
        return capsys.readouterr().out

    assert "ok  HARNESS_DATA is not set" in says(data="")
    absent = str(tmp_path / "absent")
    assert f"!!  HARNESS_DATA: there is no folder {absent}; set HARNESS_DATA to" in says(data=absent)
    assert f"!!  hub cache {tmp_path / 'hub'}: is not there yet" in says(data=absent)
    (tmp_path / "hub" / "models--a--b").mkdir(parents=True)
    said = says(data=str(tmp_path))
    assert f"ok  HARNESS_DATA {tmp_path}: the data of suites" in said
    assert f"ok  hub cache {tmp_path / 'hub'}: 1 models, 0 data sets" in said


def test_an_override_is_blamed_for_its_own_typo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(config(tmp_path))
    for override, says in (
        ("limt=3", "unknown key `limt` (did you mean `limit`?)"),
        ("sampling.max_tokens=many", "key `sampling.max_tokens`: expected `int`, got `str`"),
        ("suites.0.sample=3", "unknown key `sample` (did you mean `samples`?)"),
        ("engine={kind: tests.fakes:start, speed: 3}", "unknown key `speed`"),
    ):
        said = refused(capsys, "plan", path, override) if "suites" not in override else ""
        if not said:
            assert main(["run", path, override, "--out", str(tmp_path / "out")]) == 2
            said = capsys.readouterr().err
        assert said.startswith(f"harness: override {override!r}: ") and says in said
    (tmp_path / "digits.yaml").write_text(CONFIG + "limt: 3\n")
    assert f"{path}:13: unknown key `limt`" in refused(capsys, "plan", path, "limit=3")


@pytest.mark.parametrize("arguments", [["run"], ["plan", "limit=3"], ["run", "--model", "aster-dense"]])
def test_a_command_without_its_config_asks_for_that_alone(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *arguments)
    assert said.endswith("give CONFIG, or --model MODEL and --suite SUITE\n")


def test_a_model_and_a_suite_are_run_without_a_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.yaml").write_text("{adapter: tests.fakes, samples: 20}\n")
    (tmp_path / "theirs").mkdir()
    asked = ["--model", "theirs", "--suite", "digits.yaml", "--attempts", "2", "--limit", "3"]
    engine = "engine={kind: tests.fakes:start, max_concurrency: 8}"
    assert main(["run", engine, *asked, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    (tmp_path / "printed.yaml").write_text(printed)
    resolved = load_config(tmp_path / "printed.yaml")
    assert (resolved.name, resolved.attempts, resolved.limit) == ("theirs", 2, 3)
    assert not resolved.models[0].origin.stated
    assert main(["plan", engine, *asked]) == 0
    assert main(["run", *asked, "--out", "out", engine]) == 0
    assert "theirs: digits 6/6" in capsys.readouterr().out
    kept = RunDirectory(tmp_path / "out").config()
    assert digest(kept) == digest(resolved)


def test_what_is_wrong_on_a_command_line_without_a_config_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["run", "--suite", "planted_choice", "--dry-run"]
    assert "there is no model 'aster-dens' in" in refused(capsys, *asked, "--model", "aster-dens")
    said = refused(capsys, *asked, "--model", "aster-dense", "--limit", "few")
    assert said == "harness: override 'limit=few': key `limit`: expected `int | null`, got `str`\n"
    assert "unknown key `limt`" in refused(capsys, *asked, "--model", "aster-dense", "limt=3")


def test_a_directory_that_is_not_there_is_said_to_be_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{tmp_path}/no is not there" in refused(capsys, "scorecard", str(tmp_path / "no"))
    assert "holds no results (no run.json)" in refused(capsys, "scorecard", str(tmp_path))


def test_what_is_missing_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CONFIG.replace("kind: tests.fakes:start", "kind: vllm").replace("path: one", "path: ./nowhere")
    assert main(["plan", str(config(tmp_path, text))]) == 2
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("model one: there is no folder") == 1
    assert captured.err == "harness: what is missing is named above; nothing is left to measure\n"


@pytest.mark.parametrize(
    "command",
    [
        ["export", "DEMO", "--format", "csv", "--out", "OUT"],
        ["export", "DEMO", "--format", "parquet", "--out", "OUT"],
        ["export", "DEMO", "--format", "lm-eval", "--out", "OUT"],
        ["run", "configs/runs/demo.yaml", "--out", "OUT"],
    ],
    ids=lambda command: "-".join(command[:1] + command[2:4:1]).replace("/", "_"),
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO])
def test_what_the_file_system_answers_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    number: int,
) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    paths = {"DEMO": str(ROOT / "results" / "demo"), "OUT": str(tmp_path / "out")}
    said = refused(capsys, *(paths.get(word, word) for word in command))
    assert os.strerror(number) in said
    assert not (tmp_path / "out").exists()


def test_failed_attempts_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["run", str(config(tmp_path)), "--out", out, "engine.args.fail=scorer_error"]) == 0
    capsys.readouterr()
    assert main(["show", out, "--failed", "--suite", "few", "--model", "one", "--limit", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one few/003  scorer_error: ValueError: this cannot be scored"
    assert lines[1].startswith("one few/003 --attempt 1  scorer_error")
    assert all("acc 0  answered" in line for line in lines[2:])
    assert len(lines) > 2
    assert main(["show", out, "--failed", "--limit", "1"]) == 0
    assert re.search(r"\nand \d+ more: --limit 0 lists all\n", capsys.readouterr().out)
    assert "--suite nope: expected one of few, many" in refused(
        capsys, "show", out, "--failed", "--suite", "nope"
    )


def test_a_model_of_no_stated_origin_is_measured_and_makes_no_claim_by_origin(tmp_path: Path) -> None:
    text = CONFIG.replace(", origin: {developer: A, country: XA}", "")
    assert main(["run", str(config(tmp_path, text)), "--out", str(tmp_path / "out")]) == 0
    directory = RunDirectory(tmp_path / "out")
    cards = build_scorecards(directory.manifest(), directory.columns)
    assert [card.model.origin.stated for card in cards] == [False, True]
    assert [origin.key for origin in build_origins(cards)] == ["XB"]
    assert [origin.models for origin in build_origins(cards, "type")] == [("one", "two")]


def described(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and its parser, those of `models` included."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, found in action.choices.items():
                yield name, found
                yield from described(found)


@pytest.mark.parametrize(("name", "command"), [*described(parser())], ids=lambda value: str(value)[:20])
def test_the_help_of_every_command_shows_two_calls_that_are_understood(
    name: str, command: argparse.ArgumentParser
) -> None:
    shown = command.format_help().partition("examples:\n")[2].splitlines()
    assert len(shown) == 2
    for line in shown:
        program, *arguments = shlex.split(line.partition("|")[0])
        assert program == "harness" and name in arguments
        parse(arguments)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["scorcard", "results/demo"], "did you mean 'scorecard'?"),
        (["models", "inspct", "x"], "did you mean 'inspect'?"),
        (
            ["scorecard", "results/demo", "--formt", "md"],
            "arguments: --formt (did you mean --format?)",
        ),
        (["scorecard", "results/demo", "--format", "jsn"], "did you mean 'json'?"),
        (["run", "demo", "--worker-count", "2"], "did you mean --workers?"),
    ],
)
def test_what_was_meant_is_suggested(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert meant in capsys.readouterr().err
