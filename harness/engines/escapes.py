"""One text in many dresses: told to be the same, however it was quoted, escaped or wrapped on its way.

Tools and chat templates hand texts on as they are, as YAML (wrapped, indented, quoted and escaped anew), as
a Python dict, as JSON, HTML or an address. Wrapping and quoting change only white space, ASCII's punctuation
and escapes. So escapes are undone, and then that is left out of what is compared. Base64 is not undone: a
text in it is shown to nobody who does not decode it, and an attack that is written in it is looked for as it
is.
"""

import html
import re
from functools import lru_cache
from urllib.parse import unquote

ESCAPE = re.compile(
    r"\\(?:\n[ \t]*"  # YAML's way to go on in the next line: nothing of it belongs to the text
    r"|u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\+u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"  # JSON, beyond the plane
    r"|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<other>[\s\S]))"
    r"|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,30});"
    r"|(?:%[0-9a-fA-F]{2})+"
)
"""An escape of YAML, Python, JSON, HTML or of an address."""
ESCAPING = re.compile(r"[\\&%]")
"""What an escape begins with."""
NAMED = {c: " " for c in "0abefnrtvNLP_"}
"""Escapes of YAML and Python that stand for white space or a control character."""
OTHER_ASCII = {code: None for code in range(128) if not chr(code).isalnum()}
"""All of ASCII but letters and digits, for deletion."""
LEFT_OUT = re.compile(r"[\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x9f\s]+")
"""The same, with control characters and all white space."""
MAX_NESTING = 4
"""How often a text may have been quoted within a quotation."""
FEW = 8
"""Characters of a skeleton that are too few to tell a text by them alone."""


def skeleton(text: str) -> str:
    """A text without white space and ASCII's punctuation, its escapes undone."""
    text = undressed(text)
    # Deleting by a table is twenty times as fast, but only where it is short.
    return text.translate(OTHER_ASCII) if text.isascii() else LEFT_OUT.sub("", text)


def undressed(text: str) -> str:
    """A text with its escapes undone."""
    for _ in range(MAX_NESTING):
        if not ESCAPING.search(text):
            break
        text = ESCAPE.sub(unescape, text)
    return text


def unescape(match: re.Match[str]) -> str:
    """What an escape that `ESCAPE` found stands for."""
    escape = match[0]
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[0] == "%":
        return _unquoted(escape)
    if match["high"]:
        return chr(0x10000 + ((int(match["high"], 16) & 0x3FF) << 10) + (int(match["low"], 16) & 0x3FF))
    number = match["x"] or match["u"] or match["U"]
    if number:
        code = int(number, 16)
        return chr(code) if code < 0x110000 else ""
    other = match["other"]
    return NAMED.get(other, other) if other else ""


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:  # a number and a percent sign
        return text


def stands_in(text: str, shown: str) -> bool:
    """Whether a text stands whole in what was shown, in whatever dress. One of white space stands nowhere."""
    bare = known_skeleton(text)
    if len(bare) >= FEW:
        return text in shown or bare in known_skeleton(shown)
    pattern = r"\s+".join(map(re.escape, without_quotes(text).split()))
    if not pattern:
        return bool(text.strip()) and text.strip() in shown
    before = r"(?<![a-zA-Z0-9])" if re.match(r"[a-zA-Z0-9]", pattern) else ""
    after = r"(?![a-zA-Z0-9])" if re.search(r"[a-zA-Z0-9]$", pattern) else ""
    return re.search(before + pattern + after, without_quotes(shown)) is not None


def without_quotes(text: str) -> str:
    """A text with its escapes undone and without quotes, which YAML doubles and JSON escapes."""
    return re.sub(r"[\"'\\]+", "", undressed(text))


known_skeleton = lru_cache(maxsize=512)(skeleton)
"""The same, remembered: results are looked at again in every turn."""
