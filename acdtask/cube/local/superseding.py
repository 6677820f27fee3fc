"""What has to go from the index when a record gets other pixels (`LocalCube.supersede`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from acdtask.cube.local.segments import DatasetSegment, RecordSegment
from acdtask.cube.model import Dataset, Record

__all__ = ["is_same", "moved_records", "outdated_datasets"]


def is_same(one: Dataset, other: Dataset) -> bool:
    """Whether two datasets differ at most in their checksums."""
    return one == other or one == other.model_copy(update={"checksum": one.checksum})


def outdated_datasets(datasets: Iterable[Dataset], segments: Sequence[DatasetSegment]) -> list[Dataset]:
    """What the segments have of the records and instances of new datasets, copies too, unless it is the new one."""
    new: dict[tuple[str, str], dict[str, Dataset]] = defaultdict(dict)
    for dataset in datasets:
        new[dataset.variable, dataset.instance][dataset.record_id] = dataset
    outdated = []
    for (variable, instance), wanted in sorted(new.items()):
        current: dict[str, list[Dataset]] = defaultdict(list)
        for segment in segments:
            for row in segment.rows(variable, instance, frozenset(wanted)).tolist():
                dataset = segment.dataset(row)
                current[dataset.record_id].append(dataset)
        for record_id, there in sorted(current.items()):
            if not any(is_same(one, wanted[record_id]) for one in there):
                outdated += there
    return outdated


def moved_records(records: Iterable[Record], ids: Collection[str], segments: Iterable[RecordSegment]) -> frozenset[str]:
    """The ids of those records, out of some, that the segments have with another footprint."""
    footprints = {record.id: record.footprint for record in records if record.id in ids}
    wanted = frozenset(footprints)
    current = [record for segment in segments if wanted for record in segment.records(segment.rows_of(wanted))]
    return frozenset(record.id for record in current if record.footprint != footprints[record.id])
