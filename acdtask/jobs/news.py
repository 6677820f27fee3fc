"""Images of a watch that were announced, and images that are to be announced (docs/decisions/0044).

A watch is what a series is for its user: AOI, variable, layout, records and name, without thresholds and versions.
Below `events/<aoi>/news/<watch>/`, `watermark.json` is created once, by the first publication or the first
notification. A publication writes `pending/<month>/<image>.json` for each image after the watermark that has something
to announce. Once an event with the image is in the outbox, `announced/<month>/<image>.json` is written and the pending
file deleted. If anything is killed in between, the image stays pending until an event that names it is in the outbox.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from acdtask.errors import ErrorCode
from acdtask.jobs.contract import ImageFindings, Series
from acdtask.jobs.parts import month_of
from acdtask.storage.seal import parse_sealed, seal, unseal
from acdtask.storage.store import Store

__all__ = ["EVENTS", "Announced", "Announcement", "Box", "News", "PendingImage", "news_key"]

ModelT = TypeVar("ModelT", bound=BaseModel)

EVENTS = "events"
"""Folder of the store with the outbox and the news of each AOI."""

WATERMARK, PENDING, ANNOUNCED = "watermark.json", "pending", "announced"
WATERMARK_HINT = "Delete the file: the next run recreates it, and announces none of the existing images."
IMAGE_HINT = "Delete the file: its image may be announced again."


class Box(NamedTuple):
    """Bounding box of a patch in longitude and latitude.

    >>> Box(6.0, 50.0, 6.2, 50.2).overlaps(Box(6.1, 50.1, 6.3, 50.3)), Box(6, 50, 7, 51).overlaps(Box(8, 50, 9, 51))
    (True, False)
    """

    west: float
    south: float
    east: float
    north: float

    def overlaps(self, other: Box) -> bool:
        """Whether the boxes have a point in common."""
        apart = self.west > other.east or other.west > self.east
        return not apart and self.south <= other.north and other.south <= self.north


class PendingImage(BaseModel, frozen=True):
    """An image to announce: its key, the series that judged it last, and the name of its product there."""

    key: str
    series: str
    product: str


class Announced(BaseModel, frozen=True):
    """What was announced of an image.

    Attributes:
        key: key of the image, from `news_key`.
        run: run whose event announced it last.
        series: series that judged it first.
        products: names of the products of that series whose patches were announced.
        boxes: bounding boxes of all patches that were announced.
    """

    key: str
    run: str
    series: str
    products: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()

    def knows(self, box: Box) -> bool:
        """Whether an announced patch overlaps a box."""
        return any(box.overlaps(announced) for announced in self.boxes)


@dataclass(frozen=True)
class Announcement:
    """An image or window to announce, with the numbers of its patches that were not announced before.

    `announced` is what is recorded once the event is in the outbox.
    """

    findings: ImageFindings
    announced: tuple[Announced, ...]


def news_key(datetime: dt.datetime, label: str) -> str:
    """The key of an image in the news of its watch.

    >>> news_key(dt.datetime(2018, 7, 31, tzinfo=dt.UTC), "2018-07-19_2018-07-31")
    '2018-07/2018-07-19_2018-07-31'
    """
    return f"{month_of(datetime)}/{label}"


class News:
    """Tracks which images of a watch have been announced."""

    def __init__(self, store: Store, series: Series) -> None:
        self._store = store.within(f"{EVENTS}/{series.aoi}/news/{series.watch or series.id}")
        self._of_series = store.within(f"products/{series.aoi}/monitor/{series.id}/news")
        self._series = series

    def open(self) -> None:
        """Create the watermark of the watch, unless it exists. Earlier versions of acd had one for each series."""
        if self._store.exists(WATERMARK):
            return
        body = seal(json.dumps({"watermark": self._series.watermark.isoformat()}).encode())
        self._store.create(WATERMARK, self._of_series.find(WATERMARK) or body)

    def was_announced_in_series(self, datetime: dt.datetime, product: str) -> bool:
        """Whether an earlier version of acd announced the product."""
        return self._of_series.exists(f"{ANNOUNCED}/{news_key(datetime, product)}.json")

    def watermark(self) -> dt.datetime:
        """The datetime after which images are news. PRODUCT_DAMAGED."""
        address = self._store.address_of(WATERMARK)
        body = unseal(self._store.get(WATERMARK), address, ErrorCode.PRODUCT_DAMAGED, WATERMARK_HINT)
        return dt.datetime.fromisoformat(json.loads(body)["watermark"])

    def add(self, key: str, product: str) -> None:
        """Mark an image as pending, with the name of its product in this series."""
        image = PendingImage(key=key, series=self._series.id, product=product)
        self._store.put(f"{PENDING}/{key}.json", seal(image.model_dump_json().encode()))

    def find_pending(self, key: str) -> PendingImage | None:
        """The pending image of a key; None if it is not pending. PRODUCT_DAMAGED."""
        return self._find(PendingImage, f"{PENDING}/{key}.json")

    def pending(self) -> list[PendingImage]:
        """The images to announce, by key. PRODUCT_DAMAGED."""
        keys = [key.removeprefix(f"{PENDING}/").removesuffix(".json") for key in self._store.list(PENDING)]
        return [image for image in map(self.find_pending, keys) if image is not None]

    def find_announced(self, key: str) -> Announced | None:
        """What was announced of an image; None if nothing. PRODUCT_DAMAGED."""
        return self._find(Announced, f"{ANNOUNCED}/{key}.json")

    def acknowledge(self, image: Announced) -> None:
        """Record that an event in the outbox announces an image, which is then no longer pending.

        An image that was published again in between stays pending.
        """
        earlier = self.find_announced(image.key)
        if earlier is not None:
            image = earlier.model_copy(
                update={
                    "run": image.run,
                    "products": tuple(dict.fromkeys((*earlier.products, *image.products))),
                    "boxes": tuple(dict.fromkeys((*earlier.boxes, *image.boxes))),
                }
            )
        if image != earlier:
            self._store.put(f"{ANNOUNCED}/{image.key}.json", seal(image.model_dump_json().encode()))
        pending = self.find_pending(image.key)
        if pending is not None and (pending.series != image.series or pending.product in image.products):
            self.drop(image.key)

    def drop(self, key: str) -> None:
        """Forget a pending image."""
        self._store.delete(f"{PENDING}/{key}.json")

    def _find(self, kind: type[ModelT], key: str) -> ModelT | None:
        body = self._store.find(key)
        address = self._store.address_of(key)
        return parse_sealed(kind, body, address, ErrorCode.PRODUCT_DAMAGED, IMAGE_HINT) if body else None
