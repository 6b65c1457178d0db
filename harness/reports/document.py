"""Everything that a run says, in one typed document. Every format is a view of it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import combinations

import pyarrow as pa

from harness import stats
from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import Claims, make_claims
from harness.analysis.claims.evidence import Asked
from harness.analysis.comparability import Setting, check_protocols, differences, engine_settings, protocols
from harness.analysis.compare import compare_metric
from harness.analysis.origins import Compared, Comparison, OriginScorecard, build_origins, each_once, lead
from harness.analysis.summary import CAPABILITY, Column, Row, summarise
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.types import Caution, CellEntry, Manifest, Struct

VERSION = 2
"""Of the document's JSON, see `scorecard.schema.json`. Version 1 was a list of models, without a number."""


class Document(Struct):
    """What a run says."""

    name: str
    created: str
    """When the run began, ISO 8601."""
    config_digest: str
    by: str
    """What an origin is, a name of `origins.GROUPINGS`."""
    models: tuple[ModelScorecard, ...]
    """By name."""
    origins: tuple[OriginScorecard, ...]
    overall: tuple[Compared, ...]
    """The most capable models of each pair of origins over all benchmarks, the better first."""
    claims: Claims | None
    """None where they were not asked for, or could not be made."""
    claims_problem: str | None
    """Why they could not be made."""
    protocols: tuple[Setting, ...]
    engines: tuple[Setting, ...]
    allowances: tuple[Setting, ...]
    """Protocol fields that differ between models and were allowed to."""
    differences: tuple[str, ...]
    """What else differs between models, and may move their scores, in words."""
    versions: dict[str, str]
    """Package -> version, the harness among them."""
    hardware: dict[str, str]
    cautions: tuple[Caution, ...]
    """What was known before the run, and run all the same."""

    @property
    def unread(self) -> list[str]:
        """Why the records of some cells cannot be read, a sentence each."""
        return [caution.text for caution in self.cautions if caution.check == UNREAD]

    @property
    def gaps(self) -> list[Compared]:
        """The best models of each pair of origins compared, once a metric: the better one's origin first."""
        return each_once(self.origins, lambda origin: origin.gaps, lambda one: lead(one) * _sign(one))

    @property
    def ratios(self) -> list[Compared]:
        """Rates of being hijacked of each pair of origins, once a metric: the one with more comes first."""
        return each_once(self.origins, lambda origin: origin.risk_ratios)


def _sign(comparison: Comparison) -> int:
    return 1 if comparison.metric.higher_is_better else -1


UNREAD = "unreadable_records"
"""The check of a caution about records that cannot be read."""


def _unread(cards: Sequence[ModelScorecard]) -> Iterator[Caution]:
    for card in cards:
        for what, said in card.unread.items():
            suite = what if what not in card.metrics else card.metrics[what].suite
            yield Caution(check=UNREAD, text=said, model=card.model.name, suite=suite, void=True)


def read_document(
    directory: RunDirectory, by: str = "country", allow: Collection[str] = (), *, claims: bool = True
) -> Document:
    """The document of a run; see `make_document`."""
    return make_document(directory.whole_manifest(), directory.columns, by, allow, claims=claims)


def make_document(
    manifest: Manifest,
    tables: Callable[[CellEntry], pa.Table],
    by: str = "country",
    allow: Collection[str] = (),
    *,
    claims: bool = True,
) -> Document:
    """The document of a run. Pure: reads no file.

    Args:
        manifest: what the run directory says about itself.
        tables: cell -> its finished attempts, as from `RunDirectory.columns`.
        by: what an origin is, a name of `origins.GROUPINGS`.
        allow: protocol fields that may differ between models.
        claims: whether claims are made, which takes longer than all else.

    Raises:
        UserError: records are damaged, `by` is unknown, or models were given one suite under different
            protocols.
    """
    return document_of(
        by_benchmark(build_scorecards(manifest, tables), manifest), manifest, by, allow, claims=claims
    )


def document_of(
    cards: Sequence[ModelScorecard],
    manifest: Manifest,
    by: str = "country",
    allow: Collection[str] = (),
    *,
    claims: bool = True,
) -> Document:
    """The document of scorecards; see `make_document`."""
    own = [card for card in cards if not card.model.imported]
    origins = build_origins(cards, by, allow)
    made, problem = _claims(cards, by, allow, origins) if claims else (None, None)
    return Document(
        name=manifest.name,
        created=manifest.created,
        config_digest=manifest.config_digest,
        by=by,
        models=tuple(cards),
        origins=tuple(origins),
        overall=tuple(_overall(own, origins)),
        claims=made,
        claims_problem=problem,
        protocols=protocols(cards),
        engines=engine_settings(cards),
        allowances=check_protocols(own, allow),
        differences=tuple(differences(own)),
        versions={"harness": manifest.harness_version, **manifest.versions},
        hardware=manifest.hardware,
        cautions=(*manifest.cautions, *_unread(cards)),
    )


def _overall(cards: Sequence[ModelScorecard], origins: Sequence[OriginScorecard]) -> Iterator[Compared]:
    """The gaps in capability; none where there is one benchmark, whose own gap says the same."""
    summary = summarise(cards)
    if not summary.columns or summary.columns[0].metric != CAPABILITY or len(summary.columns[0].keys) < 2:
        return
    first: dict[str, list[Row]] = {
        origin.key: [row for row in summary.rows if row.ranked and row.card.model.name in origin.models]
        for origin in origins
    }
    for a, b in combinations([key for key, rows in first.items() if rows], 2):
        if summary.rows.index(first[a][0]) > summary.rows.index(first[b][0]):
            a, b = b, a
        yield Compared(origin=a, comparison=_capability_gap(b, first[a], first[b], summary.columns[0]))


def _capability_gap(other: str, ours: Sequence[Row], theirs: Sequence[Row], column: Column) -> Comparison:
    """The first of some models against the first of others, over benchmarks, paired by sample."""
    best, other_best = ours[0].card, theirs[0].card
    gaps = [compare_metric(other_best.metrics[k], best.metrics[k], ("", "")).difference for k in column.keys]
    value, other_value = ours[0].estimates[0], theirs[0].estimates[0]
    assert value is not None and other_value is not None, "ranked models have a capability"
    return Comparison(
        other=other,
        key=column.metric.name,
        metric=column.metric,
        models=len(ours),
        other_models=len(theirs),
        estimate=stats.average(gaps),
        value=value,
        other_value=other_value,
        best_model=best.model.name,
        other_best_model=other_best.model.name,
    )


def _claims(
    cards: Sequence[ModelScorecard], by: str, allow: Collection[str], origins: Sequence[OriginScorecard]
) -> tuple[Claims | None, str | None]:
    """(claims, why there are none): what cannot be claimed takes no scorecard with it."""
    try:
        return make_claims(cards, Asked(by=by, allow=tuple(allow)), origins), None
    except UserError as error:
        return None, str(error)
    except Exception as error:
        return None, f"claims could not be computed: {type(error).__name__}: {error}"
