"""What of a series was announced and what is still to be, kept with the series (docs/decisions/0027).

Below `products/<aoi>/monitor/<series>/news/`: `watermark.json` is created once, by the first publication or the first
notification, whichever comes first. A publication then creates `pending/<month>/<image>.json` for each image after the
watermark that was not announced. Once an event is delivered, `announced/<month>/<image>.json` is created and the
pending one deleted. Whatever is killed in between, an image stays pending until an event that names it was delivered.
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
WAY_OUT = "Delete the file: it is made again by the next run, which then announces no image that there is by now."


def news_key(datetime: dt.datetime, image: str) -> str:
    """What an image is called among the news of its series.

    >>> news_key(dt.datetime(2018, 7, 31, tzinfo=dt.UTC), "2018-07-19_2018-07-31-0123456789ab")
    '2018-07/2018-07-19_2018-07-31-0123456789ab'
    """
    return f"{month_of(datetime)}/{image}"


class News:
    """The news of a series.

    Args:
        store: of the cube.
        series: whose news it is.
    """

    def __init__(self, store: Store, series: Series) -> None:
        self._store = store.within(f"products/{series.aoi}/monitor/{series.id}/news")
        self._series = series

    def open(self) -> None:
        """Give the series its watermark, unless it has one."""
        body = json.dumps({"watermark": self._series.watermark.isoformat()}).encode()
        self._store.create(WATERMARK, seal(body))

    def add(self, images: Iterable[tuple[dt.datetime, str]]) -> None:
        """Let images be announced by the next event: those after the watermark that were not announced.

        Args:
            images: datetime and name of each.

        Raises:
            AcdError: PRODUCT_DAMAGED.
        """
        self.open()
        watermark = self._watermark()
        for datetime, image in images:
            key = f"{news_key(datetime, image)}.json"
            if datetime > watermark and not self._store.exists(f"{ANNOUNCED}/{key}"):
                self._store.create(f"{PENDING}/{key}", seal(b"{}"))

    def pending(self) -> list[str]:
        """The images that are to be announced, as `news_key` names them, in order."""
        keys = [key.removeprefix(f"{PENDING}/").removesuffix(".json") for key in self._store.list(PENDING)]
        return [key for key in keys if not self._store.exists(f"{ANNOUNCED}/{key}.json")]

    def acknowledge(self, keys: Iterable[str], run: str) -> None:
        """Remember that an event with these images was delivered.

        Args:
            keys: as `pending` gives them.
            run: whose event it was.
        """
        for key in keys:
            self._store.create(f"{ANNOUNCED}/{key}.json", seal(json.dumps({"run": run}).encode()))
        for key in self._store.list(PENDING):
            if self._store.exists(f"{ANNOUNCED}/{key.removeprefix(f'{PENDING}/')}"):
                self._store.delete(key)

    def _watermark(self) -> dt.datetime:
        address = self._store.address_of(WATERMARK)
        body = unseal(self._store.get(WATERMARK), address, ErrorCode.PRODUCT_DAMAGED, WAY_OUT)
        return dt.datetime.fromisoformat(json.loads(body)["watermark"])
