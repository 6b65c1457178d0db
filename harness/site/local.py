"""What of this machine is not published: where its files lie."""

import re

PATHS = re.compile(r"(?<![\w:/.~-])(?:/[\w.@+-]+)+/([\w.@+-]+)")
"""An absolute path of two parts at least; addresses of the web are none."""


def without_folders(text: str) -> str:
    """A text that names files by their last part alone."""
    return PATHS.sub(r"\1", text)
