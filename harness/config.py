"""Run configs: reading, checking and resolving them. Knows nothing about engines or suites.

A run config is YAML. Names in `models` and `suites` stand for files of `configs/models` and
`configs/suites`; what is kept with the results is the resolved config, with no names left in it.

Paths in a config: `harness:some/path` lies inside the installed package, `configs:some/path` in its
registry; `./x` and `../x` are relative to the file that says so; `${VARIABLE}` is replaced when the path is
used; anything else is as written. A relative path is held as `FOLDER/./x`, where FOLDER is that of the run
config, and kept as `./x`: neither digest nor results depend on where a checkout lies.
"""

import datetime
import difflib
import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from harness.errors import UserError
from harness.types import Origin, Sampling, Struct

T = TypeVar("T")
KeyPath = tuple[str | int, ...]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Openness(Struct):
    """What its developer published. None: not known."""

    weights: bool | None = None
    code: bool | None = None
    """The code that it was trained with."""
    data: bool | None = None
    """The data that it was trained on."""


class ModelSpec(Struct):
    """One checkpoint that can be measured. What is not known stays empty."""

    name: str
    """Short and unique: how tables call it."""
    path: str
    """Hub id (`organisation/name`), or a folder."""
    origin: Origin = Origin()
    """Who made it. A model whose origin is not stated is measured, and nothing is said of origins by it."""
    revision: str | None = None
    """Commit of the hub repository."""
    called: str | None = None
    """The model's name in prose, which attacks address it by ("Qwen"). Default: `name`."""
    current: bool = False
    """Whether its developer leads its family with it today. A family is all that are `called` alike."""
    tool_call_parser: str | None = None
    """vLLM's name of the parser for its tool calls."""
    reasoning_parser: str | None = None
    """vLLM's name of the parser for its reasoning."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint. Needs a pinned revision."""
    engine_args: dict[str, Any] = {}
    """Further arguments of the engine for this model, over those of the run."""
    source: str | None = None
    """Where the facts above were read."""
    sources: dict[str, str] = {}
    """Fact -> address where it was read, for facts that the checkpoint itself does not state."""
    licence_restrictions: tuple[str, ...] = ()
    """What the licence forbids or demands beyond attribution."""
    openness: Openness = Openness()
    role: Literal["frontier", "deployment", "community"] | None = None
    """Why it matters: it leads, it is widely deployed, or others build on it."""
    derivation: Literal["finetune", "merge", "distillation", "quantization"] | None = None
    """How it was made of its base models."""
    layouts: dict[int, dict[str, Any]] = {}
    """GPUs -> engine arguments of the parallel layout that is recommended for so many."""
    sampling: dict[str, dict[str, float]] = {}
    """Mode (`thinking`, `instruct`) -> sampling that the developer recommends for it."""
    min_vllm: str | None = None
    """Lowest version of vLLM that is known to serve it."""
    lines: dict[str, str] = {}
    """Dotted key -> the `file:line` that sets it, "" -> the spec's own. For errors; not kept with results."""

    def where(self, key: str = "") -> str:
        """`file:line: ` of a key, or of the spec, to begin a sentence with; empty if there was no file."""
        line = self.lines.get(key) or self.lines.get("")
        return f"{line}: " if line else ""


class SuiteSpec(Struct):
    """One entry of `suites`: an adapter by name or dotted path, and the adapter's own options."""

    adapter: str
    name: str | None = None
    options: dict[str, Any] = {}
    lines: dict[str, str] = {}
    """Option -> the `file:line` that sets it, "" -> that of the entry. For errors; not kept with results."""


ENGINES = ("vllm", "endpoint")
"""Kinds of engines that have a name; any other is given as `package.module:factory`."""


class EngineSpec(Struct):
    """What computes the tokens."""

    kind: str = "vllm"
    """`vllm`, `endpoint`, or `package.module:factory`."""
    max_concurrency: Count = 256
    """Attempts in flight at once."""
    args: dict[str, Any] = {}
    """Arguments of the engine, for every model of the run."""


