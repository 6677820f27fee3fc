"""New heads of the index: an old head with records, datasets and catalogue entries added or removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from acdtask.cube.local.dataset_segments import DatasetKey, DatasetSegment, dataset_keys
from acdtask.cube.local.record_segments import RecordSegment
from acdtask.cube.local.segment_files import SegmentFiles
from acdtask.cube.local.state import Head, Removal
from acdtask.cube.local.superseding import is_same, moved_records, outdated_datasets
from acdtask.cube.model import Addition, Dataset, Record, Variable
from acdtask.errors import AcdError, ErrorCode

__all__ = ["HeadEditor"]


class HeadEditor:
    """Makes heads and writes the segments that they name. A head is published by `Index`, not here."""

    def __init__(self, files: SegmentFiles) -> None:
        self._files = files

    def added(self, head: Head, addition: Addition) -> Head:
        """The head with an addition. What it already has stays unchanged, except for checksums of datasets.

        VARIABLE_CONFLICT, LAYOUT_CONFLICT, DATASET_CONFLICT, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN.
        """
        head = head.with_catalogue(addition)
        records = self._new_records(head, addition.records)
        datasets, renewed = self._new_datasets(head, addition.datasets, {record.id for record in records})
        # Segments never change: a dataset gets a new checksum by removing its row and adding another.
        kept = self._files.reduced(head.datasets, "datasets", DatasetSegment, lambda s: s.rows_of(renewed))
        return head.model_copy(
            update={
                "records": self._files.extended(head.records, "records", records, RecordSegment),
                "datasets": self._files.extended(kept, "datasets", datasets, DatasetSegment),
            }
        )

    def removed(self, head: Head, removal: Removal) -> tuple[Head, list[str]]:
        """The head after a removal, and the containers that it no longer refers to. IN_USE."""
        keys = {dataset_keys(dataset)[0] for dataset in removal.datasets if self.has(head, dataset)}
        self._check_unused(head, removal, keys)
        reduced = head.without_catalogue(removal).model_copy(
            update={
                "datasets": self._files.reduced(head.datasets, "datasets", DatasetSegment, lambda s: s.rows_of(keys)),
                "records": self._files.reduced(
                    head.records, "records", RecordSegment, lambda s: s.rows_of(removal.records)
                ),
            }
        )
        return reduced, self._unused(reduced, removal.datasets)

    def exchanged(self, head: Head, removed: Sequence[Dataset], added: Sequence[Dataset]) -> tuple[Head, list[str]]:
        """The head with datasets exchanged for others, and the containers that it no longer refers to.

        DATASET_CONFLICT if it lacks some that are to be removed, unless the exchange was done before.
        """
        # After a crash, a caller repeats an exchange that may be done: then no old one and every new one is present.
        present = [dataset for dataset in removed if self.has(head, dataset)]
        is_done = bool(added) and not present and all(self.has(head, dataset) for dataset in added)
        if len(present) < len(removed) and not is_done:
            missing = next(dataset for dataset in removed if dataset not in present)
            raise AcdError(
                ErrorCode.DATASET_CONFLICT,
                f"{missing.uri} is no longer a dataset of record {missing.record_id}",
                "Find out which job removed or replaced it, then start again from the current datasets.",
            )
        reduced, _ = self.removed(head, Removal(datasets=present))
        full = self.added(reduced, Addition(datasets=added))
        return full, self._unused(full, removed)

    def superseded(self, head: Head, addition: Addition) -> Head:
        """The head with an addition that replaces what its records had, as `LocalCube.supersede` says."""
        datasets = [_normalised(dataset, _variable_of(dataset, head, addition)) for dataset in addition.datasets]
        outdated = outdated_datasets(datasets, list(self._dataset_segments(head)))
        reduced, _ = self.removed(head, Removal(datasets=outdated))
        # `added` ignores known records. Those with a new footprint are removed first, so that they are added again.
        ids = {dataset.record_id for dataset in outdated}
        moved = moved_records(addition.records, ids, list(self._record_segments(head)))
        kept = self._files.reduced(reduced.records, "records", RecordSegment, lambda s: s.rows_of(moved))
        return self.added(reduced.model_copy(update={"records": kept}), addition)

    def replaced(
        self, head: Head, replaced: Sequence[Dataset], added: Sequence[Dataset], sources: Sequence[Dataset]
    ) -> tuple[Head, list[Dataset]]:
        """The head with copies replaced, as `LocalCube.replace` says, and the new copies that did not fit."""
        old = {key: dataset for dataset in replaced for key in dataset_keys(dataset)}
        # Copies made from sources that have been replaced since would bring old pixels back.
        stale = {source.record_id for source in sources if not self.has(head, source)}
        fitting = [
            copy
            for copy in added
            if copy.record_id not in stale and self._has_place(head, copy, [old.get(key) for key in dataset_keys(copy)])
        ]
        outdated = [old[key] for copy in fitting for key in dataset_keys(copy) if key in old]
        reduced, _ = self.removed(head, Removal(datasets=outdated))
        full = self.added(reduced, Addition(datasets=fitting))
        return full, [copy for copy in added if not self.has(full, copy)]

    def has(self, head: Head, dataset: Dataset) -> bool:
        """Whether the head has a dataset; checksums are not compared."""
        current = _find(self._dataset_segments(head), dataset_keys(dataset)[0])
        return current is not None and is_same(current, _normalised(dataset, head.variable(current.variable)))

    def _dataset_segments(self, head: Head) -> Iterator[DatasetSegment]:
        return (self._files.segment(ref, DatasetSegment) for ref in head.datasets)

    def _record_segments(self, head: Head) -> Iterator[RecordSegment]:
        return (self._files.segment(ref, RecordSegment) for ref in head.records)

    def _new_records(self, head: Head, records: Sequence[Record]) -> list[Record]:
        known = [segment.id_set for segment in self._record_segments(head)] if records else []
        fresh: dict[str, Record] = {}
        for record in records:
            fresh.setdefault(record.id, record)
        return [record for identity, record in fresh.items() if not any(identity in ids for ids in known)]

    def _new_datasets(
        self, head: Head, datasets: Sequence[Dataset], new_records: set[str]
    ) -> tuple[list[Dataset], set[DatasetKey]]:
        """The datasets to add, and the keys of those to remove first: they differ from new ones in checksum only."""
        segments = list(self._dataset_segments(head)) if datasets else []
        record_ids = [segment.id_set for segment in self._record_segments(head)] if datasets else []
        for variable, instance in sorted({(dataset.variable, dataset.instance) for dataset in datasets}):
            head.instance(variable, instance)
        fresh: list[Dataset] = []
        taken: dict[DatasetKey, Dataset] = {}
        renewed: set[DatasetKey] = set()
        for dataset in (_normalised(dataset, head.variable(dataset.variable)) for dataset in datasets):
            keys = dataset_keys(dataset)
            current = [old for key in keys if (old := taken.get(key) or _find(segments, key)) is not None]
            for old in current:
                if not is_same(old, dataset):
                    raise _conflict(old, dataset)
            # A known dataset is only written again if its checksum has changed: its file was written again.
            if current and (current[0].checksum == dataset.checksum or not dataset.checksum or keys[0] in taken):
                continue
            renewed.update(keys if current else ())
            if dataset.record_id not in new_records and not any(dataset.record_id in ids for ids in record_ids):
                raise AcdError(ErrorCode.BUG, f"{dataset.uri} belongs to a record that the cube does not have")
            taken.update(dict.fromkeys(keys, dataset))
            fresh.append(dataset)
        return fresh, renewed

    def _has_place(self, head: Head, dataset: Dataset, expected: Sequence[Dataset | None]) -> bool:
        """Whether the head has a new dataset's record, and under each of its keys what is expected."""
        segments = list(self._dataset_segments(head))
        for key, old in zip(dataset_keys(dataset), expected, strict=True):
            if _find(segments, key) != (old and _normalised(old, head.variable(old.variable))):
                return False
        return any(dataset.record_id in segment.id_set for segment in self._record_segments(head))

    def _check_unused(self, head: Head, removal: Removal, keys: set[DatasetKey]) -> None:
        """IN_USE if something to be removed has datasets other than these."""
        owners = removal.records or removal.variables or removal.instances or removal.layouts
        for segment in self._dataset_segments(head) if owners else ():
            row = segment.find_use(removal, frozenset(segment.rows_of(keys)))
            if row is not None:
                raise AcdError(ErrorCode.IN_USE, self._use(head, segment.dataset(row), removal))

    def _use(self, head: Head, dataset: Dataset, removal: Removal) -> str:
        instance = f"{dataset.variable}:{dataset.instance}"
        if dataset.record_id in removal.records:
            wanted = frozenset([dataset.record_id])
            records = [record for segment in self._record_segments(head) for record in segment.records_of(wanted)]
            name = " ".join([*(record.name for record in records), dataset.record_id])
            return f"the record {name} has a dataset of {instance}: {dataset.uri}"
        if (dataset.variable, dataset.instance) in removal.instances:
            return f"the instance {instance} has datasets, such as {dataset.uri}"
        if dataset.variable in removal.variables:
            return f"the variable {dataset.variable} has datasets, such as {dataset.uri}"
        return f"the layout {dataset.layout} has datasets, such as {dataset.uri}"

    def _unused(self, head: Head, datasets: Sequence[Dataset]) -> list[str]:
        """Containers of the datasets that the head does not refer to, sorted."""
        uris = {dataset.uri for dataset in datasets}
        for segment in self._dataset_segments(head) if uris else ():
            uris -= segment.uri_set
        return sorted(uris)


