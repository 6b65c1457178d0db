"""From the files that a cell's records were appended to, to one; and back, where some are owed again.

No lock is needed: of several processes the first one's complete file stays, so its checksum is of these bytes
for good. What records were appended to goes only after that: whoever misses some of it comes too late.
"""

from contextlib import closing
from pathlib import Path

from harness.records.append import RecordWriter
from harness.records.layout import CHECKSUMS, RECORDS
from harness.records.load import CellRecords
from harness.records.seal import check_unchanged, seal_cell, sealed
from harness.records.table import write_parquet


def compact(records: CellRecords) -> None:
    """Turn the records of a complete cell into Parquet; nothing is done where that was done before."""
    paths, appended = records.paths, records.paths.appended()
    if not appended and not records.complete:
        return
    if not records.complete:
        write_parquet(paths.complete, records.cell, records.each_record(), once=True)
    seal_cell(paths.running)
    for path in paths.appended():
        path.unlink(missing_ok=True)


def reopen(records: CellRecords, target: Path) -> None:
    """Make the records of a complete cell ones that more are appended to; of two the later attempt counts.

    A process that dies in between changes nothing: while the complete file is there it alone counts.

    Args:
        records: of the cell.
        target: a file of this process alone.

    Raises:
        UserError: the file is not the one that was sealed.
    """
    paths = records.paths
    check_unchanged(paths.complete, sealed(paths.running).get(RECORDS))
    with closing(RecordWriter(target)) as writer:
        for record in records.each_record():
            writer.append(record)
    (paths.running / CHECKSUMS).unlink(missing_ok=True)
    paths.complete.unlink()
