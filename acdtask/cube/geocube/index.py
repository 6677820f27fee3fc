"""Datasets on a Geocube: what there is, and containers made known, each with a result of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from acdtask.cube.geocube.catalogue import Catalogue, Served
from acdtask.cube.geocube.channel import Channel, Kind
from acdtask.cube.geocube.errors import cause_of
from acdtask.cube.geocube.records import Records
from acdtask.cube.model import OUTSIDE, Dataset
from acdtask.cube.protocol import datasets_pb2 as pb
from acdtask.cube.protocol.convert import dformat_to_wire
from acdtask.cube.protocol.records_pb2 import RecordIdList
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.source_files import Header, read_header
from acdtask.storage.store import Store

__all__ = ["Containers", "IndexResult", "Indexed", "Listed", "header_of"]

IDS_AT_ONCE = 50_000
UNOPENED = "cannot be opened"
REMOTE = (*OUTSIDE, "gs://")


@dataclass(frozen=True)
class Listed:
    """A dataset as the server lists it.

    Attributes:
        record_id: of acd.
        server_id: the server's id of the record.
    """

    record_id: str
    server_id: str
    meta: pb.InternalMeta


class Indexed(Enum):
    """What became of a container."""

    NEW = "new"
    THERE = "there"
    REFUSED = "refused"


@dataclass(frozen=True)
class IndexResult:
    """What became of a container; `error` says why it was refused."""

    uri: str
    outcome: Indexed
    error: AcdError | None = None


class Containers:
    """The containers of a Geocube. Every method raises AcdError."""

    def __init__(self, channel: Channel, catalogue: Catalogue, records: Records) -> None:
        self._channel, self._catalogue, self._records = channel, catalogue, records

    def listed(self, served: Served, own_ids: Iterable[str] | None = None) -> list[Listed]:
        """The datasets of an instance, or those of some records."""
        if own_ids is None:
            return self._list(served, None)
        wanted = list(dict.fromkeys(own_ids))
        if not wanted:
            return []
        if self._records.unknown(wanted):
            chosen = frozenset(wanted)
            return [one for one in self._list(served, None) if one.record_id in chosen]
        ids = [one for own in wanted if (one := self._records.identities.server_id(own))]
        parts = [ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE)]
        return [one for part in parts for one in self._list(served, part)]

    def index(self, datasets: Sequence[Dataset], *, managed: bool = False) -> list[IndexResult]:
        """Make datasets visible, container by container, a few at once; what is there already is left alone.

        Where a container can be opened here, its header is looked at first. A refused one keeps no other from being
        indexed.

        Args:
            datasets: of containers with absolute addresses.
            managed: hand the files over to the server, which deletes one with its last dataset.

        Raises:
            AcdError: VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, INPUT_MISSING for an unknown record: before anything is done.
        """
        served = {
            key: self._catalogue.served(*key) for key in dict.fromkeys((d.variable, d.instance) for d in datasets)
        }
        self._know_records(datasets)
        there = self._there(datasets, served)
        by_uri: dict[str, list[Dataset]] = defaultdict(list)
        for one in dict.fromkeys(datasets):
            by_uri[one.uri].append(one)

        def index(uri: str) -> IndexResult:
            return self._index(uri, by_uri[uri], served, there, managed=managed)

        return list(self._channel.in_parallel(index, list(by_uri)))

    def _list(self, served: Served, server_ids: list[str] | None) -> list[Listed]:
        request = pb.ListDatasetsRequest(instance_id=served.id)
        if server_ids is not None:
            request.records.CopyFrom(RecordIdList(ids=server_ids))
        answer = self._channel.call(self._channel.geocube.ListDatasets, request, Kind.LISTING)
        return [
            Listed(self._records.learn(record), record.id, meta)
            for record, metas in zip(answer.records, answer.dataset_metas, strict=True)
            for meta in metas.internalsMeta
        ]

    def _know_records(self, datasets: Sequence[Dataset]) -> None:
        wanted = [one.record_id for one in datasets]
        if self._records.unknown(wanted):
            self._records.list_all()
        if missing := self._records.unknown(wanted):
            what = f"{self._channel.endpoint.address} has no record {missing[0]}"
            raise AcdError(ErrorCode.INPUT_MISSING, what, "Make the record first, or commit it together with its data.")

    def _there(
        self, datasets: Sequence[Dataset], served: dict[tuple[str, str], Served]
    ) -> dict[tuple[str, str, str], list[Listed]]:
        """What is listed of the instances and records, by instance's id, record's id and address."""
        found: dict[tuple[str, str, str], list[Listed]] = defaultdict(list)
        for key, one in served.items():
            for listed in self.listed(one, [d.record_id for d in datasets if (d.variable, d.instance) == key]):
                found[one.id, listed.record_id, listed.meta.container_uri].append(listed)
        return found

    def _index(
        self,
        uri: str,
        datasets: list[Dataset],
        served: dict[tuple[str, str], Served],
        there: dict[tuple[str, str, str], list[Listed]],
        *,
        managed: bool,
    ) -> IndexResult:
        try:
            missing = []
            for one in datasets:
                of = served[one.variable, one.instance]
                if not _is_there(one, self._message(one, of), there[of.id, one.record_id, uri]):
                    missing.append(one)
            if not missing:
                return IndexResult(uri, Indexed.THERE)
            _check_container(uri, missing, served)
            messages = [self._message(one, served[one.variable, one.instance]) for one in missing]
            self._send(pb.Container(uri=uri, managed=managed, datasets=messages))
        except AcdError as error:
            return IndexResult(uri, Indexed.REFUSED, error)
        return IndexResult(uri, Indexed.NEW)

    def _message(self, one: Dataset, served: Served) -> pb.Dataset:
        low, high = one.real or (served.variable.dformat.min, served.variable.dformat.max)
        return pb.Dataset(
            record_id=self._records.identities.server_id(one.record_id) or "",
            instance_id=served.id,
            container_subdir=one.subdir,
            bands=one.bands,
            dformat=dformat_to_wire(one.dformat),
            real_min_value=low,
            real_max_value=high,
            exponent=one.exponent,
        )

    def _send(self, container: pb.Container) -> None:
        request = pb.IndexDatasetsRequest(container=container)
        try:
            self._channel.call(self._channel.geocube.IndexDatasets, request, Kind.LISTING)
        except AcdError as error:
            refusal = cause_of(error)
            # A container that the server cannot open has no details, and no other sign than these words.
            if refusal is None or error.code is not ErrorCode.GEOCUBE_REFUSED or UNOPENED not in refusal.message:
                raise
            code = ErrorCode.INPUT_MISSING if "No such file" in refusal.message else ErrorCode.INPUT_UNREADABLE
            what = refusal.message if container.uri in refusal.message else f"{container.uri}: {refusal.message}"
            raise AcdError(code, what, "Put the file where the server looks for it.") from error


def _is_there(one: Dataset, wanted: pb.Dataset, listed: list[Listed]) -> bool:
    """Whether the dataset is listed. DATASET_CONFLICT if another of its bands is, with what differs."""
    for meta in (other.meta for other in listed):
        if meta.container_subdir != one.subdir or not set(meta.bands) & set(one.bands):
            continue
        mine = (list(wanted.bands), wanted.dformat, wanted.real_min_value, wanted.real_max_value, wanted.exponent)
        others = (list(meta.bands), meta.dformat, meta.range_min, meta.range_max, meta.exponent)
        names = ("bands", "format", "real minimum", "real maximum", "exponent")
        differences = [name for name, a, b in zip(names, mine, others, strict=True) if not _equal(a, b)]
        if differences:
            detail = f"{one.uri} is indexed with another {' and '.join(differences)} for the same record"
            raise AcdError(ErrorCode.DATASET_CONFLICT, detail)
        return True
    return False


def _equal(mine: object, other: object) -> bool:
    if hasattr(mine, "SerializeToString") and hasattr(other, "SerializeToString"):
        same: bool = mine.SerializeToString() == other.SerializeToString()  # NaN is equal to itself here
        return same
    return mine == other


def _check_container(uri: str, datasets: Sequence[Dataset], served: dict[tuple[str, str], Served]) -> None:
    """What can be known before the server is asked."""
    if not uri.startswith(REMOTE):
        detail = f"{uri} is no absolute address, and a Geocube reads containers where they are"
        raise AcdError(ErrorCode.SETTING_INVALID, detail, "Give an absolute path, or an s3:// or gs:// address.")
    header = header_of(uri) if all(not one.subdir for one in datasets) else None
    for one in datasets:
        variable = served[one.variable, one.instance].variable
        if len(one.bands) != len(variable.bands) or min(one.bands, default=0) < 1:
            what = f"{uri} is given with the bands {_text(one.bands)}"
            raise AcdError(ErrorCode.INPUT_BANDS, f"{what}, and {variable.name} has {len(variable.bands)}")
        low, high = one.real or (variable.dformat.min, variable.dformat.max)
        if low < variable.dformat.min or high > variable.dformat.max:
            detail = f"{uri} means {low:g} to {high:g}, and {variable.name} goes from {variable.dformat.min:g} to "
            raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, f"{detail}{variable.dformat.max:g}")
        _check_range(one)
        if header is not None:
            _check_header(one, header)


def _check_range(one: Dataset) -> None:
    kind = np.dtype(one.dformat.dtype)
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    low, high = float(limits.min), float(limits.max)
    if one.dformat.min < low or one.dformat.max > high:
        detail = f"{one.uri} is given with values {one.dformat.min:g} to {one.dformat.max:g}, which {kind} cannot have"
        raise AcdError(ErrorCode.INPUT_OUT_OF_RANGE, detail)


def _check_header(one: Dataset, header: Header) -> None:
    if max(one.bands) > header.bands:
        detail = f"{one.uri} has {header.bands} bands, and band {max(one.bands)} is asked for"
        raise AcdError(ErrorCode.INPUT_BANDS, detail)
    found = {header.dtypes[band - 1] for band in one.bands}
    if found != {one.dformat.dtype}:
        detail = f"{one.uri} has numbers of the type {' and '.join(sorted(found))} in place of {one.dformat.dtype}"
        raise AcdError(ErrorCode.INPUT_BANDS, detail)


def header_of(uri: str) -> Header | None:
    """The header of a container, if it is a file that can be seen from here. INPUT_UNREADABLE, INPUT_CRS_MISSING."""
    path = Path(uri.removeprefix("file://"))
    if not path.is_absolute() or not path.is_file():
        return None
    return read_header(Store.at(str(path.parent)), str(path))


def _text(bands: Sequence[int]) -> str:
    return ", ".join(map(str, bands)) or "none"
