"""`harness models inspect`: everything that a checkpoint says about itself, local or on the hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.config import ModelSpec, load_model, locate, names
from harness.errors import UserError
from harness.models import cache, checkpoint, hub, layers
from harness.models.registry import base_countries, lineage, specs, with_stated_bases
from harness.models.template import TemplateFacts, read_template
from harness.models.tensors import count_tensors, quantization_config
from harness.models.trials import own_thoughts
from harness.types import Architecture, Origin, Struct


class Inspection(Struct):
    """What a checkpoint says about itself."""

    source: str
    """The folder, or `id@commit` on the hub."""
    architecture: Architecture
    quantization: str | None
    """Method by the config, None if its weights are plain."""
    prediction_params: int
    """Parameters of layers for multi-token prediction, which the total leaves out."""
    kv_bytes_per_token: int | None
    """In all layers, with a 16-bit cache. None if the family's layers are not described."""
    windowed_layers: int = 0
    """Layers that cache only the last tokens."""
    state_bytes: int = 0
    """Recurrent state of a sequence."""
    template: TemplateFacts | None = None
    own_thoughts: dict[str, bool | None] = {}
    """Which of its own thoughts (`trials.OWN_THOUGHTS`) -> whether the template shows it again."""
    bases: tuple[str, ...] = ()
    """The weights that it says it was made of."""
    derivation: str | None = None
    """How it was made of them, by what it says."""
    base_countries: tuple[str, ...] = ()
    """Where those weights come from, by the registry; `?` for a developer that it does not know."""

    def lines(self) -> Iterator[str]:
        """The facts for a person."""
        architecture = self.architecture
        yield f"{self.source}"
        yield f"  architecture: {checkpoint.summary(architecture)} (model_type {architecture.model_type})"
        yield f"  parameters: {architecture.total_params:,} total, {architecture.active_params:,} active"
        if architecture.experts:
            yield f"  experts: {architecture.experts} a layer, {architecture.experts_per_token} per token"
        if self.prediction_params:
            yield f"  left out: {self.prediction_params:,} in layers for multi-token prediction"
        yield f"  weights: {gib(architecture.weight_bytes)}, quantisation {self.quantization or 'none'}"
        yield f"  KV cache: {self._cache()}"
        yield f"  context: {architecture.context_length or 'not stated'} tokens"
        yield f"  chat template: {self._template()}"
        yield from self._thoughts()
        if self.bases:
            how = f" ({self.derivation})" if self.derivation else ""
            yield f"  made of: {', '.join(self.bases)}{how}; base weights {', '.join(self.base_countries)}"

    def _cache(self) -> str:
        if self.kv_bytes_per_token is None:
            return f"layers of model_type {self.architecture.model_type} are not described"
        text = f"{self.kv_bytes_per_token:,} bytes a token in 16 bits"
        text += f", {self.windowed_layers} layers keep a window only" if self.windowed_layers else ""
        return text + (f", {self.state_bytes:,} bytes of state a sequence" if self.state_bytes else "")

    def _template(self) -> str:
        if self.template is None:
            return "none"
        switches = ", ".join(self.template.reasoning_switches) or "none"
        tools = "takes tools" if self.template.tools else "takes no tools"
        return f"{self.architecture.chat_template_hash}, {tools}, reasoning switches: {switches}"

    def _thoughts(self) -> Iterator[str]:
        """Which of its own thoughts the model is shown again, and which not."""
        for kept, does in ((True, "shows the model again its thoughts"), (False, "drops its thoughts")):
            of = [which for which, shown in self.own_thoughts.items() if shown is kept]
            if of:
                yield f"  and it {does} {', '.join(of)}"


def inspect(target: str) -> Inspection:
    """Inspect a folder, a hub id, or a model of the registry by name.

    Of a checkpoint on the hub only small files and tensor headers are read.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or the hub cannot be asked.
    """
    spec = _spec(target)
    folder = checkpoint.find(spec)
    if folder is not None:
        architecture = checkpoint.inspect(folder)
        config = checkpoint.read_config(folder)
        tensors = checkpoint.stored_tensors(folder, checkpoint.weight_files(folder))
        inspection = _inspection(
            str(folder), config, architecture, tensors, checkpoint.chat_template(folder, tools=True)
        )
        return _with_lineage(inspection, spec, folder)
    sha = hub.commit(spec.path, spec.revision)
    here = hub.config_folder(spec.path, sha)
    for name in checkpoint.TEMPLATE_FILES:
        hub.file(spec.path, name, sha)
    config, tensors = checkpoint.read_config(here), hub.tensors(spec.path, sha)
    template = checkpoint.chat_template(here, tools=True)
    architecture = checkpoint.describe(config, tensors, template, None)
    return _inspection(f"{spec.path}@{sha}", config, architecture, tensors, template)


def _with_lineage(inspection: Inspection, spec: ModelSpec, folder: Path) -> Inspection:
    """What its spec or else its files say of where its weights come from."""
    spec = with_stated_bases(spec, folder)
    if not spec.origin.base_models:
        return inspection
    countries = base_countries(spec, lineage([*specs(), spec]))
    return msgspec.structs.replace(
        inspection, bases=spec.origin.base_models, derivation=spec.derivation, base_countries=countries
    )


def list_lines() -> Iterator[str]:
    """The models of the registry for a person, one a line."""
    for name in names("models"):
        spec = load_model(name)
        try:
            folder = checkpoint.find(spec)
            here = checkpoint.summary(checkpoint.inspect(folder)) if folder else "not on this machine"
        except UserError as error:  # one bad checkpoint does not hide the others
            here = str(error)
        origin = f"{spec.origin.developer} ({spec.origin.country})"
        licence = spec.origin.licence or "licence not known"
        variants = (
            f"; {', '.join((*spec.modes, *spec.efforts))}" if len(spec.modes) + len(spec.efforts) > 1 else ""
        )
        yield f"{name:<34} {origin:<28} {licence:<32} {here}{variants}"


def _spec(target: str) -> ModelSpec:
    is_name = "/" not in target and not Path(locate(target)).is_dir()
    if target in names("models") or target.endswith((".yaml", ".yml")) or is_name:
        return load_model(target)
    path = str(Path(target).resolve()) if Path(locate(target)).is_dir() else target
    return ModelSpec(name=target, path=path, origin=Origin(developer="", country=""))


def _inspection(
    source: str, config: dict[str, Any], architecture: Architecture, tensors: Any, template: str | None
) -> Inspection:
    known = layers_of(config)
    return Inspection(
        source=source,
        architecture=architecture,
        quantization=quantization_config(config).get("quant_method"),
        prediction_params=count_tensors(config, tensors).prediction,
        kv_bytes_per_token=cache.bytes_per_token(known) if known else None,
        windowed_layers=sum(layer.window is not None for layer in known or ()),
        state_bytes=cache.state_bytes(known or ()),
        template=read_template(template) if template else None,
        own_thoughts=own_thoughts(template) if template else {},
    )


def layers_of(config: dict[str, Any]) -> list[layers.Layer] | None:
    """The layers of a model by its config, None if they are not described."""
    try:
        return layers.layers(config)
    except UserError:
        return None


def gib(number: float) -> str:
    """Bytes as people write them."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**29 else f"{number / 2**20:.1f} MiB"
