"""Records and their areas on a Geocube, and the mapping between its ids and acd's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from os.path import commonprefix
from typing import Any

from pydantic import ValidationError

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.errors import cause_of, check_name, is_taken, malformed
from acdtask.cube.model import Record, RecordQuery
from acdtask.cube.protocol import records_pb2 as pb
from acdtask.cube.protocol.convert import area_from_message, area_to_message, moment_from_message, moment_to_message
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Identities", "Records"]

BATCH_BYTES = 3 * 1024 * 1024
"""Maximum size of a batch; requests are limited to 4 MiB."""

ATTEMPTS = 5
FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)


class Identities:
    """The mapping between the server's record ids and acd's, as far as this process has seen it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server_of: dict[str, str] = {}
        self._own_of: dict[str, str] = {}

    def learn(self, own: str, server: str) -> None:
        """Store that the server's record `server` is acd's record `own`."""
        with self._lock:
            self._server_of[own] = server
            self._own_of[server] = own

    def server_id(self, own: str) -> str | None:
        """The server's id, or None if unknown."""
        return self._server_of.get(own)

    def own_id(self, server: str) -> str | None:
        """Acd's id, or None if unknown."""
        return self._own_of.get(server)


class Records:
    """The records of a Geocube. Every method raises AcdError."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.identities = Identities()
        self._aoi_ids: dict[str, str] = {}

    def find(self, query: RecordQuery) -> list[Record]:
        """The records that match a query, sorted by datetime, name and id."""
        listed = self._ask(query, with_aoi=True, until=(query.page + 1) * query.limit)
        records = sorted(listed, key=lambda record: (record.datetime, record.name, record.id))
        return records[query.page * query.limit :][: query.limit] if query.limit else records

    def add(self, records: Iterable[Record]) -> bool:
        """Create the records that do not exist yet. Returns whether any was new.

        NAME_INVALID, AOI_EMPTY, AOI_INVALID, SETTING_INVALID for a tag, all before anything is created.
        """
        wanted = {record.id: record for record in records}
        for record in wanted.values():
            _check(record)
        any_new = False
        # Batches are all or nothing: after a conflict, look again which records are missing.
        for _ in range(ATTEMPTS):
            missing = self._missing(list(wanted.values()))
            if not missing:
                return any_new
            areas = self._areas(missing)
            messages = [_new(record, areas[_key_of(record.footprint)]) for record in missing]
            try:
                for batch in _batches(messages):
                    self._create(missing[batch], messages[batch])
                    any_new = True
            except AcdError as error:
                # Taken: another client creates the same records, or the reply to an earlier attempt was lost.
                if not is_taken(error):
                    raise
        raise AcdError(
            ErrorCode.STORE_CONTENDED,
            f"other clients are creating the same records on {self._channel.endpoint.address}",
        )

    def learn(self, message: pb.Record) -> str:
        """Acd's id of a record that the server sent."""
        known = self.identities.own_id(message.id)
        return known or self._record(message).id

    def unknown(self, own_ids: Iterable[str]) -> list[str]:
        """Those of acd's ids whose server ids are unknown."""
        return [own for own in dict.fromkeys(own_ids) if self.identities.server_id(own) is None]

    def list_all(self) -> None:
        """Learn the ids of all records."""
        self._ask(RecordQuery(), with_aoi=False)

    def area_of(self, server_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The footprints of records, by the server's ids."""
        request = pb.GetRecordsRequest(ids=list(server_ids))
        if not request.ids:
            return {}
        messages = [item.record for item in self._channel.listed(self._channel.geocube.GetRecords, request)]
        aois = list(dict.fromkeys(message.aoi_id for message in messages))
        areas = dict(zip(aois, self._channel.in_parallel(self._area, aois), strict=True))
        return {message.id: areas[message.aoi_id] for message in messages}

    def _area(self, aoi_id: str) -> dict[str, Any]:
        return area_from_message(self._channel.call(self._channel.geocube.GetAOI, pb.GetAOIRequest(id=aoi_id)).aoi)

    def _ask(self, query: RecordQuery, *, with_aoi: bool, until: int = 0) -> list[Record]:
        """Records by datetime. With `until`, at least that number, complete to the datetime of the last one."""
        request = pb.ListRecordsRequest(
            name=query.name,
            tags=query.tags,
            from_time=moment_to_message(query.start),
            to_time=moment_to_message(query.end),
            aoi=area_to_message(query.area) if query.area else None,
            with_aoi=with_aoi,
        )

        def enough(items: list[pb.ListRecordsResponseItem]) -> bool:
            # The server does not order records of equal datetime, so it cannot cut the pages.
            return 0 < until < len(items) and items[-1].record.time != items[until - 1].record.time

        items = self._channel.listed(self._channel.geocube.ListRecords, request, enough=enough)
        return [self._record(item.record) for item in items]

    def _record(self, message: pb.Record) -> Record:
        try:
            record = Record(
                name=message.name,
                datetime=moment_from_message(message.time) or FIRST_MOMENT,
                tags=dict(message.tags),
                footprint=area_from_message(message.aoi),
            )
        except ValidationError as error:
            raise malformed(
                self._channel.endpoint, f"record {message.id} has an invalid name: {message.name!r}"
            ) from error
        self.identities.learn(record.id, message.id)
        return record

    def _missing(self, records: list[Record]) -> list[Record]:
        """Those of the records that the server does not have."""
        unknown = [record for record in records if self.identities.server_id(record.id) is None]
        if unknown:
            self._ask(_around(unknown), with_aoi=False)
        return [record for record in unknown if self.identities.server_id(record.id) is None]

    def _create(self, records: Sequence[Record], messages: Sequence[pb.NewRecord]) -> None:
        request = pb.CreateRecordsRequest(records=messages)
        answer = self._channel.call(self._channel.geocube.CreateRecords, request, "listing")
        if len(answer.ids) != len(records):
            raise malformed(self._channel.endpoint, f"{len(answer.ids)} ids for {len(records)} records")
        for record, server in zip(records, answer.ids, strict=True):
            self.identities.learn(record.id, server)

    def _areas(self, records: Sequence[Record]) -> dict[str, str]:
        """Ids of the records' areas, created if needed."""
        wanted = {_key_of(record.footprint): record.footprint for record in records}
        missing = [key for key in wanted if key not in self._aoi_ids]
        made = self._channel.in_parallel(lambda key: self._aoi(wanted[key]), missing)
        self._aoi_ids |= zip(missing, made, strict=True)
        return {key: self._aoi_ids[key] for key in wanted}

    def _aoi(self, footprint: dict[str, Any]) -> str:
        request = pb.CreateAOIRequest(aoi=area_to_message(footprint))
        try:
            return self._channel.call(self._channel.geocube.CreateAOI, request).id
        except AcdError as error:
            refusal = cause_of(error)
            if refusal is None or not is_taken(error) or not refusal.name:
                raise
            return refusal.name


def _key_of(footprint: dict[str, Any]) -> str:
    return json.dumps(footprint, sort_keys=True)


def _new(record: Record, aoi_id: str) -> pb.NewRecord:
    return pb.NewRecord(name=record.name, time=moment_to_message(record.datetime), tags=record.tags, aoi_id=aoi_id)


def _batches(messages: Sequence[pb.NewRecord]) -> Iterator[slice]:
    """Slices of the messages, each small enough for one request."""
    start, size = 0, 0
    for number, message in enumerate(messages):
        size += message.ByteSize() + 8
        if size > BATCH_BYTES and number > start:
            yield slice(start, number)
            start, size = number, message.ByteSize() + 8
    if messages:
        yield slice(start, len(messages))


def _around(records: Sequence[Record]) -> RecordQuery:
    """A query that matches at least these records."""
    names, moments = [record.name for record in records], [record.datetime for record in records]
    prefix = commonprefix(names)  # noqa: RUF071  # of names, not of paths
    common = set(records[0].tags.items()).intersection(*(record.tags.items() for record in records[1:]))
    return RecordQuery(
        name=prefix if all(name == prefix for name in names) else f"{prefix}*",
        tags={key: value for key, value in common if value and not value.endswith("(?i)")},
        start=min(moments),
        end=max(moments),
    )


def _check(record: Record) -> None:
    check_name("a record", record.name)
    for key, value in record.tags.items():
        if set("*?") & {*key, *value}:
            detail = f"record {record.name} has the tag {key}={value}, but Geocube reserves '*' and '?' for patterns"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)
    try:
        message = area_to_message(record.footprint)
    except AcdError as error:
        raise AcdError(error.code, f"the footprint of record {record.name}: {error.detail}", error.fix) from error
    for ring in (ring for polygon in message.polygons for ring in polygon.linearrings):
        ends_meet = len(ring.points) >= 4 and ring.points[0] == ring.points[-1]
        if not ends_meet or not all(abs(point.lon) <= 180 and abs(point.lat) <= 90 for point in ring.points):
            detail = f"the footprint of record {record.name} has a ring that is not closed or outside of the globe"
            raise AcdError(ErrorCode.AOI_INVALID, detail)
