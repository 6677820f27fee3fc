"""The RPCs on areas and records; each method serves the RPC of the same name."""

from __future__ import annotations

from collections.abc import Iterator

from acdtask.cube.model import RECORD_NAME_BYTES, Addition, Record, RecordQuery
from acdtask.cube.protocol import records_pb2 as pb
from acdtask.cube.protocol.convert import area_to_message
from acdtask.serve.cancellation import wanted
from acdtask.serve.catalogue import Catalogue
from acdtask.serve.errors import RefusalError, already_exists, invalid, not_found, still_used, uuid_of
from acdtask.serve.messages import (
    area_of,
    bound_of,
    is_name,
    moment_of,
    page_of,
    record_text,
    record_to_message,
    require_short,
)

__all__ = ["RecordCalls"]


class RecordCalls:
    """The RPCs on areas and records. Every method raises RefusalError or AcdError."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._cube = catalogue.cube

    def create_aoi(self, request: pb.CreateAOIRequest) -> pb.CreateAOIResponse:
        """Create an area. If it exists already, ALREADY_EXISTS contains its id."""
        identity, created = self._catalogue.areas.create(area_of(request.aoi))
        if not created:
            raise already_exists("AOI", "id", identity)
        return pb.CreateAOIResponse(id=identity)

    def get_aoi(self, request: pb.GetAOIRequest) -> pb.GetAOIResponse:
        """Return a created area, or the footprint of a record."""
        area = self._catalogue.areas.find(uuid_of(request.id, f"Invalid AOI.uuid {request.id}"))
        if area is None:
            raise not_found("AOI", "id", request.id)
        return pb.GetAOIResponse(aoi=area_to_message(area))

    def create_records(self, request: pb.CreateRecordsRequest) -> pb.CreateRecordsResponse:
        """Create all of the records, or none of them."""
        with self._catalogue.lock:
            records = [self._record_of(message) for message in request.records]
            self._refuse_duplicates(records)
            if records:
                self._cube.commit(Addition(records=records))
        return pb.CreateRecordsResponse(ids=[record.id for record in records])

    def _record_of(self, message: pb.NewRecord) -> Record:
        moment = moment_of(message.time, given=message.HasField("time"))
        try:
            aoi_id = uuid_of(message.aoi_id)
        except RefusalError as error:
            raise invalid(f"Invalid AOI uuid: {message.aoi_id}") from error
        if not is_name(message.name):
            raise invalid(f"Invalid Name: {message.name}")
        require_short(message.name, RECORD_NAME_BYTES)
        for key, value in message.tags.items():
            if set("*?") & {*key, *value}:
                raise invalid(f"Invalid Tag: {key}: {value}. Cannot contain neither ? or *.")
        area = self._catalogue.areas.find(aoi_id)
        if area is None:
            raise not_found("AOI", "id", message.aoi_id)
        return Record(name=message.name, datetime=moment, tags=dict(message.tags), footprint=area)

    def _refuse_duplicates(self, records: list[Record]) -> None:
        taken = {record.id for record in self._cube.records_by_id([record.id for record in records])}
        for record in records:
            if record.id in taken:
                raise already_exists("Record", "", record_text(record), f"Record with : {record_text(record)}")
            taken.add(record.id)

    def get_records(self, request: pb.GetRecordsRequest) -> Iterator[pb.GetRecordsResponseItem]:
        """Stream the records with these ids, in that order."""
        for record in self._catalogue.records(request.ids):
            yield pb.GetRecordsResponseItem(record=record_to_message(record))

    def list_records(self, request: pb.ListRecordsRequest) -> Iterator[pb.ListRecordsResponseItem]:
        """Stream the records that match the request, sorted by datetime."""
        page_of(request.limit, request.page)
        query = RecordQuery(
            name=request.name,
            tags=dict(request.tags),
            start=bound_of(request.from_time, given=request.HasField("from_time")),
            end=bound_of(request.to_time, given=request.HasField("to_time")),
            area=area_of(request.aoi, may_be_empty=True) or None,
            limit=request.limit,
            page=request.page,
        )
        for record in wanted(self._cube.records(query)):
            yield pb.ListRecordsResponseItem(record=record_to_message(record, with_aoi=request.with_aoi))

    def delete_records(self, request: pb.DeleteRecordsRequest) -> pb.DeleteRecordsResponse:
        """Remove records without datasets; unknown ids are ignored."""
        wanted = list(dict.fromkeys(uuid_of(record_id) for record_id in request.ids))
        with self._catalogue.lock:
            used = self._cube.records_in_use(wanted)
            if used and not request.no_fail:
                raise still_used("records", "datasets", next(record_id for record_id in wanted if record_id in used))
            unused = {record.id for record in self._cube.records_by_id(wanted)} - used
            self._cube.remove(records=unused)
        return pb.DeleteRecordsResponse(nb=len(unused))
