"""A results folder as somebody else may have made it, and a watch over everything that is done with it.

Run as a program in an interpreter of its own (an audit hook cannot be taken out again):
`received.py FOLDER RUNS OUT` puts a name that leads to code into every field of the folder's files in turn,
lets every command read what came of it, and prints a line of JSON for each thing that was done and is no
reading.
"""

import contextlib
import functools
import gc
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = {
    "module": "canary_module:fire",
    "package": "canary_package.adapter",
    "file": "./canary_file.py:fire",
    "address": "http://127.0.0.1:9/canary",
    "template": "{{ cycler.__init__.__globals__.os.system('touch canary-fired') }}",
}
"""What data may name, each in the words in which somebody would name it."""

FIRE = "open('canary-fired', 'w').close()\nOptions = fire = type('Fire', (), {})\nbuild = print\n"

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile",
)  # fmt: skip
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "pty.spawn")
APART = "harness.models.limits"
"""Chat templates are tried in a copy of the process, which can be ended."""
REACHES = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
WATCHED = frozenset({*STARTS, *REACHES, *CHANGES, "open", "pickle.find_class"})
PICKLED = ("harness.suites.", "agentdojo.default_suites.")
"""Modules of environments, of which the suites keep copies in memory as pickles."""


OWN = ("HF_HOME", "TMPDIR", "XDG_CACHE_HOME")
"""Variables that name folders of the reader's own, which may be written to."""


class Watch:
    """Whatever is done that is no reading, as the interpreter itself reports it."""

    def __init__(self, *writable: Path) -> None:
        """Args: writable: folders that may be written to."""
        self._writable = tuple(str(path.resolve()) for path in writable)
        self._listens = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._listens or event not in WATCHED:
            return
        if event == "os.fork" and sys._getframe(1).f_globals["__name__"] == APART:
            return
        if event in (*STARTS, *REACHES):
            self.seen.append(f"{event} {args[:2]!r:.200}")
        elif event == "pickle.find_class" and not args[0].startswith(PICKLED):
            self.seen.append(f"{event} {args!r:.200}")
        elif event in CHANGES or (event == "open" and (args[2] or 0) & WRITES):
            within = args[-1] if event in ("os.rmdir", "os.remove", "os.mkdir") else -1
            self._change(event, args[event == "shutil.copyfile"], within)

    def _change(self, event: str, path: Any, within: int) -> None:
        if isinstance(path, int):  # a descriptor, whose file was reported when it was opened
            return
        folder = os.readlink(f"/proc/self/fd/{within}") if within >= 0 else ""  # noqa: PTH115
        found = os.path.abspath(os.path.join(folder, os.fsdecode(path)))  # noqa: PTH100, PTH118
        if found != os.devnull and not found.startswith(self._writable):
            self.seen.append(f"{event} {found}")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take notice while inside, also of modules that come from elsewhere than where packages are."""
        before = len(sys.modules)
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
        for name in list(itertools.islice(reversed(sys.modules), len(sys.modules) - before)):
            file = getattr(sys.modules[name], "__file__", None)
            if file and not file.startswith((sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent))):
                self.seen.append(f"import {name} from {file}")
            if name.startswith("canary"):
                del sys.modules[name]
        if Path("canary-fired").exists():
            Path("canary-fired").unlink()
            self.seen.append("the canary ran")


PAIRS = {
    "agentdojo_mini": ("agentdojo_mini/user_task_0", "m"),
    "sums": ("sums/0", "m"),
    "perplexities": ("perplexities/0", "m"),
    "banking": ("banking/user_task_0", "some-model"),
}
EXPORTS = ("lm-eval", "inspect", "every-eval-ever", "csv", "parquet", "eval-results")
FORMATS = ("json", "html", "md", "table")


def commands(out: Path, runs: Path) -> Iterator[list[str]]:
    """Every command that reads results, on the folder that is the current one."""
    yield ["verify", "."]
    yield ["status", "."]
    yield ["merge", ".", "--out", str(out / "merged")]
    yield from (["scorecard", ".", "--format", form] for form in FORMATS)
    yield ["claims", "."]
    yield ["compare", ".", "m", "n"]
    yield from (["show", ".", "--pair", pair, "--model", model] for pair, model in PAIRS.values())
    yield ["replay", "."]
    yield ["replay", str(runs)]
    yield from (["export", ".", "--format", form, "--out", str(out / form)] for form in EXPORTS)


RESCORING = ("verify", "show", "replay", "export")
"""Commands that make suites again from the config, the tasks beside it and the cells."""
COUNTING = ("scorecard", "claims", "compare", "status")
"""Commands that compute from what cells and records say."""
UNCOUNTED = ("config.yaml", "perplexities.yaml", "config.json", "tokenizer_config.json")
"""Files that no command of `COUNTING` reads."""
MANIFEST = ("run.json", "cell.json")
"""What `merge` compares, beside configs; it takes long, and reads every ninth change."""


def commands_on(file: Path, number: int, every: list[list[str]]) -> list[list[str]]:
    """One command of each kind that reads a file, in turn: a field with all five names meets all of them.

    Args:
        file: that was changed.
        number: of the change.
        every: all commands.
    """
    if "stored-runs" in file.parts:
        return [command for command in every if command[:1] == ["replay"] and command[1] != "."]
    readers = [RESCORING[number % len(RESCORING)]]
    if file.name not in UNCOUNTED:
        readers.append(COUNTING[number % len(COUNTING)])
    if file.name == "config.yaml" or file.name in MANIFEST:
        readers += ["merge"] * (number % 9 == 0)
    chosen = []
    for name in readers:
        among = [command for command in every if command[0] == name and command[1] == "."]
        own = [command for command in among if name == "show" and command[3].split("/")[0] in str(file)]
        chosen.append((own or among)[number // len(RESCORING) % len(own or among)])
    return chosen


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value that holds no others; of a list's elements the first two of each kind."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*at, key))
    elif isinstance(value, list) and value:
        seen: list[str] = []
        for index, item in enumerate(value):
            kind = (
                str(sorted((k, str(v)) for k, v in item.items() if k in KINDS))
                if isinstance(item, dict)
                else ""
            )
            if kind not in seen:
                seen.append(kind)
                yield from leaves(item, (*at, index))
    else:
        yield at


KINDS = ("kind", "aggregation", "role", "adapter")
"""Keys by which an element of a list is of another kind than the one before."""


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A value with another one at a path."""
    if not at:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[at[0]] = put(value[at[0]], at[1:], new)
    return copy


