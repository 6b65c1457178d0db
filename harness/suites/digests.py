"""What tells one value from another, in protocols and content hashes."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf8", "surrogatepass")).hexdigest()
