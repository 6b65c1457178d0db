"""The registry of models: what its specs do not say, and how its models derive from each other."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness import config as configs
from harness.config import ModelSpec
from harness.models import checkpoint
from harness.models.tensors import quantization_config
from harness.types import Origin

SOURCED = (
    "licence", "licence_restrictions", "release_date", "base_models", "openness",
    "tool_call_parser", "reasoning_parser", "trust_remote_code", "engine_args", "layouts", "modes",
    "efforts", "sampling", "min_vllm", "country",
)  # fmt: skip
"""Facts that a checkpoint does not state. Where one has a source but no value, there is none to state:
weights that were trained from nothing, a model that has no tool calls, a licence without restrictions."""

WANTED = (
    "country", "revision", "licence", "licence_restrictions", "release_date", "base_models", "openness.code",
    "openness.data", "role", "tool_call_parser", "reasoning_parser", "layouts.1", "layouts.8", "modes",
    "sampling",
)  # fmt: skip
"""Facts that every spec should state or source."""


def specs() -> list[ModelSpec]:
    """Every model of the registry, by name."""
    return [configs.load_model(name) for name in configs.names("models")]


def behind(models: Sequence[ModelSpec], known: Iterable[ModelSpec]) -> dict[str, str]:
    """Model -> the one that leads its family today, of those whose leader is not among them.

    Args:
        models: of a run.
        known: the registry. Of models outside of it nobody knows.
    """
    registered = list(known)
    leaders = {spec.called: spec for spec in registered if spec.current and spec.called}
    paths = {spec.path for spec in registered}
    present = {spec.path for spec in models}
    return {
        spec.name: leader.name
        for spec in models
        if spec.path in paths and (leader := leaders.get(spec.called or "")) and leader.path not in present
    }


def gaps(spec: ModelSpec) -> list[str]:
    """Facts that a spec leaves open: neither stated nor sourced as absent."""
    if spec.source:  # states all that there is to say of it
        return []
    return [fact for fact in WANTED if not _stated(spec, fact) and fact.split(".")[0] not in spec.sources]


def unsourced(spec: ModelSpec) -> list[str]:
    """Facts that a spec states without saying where they were read."""
    if spec.source:  # of all of them
        return []
    return [fact for fact in SOURCED if _stated(spec, fact) and fact not in spec.sources]


def _stated(spec: ModelSpec, fact: str) -> bool:
    name, _, part = fact.partition(".")
    if name == "layouts" and part:
        return int(part) in spec.layouts
    if name == "country":
        return spec.origin.stated
    if name == "openness":
        values = [getattr(spec.openness, part)] if part else [spec.openness.code, spec.openness.data]
        return any(value is not None for value in values)
    holder = spec.origin if name in Origin.__struct_fields__ else spec
    return bool(getattr(holder, name))


def check_lines(models: Iterable[ModelSpec]) -> Iterator[str]:
    """What each spec leaves open, for a person, and how many leave it open."""
    specs, empty = list(models), Counter[str]()
    for spec in specs:
        empty.update(fields := gaps(spec))
        if fields:
            yield f"{spec.name}: empty: {', '.join(fields)}"
        if fields := unsourced(spec):
            yield f"{spec.name}: without a source: {', '.join(fields)}"
    if empty:
        yield f"of {len(specs)} models: " + ", ".join(
            f"{n} without {fact}" for fact, n in empty.most_common()
        )


@dataclass
class Node:
    """A model, in the registry or only named as the base of one that is."""

    id: str
    spec: ModelSpec | None = None
    parents: list["Node"] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)


def lineage(models: Iterable[ModelSpec]) -> dict[str, Node]:
    """Hub id -> node, for every model and every base that one of them names."""
    nodes: dict[str, Node] = {}
    for spec in models:
        node = nodes.setdefault(spec.weights, Node(spec.weights))
        node.spec = spec
        for base in spec.origin.base_models:
            parent = nodes.setdefault(base, Node(base))
            node.parents.append(parent)
            parent.children.append(node)
    return nodes


def roots(node: Node) -> list[Node]:
    """The weights that a model goes back to: itself if it has no base."""
    ends, seen, waiting = [], set(), [node]
    while waiting:
        current = waiting.pop(0)
        if current.id in seen:  # a cycle is a mistake of a spec, not a reason to hang
            continue
        seen.add(current.id)
        waiting += current.parents
        if not current.parents:
            ends.append(current)
    return ends


def base_countries(spec: ModelSpec, nodes: dict[str, Node]) -> tuple[str, ...]:
    """Countries of the weights that a model goes back to; `?` where a base's developer is not known.

    A base that is not in the registry belongs to the developer of its organisation on the hub, if a model
    of the registry is of the same organisation.
    """
    return weights_countries(spec.weights, nodes)


def weights_countries(path: str, nodes: dict[str, Node]) -> tuple[str, ...]:
    """Countries of the weights that those of a repository go back to, in the registry or not; as above."""
    owners = {n.id.split("/")[0]: n.spec.origin.country for n in nodes.values() if n.spec and "/" in n.id}
    node = nodes.get(path) or Node(path)
    countries = {
        root.spec.origin.country if root.spec else owners.get(root.id.split("/")[0], "?")
        for root in roots(node)
    }
    return tuple(sorted(countries))


def tree_lines(models: Sequence[ModelSpec]) -> Iterator[str]:
    """The derivations in the registry as an indented tree, bases first."""
    nodes = lineage(models)
    for node in sorted(nodes.values(), key=_label):
        if not node.parents:
            yield from _branch(node, nodes, ())


def _branch(node: Node, nodes: dict[str, Node], above: tuple[str, ...]) -> Iterator[str]:
    if node.id in above:
        return
    yield "  " * len(above) + _describe(node, nodes)
    for child in sorted(node.children, key=_label):
        yield from _branch(child, nodes, (*above, node.id))


def _label(node: Node) -> str:
    """What a line begins with, without the organisation that only some have."""
    return (node.spec.name if node.spec else node.id.split("/")[-1]).lower()


def _describe(node: Node, nodes: dict[str, Node]) -> str:
    if node.spec is None:
        return f"{node.id} (not in the registry)"
    spec = node.spec
    origin, bases = f"{spec.origin.developer}, {spec.origin.country}", base_countries(spec, nodes)
    if bases != (spec.origin.country,):
        origin += f"; base weights {', '.join(bases)}"
    if "base_models" in gaps(spec):
        origin += "; base not stated"
    elif "base_models" in spec.sources and not spec.origin.base_models:
        origin += "; trained from nothing"
    return f"{spec.name} [{origin}]" + (f" {spec.derivation}" if spec.derivation else "")


def stated_bases(folder: Path) -> tuple[str, ...]:
    """The weights that a checkpoint in a folder says it was made of, empty if it does not say.

    Read are the model card's `base_model`, the configurations of adapters and of merges, and the name that
    config.json was loaded by.
    """
    card = front_matter(folder / "README.md").get("base_model") or []
    bases: list[object] = list(card) if isinstance(card, list) else [card]
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        bases.append(checkpoint.read_json(adapter).get("base_model_name_or_path"))
    bases += _merged(folder / "mergekit_config.yml")
    config = checkpoint.read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if not bases:
        bases.append(config.get("_name_or_path"))
    return tuple(dict.fromkeys(str(base) for base in bases if base and "/" in str(base).strip("/.")))


def with_stated_bases(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec of a checkpoint in a folder, with the bases that the folder states if it states none."""
    bases = stated_bases(folder)
    if spec.origin.base_models or not bases:
        return spec
    origin = msgspec.structs.replace(spec.origin, base_models=bases)
    return msgspec.structs.replace(
        spec, origin=origin, derivation=spec.derivation or stated_derivation(folder)
    )


