"""Everything that a run says, in one typed document. Every format is a view of it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec
import pyarrow as pa

from harness.analysis.agents import AgentCard, agent_cards
from harness.analysis.benchmarks import by_benchmark
from harness.analysis.build import ModelScorecard, build_scorecards
from harness.analysis.claims import Claims, make_claims
from harness.analysis.claims.evidence import Asked
from harness.analysis.comparability import (
    Differences,
    Setting,
    check_protocols,
    differences,
    engine_settings,
    protocols,
)
from harness.analysis.defences import Defended, defended
from harness.analysis.divergence import options_of
from harness.analysis.origins import (
    Compared,
    Comparison,
    OriginScorecard,
    build_origins,
    each_once,
    lead,
)
from harness.analysis.overall import overall_gaps
from harness.analysis.summary import Summary, summarise
from harness.analysis.transfers import Transfer, transfers
from harness.analysis.variants import Ways, side_by_side
from harness.errors import UserError
from harness.records.directory import RunDirectory
from harness.reports import text
from harness.types import Caution, CellEntry, Manifest, Record, Struct

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
    summary: Summary
    """A row a model, the best first."""
    origins: tuple[OriginScorecard, ...]
    overall: tuple[Compared, ...]
    """The most capable models of each pair of origins over all benchmarks, the better first."""
    ways: tuple[Ways, ...]
    """Models that were run in several ways, as variants or quantised."""
    defences: dict[str, tuple[tuple[Defended, ...], ...]]
    """Model -> its suites that differ in the defence alone, a block each, of models that have any."""
    transfers: tuple[Transfer, ...]
    """Attacks that were found on one model and tried on others, a row for each such model."""
    agents: dict[str, tuple[AgentCard, ...]]
    """Model -> all of its suites that offer tools together, then each, of models that have any."""
    claims: Claims | None
    """None where they were not asked for, or could not be made."""
    claims_problem: str | None
    """Why they could not be made."""
    protocols: tuple[Setting, ...]
    engines: tuple[Setting, ...]
    allowances: tuple[Setting, ...]
    """Protocol fields that differ between models and were allowed to."""
    differences: Differences
    """What else differs between models, and may move their scores."""
    versions: dict[str, str]
    """Package -> version, the harness among them."""
    hardware: dict[str, str]
    cautions: tuple[Caution, ...]
    """What was known before the run, and run all the same."""

    @property
    def incomplete(self) -> list[str]:
        """What could not be read or computed, a sentence each: the command that shows this says so."""
        unread = [caution.text for caution in self.cautions if caution.check == UNREAD]
        return [*unread, *(self.claims.not_computed if self.claims else ())]

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
SCORING = "scoring_warning"
"""The check of a caution about what was warned of as replies were scored."""
ESTIMATING = "estimating_warning"
"""The check of a caution about what was warned of as metrics were computed from scores."""


def _unread(cards: Sequence[ModelScorecard]) -> Iterator[Caution]:
    for card in cards:
        for what, sentence in card.unread.items():
            suite = what if what not in card.metrics else card.metrics[what].suite
            yield Caution(check=UNREAD, text=sentence, model=card.model.name, suite=suite, void=True)


def _warned(cards: Sequence[ModelScorecard]) -> Iterator[Caution]:
    """What was warned of as replies were scored, each text with how many of them it was said of."""
    for card in cards:
        for name, suite in card.suites.items():
            texts = [*suite.warnings.items()]
            for warning, count in texts[: text.FEW_WARNINGS]:
                sentence = f"scoring {count:,} of {suite.finished:,} attempts gave the warning: {warning}"
                yield Caution(check=SCORING, text=sentence, model=card.model.name, suite=name)
            if more := texts[text.FEW_WARNINGS :]:
                sentence = (
                    f"scoring gave {len(more):,} other warnings, each of {more[0][1]:,} attempts or fewer: "
                    "`harness show` tells an attempt's"
                )
                yield Caution(check=SCORING, text=sentence, model=card.model.name, suite=name)


def _estimated(cards: Sequence[ModelScorecard]) -> Iterator[Caution]:
    """What was warned of as metrics were computed, each text with a metric that it was said of."""
    for card in cards:
        results = {**card.metrics, **card.members}
        for sentence in text.warned_of({key: result.warnings for key, result in results.items()}):
            yield Caution(check=ESTIMATING, text=sentence, model=card.model.name)


def read_document(
    directory: RunDirectory,
    by: str = "country",
    allow: Collection[str] = (),
    *,
    claims: bool = True,
    timings: bool = True,
) -> Document:
    """The document of a run; see `make_document`.

    Args:
        directory: of the run.
        by: see `make_document`.
        allow: see `make_document`.
        claims: see `make_document`.
        timings: whether it has what differs each time: when the run began, seconds, energy, and how many
            tokens were in the prefix cache, which depends on when requests met. If not, these are unknown.
    """
    manifest = directory.whole_manifest()
    if timings:
        return make_document(manifest, directory.columns, by, allow, directory.each_record, claims=claims)
    models = {
        name: msgspec.structs.replace(model, load_seconds=None) for name, model in manifest.models.items()
    }
    manifest = msgspec.structs.replace(manifest, created="", models=models)
    return make_document(
        manifest,
        lambda cell: _timeless(directory.columns(cell)),
        by,
        allow,
        directory.each_record,
        claims=claims,
    )


def _timeless(table: pa.Table) -> pa.Table:
    for name, unknown in (("engine_seconds", 0.0), ("joules", None), ("cached_tokens", None)):
        place = table.schema.get_field_index(name)
        if place >= 0:
            column = pa.array([unknown] * len(table), table.schema.field(place).type)
            table = table.set_column(place, table.schema.field(place), column)
    return table


def make_document(
    manifest: Manifest,
    tables: Callable[[CellEntry], pa.Table],
    by: str = "country",
    allow: Collection[str] = (),
    records: Callable[[CellEntry], Iterable[Record]] | None = None,
    *,
    claims: bool = True,
) -> Document:
    """The document of a run. Pure: reads no file.

    Args:
        manifest: what the run directory says about itself.
        tables: cell -> its finished attempts, as from `RunDirectory.columns`.
        by: what an origin is, a name of `origins.GROUPINGS`.
        allow: protocol fields that may differ between models.
        records: cell -> its records, as from `RunDirectory.each_record`, for what transcripts alone hold: how
            far a quantised model's choices move. None leaves that out.
        claims: whether claims are made, which takes longer than all else.

    Raises:
        UserError: records are damaged, `by` is unknown, or models were given one suite under different
            protocols.
    """
    cards = by_benchmark(build_scorecards(manifest, tables), manifest)
    return document_of(cards, manifest, by, allow, records, claims=claims)


def document_of(
    cards: Sequence[ModelScorecard],
    manifest: Manifest,
    by: str = "country",
    allow: Collection[str] = (),
    records: Callable[[CellEntry], Iterable[Record]] | None = None,
    *,
    claims: bool = True,
) -> Document:
    """The document of scorecards; see `make_document`."""
    summary = summarise(cards)
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
        summary=summary,
        overall=tuple(overall_gaps(own, origins)),
        ways=side_by_side(summary, manifest, (lambda cell: options_of(records(cell))) if records else None),
        defences={card.model.name: blocks for card in cards if (blocks := tuple(defended(card)))},
        transfers=tuple(transfers(cards)),
        agents={card.model.name: used for card in cards if (used := agent_cards(card))},
        claims=made,
        claims_problem=problem,
        protocols=protocols(cards),
        engines=engine_settings(cards),
        allowances=check_protocols(own, allow),
        differences=differences(own),
        versions={"harness": manifest.harness_version, **manifest.versions},
        hardware=manifest.hardware,
        cautions=(*manifest.cautions, *_unread(cards), *_warned(cards), *_estimated(cards)),
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
