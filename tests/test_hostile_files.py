"""Files that stand for more than a machine can hold, or for something to run, are refused in one sentence."""

import errno
import gzip
import json
import lzma
import os
import pickle
import re
import resource
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import disk, memory
from harness.cli import main
from harness.config import Document
from harness.errors import Status, UserError
from harness.records.directory import RunDirectory
from harness.records.table import read_columns, read_parquet
from harness.rows import read_rows
from harness.site import reading
from harness.suites.agentdojo.attacks import check_attack
from harness.suites.agentdojo.stored import read_runs
from harness.suites.injecagent.cases import read_json
from tests.conftest import ROOT
from tests.runs import reseal
from tests.suites.lm_eval.test_foreign import build

LAUGHS = "\n".join(
    ["a0: &a0 [ha, ha]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "with its aliases written out"),
        ("a: &a [*a]", "with its aliases written out"),
        ("a: &a {b: *a}", "with its aliases written out"),
        ("[" * 5000, "expected YAML"),
        ("{a: " * 90 + "1" + "}" * 90, "levels"),
        ("a: !!python/object/apply:os.system ['touch ran']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: !function evil.f", "could not determine a constructor"),
        ("a: 2026-13-45", "expected YAML"),
        ("a: 1" + "0" * 5000, "expected YAML"),
        ("a: \0", "expected YAML"),
    ],
)
def test_yaml_that_bites(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml") as caught:
        Document(tmp_path / "config.yaml")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_aliases_that_are_meant_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\n")
    assert Document(tmp_path / "a.yaml").data["b"] == {"x": 1, "y": 2}


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="is not a file"):
        Document(tmp_path / "config.yaml")


@pytest.mark.parametrize("command", ["scorecard", "verify", "status", "merge", "replay"])
def test_a_pipe_in_a_run_is_not_waited_for(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory(tmp_path / "run")
    shutil.copytree(ROOT / "results" / "demo", directory.path)
    file = directory.complete_path(next(iter(directory.manifest().cells.values())))
    file.unlink()
    os.mkfifo(file)
    out = ["--out", str(tmp_path / "out")] if command == "merge" else []
    assert main([command, str(directory.path), *out]) != Status.DONE
    assert f"{file} is not a file" in " ".join(capsys.readouterr().err.split())


def test_a_pipe_among_logs_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "x.eval")
    assert main(["replay", str(tmp_path)]) == Status.WRONG_INPUT
    assert capsys.readouterr().err == f"harness: {tmp_path}/x.eval is not a file; restore it from a copy\n"


@pytest.mark.parametrize(
    "which", ["cells", "cells/*", "cells/*/cell.json", "cells/*/records.parquet", "config.yaml"]
)
@pytest.mark.parametrize(
    "command",
    [
        "verify {}",
        "scorecard {}",
        "merge {} --out out",
        "submit {} --out out",
        "export {} --format csv --out out",
    ],
)
def test_what_lies_elsewhere_is_not_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    which: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["merge", str(ROOT / "results" / "demo"), "--out", "private"]) == Status.DONE
    shutil.copytree("private", "sent")
    linked = next(Path("sent").glob(which))
    disk.remove(linked)
    linked.symlink_to(tmp_path / "private" / linked.relative_to("sent"))
    capsys.readouterr()
    assert main(command.format("sent").split()) == Status.WRONG_INPUT
    assert f"{linked} is a link that leads out of the folder of its run" in capsys.readouterr().err
    assert not Path("out").exists()


def test_names_in_data_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "\x1b[2J\x1b]0;title\x07\u202e"
    (tmp_path / f"run{odd}").mkdir()
    assert main(["status", str(tmp_path / f"run{odd}")]) == Status.WRONG_INPUT
    model = tmp_path / "model"
    shutil.copytree(ROOT / "harness" / "models" / "planted" / "aster-dense", model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": [f"A{odd}"]}))
    (model / "README.md").write_text(f"---\nbase_model: {json.dumps(f'b/base{odd}')}\n---\n")
    assert main(["models", "inspect", str(model)]) == Status.DONE
    assert main(["models", "add", str(model), "--out", str(tmp_path / "m.yaml")]) == Status.DONE
    shutil.copytree(ROOT / "results" / "demo", tmp_path / "sent")
    with (tmp_path / "sent" / "config.yaml").open("a") as file:
        file.write(f"{json.dumps(f'key{odd}')}: 1\n")
    assert main(["merge", str(tmp_path / "sent"), "--out", str(tmp_path / "out")]) == Status.WRONG_INPUT
    said = "".join(capsys.readouterr())
    assert "unknown key `key`" in said and "architecture: A" in said and "b/base" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(UserError, match="is not a file"):
        Document(Path("/dev/zero"))


class Fires:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def test_types_of_arrow_that_are_pickles_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    field = pa.field(
        "sample",
        pa.string(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(Fires()),
        },
    )
    pq.write_table(pa.table([pa.array(["a"])], schema=pa.schema([field])), tmp_path / "a.parquet")
    for read in (read_columns, lambda path: list(read_parquet(path))):
        with pytest.raises(UserError, match=r"a\.parquet"):
            read(tmp_path / "a.parquet")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1", b"PK\x03\x04"]
)
def test_parquet_that_is_none_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet"):
        read_columns(tmp_path / "a.parquet")


