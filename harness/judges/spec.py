"""What a judge is, as `configs/judges/NAME.yaml` or a file of one's own says."""

import re
from pathlib import Path

import msgspec

from harness.config import Document, EngineSpec, ModelSpec, find, load_model
from harness.errors import UserError
from harness.trust import load_object, plugins
from harness.types import Struct

AS_ASKED = "{request}"
"""As `prompt`: the request is all that is to be read, as a scorer has worded it, with the reply in it."""
CONVERSATION = "conversation"
"""As `prompt`: the request and the reply as a conversation, which the judge's own chat template words."""


class JudgeSpec(Struct):
    """A judge. It is shown a request and a reply, and never whose reply it is."""

    name: str
    asks: str
    """What it decides, in one sentence."""
    classes: tuple[str, ...]
    """What it may find a reply to be."""
    verdicts: dict[str, str]
    """Regular expression -> class. The first that is found in what the judge wrote decides; upper and lower
    case are the same. Of a judge without a model they are looked for in the reply itself."""
    otherwise: str | None = None
    """The class of what matches none. None: it is no verdict, so that the reply has none."""
    model: ModelSpec | None = None
    """Who judges. None: the regular expressions alone, on the reply."""
    prompt: str = CONVERSATION
    """Text with `{request}` and `{reply}`, or `conversation`, or `{request}` alone. A request that is about a
    text of its own, its context, stands after that text."""
    prompt_with_context: str = ""
    """The prompt for such a request, with `{context}`, `{request}` and `{reply}`. Empty: `prompt`."""
    raw: bool = False
    """The prompt is the whole text that the model is given, without a chat template: classifiers that were
    trained on one text."""
    max_tokens: int = 16
    engine: EngineSpec = EngineSpec()
    labels: dict[str, str] = {}
    """What people called replies -> class, for labels that have other names than the classes."""
    calibration: str | None = None
    """File that `harness calibrate --out` wrote."""
    source: str = ""
    """Where its prompt format, or the rule, comes from."""


def load_judge(name: str) -> JudgeSpec:
    """A judge of the registry by name, of an installed package by name, or of a YAML file by path.

    A package declares one as an entry point of the group `openweight_harness.judges`; its value leads to the
    path of a YAML file.

    Raises:
        UserError: there is none, or its file is not right: a class that is none, an expression that is none,
            a prompt without a reply.
    """
    declared = plugins("judges").get(name)
    document = Document(Path(load_object(declared, "judge")) if declared else find("judges", name))
    data = document.data
    if isinstance(data, dict) and isinstance(data.get("model"), str):
        model = load_model(data["model"], document.path.parent)
        data = {**data, "model": msgspec.to_builtins(model)}
    spec = document.convert(data, JudgeSpec)
    for key, named in (
        ("verdicts", list(spec.verdicts.values())),
        ("labels", list(spec.labels.values())),
        ("otherwise", [spec.otherwise] if spec.otherwise else []),
    ):
        for wrong in set(named) - set(spec.classes):
            raise UserError(
                f"{document.where((key,))}: key `{key}` names the class {wrong!r}: "
                f"use one of {', '.join(spec.classes)}, or add it to `classes`"
            )
    for expression in spec.verdicts:
        try:
            re.compile(expression)
        except re.error as error:
            raise UserError(
                f"{document.where(('verdicts', expression))}: {expression!r} is not a regular expression: "
                f"{error}"
            ) from error
    needed = [("prompt", "reply")] if spec.prompt not in (AS_ASKED, CONVERSATION) else []
    if spec.prompt_with_context:
        needed += [("prompt_with_context", place) for place in ("context", "request", "reply")]
    for key, place in needed:
        if f"{{{place}}}" not in getattr(spec, key):
            raise UserError(
                f"{document.where((key,))}: key `{key}` has no {{{place}}}: put it where the {place} goes"
            )
    if "{context}" in spec.prompt:
        raise UserError(
            f"{document.where(('prompt',))}: key `prompt` has {{context}}: that goes into "
            "`prompt_with_context`, for requests that have one"
        )
    return spec
