"""Which samples are asked where not all are: drawn at random, each group of them in proportion."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from math import lcm
from typing import Literal

from harness.config import OptionError
from harness.types import Struct


class Subset(Struct):
    """Options of an adapter whose samples need not all be asked."""

    limit: int | None = None
    """Only the first samples: they may be easier or harder than the others."""
    sample: int | None = None
    """So many samples, drawn at random."""
    sample_seed: int = 0
    """Another one draws others."""

    def __post_init__(self) -> None:
        for key in ("limit", "sample"):
            value = getattr(self, key)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{key} must be at least 1")
        if self.limit is not None and self.sample is not None:
            raise ValueError("`limit` takes the first samples and `sample` draws some: give one of them")


class InformativeSubset(Subset):
    """Options of an adapter whose samples can be drawn by how hard they are."""

    sample: int | Literal["informative"] | None = None  # type: ignore[assignment]
    """So many samples, drawn at random; `informative`: `sample_size` of them, of every difficulty as many as
    there are."""
    difficulty: str | None = None
    """For `informative`: the file in which `harness difficulty` wrote how hard each sample is."""
    sample_size: int = 200
    """How many samples an `informative` draw has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_size < 1:
            raise ValueError("sample_size must be at least 1")
        if (self.sample == "informative") != (self.difficulty is not None):
            raise ValueError(
                "sample: informative and difficulty: FILE go together: `harness difficulty DIR --out FILE` "
                "writes it once five models have answered the task"
            )

    @property
    def wanted(self) -> int | None:
        """How many samples are drawn, if any."""
        return self.sample_size if self.sample == "informative" else self.sample


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
    taken = shares([len(members) for members in places.values()], wanted)
    return sorted(
        members[number]
        for (group, members), share in zip(places.items(), taken, strict=True)
        for number in draw(len(members), share, seed, group)
    )


def draw_pairs(rows: int, columns: int, wanted: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of a row and a column, drawn so that each row and each column comes up as often as the others.

    Rows and columns are walked through together, both in an order that is drawn, and a step apart after each
    lap in which they met as before (a Latin design). Each pair is as likely as another to be drawn, so that
    plain means are those of all; what rows and columns have of their own hardly adds to what differs between
    draws. A smaller draw is a part of a larger one.

    Args:
        rows: how many there are, such as user tasks.
        columns: the same of what each is paired with.
        wanted: how many pairs are drawn; all, where there are no more.
        seed: another one draws others.
    """
    in_rows, in_columns = _shuffled(rows, seed, "rows"), _shuffled(columns, seed, "columns")
    lap = lcm(rows, columns)
    return sorted(
        (in_rows[step % rows], in_columns[(step + step // lap) % columns])
        for step in range(min(wanted, rows * columns))
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
