"""Which samples are asked where not all are: drawn at random, each group of them in proportion."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from harness.config import OptionError


def check_subset(limit: int | None, sample: int | None) -> None:
    """Raises OptionError unless at most one of the two says how many samples are asked."""
    if limit is not None and sample is not None:
        raise OptionError(
            "`limit` takes the first samples and `sample` draws some: give one of them", "sample"
        )
    if sample is not None and sample < 1:
        raise OptionError("`sample` must be at least 1", "sample")


def shares(sizes: Sequence[int], wanted: int) -> list[int]:
    """How many of each group are taken: in proportion (largest remainders), and at least one.

    Args:
        sizes: of the groups.
        wanted: how many are taken of all together; all, where there are no more.

    Raises:
        OptionError: there are more groups than that.
    """
    filled = [size for size in sizes if size]
    if wanted < len(filled):
        raise OptionError(
            f"`sample` is {wanted}, and there are {len(filled)} groups: draw at least one of each", "sample"
        )
    wanted = min(wanted, sum(sizes))
    exact = [size * wanted / sum(sizes) if size else 0.0 for size in sizes]
    taken = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda place: taken[place] - exact[place])
    for place in by_remainder[: wanted - sum(taken)]:
        taken[place] += 1
    for place, size in enumerate(sizes):
        if size and not taken[place]:  # at the cost of the group that has most
            taken[taken.index(max(taken))] -= 1
            taken[place] = 1
    return taken


def draw(size: int, wanted: int, seed: int, group: str = "") -> list[int]:
    """Places of a simple random sample, in order. A smaller one of the same seed is a part of a larger one.

    Args:
        size: how many there are.
        wanted: how many are drawn.
        seed: another one draws others.
        group: drawn from; groups of one size are drawn from apart.
    """
    return sorted(_shuffled(size, seed, group)[:wanted])


def _shuffled(size: int, seed: int, group: str) -> list[int]:
    return sorted(range(size), key=lambda place: sha256(f"{seed}\0{group}\0{place}".encode()).digest())


def draw_stratified(groups: Iterable[str], wanted: int, seed: int) -> list[int]:
    """Places of a random sample, in order, with each group in proportion.

    Args:
        groups: of each place, the group that it is in.
        wanted: how many are drawn.
        seed: another one draws others.
    """
    places: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    taken = shares([len(found) for found in places.values()], wanted)
    return sorted(
        found[number]
        for (group, found), share in zip(places.items(), taken, strict=True)
        for number in draw(len(found), share, seed, group)
    )


def draw_by_difficulty(
    difficulty: Sequence[float], wanted: int, seed: int, group: str = ""
) -> tuple[list[int], list[int]]:
    """A systematic sample: every k-th place in the order of difficulty, from a start that is drawn.

    Each place is as likely as another to be drawn, so that plain means are those of all; and every draw has
    easy, middling and hard ones as all of them have, so that what differs between draws is what difficulty
    does not tell. Source: Cochran, Sampling Techniques (1977), ch. 8.

    Args:
        difficulty: of each place.
        wanted: how many are drawn; all, where there are no more.
        seed: another one draws others.
        group: drawn from.

    Returns:
        (the places in order, the same easiest first).
    """
    size = len(difficulty)
    lots = {place: lot for lot, place in enumerate(_shuffled(size, seed, group))}  # among equals
    easiest_first = sorted(range(size), key=lambda place: (difficulty[place], lots[place]))
    wanted = min(wanted, size)
    start = int.from_bytes(sha256(f"{seed}\0{group}\0start".encode()).digest()[:8]) / 2**64
    taken = [easiest_first[int((start + number) * size / wanted)] for number in range(wanted)]
    return sorted(taken), taken


def draw_text(drawn: int, size: int, seed: int, how: str = "each group in proportion") -> str:
    """How samples were drawn, as the protocol says it."""
    return f"{min(drawn, size)} of {size}, drawn with seed {seed}, {how}"
