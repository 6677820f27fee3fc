"""Cubes as streams: asked for, matched with what was asked, and gone on with where they broke off."""

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
from acdtask.cube.protocol.convert import RESAMPLINGS, transform_to_wire
from acdtask.cube.protocol.cubes_pb2 import GetCubeRequest, ImageHeader
from acdtask.cube.protocol.records_pb2 import GroupedRecordIds, GroupedRecordIdsList
from acdtask.cube.protocol.values_pb2 import Resampling as ResamplingMessage
from acdtask.cube.protocol.values_pb2 import Size
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Pixels, Resampling
from acdtask.raster.grid import Grid

__all__ = ["Arrival", "Asked", "CubeStream", "Group", "Link", "Opening", "Target", "level_of"]

Group: TypeAlias = tuple[str, ...]
"""Ids of records, as the server has them."""

Target: TypeAlias = Callable[[int], Pixels]
"""Where the image of a group goes, by the group's number: contiguous, (height, width) or (bands, height, width)."""

Opening: TypeAlias = Callable[[Sequence[int]], Generator[Message, None, None]]
"""Opens a stream for the groups of some numbers; closing it ends the call."""

NO_DATA = "rpc error: code = NotFound desc = Not enough valid pixels (skipped)"
"""How a server says that an image has no valid pixel; there is no other sign of it."""

IDS_AT_ONCE = 20_000
"""Ids of a request, which may have 4 MiB."""

SLOW_MB_S = 20.0
"""Below this, deflating costs less time than it saves."""

TELLING_BYTES = 4 * 1024 * 1024
BROKEN_TRANSPORT = ("RST_STREAM", "Stream removed")


@dataclass(frozen=True)
class Asked:
    """What is the same for every group of a cube.

    Attributes:
        instance_id: the server's.
        resampling: default: the variable's.
    """

    instance_id: str
    variable: Variable
    grid: Grid
    resampling: Resampling | None = None

    @property
    def kernel(self) -> ResamplingMessage.ValueType:
        """The resampling on the wire."""
        return RESAMPLINGS[self.resampling or self.variable.resampling]

    def request(self, groups: Iterable[Group], level: int, *, headers_only: bool = False) -> GetCubeRequest:
        """The request for some groups."""
        return GetCubeRequest(
            grouped_records=GroupedRecordIdsList(records=[GroupedRecordIds(ids=group) for group in groups]),
            instances_id=[self.instance_id],
            crs=self.grid.crs,
            pix_to_crs=transform_to_wire(self.grid),
            size=Size(width=self.grid.width, height=self.grid.height),
            compression_level=level,
            headers_only=headers_only,
            resampling_alg=self.kernel,
            protocol_v11x=True,
        )


@dataclass(frozen=True)
class Arrival:
    """What came of a group.

    Attributes:
        number: of the group.
        pixels: the array that the target gave, filled; None unless the outcome is DATA.
        header: as it came, without pixels; None for a group that is absent.
    """

    number: int
    outcome: Outcome
    pixels: Pixels | None = None
    reason: str = ""
    header: ImageHeader | None = None


