"""What a person writes: the schemas of run configs, models and suites, a sentence under each field."""

import datetime
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from harness.types import Origin, Sampling, Struct, Variant

Count = Annotated[int, msgspec.Meta(ge=1)]


class Openness(Struct):
    """What its developer published. None: not known."""

    weights: bool | None = None
    """The weights."""
    code: bool | None = None
    """The code that it was trained with."""
    data: bool | None = None
    """The data that it was trained on."""


class Switch(Struct):
    """How a mode or an effort of a model is asked for. Empty: by nothing, since the model has no other."""

    chat_template_kwargs: dict[str, Any] = {}
    """Variables that its chat template is given."""
    system_prompt: str | None = None
    """What the system message begins with."""


def hub_id(path: str) -> str | None:
    """What is no folder but the name of a repository on the hub, None for what is none."""
    return path if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not Path(path).is_dir() else None


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
    adapter: str | None = None
    """A LoRA adapter over these weights: hub id, or a folder with adapter_config.json."""
    adapter_revision: str | None = None
    """Commit of the adapter's repository."""
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
    """What its developer published."""
    role: Literal["frontier", "deployment", "community"] | None = None
    """Why it matters: it leads, it is widely deployed, or others build on it."""
    derivation: Literal["finetune", "merge", "distillation", "quantization"] | None = None
    """How it was made of its base models."""
    layouts: dict[int, dict[str, Any]] = {}
    """GPUs -> engine arguments of the parallel layout that is recommended for so many."""
    modes: dict[str, Switch] = {}
    """Mode in which it can be asked (`thinking`, `instruct`) -> how."""
    default_mode: str | None = None
    """The one that it is in where it is not asked for any."""
    efforts: dict[str, Switch] = {}
    """Name of how long it thinks (`low`, `high`) -> how that is asked for."""
    sampling: dict[str, dict[str, int | float]] = {}
    """Mode (`thinking`, `instruct`) -> sampling that the developer recommends for it."""
    variant: Variant = Variant()
    """How it is asked in this run. A run names it: `qwen3-8b@thinking`, or a mapping with the key `model`."""
    min_vllm: str | None = None
    """Lowest version of vLLM that is known to serve it."""
    lines: dict[str, str] = {}
    """Dotted key -> the `file:line` that sets it, "" -> the spec's own. For errors; not kept with results."""

    def __post_init__(self) -> None:
        if self.default_mode is not None and self.default_mode not in self.modes:
            raise ValueError(
                f"default_mode {self.default_mode!r} is none of the modes: {', '.join(self.modes)}"
            )

    @property
    def weights(self) -> str:
        """Hub id or folder of what makes the model another than those it is derived from."""
        return self.adapter or self.path

    @property
    def repository(self) -> str | None:
        """The hub id of a model that is not a folder; of its adapter, where it has one."""
        return hub_id(self.weights)

    def where(self, key: str = "") -> str:
        """`file:line: ` of a key, or of the spec, to begin a sentence with; empty if there was no file."""
        line = self.lines.get(key) or self.lines.get("")
        return f"{line}: " if line else ""


class SuiteSpec(Struct):
    """One entry of `suites`: an adapter by name or dotted path, and the adapter's own options."""

    adapter: str
    name: str | None = None
    judge: tuple[str, ...] = ()
    """Who reads the replies, where the suite leaves that to a judge. Default: the run's."""
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
    """How the run is called. Results go to a folder of this name."""
    models: tuple[ModelSpec, ...]
    """What is measured."""
    suites: tuple[SuiteSpec, ...]
    """What it is measured on."""
    sampling: Sampling
    """Every draw is named: what is not written here has the default of `harness.types.Sampling`."""
    description: str = ""
    """A note for people. Nothing depends on it."""
    attempts: Count = 1
    """Repetitions of each sample, each with a seed of its own."""
    limit: Count | None = None
    """Only the first samples of every suite that sets no limit itself. For trying things out."""
    sample: Count | None = None
    """So many samples of every suite that says neither `limit` nor `sample` itself, drawn at random."""
    engine: EngineSpec = EngineSpec()
    """What computes the tokens."""
    judge: tuple[str, ...] = ()
    """A judge of the registry or a YAML file, or several with a vote each. When everything is measured they
    read the replies of the suites that leave that to a judge."""
    published: bool = False
    """The results will be published: every model must be pinned, and every data set pinned or locked."""
    date: str | None = None
    """The day that chat templates are told which write one, ISO 8601. `harness run` keeps the day on which
    the run was begun."""
    price_per_gpu_hour: float | None = None
    """In any currency. `harness claims` and `harness plan` turn engine time into money with it; no result
    depends on it, and a run may be resumed with another one."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.sample is not None:
            raise ValueError("limit takes the first samples and sample draws some: give one of them")
        if self.price_per_gpu_hour is not None and not 0 < self.price_per_gpu_hour < math.inf:
            raise ValueError("price_per_gpu_hour must be a number above 0")
        if self.date is not None:
            try:
                datetime.date.fromisoformat(self.date)
            except ValueError as error:
                raise ValueError(
                    f"date {self.date!r} is not a day: expected one such as 2026-11-27"
                ) from error

    @property
    def subset(self) -> dict[str, int]:
        """Option of suites -> how many samples, where the run says it for them; empty for all samples."""
        bounds = {"limit": self.limit, "sample": self.sample}
        return {key: value for key, value in bounds.items() if value is not None}

    @property
    def day(self) -> str:
        """The day that templates are told: today, where none was kept."""
        return self.date or datetime.date.today().isoformat()
