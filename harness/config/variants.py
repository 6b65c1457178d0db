"""Variants: one checkpoint, asked in one of the ways that its spec has, and how its replies are drawn then.

Who says how replies are drawn, the last one first: a suite of its own (the `generation_kwargs` of an lm-eval
task), the variant, the run, the spec where `recommended` is asked for, the defaults of `Sampling`.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import msgspec

from harness.config.located_yaml import OptionError, explain
from harness.config.paths import bare_name
from harness.config.schemas import ModelSpec, Openness, Switch
from harness.types import INSTRUCT, Natural, Origin, Sampling, Struct, Variant

DRAWS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Fields of `Sampling` that say how a token is drawn."""

GREEDY = {name: getattr(Sampling(), name) for name in DRAWS}
"""The likeliest token each time."""


class VariantEntry(Struct, rename={"name": "as"}):
    """A variant as a run config has it."""

    model: Any
    """Its model, as any other entry of `models` says it."""
    name: str | None = None
    """How tables call it. Default: the model's name, `@`, and what is asked of it."""
    mode: str | None = None
    """One of its spec's `modes`."""
    reasoning_effort: str | None = None
    """One of its spec's `efforts`."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables of the chat template, over those of mode and effort."""
    system_prompt: str | None = None
    """What every system message begins with, after what mode and effort put there."""
    thinking_token_budget: Natural | None = None
    """As of `Variant`."""
    adapter: str | None = None
    """A LoRA adapter that is put over the model, as of `ModelSpec`: weights of an origin of their own."""
    adapter_revision: str | None = None
    origin: Origin | None = None
    """Who made the adapter. Default: not stated, with the model as its base."""
    sampling: str | dict[str, Any] = {}
    """`recommended`, `greedy`, or fields of `Sampling`, over those that a key `from` names."""


def split_name(entry: str) -> tuple[str, str]:
    """(model, variant) of `qwen3-8b@thinking`; the variant is empty where there is none."""
    model, at, variant = entry.rpartition("@")
    return (model, variant) if at and "/" not in variant else (entry, "")


def named(spec: ModelSpec, variant: str) -> VariantEntry:
    """The variant of a model that a name stands for: a mode, an effort, or both with a hyphen between them.

    Raises:
        OptionError: the model has none of that name.
    """
    if spec.variant != Variant():
        raise OptionError(
            f"{spec.name} is a variant already: name a mode and an effort with a hyphen between them, "
            "such as @thinking-high",
            "",
        )
    mode, _, effort = variant.partition("-")
    if variant in spec.modes:
        return VariantEntry(model=spec.name, mode=variant)
    if variant in spec.efforts:
        return VariantEntry(model=spec.name, reasoning_effort=variant)
    if mode in spec.modes and effort in spec.efforts:
        return VariantEntry(model=spec.name, mode=mode, reasoning_effort=effort)
    known = [f"{spec.name}@{name}" for name in (*spec.modes, *spec.efforts)]
    has = f"it has {', '.join(known)}" if known else f"its spec names none, nor any effort; {_BY_HAND}"
    raise OptionError(f"model {spec.name} has no variant {variant!r}: {has}", "")


_BY_HAND = "say `{model: ..., as: ..., chat_template_kwargs: {...}}`"


def vary(spec: ModelSpec, entry: VariantEntry) -> ModelSpec:
    """A model as it is asked by an entry.

    Raises:
        OptionError: the model lacks the mode or the effort, has an adapter already, or the variant has no
            name of its own.
    """
    mode, effort = entry.mode, entry.reasoning_effort
    if effort is not None and mode is None and spec.modes:
        mode = next((name for name in spec.modes if name != INSTRUCT), None)
    if effort is not None and mode == INSTRUCT:
        raise OptionError(
            f"model {spec.name}: in mode {mode} there is no thought to make an effort at", "mode"
        )
    switches = [
        _switch(spec, "mode", spec.modes, mode),
        _switch(spec, "reasoning_effort", spec.efforts, effort),
        Switch(chat_template_kwargs=entry.chat_template_kwargs, system_prompt=entry.system_prompt),
    ]
    keywords: dict[str, Any] = {}
    for switch in switches:
        keywords |= switch.chat_template_kwargs
    sampling = {"from": entry.sampling} if isinstance(entry.sampling, str) else entry.sampling
    variant = Variant(
        mode=mode,
        reasoning_effort=effort,
        chat_template_kwargs=keywords,
        system_prompt="\n".join(s.system_prompt for s in switches if s.system_prompt) or None,
        thinking_token_budget=entry.thinking_token_budget,
        sampling=sampling,
    )
    return msgspec.structs.replace(
        _adapted(spec, entry), name=_name(spec, entry), called=spec.called or spec.name, variant=variant
    )


def _adapted(spec: ModelSpec, entry: VariantEntry) -> ModelSpec:
    """The model with the adapter that an entry puts over it, of whose origin only the base is known."""
    if entry.adapter is None:
        if entry.origin or entry.adapter_revision:
            raise OptionError("`origin` and `adapter_revision` are an adapter's: name it as `adapter`", "")
        return spec
    if spec.adapter is not None:
        raise OptionError(
            f"model {spec.name} has an adapter already, {spec.adapter}: name its base", "adapter"
        )
    origin = entry.origin or Origin()
    bases = origin.base_models or (spec.repository or spec.name,)
    return msgspec.structs.replace(
        spec,
        adapter=entry.adapter,
        adapter_revision=entry.adapter_revision,
        origin=msgspec.structs.replace(origin, base_models=bases),
        derivation="finetune",
        current=False,
        openness=Openness(),
        licence_restrictions=(),
    )