def stated_derivation(folder: Path) -> str | None:
    """How a checkpoint in a folder says it was made of its bases, None if it does not say."""
    relation = front_matter(folder / "README.md").get("base_model_relation")
    if relation in ("finetune", "merge"):
        return str(relation)
    if (folder / "mergekit_config.yml").is_file():
        return "merge"
    config = checkpoint.read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    quantized = relation == "quantized" or (quantization_config(config) and stated_bases(folder))
    return "quantization" if quantized else None


def front_matter(file: Path) -> dict[str, object]:
    """The YAML between two lines of dashes at the head of a model card."""
    import yaml

    text = file.read_text(encoding="utf8", errors="replace") if file.is_file() else ""
    if not text.startswith("---\n"):
        return {}
    try:
        data = yaml.safe_load(text[4:].split("\n---", 1)[0])
    except yaml.YAMLError:  # the card is prose of others: what cannot be read states nothing
        return {}
    return data if isinstance(data, dict) else {}


def _merged(file: Path) -> list[str]:
    """Every model that a configuration of mergekit names."""
    if not file.is_file():
        return []
    parents: list[str] = []
    waiting = [configs.Document(file).data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            parents += [v for k, v in value.items() if k in ("model", "base_model") and isinstance(v, str)]
            waiting += [v for v in value.values() if isinstance(v, dict | list)]
        elif isinstance(value, list):
            waiting += value
    return sorted(parents)