class RunConfig(Struct):
    """A whole run, resolved."""

    name: str
    models: tuple[ModelSpec, ...]
    suites: tuple[SuiteSpec, ...]
    sampling: Sampling
    """Every draw is named: what is not written here has the default of `harness.types.Sampling`."""
    description: str = ""
    attempts: Count = 1
    """Repetitions of each sample, each with a seed of its own."""
    limit: Count | None = None
    """Only the first samples of every suite that sets no limit itself. For trying things out."""
    engine: EngineSpec = EngineSpec()
    published: bool = False
    """The results will be published: every model must be pinned, and every data set pinned or locked."""
    date: str | None = None
    """The day that chat templates are told which write one, ISO 8601. `harness run` keeps the day on which
    the run was begun."""
    price_per_gpu_hour: float | None = None
    """In any currency. `harness claims` and `harness plan` turn engine time into money with it; no result
    depends on it, and a run may be resumed with another one."""

    def __post_init__(self) -> None:
        if self.price_per_gpu_hour is not None and not 0 < self.price_per_gpu_hour < math.inf:
            raise ValueError("price_per_gpu_hour must be a number above 0")
        if self.date is not None:
            try:
                datetime.date.fromisoformat(self.date)
            except ValueError as error:
                raise ValueError(f"date {self.date!r} is no day: expected one such as 2026-11-27") from error

    @property
    def day(self) -> str:
        """The day that templates are told: today, where none was kept."""
        return self.date or datetime.date.today().isoformat()


class OptionError(UserError):
    """An option of a suite, or a key of a model's spec, is wrong."""

    def __init__(self, message: str, option: str) -> None:
        """Args: message: the sentence. option: which."""
        super().__init__(message)
        self.option = option


class Document:
    """A YAML file as data, with the line of every key."""

    def __init__(self, path: Path) -> None:
        """Raises UserError if the file cannot be read or is not YAML."""
        import yaml

        self.path = path
        try:
            text = _text(path)
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
            _check_extent(path, node)
            self.data: Any = yaml.load(text, Loader=yaml.CSafeLoader)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; give the path of a YAML file") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text; give the path of a YAML file") from error
        except yaml.YAMLError as error:
            where = getattr(error, "problem_mark", None)
            line = f":{min(where.line + 1, len(text.splitlines()))}" if where else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise UserError(f"{path}{line}: {problem}; expected YAML") from error
        except (ValueError, OverflowError) as error:  # a date or a number that there is not
            raise UserError(f"{path}: {error}; expected YAML, with such a value in quotes") from error
        self.overrides: dict[KeyPath, str] = {}
        """Keys that the command line set -> what it said."""
        self.lines: dict[KeyPath, int] = {}
        for key, number in _lines(node, ()) if node else ():
            if key in self.lines:
                raise UserError(f"{path}:{number}: key `{dotted(key)}` stands twice; keep one")
            self.lines[key] = number

    def where(self, key: KeyPath) -> str:
        """`file:line` of the key or of the nearest enclosing one, or the override that set it."""
        while key and key not in self.lines and key not in self.overrides:
            key = key[:-1]
        if key in self.overrides:
            return f"override {self.overrides[key]!r}"
        return f"{self.path}:{self.lines.get(key, 1)}"

    def convert(self, data: Any, kind: type[T], at: KeyPath = ()) -> T:
        """Data as a typed struct.

        Raises:
            UserError: an unknown or missing key, or a value of the wrong type, with file and line.
        """
        try:
            return msgspec.convert(data, kind, strict=True)
        except msgspec.ValidationError as error:
            message, key = explain(error, kind)
            raise UserError(f"{self.where(at + key)}: {message}") from error


MAX_BYTES, MAX_NODES, MAX_DEPTH = 16 << 20, 200_000, 64
"""Of a YAML file, its aliases written out: some lines of them can stand for more than a machine can hold."""