class Link:
    """How fast pixels come from an endpoint without compression, as far as this process has seen."""

    _known: dict[Endpoint, float] = {}  # noqa: RUF012  # shared on purpose: a link belongs to the process

    @classmethod
    def learn(cls, endpoint: Endpoint, count: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""
        if count >= TELLING_BYTES and seconds > 0:
            cls._known[endpoint] = count / 1e6 / seconds

    @classmethod
    def forget(cls) -> None:
        """Forget every measurement."""
        cls._known.clear()

    @classmethod
    def is_slow(cls, endpoint: Endpoint) -> bool:
        """Whether compression pays."""
        return not endpoint.is_loopback and cls._known.get(endpoint, SLOW_MB_S) < SLOW_MB_S


def level_of(channel: Channel) -> int:
    """The compression to ask for."""
    level = channel.connection.compression
    if level == "auto":
        return 1 if Link.is_slow(channel.endpoint) else -3
    return level


class _BrokenError(Exception):
    """A stream ended before its end."""


class CubeStream:
    """The groups of a cube as they arrive, in their order; a group that the server leaves out is ABSENT.

    A stream that breaks is opened again for the groups that are missing, until several attempts have brought nothing.

    Args:
        channel: which is called.
        opening: opens a stream for the groups of some numbers.
        groups: what is asked for; none of them is empty.
        variable: what the images are of.
        target: where images go; None if only their headers are asked for.

    Raises:
        AcdError: while iterating: GEOCUBE_UNREACHABLE, GEOCUBE_FAILED for a stream that is none, what the server
            refuses.
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
        self._asked = 0
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
                for _ in range(self._asked):
                    number = self._pending.popleft()
                    self._asked -= 1
                    if number == until and header is not None:
                        yield self._arrival(number, header)
                        break
                    yield Arrival(number, Outcome.ABSENT)
        finally:
            self._end()

    @property
    def throughput(self) -> tuple[int, float]:
        """Bytes that came, and the seconds that were spent waiting for them."""
        return self._bytes, self._seconds

    def _next(self) -> ImageHeader | None:
        """The next image, whole; None when the groups of a request are through."""
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
                raise self._channel.explained(error) from error  # a whole deadline brought nothing: no more of them
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
        numbers: list[int] = []
        ids = 0
        for number in self._pending:
            ids += len(self._groups[number])
            if numbers and ids > IDS_AT_ONCE:
                break
            numbers.append(number)
        self._asked = len(numbers)
        messages = self._opening(numbers)
        self._close = messages.close
        self._stream = self._headers(messages)
        return self._stream

    def _headers(self, messages: Iterator[Message]) -> Iterator[ImageHeader]:
        reader = StreamReader(messages, self._place, self._heard)
        came = 0
        for header in reader:
            came += 1
            yield header
        if reader.count is None or came < reader.count:
            raise _BrokenError(f"ended a cube after {came} of {reader.count or 'its'} images")

    def _heard(self, count: int) -> None:
        self._bytes += count

    def _end(self) -> None:
        self._stream = None
        with contextlib.suppress(ValueError):  # it is running still, where a signal came within it
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
        """The group of an image: the first that is missing and has its records.

        An image has only those records of its group that have datasets there. Groups come in the order asked for, so
        that an earlier group with these records would have come already.
        """
        ids = tuple(record.id for record in header.grouped_records.records)
        for place, number in enumerate(self._pending):
            if place == self._asked:
                break
            if _is_part(ids, self._groups[number]):
                return number
        raise DamagedError(f"an image is of the records {', '.join(ids) or 'none'}, which were not asked for (again)")

    def _arrival(self, number: int, header: ImageHeader) -> Arrival:
        if header.error:
            outcome = Outcome.NODATA if header.error == NO_DATA else Outcome.FAILED
            reason = _reason(header) if outcome is Outcome.FAILED else ""
            return Arrival(number, outcome, reason=reason, header=header)
        pixels, self._pixels = self._pixels, None
        return Arrival(number, Outcome.DATA, pixels, header=header)


def _is_part(ids: Group, group: Group) -> bool:
    """Whether the ids are some of the group, in its order."""
    if ids == group:
        return True
    rest = iter(group)
    return bool(ids) and all(one in rest for one in ids)


def _is_broken(error: BaseException) -> bool:
    if isinstance(error, _BrokenError):
        return True
    if not isinstance(error, grpc.RpcError):
        return False
    refusal = refusal_of(error)
    if refusal.code in LOST - {grpc.StatusCode.UNAVAILABLE}:
        return True
    cut = refusal.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return is_passing(error) or (cut and any(mark in refusal.message for mark in BROKEN_TRANSPORT))


def _reason(header: ImageHeader) -> str:
    """Why an image failed, naming its containers."""
    _, _, said = header.error.rpartition(" desc = ")
    uris = dict.fromkeys(meta.container_uri for meta in header.dataset_meta.internalsMeta)
    unsaid = [uri for uri in uris if uri not in said]
    return f"{said} ({', '.join(unsaid[:3])}{', ...' if len(unsaid) > 3 else ''})" if unsaid else said