NAMING = (
    "aggregation", "adapter", "suite", "attack", "task", "include_path", "kind", "path", "suite_name",
    "attack_type", "benchmark_version", "test", "dataset_path", "metric",
)  # fmt: skip
"""Fields whose value is a name that something is found by."""


class Walk:
    """Which names to put where: each field of a schema is walked through once, wherever it stands."""

    def __init__(self) -> None:
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(self, file: Path, at: tuple[Any, ...], old: Any) -> Iterator[tuple[str, str]]:
        """(kind, name) to put at a path: all where it is a name, else one of each sort in turn."""
        imported = "banking" in str(file) and at[-1] in NAMING  # where a suite of one's own may be named
        kind_of_file = re.sub(r"-.*", "", file.stem) if "cells" in file.parts else file.suffix
        field = (kind_of_file, imported, *(part for part in at if isinstance(part, str) and len(part) < 40))
        if field in self._seen:
            return
        self._seen.add(field)
        kinds = [*NAMES]
        if at[-1] not in NAMING:
            turn = len(self._seen)
            numeric = isinstance(old, bool | int | float)
            kinds = [kinds[turn % 3], *([] if numeric else [kinds[3 + turn % 2]])]
        yield from ((kind, NAMES[kind]) for kind in kinds)


chosen = Walk()


def at_path(value: Any, at: tuple[Any, ...]) -> Any:
    """The value at a path."""
    for part in at:
        value = value[part]
    return value


Change = tuple[str, Path, bytes]
"""(what was changed, file, its new content)."""


def in_json(file: Path) -> Iterator[Change]:
    """Every field of a JSON file in turn."""
    data = json.loads(file.read_text())
    for at in leaves(data):
        for kind, name in chosen(file, at, at_path(data, at)):
            said = f"{file.name} {'.'.join(map(str, at))}={kind}"
            yield said, file, json.dumps(put(data, at, name)).encode()


