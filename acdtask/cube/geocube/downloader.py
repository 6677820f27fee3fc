"""The source of pixels: the server, or an available downloader that reads the files itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.connection import Endpoint
from acdtask.cube.geocube.frames import Message
from acdtask.cube.geocube.stream import Arrival, CubeStream, Group, ImageSpec, LinkSpeed, Target, level_of
from acdtask.cube.model import Outcome
from acdtask.cube.protocol.convert import dformat_to_message, transform_to_message
from acdtask.cube.protocol.cubes_pb2 import GetCubeMetadataRequest
from acdtask.cube.protocol.values_pb2 import Size
from acdtask.errors import AcdError
from acdtask.log import events

__all__ = ["Breaker", "PixelSource"]

LOG = events("geocube")

BREAK_SECONDS = 60.0
DOWNLOADER_ATTEMPTS = 2
"""Few, since the server can send the same pixels."""


class Breaker:
    """Circuit breaker: downloaders that failed recently are not used for a while. Shared within the process."""

    _lock = threading.Lock()
    _until: dict[Endpoint, float] = {}  # noqa: RUF012  # shared on purpose: cubes of a process use one downloader

    @classmethod
    def trip(cls, endpoint: Endpoint, reason: str, seconds: float = BREAK_SECONDS) -> None:
        """Stop using a downloader for `seconds`."""
        with cls._lock:
            cls._until[endpoint] = time.monotonic() + seconds
        LOG.warning("downloader.left", address=endpoint.address, reason=reason, seconds=seconds)

    @classmethod
    def is_open(cls, endpoint: Endpoint) -> bool:
        """Whether the downloader is not to be used now."""
        with cls._lock:
            return time.monotonic() < cls._until.get(endpoint, 0.0)

    @classmethod
    def reset(cls) -> None:
        """Forget every failure."""
        with cls._lock:
            cls._until.clear()


class PixelSource:
    """Reads images from a downloader if there is one, and otherwise, or if it fails, from the server. Picklable."""

    def __init__(self, server: Channel) -> None:
        self._server = server
        self._downloader: Channel | None = None
        if (endpoint := server.connection.downloader_endpoint) is not None:
            hurried = server.connection.model_copy(update={"attempts": DOWNLOADER_ATTEMPTS})
            self._downloader = Channel(hurried, endpoint)

    def outlines(self, spec: ImageSpec, groups: Sequence[Group]) -> Iterator[Arrival]:
        """The header of each group's image, without pixels; DATA means that it has datasets."""

        def opening(numbers: Sequence[int]) -> Generator[Message, None, None]:
            request = spec.request((groups[number] for number in numbers), -3, headers_only=True)
            return self._server.messages(self._server.geocube.GetCube, request)

        return iter(CubeStream(self._server, opening, groups, spec.variable, None))

    def images(self, spec: ImageSpec, groups: Sequence[Group], target: Target) -> Iterator[Arrival]:
        """The images of the groups, in order. Raises AcdError as `CubeStream` does."""
        if self._downloader is None or Breaker.is_open(self._downloader.endpoint):
            yield from self._from_server(spec, groups, range(len(groups)), target)
            return
        outlines = list(self.outlines(spec, groups))
        rest = 0  # index of the first group that has not been yielded
        downloaded = self._from_downloader(self._downloader, spec, outlines, target)
        while rest < len(outlines):
            outline = outlines[rest]
            if outline.header is None or outline.outcome is not Outcome.DATA:
                yield outline
                rest += 1
                continue
            arrival = self._downloaded(downloaded, self._downloader.endpoint)
            if arrival is None:
                break
            if arrival.outcome in (Outcome.FAILED, Outcome.ABSENT):
                # The file may be unreadable, or only out of the downloader's reach: the server decides which.
                (arrival,) = self._from_server(spec, groups, [outline.number], target)
                if arrival.outcome is not Outcome.FAILED:
                    Breaker.trip(self._downloader.endpoint, "it cannot read what the server can")
                    yield arrival
                    rest += 1
                    break
            yield arrival
            rest += 1
        if rest < len(outlines):
            yield from self._from_server(spec, groups, range(rest, len(groups)), target)

    @staticmethod
    def _downloaded(arrivals: Iterator[Arrival], endpoint: Endpoint) -> Arrival | None:
        """The next image, or None if the downloader failed."""
        try:
            return next(arrivals, None)
        except AcdError as error:
            Breaker.trip(endpoint, error.detail)
            return None

    def _from_server(
        self, spec: ImageSpec, groups: Sequence[Group], numbers: Sequence[int], target: Target
    ) -> Iterator[Arrival]:
        level = level_of(self._server)

        def opening(part: Sequence[int]) -> Generator[Message, None, None]:
            request = spec.request((groups[numbers[place]] for place in part), level)
            return self._server.messages(self._server.geocube.GetCube, request)

        chosen = [groups[number] for number in numbers]
        stream = CubeStream(self._server, opening, chosen, spec.variable, _renumbered(target, numbers))
        try:
            for arrival in stream:
                yield replace(arrival, number=numbers[arrival.number])
        finally:
            if level == -3:
                LinkSpeed.learn(self._server.endpoint, *stream.throughput)

    def _from_downloader(
        self, downloader: Channel, spec: ImageSpec, outlines: Sequence[Arrival], target: Target
    ) -> Iterator[Arrival]:
        readable = [outline for outline in outlines if outline.header is not None and outline.outcome is Outcome.DATA]
        numbers = [outline.number for outline in readable]
        headers = [outline.header for outline in readable if outline.header is not None]
        groups = [tuple(record.id for record in header.grouped_records.records) for header in headers]

        def opening(part: Sequence[int]) -> Generator[Message, None, None]:
            request = GetCubeMetadataRequest(
                datasets_meta=[headers[place].dataset_meta for place in part],
                grouped_records=[headers[place].grouped_records for place in part],
                ref_dformat=dformat_to_message(spec.variable.dformat),  # without it, Geocube's downloader crashes
                resampling_alg=spec.kernel,
                pix_to_crs=transform_to_message(spec.grid),
                crs=spec.grid.crs,
                size=Size(width=spec.grid.width, height=spec.grid.height),
                protocol_v11x=True,
            )
            return downloader.messages(downloader.downloader.DownloadCube, request)

        for arrival in CubeStream(downloader, opening, groups, spec.variable, _renumbered(target, numbers)):
            yield replace(arrival, number=numbers[arrival.number])


def _renumbered(target: Target, numbers: Sequence[int]) -> Target:
    return lambda place: target(numbers[place])
