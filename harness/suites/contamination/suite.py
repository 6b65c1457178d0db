"""Two tests of whether a model was trained on a published file of items.

- Order (Oren et al., 2023, arXiv 2310.17623). Whoever made the file might have written its items in any other
  order, so that a model that never saw it finds no order likelier than another. Items are put together in
  shards; each permutation shuffles every shard by itself. `order_p_value` is the share of orders, the
  published one included, that are as likely as it in all shards together: an exact permutation test, whose
  level holds whatever the model is. A file that is sorted is not exchangeable, and not to be tested so.
- Completions. A model is given the beginning of an item and goes on greedily. `completed` counts the items
  whose next characters it writes as they are. Of items that anybody can go on with it counts those too.
"""

import random
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec.structs import replace

from harness.config import OptionError, locate
from harness.engines.base import Engine
from harness.errors import AttemptFailure
from harness.rows import read_rows
from harness.suites.base import Needs, Render, Suite
from harness.suites.digests import digest
from harness.types import FailureKind, Metric, Sample, Sampling, Score, Struct, Transcript

SCORER_VERSION = "1"
"""Raised whenever a change here could change a verdict."""

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Options(Struct):
    """Options of the `contamination` adapter."""

    path: str
    """The file of items in their published order: CSV or JSONL, which may be compressed (.xz, .gz)."""
    columns: tuple[str, ...]
    """What of an item was published together, such as question and answer."""
    permutations: AtLeastOne = 99
    """Other orders: the smallest p-value is 1 / (permutations + 1)."""
    shards: AtLeastOne = 10
    """Parts of the file, each scored as one text."""
    seed: int = 0
    """Of the permutations."""
    characters: AtLeastOne = 50
    """How much of an item has to be completed, after as much of it was given at least."""
    limit: AtLeastOne | None = None
    """Only the first items."""


class Item(Struct):
    """What a sample carries: the item to be completed. None: the order of all is tested."""

    number: int | None


def build(name: str | None, options: Options) -> list["ContaminationSuite"]:
    """The suite.

    Raises:
        OptionError: the options name a column that the file has not, or more shards than pairs of items.
        UserError: the file cannot be read.
    """
    return [ContaminationSuite(name or f"{Path(options.path).name.split('.')[0]}_contamination", options)]


class ContaminationSuite(Suite):
    """The items of one file."""

    needs = Needs(loglikelihoods=True, bare_prompts=True)
    metrics = (
        Metric(name="order_p_value", higher_is_better=None, bounds=(0.0, 1.0), where={"test": "order"}),
        Metric(name="order_gain", higher_is_better=None, where={"test": "order"}),
        Metric(
            name="completed",
            higher_is_better=None,
            kind="rate",
            bounds=(0.0, 1.0),
            where={"test": "completion"},
        ),
    )

    def __init__(self, name: str, options: Options) -> None:
        """Raises as `build`."""
        self.name, self.options = name, options
        rows = read_rows(Path(locate(options.path)))
        for column in options.columns:
            if column not in rows[0]:
                raise OptionError(
                    f"{options.path} has no column {column!r}: use one of {', '.join(rows[0])}", "columns"
                )
        self._items = ["\n".join(str(row[column]) for column in options.columns) for row in rows][
            : options.limit
        ]
        if len(self._items) < 2 * options.shards:
            raise OptionError(
                f"{len(self._items)} items make no {options.shards} shards of two at least: give fewer",
                "shards",
            )
        self._whole = [i for i, text in enumerate(self._items) if len(text) >= 2 * options.characters]

    @cached_property
    def protocol(self) -> dict[str, str]:
        """See `Suite.protocol`."""
        options = self.options
        return {
            "adapter": "contamination",
            "items": digest(self._items),
            "permutations": str(options.permutations),
            "shards": str(options.shards),
            "seed": str(options.seed),
            "characters": str(options.characters),
            "scorer": SCORER_VERSION,
        }

    def count(self) -> int:
        """See `Suite.count`."""
        return 1 + len(self._whole)

    def attempts(self, asked: int, sampling: Sampling) -> int:
        """See `Suite.attempts`: nothing is drawn."""
        return 1

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        """See `Suite.samples`. The prompts do not depend on the model."""
        whole = digest(self.protocol)
        order = Sample(id="order", content_hash=whole, labels={"test": "order"}, payload=Item(number=None))
        return [
            order,
            *(
                Sample(
                    id=f"item_{i}",
                    content_hash=digest([whole, self._items[i]]),
                    labels={"test": "completion"},
                    payload=Item(number=i),
                )
                for i in self._whole
            ),
        ]

    def _orders(self) -> list[list[str]]:
        """The texts of all shards, in the published order first and then in each permutation."""
        n, shards = len(self._items), self.options.shards
        parts = [self._items[n * i // shards : n * (i + 1) // shards] for i in range(shards)]
        draws = random.Random(self.options.seed)
        orders = [parts]
        orders += [
            [draws.sample(part, len(part)) for part in parts] for _ in range(self.options.permutations)
        ]
        return [["\n\n".join(part) for part in order] for order in orders]

    def _begin(self, number: int) -> tuple[str, str]:
        """(what is given of an item, what is to come next)."""
        text = self._items[number]
        middle = max(len(text) // 2, self.options.characters)
        space = text.find(" ", middle)  # most tokenizers begin a token there
        middle = space if 0 <= space <= len(text) - self.options.characters else middle
        return text[:middle], text[middle : middle + self.options.characters]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        """Score all orders, or let the model go on with an item. Raises `AttemptFailure`."""
        item: Item = sample.payload
        if item.number is None:
            texts = [text for order in self._orders() for text in order]
            return Transcript(loglikelihoods=tuple([await engine.score_rolling(text) for text in texts]))
        given, _ = self._begin(item.number)
        budget = self.options.characters  # a token has a character at least
        reply = await engine.complete(given, replace(sampling, temperature=0.0, max_tokens=budget))
        return Transcript(generations=(reply,))

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        """See `Suite.score`.

        Raises:
            AttemptFailure: some order was not scored.
        """
        item: Item = sample.payload
        if item.number is not None:
            _, rest = self._begin(item.number)
            completed = transcript.generations[0].text.startswith(rest)
            return (Score(metric="completed", value=float(completed), answer=transcript.generations[0].text),)
        shards, orders = self.options.shards, self.options.permutations + 1
        chances = [one.logprob for one in transcript.loglikelihoods]
        if len(chances) != shards * orders:
            raise AttemptFailure(
                FailureKind.SCORER_ERROR,
                f"{len(chances)} texts were scored, expected {shards} of {orders} orders",
            )
        sums = [sum(chances[shards * i : shards * (i + 1)]) for i in range(orders)]
        p = sum(other >= sums[0] for other in sums) / orders
        gain = (sums[0] - sum(sums[1:]) / len(sums[1:])) / shards
        return (Score(metric="order_p_value", value=p), Score(metric="order_gain", value=gain))