def in_yaml(file: Path, more: dict[str, Any]) -> Iterator[Change]:
    """Every field of a YAML file in turn, and fields that it does not have."""
    import yaml

    dump = functools.partial(yaml.dump, Dumper=yaml.CSafeDumper)
    data = yaml.load(file.read_text(), yaml.CSafeLoader)
    for at in leaves(data):
        for kind, name in chosen(file, at, at_path(data, at)):
            said = f"{file.name} {'.'.join(map(str, at))}={kind}"
            yield said, file, dump(put(data, at, name)).encode()
    for key, value in more.items():
        for kind, name in NAMES.items():
            yield f"{file.name} {key}={kind}", file, dump(value(data, name)).encode()


def in_table(file: Path) -> Iterator[Change]:
    """Every column of a table of records in turn, and every field of the transcripts in it."""
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    row, *others = table.to_pylist()
    row |= {name: [list(pair) for pair in row[name]] for name in MAPS}
    for at in leaves(row):
        for kind, name in chosen(file, at, at_path(row, at)):
            changed = _table([put(row, at, name), *others], table.schema, at[0])
            yield f"{file.name} {'.'.join(map(str, at))}={kind}", file, changed
    transcript = json.loads(row["transcript"])
    for at in leaves(transcript):
        for kind, name in chosen(file, ("transcript", *at), at_path(transcript, at)):
            text = json.dumps(put(transcript, at, name))
            changed = _table([{**row, "transcript": text}, *others], table.schema, "transcript")
            yield f"{file.name} transcript.{'.'.join(map(str, at))}={kind}", file, changed


MAPS = ("clusters", "labels")


def _table(rows: list[dict[str, Any]], schema: Any, changed: str) -> bytes:
    """The bytes of a table; a column that takes the changed value no longer becomes one of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{**row, **{name: [tuple(pair) for pair in row[name]] for name in MAPS}} for row in rows]
    try:
        table = pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, TypeError):  # a number, say
        texts = pa.array([str(row[changed]) for row in rows])
        others = [field for field in schema if field.name != changed]
        table = pa.Table.from_pylist(rows, schema=pa.schema(others)).append_column(changed, texts)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def changes(folder: Path, runs: Path) -> Iterator[Change]:
    """Every field of every file of the folder in turn."""
    yield from in_json(folder / "run.json")
    yield from in_yaml(folder / "config.yaml", MORE_CONFIG)
    yield from in_yaml(folder / "tasks" / "perplexities.yaml", MORE_TASK)
    for file in sorted((folder / "cells").glob("*/*")):
        yield from in_table(file) if file.suffix == ".parquet" else in_json(file)
    for file in runs.rglob("*.json"):
        yield from in_json(file)
    for name in ("tokenizer_config.json", "config.json"):
        yield from in_json(folder / "model" / name)


def _suite(index: int, **options: Any) -> Callable[[Any, str], Any]:
    return lambda data, name: put(
        data,
        ("suites", index),
        {**data["suites"][index], **{k: name if v is None else v for k, v in options.items()}},
    )


def _model(**facts: Any) -> Callable[[Any, str], Any]:
    return lambda data, name: put(
        data, ("models", 0), {**data["models"][0], **{k: name if v is None else v for k, v in facts.items()}}
    )


MORE_CONFIG: dict[str, Callable[[Any, str], Any]] = {
    **{
        f"agentdojo {key}": _suite(0, **{key: None})
        for key in ("version", "variant", "attack_text", "defence", "detector_revision", "system_message",
                    "system_paragraph", "detector_safe_label", "detector_device", "max_turns")
    },
    "agentdojo detector": _suite(0, defence="transformers_pi_detector", detector=None),
    "agentdojo manual attack": _suite(0, attack="manual", attack_text=None),
    **{
        f"lm_eval {key}": _suite(1, **{key: None})
        for key in ("data_dir", "revision", "num_fewshot", "system_instruction", "max_gen_toks", "seed")
    },
    "injecagent data_dir": lambda data, name: put(
        data, ("suites", 0), {"adapter": "injecagent", "name": "agentdojo_mini", "data_dir": name}
    ),
    "one more suite": lambda data, name: {
        **data, "suites": [{"adapter": "agentdojo", "suite": name}, *data["suites"]]
    },
    "one more adapter": lambda data, name: {**data, "suites": [{"adapter": name}, *data["suites"]]},
    "model trust_remote_code": _model(trust_remote_code=True, revision=None),
    "a suite by name": lambda data, name: put(data, ("suites", 0), name),
    "a model by name": lambda data, name: put(data, ("models", 0), name),
}  # fmt: skip
"""What a config may say beside what it says: (config, name) -> config."""

MORE_TASK: dict[str, Callable[[Any, str], Any]] = {
    key: lambda data, name, key=key: {**data, key: name}
    for key in ("class", "process_docs", "process_results", "custom_dataset", "include", "doc_to_choice",
                "dataset_name", "gen_prefix", "description", "fewshot_config", "filter_list")
}  # fmt: skip


def run(arguments: list[str]) -> tuple[int | str, str]:
    """(exit status of a command, or the traceback that it ended in; what it said on stderr)."""
    from harness.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            return int(main(arguments)), said.getvalue()
        except SystemExit as stopped:
            return int(str(stopped.code or 0)), said.getvalue()
        except BaseException:
            return traceback.format_exc(), said.getvalue()


def tell(**found: Any) -> None:
    """One line about one finding."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


