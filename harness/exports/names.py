"""Names of models and suites as names of files: one each, whatever they are called."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Name -> a name that every file system takes, and that is its own.

    A name that is one already stays as it is. Any other has its signs replaced and a digest behind it, for
    two may become one by that; and so have names that differ by case alone, which some file systems do not
    tell apart.
    """
    cleaned = {name: re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-. ") for name in names}
    same = Counter(name.casefold() for name in cleaned.values())
    return {
        name: clean if clean == name and same[clean.casefold()] == 1 else _with_digest(name, clean)
        for name, clean in cleaned.items()
    }


def _with_digest(name: str, clean: str) -> str:
    return f"{clean[:100] or 'unnamed'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
