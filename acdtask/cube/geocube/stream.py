"""Streams of images: requests, matching of images to groups, and resumption of broken streams."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from acdtask.cube.geocube.channel import Channel
from acdtask.cube.geocube.connection import Endpoint
from acdtask.cube.geocube.errors import LOST, is_passing, malformed, refusal_of
from acdtask.cube.geocube.frames import DamagedError, ImageReader, Message, StreamReader
from acdtask.cube.model import Outcome, Variable
from acdtask.cube.protocol.convert import NO_DATA, RESAMPLINGS, transform_to_message
from acdtask.cube.protocol.cubes_pb2 import GetCubeRequest, ImageHeader
from acdtask.cube.protocol.records_pb2 import GroupedRecordIds, GroupedRecordIdsList
from acdtask.cube.protocol.values_pb2 import Resampling as ResamplingMessage
from acdtask.cube.protocol.values_pb2 import Size
from acdtask.errors import AcdError, ErrorCode
from acdtask.hosts import is_this_machine
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid

__all__ = ["Arrival", "CubeStream", "Group", "ImageSpec", "LinkSpeed", "Opening", "Target", "level_of"]

Group: TypeAlias = tuple[str, ...]
"""The server's ids of the records of an image."""

Target: TypeAlias = Callable[[int], Pixels]
"""Returns the array for the image of a group by its number: contiguous, (height, width) or (bands, height, width)."""

Opening: TypeAlias = Callable[[Sequence[int]], Generator[Message, None, None]]
"""Opens a stream for the groups with these numbers; closing it cancels the call."""

IDS_AT_ONCE = 20_000
"""Maximum number of ids in a request; requests are limited to 4 MiB."""

SLOW_MB_S = 20.0
"""Compression saves time on links slower than this."""

SAMPLE_BYTES = 4 * 1024 * 1024
"""Minimum amount of data for a measurement of the speed."""

BROKEN_TRANSPORT = ("RST_STREAM", "Stream removed")


@dataclass(frozen=True)
class ImageSpec:
    """Instance, grid and resampling, which all images of a request share.

    Attributes:
        instance_id: the server's id.
        resampling: default: the variable's.
    """

    instance_id: str
    variable: Variable
    grid: Grid
    resampling: Resampling | None = None

    @property
    def kernel(self) -> ResamplingMessage.ValueType:
        """The resampling in Geocube's protocol."""
        return RESAMPLINGS[self.resampling or self.variable.resampling]

    def request(self, groups: Iterable[Group], level: int, *, headers_only: bool = False) -> GetCubeRequest:
        """The request for some groups."""
        return GetCubeRequest(
            grouped_records=GroupedRecordIdsList(records=[GroupedRecordIds(ids=group) for group in groups]),
            instances_id=[self.instance_id],
            crs=self.grid.crs,
            pix_to_crs=transform_to_message(self.grid),
            size=Size(width=self.grid.width, height=self.grid.height),
            compression_level=level,
            headers_only=headers_only,
            resampling_alg=self.kernel,
            protocol_v11x=True,
        )


@dataclass(frozen=True)
class Arrival:
    """The image of a group, or its outcome.

    Attributes:
        number: of the group.
        pixels: the target's array, filled; None unless the outcome is DATA.
        reason: why it failed; empty otherwise.
        header: as received, without pixels; None for a group that is absent.
    """

    number: int
    outcome: Outcome
    pixels: Pixels | None = None
    reason: str = ""
    header: ImageHeader | None = None


class LinkSpeed:
    """Throughput of uncompressed pixels from each endpoint, as measured by this process."""

    _known: dict[Endpoint, float] = {}  # noqa: RUF012  # shared on purpose: a link belongs to the process

    @classmethod
    def learn(cls, endpoint: Endpoint, count: int, seconds: float) -> None:
        """Store a measurement: `count` bytes in `seconds`."""
        if count >= SAMPLE_BYTES and seconds > 0:
            cls._known[endpoint] = count / 1e6 / seconds

    @classmethod
    def forget(cls) -> None:
        """Remove all measurements."""
        cls._known.clear()

    @classmethod
    def is_slow(cls, endpoint: Endpoint) -> bool:
        """Whether compression saves time."""
        return not is_this_machine(endpoint.host) and cls._known.get(endpoint, SLOW_MB_S) < SLOW_MB_S


def level_of(channel: Channel) -> int:
    """The compression level to request."""
    level = channel.connection.compression
    if level == "auto":
        return 1 if LinkSpeed.is_slow(channel.endpoint) else -3
    return level


class _BrokenError(Exception):
    """A stream ended before its last image."""


