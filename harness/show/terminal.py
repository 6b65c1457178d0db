"""An attempt as lines for a terminal."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.hostile import one_line, strip_control
from harness.show.view import Call, Step, Verdict, View
from harness.suites.explanation import Change

if TYPE_CHECKING:
    from rich.text import Text

COLORS = {"system": "magenta", "user": "green", "assistant": "cyan", "tool": "yellow"}
OPEN, CLOSE = "⟪", "⟫"
"""Stand around injected text, which is also coloured where there are colours."""


def render_terminal(view: View, *, width: int = 100, color: bool = False) -> str:
    """The attempt as text, at most `width` columns wide."""
    from rich.console import Console
    from rich.padding import Padding

    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    for indent, text in _lines(view):
        console.print(Padding(text, (0, 0, 0, indent)))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().rstrip().split("\n"))


def _lines(view: View) -> Iterator[tuple[int, "Text"]]:
    """(indent, text) of every paragraph."""
    yield 0, _text(one_line(f"{view.pair} by {view.model}"), "bold")
    for name, value in view.facts:
        yield 0, _text(f"{name}: {one_line(value)}")
    for vector, text in view.injections:
        yield 0, _text(f"injected at {one_line(vector)}: {one_line(text)}", "red")
    if any(piece.injected for step in view.steps for piece in step.pieces):
        yield 0, _text(f"Where the agent was shown it, it is between {OPEN} and {CLOSE}.")
    for step in view.steps:
        yield from _step_lines(step)
    yield 0, _text("\nVerdicts", "bold")
    if view.failure:
        yield 0, _text(f"failed: {one_line(view.failure)}: no verdict, neither right nor wrong", "bold red")
    for verdict in view.verdicts:
        yield from _verdict_lines(verdict)


def _step_lines(step: Step) -> Iterator[tuple[int, "Text"]]:
    yield 0, _text(f"\n── {one_line(step.title)} ", f"bold {COLORS.get(step.role, '')}")
    if step.reasoning:
        yield 2, _text(f"(reasoning) {strip_control(step.reasoning)}", "dim")
    body = _text("")
    for piece in step.pieces:
        clean = strip_control(piece.text)
        body.append(*((f"{OPEN}{clean}{CLOSE}", "bold red") if piece.injected else (clean, "")))
    if body.plain.strip():
        yield 2, body
    for note in step.notes:
        yield 2, _text(f"({strip_control(note)})", "red")
    for call in step.calls:
        yield from _call_lines(call)


def _call_lines(call: Call) -> Iterator[tuple[int, "Text"]]:
    yield 2, _text(f"→ {one_line(call.name)} {strip_control(call.arguments)}", "bold")
    if call.effects is None:
        return
    if call.effects.error:
        yield 4, _text(one_line(call.effects.error), "red")
    for change in call.effects.changes:
        yield 4, _change(change)
    if not call.effects.changes and not call.effects.error:
        yield 4, _text("changes nothing", "dim")


def _change(change: Change) -> "Text":
    path = one_line(change.path)
    if change.before is None:
        return _text(f"+ {path}: {one_line(change.after or '')}", "green")
    if change.after is None:
        return _text(f"- {path}: {one_line(change.before)}", "red")
    return _text(f"~ {path}: {one_line(change.before)} → {one_line(change.after)}", "yellow")


def _verdict_lines(verdict: Verdict) -> Iterator[tuple[int, "Text"]]:
    yield 0, _text(f"{one_line(verdict.metric)} = {one_line(verdict.value)}", "bold")
    if verdict.answer is not None:
        yield 2, _text(f"read out of the reply: {one_line(verdict.answer)}")
    if verdict.reason is not None:
        yield 2, _text(one_line(verdict.reason), "dim")


def _text(text: str, style: str = "") -> "Text":
    from rich.text import Text

    return Text(text, style=style, overflow="fold")