class Remembered:
    """A function that makes the same of the same files: done again only where they were changed."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.made: dict[str, Any] = {}

    def __call__(self, *args: Any) -> Any:
        """What was made of equal arguments before, else what is made of them now."""
        asked = repr(args)
        if asked not in self.made:
            self.made[asked] = self._make(*args)
        return self.made[asked]


def sealed(file: Path, content: bytes) -> Iterator[tuple[Path, bytes]]:
    """The files that change with one in a cell, as a sender seals them: (file, content)."""
    sums = file.parent / "checksums.json"
    yield file, content
    if sums.exists() and file != sums:
        told = json.loads(sums.read_text())
        told["files"][file.name] = hashlib.sha256(content).hexdigest()
        yield sums, json.dumps(told).encode()
        run = file.parents[2] / "run.json"
        name = str(sums.relative_to(run.parent))
        top = json.loads(run.read_text())
        top["checksums"][name] = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        yield run, json.dumps(top).encode()


def walk(folder: Path, runs: Path, out: Path) -> None:
    """Let every command read the folder as it is, and then with each change."""
    from harness import cli
    from harness.analysis.claims import evidence
    from harness.suites import restore

    suites = restore.load_suites = Remembered(restore.load_suites)
    template = restore.load_template = Remembered(restore.load_template)
    watch = Watch(out, *(Path(os.environ[name]) for name in OWN))
    evidence.rasch = Remembered(evidence.rasch)  # computes from counts, and takes a third of a command
    cli.parser = functools.cache(cli.parser)
    os.fsync = lambda descriptor: None  # nothing need outlive a power cut
    for change in ("first", "none"):  # the second time whatever is imported once is there
        for command in commands(out, runs):
            watch.seen.clear()
            with watch.listening():
                status, said = run(command)
            tell(change=change, command=command, status=status, seen=watch.seen, said=said)
    gc.freeze()  # what is imported is not looked through for garbage ever again
    every, walked = [*commands(out, runs)], 0
    for number, (change, file, content) in enumerate(changes(folder, runs)):
        before = {path: path.read_bytes() for path, _ in sealed(file, content)}
        for path, changed in sealed(file, content):
            path.write_bytes(changed)
        if file.parent.name in ("tasks", "model"):
            suites.made.clear()
            template.made.clear()
        for command in commands_on(file, number, every):
            watch.seen.clear()
            with watch.listening():
                status, said = run(command)
            if watch.seen or isinstance(status, str) or said.count("\n") > 1:
                tell(change=change, command=command, status=status, seen=watch.seen, said=said)
        for path, kept in before.items():
            path.write_bytes(kept)
        shutil.rmtree(out, ignore_errors=True)
        walked += 1
    tell(change="all", command=[], status=0, seen=[], said="", walked=walked)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.chdir(sys.argv[1])
    for name in ("canary_module.py", "canary_file.py"):
        Path(name).write_text(FIRE)
    Path("canary_package").mkdir(exist_ok=True)
    for name in ("__init__.py", "adapter.py"):
        Path("canary_package", name).write_text(FIRE if name == "adapter.py" else "")
    sys.path.append(sys.argv[1])
    walk(*map(Path, sys.argv[1:]))
