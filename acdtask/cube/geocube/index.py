"""Datasets on a Geocube: listing them, and indexing containers with a result for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.errors import cause_of
from acdtask.cube.geocube.records import Records
from acdtask.cube.geocube.variables import ServedInstance, Variables
from acdtask.cube.model import OUTSIDE, Dataset
from acdtask.cube.protocol import datasets_pb2 as pb
from acdtask.cube.protocol.convert import dformat_to_message
from acdtask.cube.protocol.records_pb2 import RecordIdList
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.source_files import Header, read_header
from acdtask.storage.store import Store

__all__ = ["Containers", "IndexResult", "Indexed", "ListedDataset", "header_of"]

IDS_AT_ONCE = 50_000
UNOPENED = "cannot be opened"
REMOTE = (*OUTSIDE, "gs://")


@dataclass(frozen=True)
class ListedDataset:
    """A dataset as listed by the server.

    Attributes:
        record_id: acd's id of the record.
        server_id: the server's id of the record.
    """

    record_id: str
    server_id: str
    meta: pb.InternalMeta


class Indexed(Enum):
    """Outcome of indexing a container. THERE: all of its datasets were indexed already."""

    NEW = "new"
    THERE = "there"
    REFUSED = "refused"


@dataclass(frozen=True)
class IndexResult:
    """Result of indexing a container. `error`: the reason of a refusal."""

    uri: str
    outcome: Indexed
    error: AcdError | None = None


class Containers:
    """The containers of a Geocube. Every method raises AcdError."""

    def __init__(self, channel: Channel, variables: Variables, records: Records) -> None:
        self._channel, self._variables, self._records = channel, variables, records

    def listed(self, served: ServedInstance, own_ids: Iterable[str] | None = None) -> list[ListedDataset]:
        """The datasets of an instance, or those of some records."""
        if own_ids is None:
            return self._list(served, None)
        wanted = list(dict.fromkeys(own_ids))
        if not wanted:
            return []
        if self._records.unknown(wanted):  # list all datasets: their records bring the missing ids
            chosen = frozenset(wanted)
            return [listed for listed in self._list(served, None) if listed.record_id in chosen]
        server_ids = [server_id for own in wanted if (server_id := self._records.identities.server_id(own))]
        batches = [server_ids[start : start + IDS_AT_ONCE] for start in range(0, len(server_ids), IDS_AT_ONCE)]
        return [listed for batch in batches for listed in self._list(served, batch)]

    def index(self, datasets: Sequence[Dataset], *, managed: bool = False) -> list[IndexResult]:
        """Index the datasets that do not exist yet, container by container, some concurrently.

        Containers have absolute addresses. If one can be opened here, its header is checked first. All other containers
        are indexed even if some are refused. With `managed`, the server owns the files: it deletes one together with
        its last dataset. VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, INPUT_MISSING for an unknown record, before anything is
        indexed.
        """
        served = {
            key: self._variables.served(*key) for key in dict.fromkeys((d.variable, d.instance) for d in datasets)
        }
        self._know_records(datasets)
        existing = self._existing(datasets, served)
        by_uri: dict[str, list[Dataset]] = defaultdict(list)
        for dataset in dict.fromkeys(datasets):
            by_uri[dataset.uri].append(dataset)

        def index(uri: str) -> IndexResult:
            return self._index(uri, by_uri[uri], served, existing, managed=managed)

        return list(self._channel.in_parallel(index, list(by_uri)))

    def _list(self, served: ServedInstance, server_ids: list[str] | None) -> list[ListedDataset]:
        request = pb.ListDatasetsRequest(instance_id=served.id)
        if server_ids is not None:
            request.records.CopyFrom(RecordIdList(ids=server_ids))
        answer = self._channel.call(self._channel.geocube.ListDatasets, request, "listing")
        return [
            ListedDataset(self._records.learn(record), record.id, meta)
            for record, metas in zip(answer.records, answer.dataset_metas, strict=True)
            for meta in metas.internalsMeta
        ]

    def _know_records(self, datasets: Sequence[Dataset]) -> None:
        wanted = [dataset.record_id for dataset in datasets]
        if self._records.unknown(wanted):
            self._records.list_all()
        if missing := self._records.unknown(wanted):
            what = f"{self._channel.endpoint.address} has no record {missing[0]}"
            raise AcdError(ErrorCode.INPUT_MISSING, what, "Create the record first, or commit it with its datasets.")

    def _existing(
        self, datasets: Sequence[Dataset], served: dict[tuple[str, str], ServedInstance]
    ) -> dict[tuple[str, str, str], list[ListedDataset]]:
        """The indexed datasets of the same records, by instance id, record id and address."""
        existing: dict[tuple[str, str, str], list[ListedDataset]] = defaultdict(list)
        for key, instance in served.items():
            for listed in self.listed(instance, [d.record_id for d in datasets if (d.variable, d.instance) == key]):
                existing[instance.id, listed.record_id, listed.meta.container_uri].append(listed)
        return existing

    def _index(
        self,
        uri: str,
        datasets: list[Dataset],
        served: dict[tuple[str, str], ServedInstance],
        existing: dict[tuple[str, str, str], list[ListedDataset]],
        *,
        managed: bool,
    ) -> IndexResult:
        # A container's error is its result, so that the other containers are still indexed.
        try:
            missing = []
            for dataset in datasets:
                instance = served[dataset.variable, dataset.instance]
                message = self._message(dataset, instance)
                if not _is_indexed(dataset, message, existing[instance.id, dataset.record_id, uri]):
                    missing.append(dataset)
            if not missing:
                return IndexResult(uri, Indexed.THERE)
            _check_container(uri, missing, served)
            messages = [self._message(dataset, served[dataset.variable, dataset.instance]) for dataset in missing]
            self._send(pb.Container(uri=uri, managed=managed, datasets=messages))
        except AcdError as error:
            return IndexResult(uri, Indexed.REFUSED, error)
        return IndexResult(uri, Indexed.NEW)

    def _message(self, dataset: Dataset, served: ServedInstance) -> pb.Dataset:
        low, high = dataset.real or (served.variable.dformat.min, served.variable.dformat.max)
        return pb.Dataset(
            record_id=self._records.identities.server_id(dataset.record_id) or "",
            instance_id=served.id,
            container_subdir=dataset.subdir,
            bands=dataset.bands,
            dformat=dformat_to_message(dataset.dformat),
            real_min_value=low,
            real_max_value=high,
            exponent=dataset.exponent,
        )

    def _send(self, container: pb.Container) -> None:
        request = pb.IndexDatasetsRequest(container=container)
        try:
            self._channel.call(self._channel.geocube.IndexDatasets, request, "listing")
        except AcdError as error:
            refusal = cause_of(error)
            # If the server cannot open a container, it sends no details: only the text tells.
            if refusal is None or error.code is not ErrorCode.GEOCUBE_REFUSED or UNOPENED not in refusal.message:
                raise
            code = ErrorCode.INPUT_MISSING if "No such file" in refusal.message else ErrorCode.INPUT_UNREADABLE
            what = refusal.message if container.uri in refusal.message else f"{container.uri}: {refusal.message}"
            raise AcdError(code, what, "Put the file at that path on the server.") from error


def _is_indexed(dataset: Dataset, wanted: pb.Dataset, listed: list[ListedDataset]) -> bool:
    """Whether the dataset is listed. DATASET_CONFLICT, naming the differences, if a different one has its bands."""
    for meta in (other.meta for other in listed):
        if meta.container_subdir != dataset.subdir or not set(meta.bands) & set(dataset.bands):
            continue
        mine = (list(wanted.bands), wanted.dformat, wanted.real_min_value, wanted.real_max_value, wanted.exponent)
        others = (list(meta.bands), meta.dformat, meta.range_min, meta.range_max, meta.exponent)
        names = ("bands", "format", "real minimum", "real maximum", "exponent")
        differences = [name for name, a, b in zip(names, mine, others, strict=True) if not _equal(a, b)]
        if differences:
            detail = f"{dataset.uri} is indexed with a different {' and '.join(differences)} for the same record"
            raise AcdError(ErrorCode.DATASET_CONFLICT, detail)
        return True
    return False


def _equal(mine: object, other: object) -> bool:
    if hasattr(mine, "SerializeToString") and hasattr(other, "SerializeToString"):
        same: bool = (
            mine.SerializeToString() == other.SerializeToString()
        )  # unlike ==, this treats NaN as equal to itself
        return same
    return mine == other


def _check_container(uri: str, datasets: Sequence[Dataset], served: dict[tuple[str, str], ServedInstance]) -> None:
    """Check what can be checked without the server. SETTING_INVALID, INPUT_BANDS, INPUT_OUT_OF_RANGE."""
    if not uri.startswith(REMOTE):
        detail = f"{uri} is not an absolute address; a Geocube opens containers at their own addresses"
        raise AcdError(ErrorCode.SETTING_INVALID, detail, "Give an absolute path, or an s3:// or gs:// address.")
    header = header_of(uri) if all(not dataset.subdir for dataset in datasets) else None
    for dataset in datasets:
        variable = served[dataset.variable, dataset.instance].variable
        if len(dataset.bands) != len(variable.bands) or min(dataset.bands, default=0) < 1:
            what = f"the bands of {uri} are given as {_text(dataset.bands)}"
            raise AcdError(ErrorCode.INPUT_BANDS, f"{what}, but {variable.name} has {len(variable.bands)}")
        low, high = dataset.real or (variable.dformat.min, variable.dformat.max)
        if low < variable.dformat.min or high > variable.dformat.max:
            detail = f"values of {uri} map to {low:g} to {high:g}, outside the range of {variable.name}: "
            limits = f"{variable.dformat.min:g} to {variable.dformat.max:g}"
            raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, f"{detail}{limits}")
        _check_range(dataset)
        if header is not None:
            _check_header(dataset, header)


def _check_range(dataset: Dataset) -> None:
    dtype, dformat = np.dtype(dataset.dformat.dtype), dataset.dformat
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    low, high = float(limits.min), float(limits.max)
    if dformat.min < low or dformat.max > high:
        detail = f"the values of {dataset.uri} are given as {dformat.min:g} to {dformat.max:g}, outside of {dtype}"
        raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, detail)


def _check_header(dataset: Dataset, header: Header) -> None:
    if max(dataset.bands) > header.bands:
        detail = f"{dataset.uri} has {header.bands} bands, but band {max(dataset.bands)} is requested"
        raise AcdError(ErrorCode.INPUT_BANDS, detail)
    dtypes = {header.dtypes[band - 1] for band in dataset.bands}
    if dtypes != {dataset.dformat.dtype}:
        detail = f"{dataset.uri} has the data type {' and '.join(sorted(dtypes))} instead of {dataset.dformat.dtype}"
        raise AcdError(ErrorCode.INPUT_BANDS, detail)


def header_of(uri: str) -> Header | None:
    """The header of a container, or None if it is not a local file. INPUT_UNREADABLE, INPUT_CRS_MISSING."""
    path = Path(uri.removeprefix("file://"))
    if not path.is_absolute() or not path.is_file():
        return None
    return read_header(Store.at(str(path.parent)), str(path))


def _text(bands: Sequence[int]) -> str:
    return ", ".join(map(str, bands)) or "none"
