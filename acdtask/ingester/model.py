"""The words of the Geocube ingester: AOIs, scenes and tiles, and their statuses.

Field names are those of its JSON (airbusgeo/geocube-ingester, common/payload.go and interface/database/db.go). A scene
is a product of a satellite; its tiles (bursts of Sentinel-1, else the whole product) are processed and indexed.
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
    "not_understood",
    "parse_json",
]

LONGEST_TEXT = 300


class Status(Enum):
    """Of a scene, a tile or an AOI, in the order in which they are gone through."""

    NEW = "NEW"  # waits for its scene, or for the tile before it
    PENDING = "PENDING"  # queued, or being worked on
    RETRY = "RETRY"  # a worker gave up; a person may have it tried again
    FAILED = "FAILED"  # for good
    DONE = "DONE"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself or by a plain retry."""
        return self in (Status.DONE, Status.FAILED)


class Kind(Enum):
    """What can be retried, failed or forced."""

    SCENE = "scene"
    TILE = "tile"


def _or_empty(empty: Any) -> BeforeValidator:
    """Go writes null for an empty map."""
    return BeforeValidator(lambda value: empty if value is None else value)


Texts = Annotated[dict[str, str], _or_empty({})]


class _Answer(BaseModel):
    """What the server says; a field that a newer server adds is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class AoiState(_Answer):
    """An AOI that the ingester knows. The status is the most urgent of its scenes and tiles."""

    id: str = Field(alias="ID")
    status: Status


class SceneData(_Answer):
    """How a scene is processed, and the record of the Geocube that it becomes."""

    date: datetime
    graph_name: str = ""
    graph_config: Texts = {}
    record_id: str = ""
    instances_id: Texts = {}
    is_retriable: bool = False
    storage_uri: str = ""


class Scene(_Answer):
    """A scene; `source_id` is the product's name, and that of the record."""

    id: int
    source_id: str
    aoi: str = ""
    data: SceneData
    status: Status
    message: str = ""
    retries_left: int = Field(default=0, alias="RetryCountDown")


class TileData(_Answer):
    """Where a tile lies in its scene."""

    swath_id: str = ""
    tile_nr: int = 0
    graph_name: str = ""


class SceneId(_Answer):
    """The scene of a tile; the server leaves the rest of it empty in lists."""

    id: int
    source_id: str = ""


class Tile(_Answer):
    """A tile; `previous` and `reference` are ids of the tiles of earlier scenes that it is processed with."""

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
    """A scene to add to an AOI by hand. `tiles` are by source id; each has an entry in `data["tiles"]` too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: str
    aoi: str
    data: dict[str, Any]
    tiles: dict[str, dict[str, Any]]
    retry_count: int = 0


@dataclass(frozen=True)
class Counts:
    """How many scenes, or tiles, have each status."""

    new: int = 0
    pending: int = 0
    retry: int = 0
    failed: int = 0
    done: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.new + self.pending + self.retry + self.failed + self.done

    @property
    def ended(self) -> int:
        """Those that are done, or failed for good."""
        return self.done + self.failed

    def as_dict(self) -> dict[str, int]:
        """By status."""
        return asdict(self)

    def text(self) -> str:
        """For people.

        >>> Counts(done=3, failed=1).text(), Counts().text()
        ('3 done, 1 failed', 'none')
        """
        named = {"done": self.done, "pending": self.pending, "new": self.new, "retry": self.retry}
        named["failed"] = self.failed
        return ", ".join(f"{count} {name}" for name, count in named.items() if count) or "none"


_SECTION = re.compile(r"^(Scenes|Tiles):\s*$((?:\n\s+\w+:\s+\d+\s*$)+)", re.MULTILINE)
_LINE = re.compile(r"^\s+(\w+):\s+(\d+)\s*$", re.MULTILINE)
_COLUMNS = ("new", "pending", "done", "retry", "failed")


def counts_of_table(text: str) -> tuple[Counts, Counts]:
    r"""Scenes and tiles by status, from the server's table, which is text and no JSON. INGESTER_REFUSED.

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
        raise not_understood("a status table", text) from None
    return scenes, tiles


def parse_json(kind: Any, body: bytes, what: str) -> Any:
    """The value in a body, whatever the content type says; null is an empty list. INGESTER_REFUSED."""
    try:
        value = json.loads(body)
        return TypeAdapter(kind).validate_python([] if value is None else value)
    except (ValueError, ValidationError):
        raise not_understood(what, body.decode(errors="replace")) from None


def not_understood(what: str, text: str) -> AcdError:
    """The error for an answer that is not what the ingester says."""
    begins = f"it begins {in_one_line(text, 80)!r}" if text.strip() else "it is empty"
    return AcdError(
        ErrorCode.INGESTER_REFUSED,
        f"the answer should be {what}, and {begins}",
        "Check that the address is that of a Geocube ingester's workflow server.",
    )


def in_one_line(text: str, longest: int = LONGEST_TEXT) -> str:
    r"""A server's words as part of a sentence: one line, without control characters, not endless.

    >>> in_one_line("pq: no\n  such\x1b table.")
    'pq: no such table'
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()).rstrip(".")
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