def _find(segments: Iterable[DatasetSegment], key: DatasetKey) -> Dataset | None:
    for segment in segments:
        row = segment.row_of.get(key)
        if row is not None:
            return segment.dataset(row)
    return None


def _normalised(dataset: Dataset, variable: Variable) -> Dataset:
    """The dataset as stored: `real` is None if it is the variable's own range."""
    if dataset.real != (variable.dformat.min, variable.dformat.max):
        return dataset
    return dataset.model_copy(update={"real": None})


def _variable_of(dataset: Dataset, head: Head, addition: Addition) -> Variable:
    """The variable of a new dataset, which may be part of the same addition. VARIABLE_UNKNOWN."""
    new = {variable.name: variable for variable in addition.variables}
    return new[dataset.variable] if dataset.variable in new else head.variable(dataset.variable)


def _conflict(current: Dataset, dataset: Dataset) -> AcdError:
    if not dataset.is_outside:
        owner = f"record {dataset.record_id}, {dataset.variable}:{dataset.instance} {dataset.cell}".rstrip()
        return AcdError(ErrorCode.DATASET_CONFLICT, f"{owner} already has the file {current.uri}, not {dataset.uri}")
    bands = ", ".join(str(band) for band in current.bands)
    place = f"band {bands} of {' '.join((current.uri, current.subdir)).rstrip()}"
    owner = f"record {current.record_id}, {current.variable}:{current.instance}"
    if (current.record_id, current.variable, current.instance) != (
        dataset.record_id,
        dataset.variable,
        dataset.instance,
    ):
        return AcdError(ErrorCode.DATASET_CONFLICT, f"{place} is a dataset of another record or instance: {owner}")
    return AcdError(ErrorCode.DATASET_CONFLICT, f"{place} is already a dataset of {owner}, with another mapping")
