"""Images of a series that were announced, and images that are to be announced (docs/decisions/0027).

Below `products/<aoi>/monitor/<series>/news/`, `watermark.json` is created once, by the first publication or the first
notification. A publication creates `pending/<month>/<image>.json` for each image after the watermark that was not
announced yet. Once an event is delivered, `announced/<month>/<image>.json` is created and the pending file deleted. If
anything is killed in between, the image stays pending until an event that names it is delivered.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable

from acdtask.errors import ErrorCode
from acdtask.jobs.contract import Series
from acdtask.jobs.parts import month_of
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store

__all__ = ["News", "news_key"]

WATERMARK, PENDING, ANNOUNCED = "watermark.json", "pending", "announced"
REPAIR_HINT = "Delete the file: the next run recreates it, and announces none of the existing images."


def news_key(datetime: dt.datetime, image: str) -> str:
    """The key of an image in the news of its series.

    >>> news_key(dt.datetime(2018, 7, 31, tzinfo=dt.UTC), "2018-07-19_2018-07-31-0123456789ab")
    '2018-07/2018-07-19_2018-07-31-0123456789ab'
    """
    return f"{month_of(datetime)}/{image}"


class News:
    """Tracks which images of a series have been announced."""

    def __init__(self, store: Store, series: Series) -> None:
        self._store = store.within(f"products/{series.aoi}/monitor/{series.id}/news")
        self._series = series

    def open(self) -> None:
        """Create the watermark of the series, unless it exists."""
        body = json.dumps({"watermark": self._series.watermark.isoformat()}).encode()
        self._store.create(WATERMARK, seal(body))

    def add(self, images: Iterable[tuple[dt.datetime, str]]) -> None:
        """Mark images as pending if they are after the watermark and were not announced.

        Each image is given as its datetime and name. PRODUCT_DAMAGED.
        """
        self.open()
        watermark = self._watermark()
        for datetime, image in images:
            key = f"{news_key(datetime, image)}.json"
            if datetime > watermark and not self._store.exists(f"{ANNOUNCED}/{key}"):
                self._store.create(f"{PENDING}/{key}", seal(b"{}"))

    def includes(self, datetime: dt.datetime, image: str) -> bool:
        """Whether an image is to be announced."""
        key = f"{news_key(datetime, image)}.json"
        return self._store.exists(f"{PENDING}/{key}") and not self._store.exists(f"{ANNOUNCED}/{key}")

    def pending(self) -> list[str]:
        """Keys (`news_key`) of the images to announce, sorted."""
        keys = [key.removeprefix(f"{PENDING}/").removesuffix(".json") for key in self._store.list(PENDING)]
        return [key for key in keys if not self._store.exists(f"{ANNOUNCED}/{key}.json")]

    def acknowledge(self, keys: Iterable[str], run: str) -> None:
        """Mark images as announced, after an event with them was delivered.

        `keys` are from `pending`; `run` is the run that sent the event.
        """
        for key in keys:
            self._store.create(f"{ANNOUNCED}/{key}.json", seal(json.dumps({"run": run}).encode()))
        for key in self._store.list(PENDING):
            if self._store.exists(f"{ANNOUNCED}/{key.removeprefix(f'{PENDING}/')}"):
                self._store.delete(key)

    def _watermark(self) -> dt.datetime:
        address = self._store.address_of(WATERMARK)
        body = unseal(self._store.get(WATERMARK), address, ErrorCode.PRODUCT_DAMAGED, REPAIR_HINT)
        return dt.datetime.fromisoformat(json.loads(body)["watermark"])