def test_a_line_that_unpacks_to_more_than_can_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.rows.LONGEST_LINE", 1 << 20)
    (tmp_path / "runs.jsonl.xz").write_bytes(lzma.compress(b'{"a": "' + b"a" * (1 << 22)))
    with pytest.raises(UserError, match="line 1 is longer than 1 MiB"):
        list(read_runs(tmp_path))


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress], ids=["xz", "gz"])
def test_a_table_that_unpacks_to_more_than_can_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("harness.rows.LARGEST_TABLE", 1 << 20)
    file = tmp_path / f"labels.csv.{'xz' if pack is lzma.compress else 'gz'}"
    file.write_bytes(pack(b"request,reply\n" + b"a,b\n" * (8 << 20)))
    assert file.stat().st_size < 1 << 16
    tracemalloc.start()
    with pytest.raises(UserError, match=r"labels\.csv\.[xg]z cannot be read \(it is larger than 1 MiB"):
        read_rows(file)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_nesting_without_an_end_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    for read in (lambda path: list(read_runs(path)), read_json):
        with pytest.raises(UserError, match=r"run\.json"):
            read(tmp_path / "run.json")


@pytest.mark.parametrize("text", ["{goal:>999999999999}", "{goal.__class__}", "{goal!r}", "{0}", "{goal[0]}"])
def test_the_text_of_an_attack_names_what_stands_there_and_no_more(text: str) -> None:
    with pytest.raises(UserError, match="attack_text may have"):
        check_attack("manual", text)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10 ** 11 }}",
        "{{ ['a'] * 100000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% for i in range(10 ** 9) %}a{% endfor %}",
    ],
)
def test_a_template_that_writes_without_an_end_is_refused(tmp_path: Path, template: str) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"question": "1+1", "answer": "2"}) + "\n")
    with pytest.raises(UserError, match="OverflowError"):
        build(tmp_path, doc_to_text=template).samples("m", None)


def test_a_template_still_counts(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"question": "ab", "answer": "2"}) + "\n")
    (sample,) = build(tmp_path, doc_to_text="{{ question * 3 }} {{ 2 ** 10 }} {{ 5 * 4000000000 }}").samples(
        "m", None
    )
    assert sample.payload.instances[0].args[0] == "ababab 1024 20000000000"


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run, sealed as it is; a small file of it has 32 MiB of text a record."""
    folder = tmp_path_factory.mktemp("results")
    directory = RunDirectory(folder / "run")
    assert main(["merge", str(ROOT / "results" / "demo"), "--out", str(directory.path)]) == Status.DONE
    file = directory.complete_path(next(iter(directory.manifest().cells.values())))
    table = pq.read_table(file)
    assert len(table) > 50
    # All rows share one text, so that the file is small, whatever its records are together.
    text = f'{{"messages": [{{"role": "user", "content": "{"a" * (32 << 20)}"}}]}}'
    column = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), pa.array([text]))
    place = table.schema.get_field_index("transcript")
    table = table.set_column(place, "transcript", column)
    pq.write_table(table, file, store_schema=False, compression="zstd")
    assert file.stat().st_size < 1 << 20
    reseal(directory)
    return folder


@pytest.mark.filterwarnings("ignore")  # of inspect_ai's imports
@pytest.mark.parametrize(
    "command",
    [
        ["replay", "run"],
        ["verify", "run"],
        ["export", "run", "--format", "inspect", "--out", "out"],
        ["submit", "run", "--out", "out"],
        ["site", ".", "--out", "out"],
    ],
    ids=lambda command: command[0],
)
def test_parquet_that_unpacks_to_more_than_is_free_ends_that_command_alone(
    bomb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    if "inspect" in command:
        pytest.importorskip("inspect_ai.log")
    places = {"run": bomb / "run", ".": bomb, "out": tmp_path / "out"}
    monkeypatch.setattr(memory, "free_bytes", lambda: 300 << 20)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    assert main([str(places.get(word, word)) for word in command]) == Status.WRONG_INPUT
    said = capsys.readouterr().err
    assert said.startswith("harness: ") and said.count("\n") == 1
    assert "takes more memory than" in said
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    left = [path.name for path in (tmp_path / "out").rglob("*")]
    assert left == ([".harness-site"] if "site" in command else [])  # its mark


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


NO_MEMORY = OSError(errno.ENOMEM, "Cannot allocate memory", "site-packages/one")


@pytest.mark.parametrize(
    "error",
    [
        NO_MEMORY,
        caused(UserError("one.parquet cannot be read; restore it from a copy"), NO_MEMORY),
        caused(ValueError("a template"), MemoryError()),
        SystemError("<class 'map'> returned NULL without setting an exception"),
        RuntimeError("can't start new thread"),
        ImportError("one.so: failed to map segment from shared object"),
        pa.ArrowMemoryError("malloc of size 33554432 failed"),
    ],
    ids=repr,
)
def test_too_little_memory_has_one_name(error: Exception) -> None:
    with pytest.raises(MemoryError), memory.within_memory():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        caused(UserError("the template needs more than 1 GiB of memory"), MemoryError()),
        OSError(errno.ENOSPC, "No space left on device"),
        SystemError("bad argument to internal function"),
    ],
    ids=repr,
)
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))), memory.within_memory():
        raise error


def aborts(*_: object) -> None:
    os.abort()


def test_a_run_whose_process_is_ended_by_a_signal_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "results" / "demo", tmp_path / "results" / "demo")
    monkeypatch.setattr(reading, "_take", aborts)
    (found,) = reading.take_all(tmp_path / "results", reading.Store(tmp_path), reading.Reading(), print)
    (said,) = found.refused
    assert said.startswith("to read it ended its process by SIGABRT, as happens where it takes more memory")


def test_merging_a_bomb_reads_none_of_its_texts(
    bomb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 300 << 20)
    assert main(["merge", str(bomb / "run"), "--out", str(tmp_path / "out")]) == Status.DONE
