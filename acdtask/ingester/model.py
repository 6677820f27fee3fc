"""The data model of the Geocube ingester: AOIs, scenes and tiles, with their statuses.

Field names are those of its JSON (airbusgeo/geocube-ingester, common/payload.go and interface/database/db.go). A scene
is a satellite product; its tiles (bursts of Sentinel-1, else the whole product) are processed and indexed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from acdtask.errors import AcdError, ErrorCode

__all__ = [
    "AoiState",
    "Counts",
    "Kind",
    "NewScene",
    "Scene",
    "SceneData",
    "Status",
    "Tile",
    "TileData",
    "counts_of_table",
    "in_one_line",
    "malformed",
    "parse_json",
]

MAX_TEXT = 300


class Status(Enum):
    """Status of a scene, a tile or an AOI, in order of progress."""

    NEW = "NEW"  # waits for its scene, or for the previous tile
    PENDING = "PENDING"  # queued or in progress
    RETRY = "RETRY"  # a worker gave up; it can be retried
    FAILED = "FAILED"  # permanently
    DONE = "DONE"

    @property
    def ended(self) -> bool:
        """Whether the status is final unless restarted by force."""
        return self in (Status.DONE, Status.FAILED)


class Kind(Enum):
    """What can be retried, failed or forced."""

    SCENE = "scene"
    TILE = "tile"


def _or_empty(empty: Any) -> BeforeValidator:
    """Replace null, which Go writes for an empty map."""
    return BeforeValidator(lambda value: empty if value is None else value)


Texts = Annotated[dict[str, str], _or_empty({})]


class _Answer(BaseModel):
    """A reply of the server; unknown fields of newer servers are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class AoiState(_Answer):
    """An AOI at the ingester. Its status is the most urgent one of its scenes and tiles."""

    id: str = Field(alias="ID")
    status: Status


class SceneData(_Answer):
    """How a scene is processed, and its record in the Geocube."""

    date: datetime
    graph_name: str = ""
    graph_config: Texts = {}
    record_id: str = ""
    instances_id: Texts = {}
    is_retriable: bool = False
    storage_uri: str = ""


class Scene(_Answer):
    """A scene; `source_id` is the name of the product and of the record."""

    id: int
    source_id: str
    aoi: str = ""
    data: SceneData
    status: Status
    message: str = ""
    retries_left: int = Field(default=0, alias="RetryCountDown")


class TileData(_Answer):
    """The position of a tile in its scene."""

    swath_id: str = ""
    tile_nr: int = 0
    graph_name: str = ""


class SceneId(_Answer):
    """Reference to the scene of a tile; in lists the server fills in only the id."""

    id: int
    source_id: str = ""


class Tile(_Answer):
    """A tile; `previous` and `reference` are ids of tiles of earlier scenes, with which it is processed."""

    id: int
    source_id: str
    scene: SceneId
    data: TileData = TileData()
    status: Status
    message: str = ""
    previous: int | None = Field(default=None, alias="PreviousID")
    reference: int | None = Field(default=None, alias="ReferenceID")
    retries_left: int = Field(default=0, alias="RetryCountDown")


class NewScene(BaseModel):
    """A scene to add to an AOI manually. `tiles` is keyed by source id; each tile is also listed in `data["tiles"]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: str
    aoi: str
    data: dict[str, Any]
    tiles: dict[str, dict[str, Any]]
    retry_count: int = 0


@dataclass(frozen=True)
class Counts:
    """Number of scenes or tiles by status."""

    new: int = 0
    pending: int = 0
    retry: int = 0
    failed: int = 0
    done: int = 0

    @property
    def total(self) -> int:
        """Number of all."""
        return self.new + self.pending + self.retry + self.failed + self.done

    @property
    def ended(self) -> int:
        """Number of those that are done or failed permanently."""
        return self.done + self.failed

    def as_dict(self) -> dict[str, int]:
        """The numbers by status."""
        return asdict(self)

    def text(self) -> str:
        """Format the numbers.

        >>> Counts(done=3, failed=1).text(), Counts().text()
        ('3 done, 1 failed', 'none')
        """
        counts = {"done": self.done, "pending": self.pending, "new": self.new, "retry": self.retry}
        counts["failed"] = self.failed
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


_SECTION = re.compile(r"^(Scenes|Tiles):\s*$((?:\n\s+\w+:\s+\d+\s*$)+)", re.MULTILINE)
_LINE = re.compile(r"^\s+(\w+):\s+(\d+)\s*$", re.MULTILINE)
_COLUMNS = ("new", "pending", "done", "retry", "failed")


def counts_of_table(text: str) -> tuple[Counts, Counts]:
    r"""Parse the server's table of scenes and tiles by status, which is text, not JSON. INGESTER_REFUSED.

    >>> rows = "".join(f"  {name}: {n}\n" for n, name in enumerate((*_COLUMNS, "Total")))
    >>> scenes, _ = counts_of_table(f"Scenes:\n{rows}Tiles:\n{rows}\nRoot tiles : 0\n")
    >>> scenes.done, scenes.total
    (2, 10)
    """
    sections = {
        title: {name.lower(): int(count) for name, count in _LINE.findall(body)}
        for title, body in _SECTION.findall(text)
    }
    try:
        scenes, tiles = (Counts(**{name: sections[title][name] for name in _COLUMNS}) for title in ("Scenes", "Tiles"))
    except KeyError:
        raise malformed("a status table", text) from None
    return scenes, tiles


def parse_json(kind: Any, body: bytes, what: str) -> Any:
    """Parse a JSON body regardless of its content type; null stands for an empty list. INGESTER_REFUSED."""
    try:
        value = json.loads(body)
        return TypeAdapter(kind).validate_python([] if value is None else value)
    except (ValueError, ValidationError):
        raise malformed(what, body.decode(errors="replace")) from None


def malformed(what: str, text: str) -> AcdError:
    """Make the error for a malformed reply."""
    begins = f"begins {in_one_line(text, 80)!r}" if text.strip() else "is empty"
    return AcdError(
        ErrorCode.INGESTER_REFUSED,
        f"the reply should be {what}, but {begins}",
        "Check that this is the address of a Geocube ingester's workflow server.",
    )


def in_one_line(text: str, longest: int = MAX_TEXT) -> str:
    r"""Shorten a server's message to one line without control characters.

    >>> in_one_line("pq: no\n  such\x1b table.")
    'pq: no such table'
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()).rstrip(".")
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