class CubeStream:
    """The images of groups in order; a group that the server leaves out is ABSENT.

    A broken stream is reopened for the missing groups, until several attempts in a row bring no image. No group is
    empty; without a target, only headers are requested. Iterating raises GEOCUBE_UNREACHABLE, GEOCUBE_FAILED for a
    malformed stream, and the server's refusals.
    """

    def __init__(
        self,
        channel: Channel,
        opening: Opening,
        groups: Sequence[Group],
        variable: Variable,
        target: Target | None,
    ) -> None:
        self._channel, self._opening, self._groups = channel, opening, groups
        self._variable, self._target = variable, target
        self._pending = deque(range(len(groups)))
        self._requested = 0  # the first of the pending groups: those that the open stream was requested for
        self._stream: Iterator[ImageHeader] | None = None
        self._close: Callable[[], None] = lambda: None
        self._number = -1
        self._pixels: Pixels | None = None
        self._bytes, self._seconds = 0, 0.0

    def __iter__(self) -> Iterator[Arrival]:
        try:
            while self._pending:
                header = self._next()
                until = self._number if header is not None else -1
                # The server leaves out groups without datasets, so those before the image's own are absent.
                for _ in range(self._requested):
                    number = self._pending.popleft()
                    self._requested -= 1
                    if number == until and header is not None:
                        yield self._arrival(number, header)
                        break
                    yield Arrival(number, Outcome.ABSENT)
        finally:
            self._end()

    @property
    def throughput(self) -> tuple[int, float]:
        """Bytes received, and seconds spent waiting for them."""
        return self._bytes, self._seconds

    def _next(self) -> ImageHeader | None:
        """The header of the next complete image, or None at the end of a request."""
        try:
            return self._channel.trying(self._pull, self._channel.connection.attempts, _is_broken)
        except DamagedError as error:
            raise malformed(self._channel.endpoint, str(error)) from error
        except _BrokenError as error:
            raise AcdError(ErrorCode.GEOCUBE_UNREACHABLE, f"{self._channel.endpoint.address} {error}") from error

    def _pull(self) -> ImageHeader | None:
        begin = time.monotonic()
        fresh = self._stream is None
        try:
            stream = self._stream or self._begin()
            header = next(stream, None)
        except grpc.RpcError as error:
            self._end()
            if fresh and refusal_of(error).code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._channel.explained(error) from error  # do not wait for a second full deadline
            raise
        except BaseException:
            self._end()
            raise
        finally:
            self._seconds += time.monotonic() - begin
        if header is None:
            self._end()
        return header

    def _begin(self) -> Iterator[ImageHeader]:
        # As many pending groups as fit into one request, and at least one.
        numbers: list[int] = []
        ids = 0
        for number in self._pending:
            ids += len(self._groups[number])
            if numbers and ids > IDS_AT_ONCE:
                break
            numbers.append(number)
        self._requested = len(numbers)
        messages = self._opening(numbers)
        self._close = messages.close
        self._stream = self._headers(messages)
        return self._stream

    def _headers(self, messages: Iterator[Message]) -> Iterator[ImageHeader]:
        reader = StreamReader(messages, self._place, self._add_bytes)
        received = 0
        for header in reader:
            received += 1
            yield header
        if reader.count is None or received < reader.count:
            raise _BrokenError(f"ended a cube after {received} of {reader.count or 'its'} images")

    def _add_bytes(self, count: int) -> None:
        self._bytes += count

    def _end(self) -> None:
        self._stream = None
        with contextlib.suppress(ValueError):  # the generator is still running if a signal interrupted it
            self._close()
        self._close = lambda: None

    def _place(self, header: ImageHeader) -> ImageReader | None:
        self._number = self._number_of(header)
        self._pixels = None
        if header.error or self._target is None:
            return None
        self._pixels = self._target(self._number)
        return ImageReader(header, self._variable, self._pixels)

    def _number_of(self, header: ImageHeader) -> int:
        """The group of an image: the first pending one that contains its records.

        An image lists only those records of its group that have datasets on the grid. Images arrive in the order of the
        groups, so an earlier group with these records would have arrived already.
        """
        ids = tuple(record.id for record in header.grouped_records.records)
        for position, number in enumerate(self._pending):
            if position == self._requested:
                break
            if _is_part(ids, self._groups[number]):
                return number
        raise DamagedError(f"an image has the records {', '.join(ids) or 'none'}, which were not requested (again)")

    def _arrival(self, number: int, header: ImageHeader) -> Arrival:
        if header.error:
            outcome = Outcome.NODATA if header.error == NO_DATA else Outcome.FAILED
            reason = _reason(header) if outcome is Outcome.FAILED else ""
            return Arrival(number, outcome, reason=reason, header=header)
        pixels, self._pixels = self._pixels, None
        return Arrival(number, Outcome.DATA, pixels, header=header)


def _is_part(ids: Group, group: Group) -> bool:
    """Whether the ids are a subsequence of the group."""
    if ids == group:
        return True
    rest = iter(group)
    return bool(ids) and all(record_id in rest for record_id in ids)


def _is_broken(error: BaseException) -> bool:
    if isinstance(error, _BrokenError):
        return True
    if not isinstance(error, grpc.RpcError):
        return False
    refusal = refusal_of(error)
    if refusal.code in LOST - {grpc.StatusCode.UNAVAILABLE}:
        return True
    # gRPC also reports a cut connection as INTERNAL or UNKNOWN; the server's own errors have other messages.
    cut = refusal.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return is_passing(error) or (cut and any(mark in refusal.message for mark in BROKEN_TRANSPORT))


def _reason(header: ImageHeader) -> str:
    """The reason why an image failed, naming its containers."""
    _, _, message = header.error.rpartition(" desc = ")
    uris = dict.fromkeys(meta.container_uri for meta in header.dataset_meta.internalsMeta)
    unnamed = [uri for uri in uris if uri not in message]
    return f"{message} ({', '.join(unnamed[:3])}{', ...' if len(unnamed) > 3 else ''})" if unnamed else message
