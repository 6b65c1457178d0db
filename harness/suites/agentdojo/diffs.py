"""Comparing environments without walking through what is equal.

AgentDojo's checkers compare the environment before and after an attempt with deepdiff. It has thousands of
values, of which an agent changes a few; walking through all of them is most of what scoring costs.
"""

from functools import lru_cache
from typing import Any


@lru_cache
def equal_parts() -> Any:
    """An operator of deepdiff's that keeps the walk out of whatever is the same on both sides."""
    from deepdiff.operator import BaseOperator

    class EqualParts(BaseOperator):
        """Keeps the walk out of whatever is the same on both sides."""

        def match(self, level: Any) -> bool:
            return hasattr(level.t1, "__pydantic_fields__") or isinstance(level.t1, dict | list)

        def give_up_diffing(self, level: Any, diff_instance: Any) -> bool:
            """Whether nothing is left to do here."""
            a, b = level.t1, level.t2
            if type(a) is not type(b) or isinstance(a, list):
                return same(a, b)
            is_object = not isinstance(a, dict)
            # What the class has beside the fields is the same for two objects of one class.
            before, after = differing(*((a.__dict__, b.__dict__) if is_object else (a, b)))
            if (before or after) and not diff_instance._skip_this(level):
                diff_instance._diff_dict(
                    level, print_as_attribute=is_object, override=True, override_t1=before, override_t2=after
                )
            return True

    return EqualParts()


def differing(a: dict[Any, Any], b: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Two mappings without what is the same in both, in their order.

    Of that as many items are left as others have come or gone: deepdiff takes mappings that share less than
    a third of their keys for two altogether different ones.
    """
    gone = len(a.keys() ^ b.keys())
    equal = [key for key, value in a.items() if key in b and same(value, b[key])]
    dropped = frozenset(equal[gone:])
    return {k: v for k, v in a.items() if k not in dropped}, {k: v for k, v in b.items() if k not in dropped}


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of equal types throughout: 1 is neither 1.0 nor True."""
    if a is b:  # as deepdiff has it
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, str):  # most of them are
        return bool(a == b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "__pydantic_fields__"):
        return same(a.__dict__, b.__dict__)
    return bool(a == b)