def _text(path: Path) -> str:
    """The text of a YAML file. Raises UserError if it is no file, or longer than any that is meant."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; give the path of a YAML file")
    with path.open("rb") as file:
        read = file.read(MAX_BYTES + 1)
    if len(read) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB; give the path of a YAML file")
    return read.decode("utf8")


def _check_extent(path: Path, node: Any) -> None:
    """Raises UserError for a document that is too large or too deep once its aliases are written out."""
    left, count = [(node, 0)] if node else [], 0
    while left:
        found, depth = left.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise UserError(
                f"{path}:{found.start_mark.line + 1}: with its aliases written out the file has more than "
                f"{MAX_NODES} values or {MAX_DEPTH} levels; write it without them"
            )
        if found.id == "mapping":
            left += [(part, depth + 1) for pair in found.value for part in pair]
        elif found.id == "sequence":
            left += [(part, depth + 1) for part in found.value]


def _lines(node: Any, at: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """Every key of a YAML node with its line, nested keys after their parents."""
    if node.id == "mapping":
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            yield from _lines(value, (*at, key.value))
    elif node.id == "sequence":
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _lines(value, (*at, index))


def explain(error: msgspec.ValidationError, kind: Any) -> tuple[str, KeyPath]:
    """What a validation error says, in our words: (sentence, key it is about)."""
    text, _, tail = str(error).partition(" - at `$")
    key = tuple(
        int(index) if index else name for name, index in re.findall(r"\.?([^.\[\]`]+)|\[(\d+)\]", tail)
    )
    key = tuple(part for part in key if part != "...")
    unknown = re.search(r"unknown field `(.+)`", text)
    if unknown:
        valid = _fields(_type_at(kind, key))
        return unknown_key(unknown[1], valid), (*key, unknown[1])
    missing = re.search(r"missing required field `(.+)`", text)
    if missing:
        return f"key `{dotted((*key, missing[1]))}` is missing; add it", key
    about = f"key `{dotted(key)}`: " if key else ""
    return f"{about}{text[0].lower()}{text[1:]}", key


def unknown_key(name: str, valid: Sequence[str]) -> str:
    """The sentence about a key that does not exist."""
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean `{close[0]}`?)" if close else ""
    return f"unknown key `{name}`{hint}; valid keys here: {', '.join(valid)}"


def dotted(key: KeyPath) -> str:
    """A key path as a person writes it."""
    return ".".join(str(part) for part in key) or "the whole file"


def _fields(kind: Any) -> list[str]:
    """Keys that may be written in a file."""
    found = msgspec.structs.fields(kind) if isinstance(kind, type) else ()
    return [field.name for field in found if field.name != "lines"]


def _type_at(kind: Any, key: KeyPath) -> Any:
    """The struct type that stands at a key path inside another."""
    for part in key:
        kind = get_args(kind)[0] if isinstance(part, int) else get_type_hints(kind).get(part, object)
        if get_origin(kind) not in (tuple, list, dict) and get_args(kind):
            kind = next(a for a in get_args(kind) if a is not type(None))
    return kind


def registry() -> Path:
    """The folder with the specs that ship with the harness."""
    inside = Path(str(files("harness"))) / "configs"
    return inside if inside.is_dir() else inside.parent.parent / "configs"


def names(kind: str) -> list[str]:
    """Names of the specs in the registry: `models`, `suites` or `runs`."""
    return sorted(path.stem for path in (registry() / kind).glob("*.yaml"))


def locate(path: str) -> str:
    """A path of a config as one of this machine; a hub id stays as it is.

    Raises:
        UserError: it names an environment variable that is not set.
    """
    if path.startswith("harness:"):
        return str(Path(str(files("harness"))) / path.removeprefix("harness:"))
    if path.startswith("configs:"):
        return str(registry() / path.removeprefix("configs:"))
    for variable in re.findall(r"\$\{(\w+)\}", path):
        if variable not in os.environ:
            raise UserError(f"{path!r} needs the environment variable {variable}: set it to a folder")
        path = path.replace(f"${{{variable}}}", os.environ[variable])
    return path


def load_options(options: Mapping[str, Any], kind: type[T], what: str) -> T:
    """Options as an adapter's own struct, with their paths as this machine's.

    Raises:
        OptionError: a key is unknown or missing, or a value has the wrong type.
    """
    found = {}
    for key, value in options.items():
        try:
            found[key] = locate(value) if isinstance(value, str) else value
        except UserError as error:
            raise OptionError(f"{what}: {error}", key) from error
    try:
        return msgspec.convert(found, kind, strict=True)
    except msgspec.ValidationError as error:
        message, at = explain(error, kind)
        raise OptionError(f"{what}: {message}", str(at[0]) if at else "") from error


def load_model(name: str, folder: Path | None = None) -> ModelSpec:
    """A model of the registry by name, or of a YAML file by path.

    Args:
        name: which.
        folder: from which relative paths are told; that of the file if not given.

    Raises:
        UserError: there is no such model, or its file is not right.
    """
    document = Document(find("models", name))
    data, base = document.data, document.path.parent
    if isinstance(data, dict):
        data = _relative_model(document, data, (), base, folder or base)
    return document.convert(data, ModelSpec)


def find(kind: str, name: str) -> Path:
    """The file of a spec: a name of the registry's folder `kind`, or a path. Raises UserError."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = registry() / kind / f"{name}.yaml"
    if not path.is_file():
        known = names(kind)
        close = difflib.get_close_matches(name, known, n=3) or known
        singular = kind.removesuffix("s")
        raise UserError(
            f"there is no {singular} {name!r} in {registry() / kind}: "
            f"use one of {', '.join(close)}, or the path of a YAML file"
        )
    return path


