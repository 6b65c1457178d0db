"""`harness models add`: a spec of one's own model, proposed from what its small files say, weights unread.

Every proposal names the file that it was read from. What no file of a checkpoint can say, such as who made it
and where, is left to a person, who finds it at the head of the spec.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness.config import DRAWS, ModelSpec, bare_name, load_model
from harness.disk import replace
from harness.errors import UserError
from harness.models import checkpoint, fit, hub
from harness.models.dialects import reasoning_parser, tool_call_parser
from harness.models.layers import text_config
from harness.models.parsers import class_errors, quantization_errors
from harness.models.registry import front_matter, stated_bases, stated_derivation
from harness.models.template import read_template, special_tokens
from harness.models.tensors import Tensor, count_tensors
from harness.models.tokenizer import check_tokenizer
from harness.models.trials import ways
from harness.types import INSTRUCT, Sampling

FILES = ("README.md", "generation_config.json", "adapter_config.json", *checkpoint.TEMPLATE_FILES)
"""Small files beside the config.json that facts are read from."""
LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
}
"""Names of the hub -> SPDX identifiers."""
GPU = "H100"
"""The kind of GPU that layouts are proposed for."""
PERSONAL = {
    "origin.developer": "who made it",
    "origin.country": "where its developer is: two capitals of ISO 3166-1, such as CN or US",
    "origin.release_date": 'the day of its release, in quotes: "2026-11-27"',
    "licence_restrictions": "what the licence forbids or demands beyond attribution",
    "openness": "what was published: {weights: true, code: false, data: false}",
    "role": "why it matters: frontier, deployment or community",
}
"""Facts that no file of a checkpoint says, and what is to be written."""


@dataclass
class Proposal:
    """A spec in the making."""

    facts: dict[str, Any]
    sources: dict[str, str]
    left: dict[str, str] = field(default_factory=dict)
    """Key that only a person can fill in -> what is to be written."""
    notes: list[str] = field(default_factory=list)
    """What else the files say."""

    def text(self) -> str:
        """The spec as YAML, what is left to a person as comments at its head."""
        import yaml

        head = "".join(f"# {key}: {what}\n" for key, what in self.left.items())
        head = f"# To be filled in by a person, each with its source:\n{head}" if head else ""
        data = self.facts | {"sources": dict(sorted(self.sources.items()))}
        return head + str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))

    def lines(self, file: Path) -> Iterator[str]:
        """What was proposed, for a person."""
        yield f"{file}: proposed for {self.facts['path']}"
        for key, source in self.sources.items():
            fact = self.facts.get(key, self.facts.get("origin", {}).get(key))
            written = fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False)
            yield f"  {key}: {written} ({source})"
        yield from (f"  {note}" for note in self.notes)
        yield "only a person can fill in: " + ", ".join(self.left)
        yield f"to run it: harness run CONFIG --model {shlex.quote(str(file))}"


@dataclass(frozen=True)
class Files:
    """The small files of a checkpoint."""

    folder: Path
    address: str
    """What names of files are appended to in sources, empty for a folder."""
    revision: str | None
    tensors: list[Tensor]

    def source(self, name: str) -> str:
        """How a file is named in sources."""
        return f"{self.address}{name}"


def add(target: str, name: str | None, out: Path | None) -> Iterator[str]:
    """Propose a spec, check that it can be read, and write it.

    Args:
        target: a folder, or a hub id.
        name: how tables call the model; by default from the target.
        out: the file; by default `<name>.yaml` in the working directory.

    Returns:
        Lines for a person.

    Raises:
        UserError: there is no such checkpoint, or the file is there already.
    """
    called = name or bare_name(target)
    file = out or Path(f"{called}.yaml")
    if file.exists():
        raise UserError(f"{file} is there already: give another file with --out, or remove it")
    proposal = propose(target, called)
    replace(file, proposal.text().encode())
    try:
        load_model(str(file))
    except UserError:
        file.unlink()
        raise
    yield from proposal.lines(file)


def propose(target: str, name: str) -> Proposal:
    """A spec from what the files of a checkpoint say.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or the hub cannot be asked.
    """
    files = _files(target, name)
    config = checkpoint.read_config(files.folder)
    path = str(Path(target).resolve()) if files.revision is None else target
    proposal = Proposal({"name": name, "path": path}, {}, dict(PERSONAL))
    if files.revision:
        proposal.facts["revision"] = files.revision
    _propose_origin(proposal, files)
    template = checkpoint.chat_template(files.folder, tools=True)
    if template is None:
        proposal.notes.append("no chat template: a base model, which agents cannot be run with")
    elif broken := _broken(template):
        proposal.notes.append(f"{broken}: correct it before a run")
    else:
        _propose_parsers(proposal, files, template)
        _propose_switches(proposal, files, template)
    _propose_engine(proposal, files, config)
    _propose_sampling(proposal, files)
    return proposal


def _files(target: str, name: str) -> Files:
    folder = checkpoint.find(ModelSpec(name=name, path=target))
    if folder is not None and Path(target).is_dir():
        stored = checkpoint.stored_tensors(folder, checkpoint.weight_files(folder))
        return Files(folder, "", None, stored)
    sha = hub.commit(target)
    here = hub.config_folder(target, sha)
    for file in FILES:
        hub.file(target, file, sha)
    return Files(here, f"https://huggingface.co/{target}/blob/{sha}/", sha, hub.tensors(target, sha))


def _broken(template: str) -> str | None:
    """Why a chat template cannot be read."""
    try:
        read_template(template)
    except UserError as error:
        return str(error)
    return None


def _propose_origin(proposal: Proposal, files: Files) -> None:
    """Base models and licence, by the model card and by what was kept of a merge or an adapter."""
    card = front_matter(files.folder / "README.md")
    origin: dict[str, Any] = {}
    stated = card.get("license_name") or card.get("license") or ""
    named = str(stated[0] if isinstance(stated, list) and len(stated) == 1 else stated)
    if re.fullmatch(r"[\w.+ -]+", named) and named != "other":
        origin["licence"] = LICENCES.get(
            named.lower(), f"LicenseRef-{re.sub(r'[^A-Za-z0-9.-]+', '-', named)}"
        )
        proposal.sources["licence"] = files.source("README.md")
    else:
        proposal.left["origin.licence"] = "its SPDX identifier, or LicenseRef- and a name"
    if bases := stated_bases(files.folder):
        origin["base_models"] = list(bases)
        says = "README.md" if card.get("base_model") else "config.json"
        proposal.sources["base_models"] = files.source(says)
    else:
        proposal.left["origin.base_models"] = "the weights that it was made of, by hub id"
    if origin:
        proposal.facts["origin"] = origin
    if bases and (how := stated_derivation(files.folder)):
        proposal.facts["derivation"] = how


def _propose_parsers(proposal: Proposal, files: Files, template: str) -> None:
    """Parsers, by the words that the chat template writes around calls and thoughts."""
    tools, thoughts = tool_call_parser(template), reasoning_parser(template)
    for key, parser in (("tool_call_parser", tools), ("reasoning_parser", thoughts)):
        if parser:
            proposal.facts[key] = parser
            proposal.sources[key] = files.source("chat template")
        elif key == "tool_call_parser" and "tools" in template:
            proposal.left[key] = (
                "vLLM's name of the parser of its tool calls: the template's format is not known"
            )


def _propose_switches(proposal: Proposal, files: Files, template: str) -> None:
    """Modes and efforts, by what the chat template renders."""
    switches = ways(template, tuple(sorted(special_tokens(files.folder).items())))
    asked: dict[str, dict[str, dict[str, Any]]] = {
        "modes": {mode: dict(given) for mode, given in switches.modes.items()},
        "efforts": {effort: {"reasoning_effort": effort} for effort in switches.efforts},
    }
    for key, given in asked.items():
        if given:
            proposal.facts[key] = {
                name: {"chat_template_kwargs": keywords} for name, keywords in given.items()
            }
            proposal.sources[key] = files.source("chat template")
    if switches.default:
        proposal.facts["default_mode"] = switches.default
    set_by = {keyword for given in asked.values() for keywords in given.values() for keyword in keywords}
    if others := [name for name in read_template(template).reasoning_switches if name not in set_by]:
        proposal.notes.append(f"its chat template reads {', '.join(others)} too: see what they switch")


def _propose_engine(proposal: Proposal, files: Files, config: Mapping[str, Any]) -> None:
    """What the engine is to be told: a layout, the checkpoint's own code; and what it would refuse."""
    bare = ModelSpec(name=proposal.facts["name"], path=proposal.facts["path"])
    of_class = [*class_errors(bare, config, {})]
    proposal.notes += map(str, (*of_class, *quantization_errors(bare, config, {})))
    if of_class and config.get("auto_map"):
        proposal.left["trust_remote_code"] = (
            "true, once you have read the code that it brings, which vLLM needs"
        )
    try:
        check_tokenizer(files.folder, {})
    except UserError as error:
        proposal.notes += [] if files.revision else [str(error)]
    if context := text_config(config).get("max_position_embeddings"):
        proposal.notes.append(f"context: {context} tokens ({files.source('config.json')})")
    weights = count_tensors(config, files.tensors).bytes
    try:
        need = fit.footprint(proposal.facts["name"], config, weights)
    except UserError as error:
        proposal.notes.append(f"no layout is proposed: {str(error).partition(';')[0]}")
        return
    placed = fit.smallest_fit(need, fit.GPUS[GPU.lower()], fit.NODE)
    if placed is None or placed.quantization != "as stored":
        proposal.left["layouts"] = f"a layout: it does not fit on {fit.NODE} GPUs of {GPU} as it is stored"
        return
    stated = {"tensor_parallel_size": placed.layout.tensor_parallel_size}
    if placed.layout.pipeline_parallel_size > 1:
        stated["pipeline_parallel_size"] = placed.layout.pipeline_parallel_size
    proposal.facts["layouts"] = {placed.layout.gpus: stated}
    proposal.sources["layouts"] = f"{files.source('config.json')} and the sizes of its weights, for {GPU}"


def _propose_sampling(proposal: Proposal, files: Files) -> None:
    """The sampling that generation_config.json states, if it draws."""
    file = files.folder / "generation_config.json"
    if not file.is_file():
        return
    stated = checkpoint.read_json(file)
    drawn = {key: stated[key] for key in DRAWS if stated.get(key) is not None}
    if not drawn or stated.get("do_sample") is False:
        return
    try:
        msgspec.convert(drawn, Sampling, strict=True)
    except msgspec.ValidationError as error:
        proposal.notes.append(f"its sampling is left out: {error} ({files.source('generation_config.json')})")
        return
    mode = proposal.facts.get("default_mode") or (
        "thinking" if "reasoning_parser" in proposal.facts else INSTRUCT
    )
    proposal.facts["sampling"] = {mode: drawn}
    proposal.sources["sampling"] = files.source("generation_config.json")
