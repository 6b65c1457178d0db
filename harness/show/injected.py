"""Where injected texts stand in a tool result, in whatever dress (see `engines.escapes`) it hands them on."""

import re
from collections.abc import Mapping, Sequence

from harness.engines.escapes import ESCAPE, ESCAPING, FEW, LEFT_OUT, MAX_NESTING, skeleton, unescape

Span = tuple[int, int]
"""(start, end) in a text."""


def find_injections(text: str, injections: Mapping[str, str]) -> list[Span]:
    """Where injected texts stand in a tool result, in whatever dress.

    Returns:
        Spans in the order of the text, none of which touches another.
    """
    letters, positions = _letters(text)
    spans: list[Span] = []
    bare = {injected: skeleton(injected) for injected in injections.values() if injected.strip()}
    for injected in (text for text, letters_in_it in bare.items() if len(letters_in_it) < FEW):
        spans += [match.span() for match in re.finditer(re.escape(injected.strip()), text)]
    for wanted in {letters_in_it for letters_in_it in bare.values() if len(letters_in_it) >= FEW}:
        start = letters.find(wanted)
        while start >= 0:
            spans.append((positions[start], positions[start + len(wanted) - 1] + 1))
            start = letters.find(wanted, start + len(wanted))
    return [_verbatim(text, _widened(text, span), injections) for span in merged(spans)]


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that overlap as one."""
    disjoint: list[Span] = []
    for start, end in sorted(spans):
        if disjoint and start <= disjoint[-1][1]:
            disjoint[-1] = (disjoint[-1][0], max(end, disjoint[-1][1]))
        else:
            disjoint.append((start, end))
    return disjoint


def _letters(text: str) -> tuple[str, list[int]]:
    """The skeleton of a text, and where each of its characters stands in the text."""
    positions = list(range(len(text)))
    for _ in range(MAX_NESTING):
        if not ESCAPING.search(text):
            break
        text, positions = _unescaped(text, positions)
    kept = [(c, p) for c, p in zip(text, positions, strict=True) if not LEFT_OUT.match(c)]
    return "".join(c for c, _ in kept), [p for _, p in kept]


def _unescaped(text: str, positions: list[int]) -> tuple[str, list[int]]:
    parts, places, last = [], [], 0
    for match in ESCAPE.finditer(text):
        plain = unescape(match)
        parts += [text[last : match.start()], plain]
        places += [*positions[last : match.start()], *[positions[match.start()]] * len(plain)]
        last = match.end()
    return "".join([*parts, text[last:]]), [*places, *positions[last:]]


def _verbatim(text: str, span: Span, injections: Mapping[str, str]) -> Span:
    """Where the injected text begins and ends if it stands there letter for letter, else the span."""
    for injected in (text.strip() for text in injections.values()):
        at = text.find(injected, *span)
        if at >= 0 and skeleton(injected) == skeleton(text[span[0] : span[1]]):
            return at, at + len(injected)
    return span


def _widened(text: str, span: Span) -> Span:
    """The span with the punctuation that touches it."""
    start, end = span
    while start and not text[start - 1].isspace() and not text[start - 1].isalnum():
        start -= 1
    while end < len(text) and not text[end].isspace() and not text[end].isalnum():
        end += 1
    return start, end
