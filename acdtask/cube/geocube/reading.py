"""Pixels of a Geocube: one stream for all images that are wanted, begun anew where it broke off."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc

from acdtask.cube.geocube.link import Link, ServerError
from acdtask.cube.geocube.stream import Received, images_of, outlines_of, place_of
from acdtask.cube.grid import Grid
from acdtask.cube.model import Outcome, Resampling
from acdtask.cube.protocol import cubes_pb2, records_pb2, values_pb2
from acdtask.cube.protocol.convert import RESAMPLINGS, transform_to_wire
from acdtask.errors import AcdError, ErrorCode

__all__ = ["Asked", "Reader"]

BREAKS_WITHOUT_PROGRESS = 6
DOWNLOADER_PAUSE = 60.0
"""Seconds for which a downloader that failed is not asked."""

RESUMABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # the server ends a stream after some minutes
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,  # a connection that was cut within a message
}


@dataclass(frozen=True)
class Asked:
    """Images of an instance on a grid, in the server's ids: one for each group of records."""

    instance: str
    grid: Grid
    groups: tuple[frozenset[str], ...]
    ordered: tuple[tuple[str, ...], ...]
    resampling: Resampling | None = None

    def rest(self, start: int) -> Asked:
        """The same without the first groups."""
        return Asked(self.instance, self.grid, self.groups[start:], self.ordered[start:], self.resampling)

    def message(self, compression: int, *, headers_only: bool = False) -> cubes_pb2.GetCubeRequest:
        """The request."""
        groups = [records_pb2.GroupedRecordIds(ids=ids) for ids in self.ordered]
        return cubes_pb2.GetCubeRequest(
            grouped_records=records_pb2.GroupedRecordIdsList(records=groups),
            instances_id=[self.instance],
            crs=self.grid.crs,
            pix_to_crs=transform_to_wire(self.grid),
            size=values_pb2.Size(width=self.grid.width, height=self.grid.height),
            compression_level=compression,
            headers_only=headers_only,
            resampling_alg=RESAMPLINGS[self.resampling] if self.resampling else values_pb2.UNDEFINED,
            protocol_v11x=True,
        )


class Reader:
    """Reads cubes from a server, or from a downloader if there is one and it answers."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._downloader = Link(link.connection, downloader=True) if link.connection.downloader else None
        self._downloader_failed = float("-inf")

    def outlines(self, asked: Asked) -> list[cubes_pb2.ImageHeader]:
        """The header of each image that there is, in the order of the groups, without pixels."""
        for breaks in range(BREAKS_WITHOUT_PROGRESS):
            try:
                stream = self._link.stream("GetCube", asked.message(-3, headers_only=True))
                return list(outlines_of(stream))
            except ServerError as error:
                if error.status not in RESUMABLE or breaks == BREAKS_WITHOUT_PROGRESS - 1:
                    raise
                _pause(breaks)
        raise AssertionError("the last attempt returns or raises")

    def images(self, asked: Asked) -> Iterator[Received]:
        """An outcome for each group, in their order. A stream that breaks is asked again for what is missing.

        Raises:
            AcdError: what Link raises, after some attempts without any progress; GEOCUBE_FAILED for a stream that is
                not Geocube's.
        """
        done, breaks = 0, 0
        while done < len(asked.groups):
            before = done
            try:
                for received in self._once(asked.rest(done)):
                    done += 1
                    yield received
            except ServerError as error:
                breaks = 0 if done > before else breaks + 1
                if error.status not in RESUMABLE or breaks >= BREAKS_WITHOUT_PROGRESS:
                    raise
                _pause(breaks)

    def _once(self, asked: Asked) -> Iterator[Received]:
        place = 0
        for received in images_of(self._messages(asked), asked.grid.shape):
            here = place_of(received.records, asked.groups, place)
            for absent in range(place, here):
                yield Received(asked.groups[absent], Outcome.ABSENT)
            yield received
            place = here + 1
        for absent in range(place, len(asked.groups)):
            yield Received(asked.groups[absent], Outcome.ABSENT)

    def _messages(self, asked: Asked) -> Iterator[cubes_pb2.GetCubeResponse | cubes_pb2.GetCubeMetadataResponse]:
        """The stream of the downloader, or of the server from where the downloader failed."""
        if self._downloader is None or time.monotonic() - self._downloader_failed < DOWNLOADER_PAUSE:
            yield from self._link.stream("GetCube", asked.message(self._link.connection.compression))
            return
        request = self._metadata(asked)
        if request is None:
            return
        try:
            yield from self._downloader.stream("DownloadCube", request)
        except ServerError as error:
            self._downloader_failed = time.monotonic()
            # The caller asks again for what is missing, and that goes to the server.
            raise ServerError(
                ErrorCode.GEOCUBE_UNREACHABLE, error.detail, error.fix, grpc.StatusCode.UNAVAILABLE, ("", "")
            ) from error

    def _metadata(self, asked: Asked) -> cubes_pb2.GetCubeMetadataRequest | None:
        """What a downloader has to know; None if there is no image."""
        request: cubes_pb2.GetCubeMetadataRequest | None = None
        for message in self._link.stream("GetCube", asked.message(-3, headers_only=True)):
            kind = message.WhichOneof("response")
            if kind == "global_header":
                request = cubes_pb2.GetCubeMetadataRequest(
                    ref_dformat=message.global_header.ref_dformat,
                    resampling_alg=message.global_header.resampling_alg,
                    pix_to_crs=transform_to_wire(asked.grid),
                    crs=asked.grid.crs,
                    size=values_pb2.Size(width=asked.grid.width, height=asked.grid.height),
                    protocol_v11x=True,
                )
            elif kind == "header" and request is not None and not message.header.error:
                request.datasets_meta.append(message.header.dataset_meta)
                request.grouped_records.append(message.header.grouped_records)
        if request is None:
            raise AcdError(ErrorCode.GEOCUBE_FAILED, f"{self._link.target} sent a cube without a header")
        return request if request.datasets_meta else None


def _pause(breaks: int) -> None:
    time.sleep(min(0.1 * 2**breaks, 5.0))


def groups_of(groups: Sequence[Sequence[str]]) -> tuple[tuple[frozenset[str], ...], tuple[tuple[str, ...], ...]]:
    """Groups of ids as sets to compare with, and in order."""
    return tuple(frozenset(group) for group in groups), tuple(tuple(group) for group in groups)
