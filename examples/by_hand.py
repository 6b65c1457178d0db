"""One suite, one engine, records, a scorecard: everything wired by hand, without a config or a run directory.

python examples/by_hand.py
"""

import asyncio
import time

from harness.analysis.build import build_scorecards
from harness.config import SuiteSpec
from harness.engines.metered import BusyClock, MeteredEngine
from harness.engines.scripted import ScriptedEngine
from harness.records.table import to_table
from harness.suites import load_suites
from harness.types import CellEntry, Manifest, ModelEntry, Origin, Record, Sampling

TASK = {"task": "planted_choice", "include_path": "harness:suites/planted"}


async def main() -> None:
    """Measure a model that takes the shortest choice for the likeliest."""
    (suite,) = load_suites(SuiteSpec(adapter="lm_eval", options=TASK))
    engine = ScriptedEngine(score=lambda context, choice: -float(len(choice)))
    model = ModelEntry(name="shortest", origin=Origin(), architecture=None, engine=engine.facts)
    cell = CellEntry(
        key="by-hand", model=model.name, suite=suite.name, adapter="lm_eval", protocol=suite.protocol,
        metrics=suite.metrics, samples=suite.count(), attempts=1,
    )  # fmt: skip
    records = []
    for sample in suite.samples(model.name, None):
        metered, started = MeteredEngine(engine, BusyClock()), time.time()
        transcript = await suite.run(sample, metered, Sampling())
        records.append(
            Record(
                cell=cell.key, sample=sample.id, attempt=0, content_hash=sample.content_hash,
                clusters=sample.clusters, transcript=transcript, scores=suite.score(sample, transcript),
                usage=metered.usage, started=started, seconds=time.time() - started,
            )
        )  # fmt: skip
    manifest = Manifest(
        name="by hand", config_digest="", harness_version="", created="2026-01-01T00:00:00+00:00",
        versions={}, hardware={}, models={model.name: model}, cells={cell.key: cell},
    )  # fmt: skip
    (card,) = build_scorecards(manifest, lambda cell: to_table(cell, records))
    for name, result in card.metrics.items():
        found = result.estimate
        print(f"{name} {found.value:.1%} [{found.low:.1%}, {found.high:.1%}] n={found.n}: {found.method}")


if __name__ == "__main__":
    asyncio.run(main())
