"""Finds the entries of the index that become outdated when a record gets new pixels (`LocalCube.supersede`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from acdtask.cube.local.dataset_segments import DatasetSegment
from acdtask.cube.local.record_segments import RecordSegment
from acdtask.cube.model import Dataset, Record

__all__ = ["is_same", "moved_records", "outdated_datasets"]


def is_same(first: Dataset, second: Dataset) -> bool:
    """Whether two datasets are equal, apart from their checksums."""
    return first == second or first == second.model_copy(update={"checksum": first.checksum})


def outdated_datasets(datasets: Iterable[Dataset], segments: Sequence[DatasetSegment]) -> list[Dataset]:
    """Current datasets, copies included, of the same records and instances as new ones, unless the new one is known."""
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
        for record_id, known in sorted(current.items()):
            if not any(is_same(dataset, wanted[record_id]) for dataset in known):
                outdated += known
    return outdated


def moved_records(records: Iterable[Record], ids: Collection[str], segments: Iterable[RecordSegment]) -> frozenset[str]:
    """Which of the given ids belong to new records whose stored footprint differs."""
    footprints = {record.id: record.footprint for record in records if record.id in ids}
    wanted = frozenset(footprints)
    current = [record for segment in segments if wanted for record in segment.records_of(wanted)]
    return frozenset(record.id for record in current if record.footprint != footprints[record.id])