def load_config(path: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> RunConfig:
    """Read, override, check and resolve a run config.

    Args:
        path: the YAML file, or the name of one that ships with the harness.
        overrides: `key=value`, keys dotted (`sampling.max_tokens=64`, `suites.0.limit=10`), values YAML.
        folder: what ./ and ../ of the file are relative to; its own folder if not given.

    Raises:
        UserError: anything about it is wrong; the sentence says where and what to do.
    """
    if not path.exists() and re.fullmatch(r"[\w-]+", str(path)):
        path = find("runs", str(path))
    document = Document(path)
    if not isinstance(document.data, dict):
        raise UserError(f"{path}: expected a mapping with the keys {', '.join(_fields(RunConfig))}")
    data = dict(document.data)
    for override in overrides:
        document.overrides[_override(data, override)] = override
    folder = folder or path.parent
    for key, resolve in (("models", _resolve_model), ("suites", _resolve_suite)):
        entries = data.get(key)
        if not isinstance(entries, list) or not entries:
            raise UserError(f"{document.where((key,))}: key `{key}`: expected a list of at least one")
        data[key] = [resolve(document, entry, (key, i), folder) for i, entry in enumerate(entries)]
    if isinstance(data.get("date"), datetime.date):  # YAML reads a day as one
        data["date"] = data["date"].isoformat()
    config = document.convert(data, RunConfig)
    _check_name(document, config.name)
    _check_engine(document, config.engine.kind)
    _check_countries(document, config.models)
    _check_unique(document, "models", [m.name for m in config.models])
    _check_remote_code(document, config.models)
    if config.published:
        _check_pinned(document, config.models)
    return config


def _override(data: dict[str, Any], text: str) -> KeyPath:
    """Set what an override says, and return its key."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is not an override: expected key=value, such as sampling.max_tokens=64")
    *parents, last = key.split(".")
    target: Any = data
    for part in parents:
        target = _step(target, part, text)
    if isinstance(target, str):
        raise UserError(f"override {text!r}: {'.'.join(parents)} is a name; override a mapping's key instead")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {text!r}: the value is not YAML; put quotes around it") from error
    if isinstance(target, list):
        _step(target, last, text)
        target[int(last)] = parsed
    else:
        target[last] = parsed
    return tuple(int(part) if part.isdigit() else part for part in (*parents, last))


def _step(target: Any, part: str, override: str) -> Any:
    if isinstance(target, dict):
        return target.setdefault(part, {})
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        return target[int(part)]
    raise UserError(f"override {override!r}: there is nothing at {part!r} to set")


def _resolve_model(document: Document, entry: Any, at: KeyPath, folder: Path) -> Any:
    if isinstance(entry, dict):
        return _relative_model(document, entry, at, folder, folder)
    if not isinstance(entry, str):
        raise UserError(f"{document.where(at)}: expected the name of a model, or a mapping with its facts")
    if entry.startswith(("./", "../")):
        entry = str(folder / entry)
    try:
        return msgspec.to_builtins(load_model(entry, folder))
    except UserError as error:
        raise UserError(f"{document.where(at)}: {error}") from error


def _relative_model(
    document: Document, entry: dict[str, Any], at: KeyPath, base: Path, folder: Path
) -> dict[str, Any]:
    if "lines" in entry:
        message = unknown_key("lines", _fields(ModelSpec))
        raise UserError(f"{document.where((*at, 'lines'))}: {message}")
    path = {key: value for key, value in entry.items() if key == "path"}
    inside = (key for key in document.lines if key[: len(at)] == at and key != at)
    lines = {"": document.where(at)} | {dotted(key[len(at) :]): document.where(key) for key in inside}
    return {**entry, **_relative_paths(path, base, folder), "lines": lines}


def _resolve_suite(document: Document, entry: Any, at: KeyPath, folder: Path) -> dict[str, Any]:
    if isinstance(entry, str):
        try:
            named = Document(find("suites", entry))
        except UserError as error:
            raise UserError(f"{document.where(at)}: {error}") from error
        return {"name": entry, **_resolve_suite(named, named.data, (), folder)}
    if not isinstance(entry, dict) or not isinstance(entry.get("adapter"), str):
        raise UserError(
            f"{document.where(at)}: expected the name of a suite ({', '.join(names('suites'))}), "
            "or a mapping with the key `adapter` and its options"
        )
    options = {k: v for k, v in entry.items() if k not in ("adapter", "name")}
    resolved = {
        "adapter": entry["adapter"],
        "options": _relative_paths(options, folder if at else document.path.parent, folder),
        "lines": {"": document.where(at), **{str(k): document.where((*at, k)) for k in options}},
    }
    return resolved | ({"name": entry["name"]} if "name" in entry else {})


def _relative_paths(data: dict[str, Any], base: Path, folder: Path) -> dict[str, Any]:
    """The mapping with values that begin with ./ or ../ told from another folder, or from the registry."""
    return {
        key: _relative_path(value, base, folder) if isinstance(value, str) else value
        for key, value in data.items()
    }


def _relative_path(value: str, base: Path, folder: Path) -> str:
    if not value.startswith(("./", "../")):
        return value.replace("/./", "/") if value.startswith("/") else value
    target = Path(os.path.normpath(base.absolute() / value))  # symbolic links stay: they may lead anywhere
    if target.is_relative_to(registry()):
        return f"configs:{target.relative_to(registry())}"
    return f"{folder.absolute()}/./{os.path.relpath(target, folder.absolute())}"


def as_written(path: str) -> str:
    """A path as a run config says it, whatever folder that lies in."""
    _, found, rest = path.partition("/./")
    if not found:
        return path
    return rest if rest.startswith("../") else f"./{rest}"


def base_folder(config: RunConfig) -> Path | None:
    """What the relative paths of a config are relative to, None if it has none."""
    options = [value for suite in config.suites for value in suite.options.values()]
    for value in (*options, *(model.path for model in config.models)):
        if isinstance(value, str) and value != as_written(value):
            return Path(value.partition("/./")[0])
    return None


def _check_engine(document: Document, kind: str) -> None:
    if kind not in ENGINES and not re.fullmatch(r"[\w.]+:\w+", kind):
        raise UserError(
            f"{document.where(('engine', 'kind'))}: key `engine.kind`: there is no engine {kind!r}: "
            f"use one of {', '.join(ENGINES)}, or package.module:factory of your own"
        )


def _check_name(document: Document, name: str) -> None:
    """Results go to a folder of this name."""
    if not re.fullmatch(r"\w[\w. -]*", name):
        raise UserError(
            f"{document.where(('name',))}: key `name`: {name!r} cannot be the name of a folder: use letters, "
            "digits, spaces, `.`, `_` and `-`, and begin with a letter or digit"
        )


def _check_countries(document: Document, models: Sequence[ModelSpec]) -> None:
    """Two spellings of a country would be two origins."""
    for i, model in enumerate(models):
        if not re.fullmatch(r"[A-Z]{2}", model.origin.country):
            where = model.where("origin.country") or f"{document.where(('models', i))}: "
            raise UserError(
                f"{where}model {model.name}: key "
                f"`origin.country`: expected two capitals of ISO 3166-1, such as CN or US, not "
                f"{model.origin.country!r}"
            )


def _check_unique(document: Document, key: str, given: Sequence[str]) -> None:
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise UserError(
            f"{document.where((key,))}: {', '.join(twice)} stands twice in `{key}`; give each once"
        )


def _check_remote_code(document: Document, models: Sequence[ModelSpec]) -> None:
    for index, model in enumerate(models):
        if model.trust_remote_code and model.revision is None and not Path(locate(model.path)).is_dir():
            raise UserError(
                f"{document.where(('models', index))}: {model.name} sets trust_remote_code, which runs code "
                "from its repository: pin the `revision` that you have read"
            )


def _check_pinned(document: Document, models: Sequence[ModelSpec]) -> None:
    for index, model in enumerate(models):
        if model.revision is None and not Path(locate(model.path)).is_dir():
            raise UserError(
                f"{document.where(('models', index))}: a published run needs the revision of {model.name}: "
                f"run `harness pin {document.path}`, or drop `published`"
            )


def to_yaml(config: RunConfig) -> str:
    """The resolved config as YAML; reading it again gives an equal one."""
    import yaml

    return str(yaml.safe_dump(_flat(config), sort_keys=False, allow_unicode=True, width=100))


def _flat(config: RunConfig) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(config)
    for model in data["models"]:
        model["path"] = as_written(model["path"])
        del model["lines"]
    data["suites"] = [
        {"adapter": s["adapter"], "name": s["name"]}
        | {key: as_written(value) if isinstance(value, str) else value for key, value in s["options"].items()}
        for s in data["suites"]
    ]
    return data


def digest(config: RunConfig) -> str:
    """First 12 hex digits of the SHA-256 of everything that the config says about results.

    The concurrency is left out: it changes how fast a run is, not what it measures. So is the price. The day
    is left out too, so that a run that was begun yesterday is found again; `differences` has it.
    """
    data = _flat(config)
    del data["engine"]["max_concurrency"], data["description"], data["price_per_gpu_hour"], data["date"]
    return hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()[:12]


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Dotted keys at which two configs differ, those that `digest` leaves out excepted."""
    ignored = {"engine.max_concurrency", "description", "price_per_gpu_hour"}
    if old.date is None or new.date is None:
        ignored.add("date")
    a, b = dict(_leaves(_flat(old))), dict(_leaves(_flat(new)))
    return sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k) and k not in ignored)


def _leaves(value: Any, at: KeyPath = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*at, key))
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*at, index))
    else:
        yield dotted(at), value