def _switch(spec: ModelSpec, key: str, known: Mapping[str, Switch], asked: str | None) -> Switch:
    if asked is None:
        return Switch()
    if asked not in known:
        what = "mode" if key == "mode" else "effort"
        has = f"it has {', '.join(known)}" if known else f"its spec names none; {_BY_HAND}"
        raise OptionError(f"model {spec.name} has no {what} {asked!r}: {has}", key)
    return known[asked]


def _name(spec: ModelSpec, entry: VariantEntry) -> str:
    if entry.name is not None:
        return entry.name
    parts = [entry.adapter and bare_name(entry.adapter), entry.mode, entry.reasoning_effort]
    if entry.thinking_token_budget is not None:
        parts.append(f"{entry.thinking_token_budget}-tokens")
    if isinstance(entry.sampling, str):
        parts.append(entry.sampling)
    suffix = "-".join(part for part in parts if part)
    written_out = not isinstance(entry.sampling, str) and entry.sampling
    if entry.chat_template_kwargs or entry.system_prompt or written_out or not suffix:
        raise OptionError(
            f"a variant of {spec.name} needs a name of its own: say it as `as`, such as {spec.name}@mine", ""
        )
    return f"{spec.name}@{suffix}"


def sweep(spec: ModelSpec, over: Mapping[str, Any]) -> list[ModelSpec]:
    """A model asked in every combination of some values, each named by its own.

    Args:
        spec: the model, no variant yet.
        over: key of a variant (`mode`, `sampling.temperature`) -> the values that it takes.

    Raises:
        OptionError: it is a variant already, or cannot be asked in one of the ways.
    """
    if spec.variant != Variant():
        raise OptionError(f"model {spec.name} is a variant, and `sweep` makes variants: name its model", "")
    specs = []
    for values in product(*over.values()):
        varied: dict[str, Any] = {"model": spec.name}
        names = []
        for key, value in zip(over, values, strict=True):
            outer, _, inner = key.partition(".")
            varied |= {outer: {**varied.get(outer, {}), inner: value} if inner else value}
            names.append(str(value) if outer in ("mode", "reasoning_effort") else f"{inner or outer}={value}")
        varied["as"] = f"{spec.name}@{','.join(names)}"
        try:
            entry = msgspec.convert(varied, VariantEntry, strict=True)
        except msgspec.ValidationError as error:
            raise OptionError(explain(error, VariantEntry)[0], "") from error
        specs.append(vary(spec, entry))
    return specs


def drawn_by(run: Sampling, spec: ModelSpec) -> Sampling:
    """How the replies of a model are drawn in a run with this sampling, where a suite does not say otherwise.

    Raises:
        OptionError: its spec recommends no sampling for its mode, or what it says is no sampling.
    """
    own = dict(spec.variant.sampling)
    if not own:
        return run
    source = own.pop("from", None)
    below: Mapping[str, Any] = {}
    if source == "greedy":
        below = GREEDY
    elif source == "recommended":
        below = GREEDY | _recommended(spec)
    elif source is not None:
        raise OptionError(
            f"model {spec.name}: sampling {source!r} is none: expected `recommended`, `greedy` or a mapping",
            "sampling",
        )
    try:
        return msgspec.convert({**msgspec.to_builtins(run), **below, **own}, Sampling, strict=True)
    except msgspec.ValidationError as error:
        raise OptionError(
            f"model {spec.name}: sampling: {explain(error, Sampling)[0]}", "sampling"
        ) from error


def _recommended(spec: ModelSpec) -> dict[str, int | float]:
    mode = spec.variant.mode or spec.default_mode
    if mode is None and len(spec.sampling) == 1:
        (mode,) = spec.sampling
    if mode in spec.sampling:
        return spec.sampling[mode]
    of = f"mode {mode}" if mode else "any mode without its being asked for"
    has = f", only for {', '.join(spec.sampling)}" if spec.sampling else ""
    raise OptionError(
        f"the spec of model {spec.name} has no recommended sampling for {of}{has}: write the sampling out "
        "(`harness models add` reads what its generation_config.json states), or leave it at the run's",
        "sampling",
    )


def pass_on(sampling: Any, models: list[dict[str, Any]]) -> Any:
    """Let models that say nothing of their own follow `from` of a run's sampling; returns the rest of it."""
    if isinstance(sampling, str):
        sampling = {"from": sampling}
    if not isinstance(sampling, dict) or "from" not in sampling:
        return sampling
    rest = {key: value for key, value in sampling.items() if key != "from"}
    own = {"from": sampling["from"]} | {key: value for key, value in rest.items() if key in DRAWS}
    for model in models:
        variant = model.setdefault("variant", {})
        if isinstance(variant, dict) and not variant.get("sampling"):
            variant["sampling"] = own
    return rest
