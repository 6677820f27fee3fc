"""Editions of a report: numbered documents that name its pages, its pictures and what was drawn in each month.

Below `products/<aoi>/report/<id>/`: `editions/` holds them, `drawn/` and `pages/` immutable parts that they name, and
`dates/` and `baseline-<digest>/` the pictures. The pages of the newest edition are copied to the names by which people
know them, `index.html` last, so the address of a report stays the same and its page works at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict, ValidationError

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.parts import read_part, write_part
from acdtask.jobs.products import NumberedChain
from acdtask.jobs.quarantine import Failure
from acdtask.jobs.report.model import BaselinePage
from acdtask.jobs.report.pictures import paper_name
from acdtask.storage.store import Store

__all__ = [
    "INDEX",
    "PICTURES",
    "DrawnDate",
    "DrawnMonth",
    "Edition",
    "ReportMonth",
    "copy_edition",
    "edition_chain",
    "find_edition",
    "is_copied",
    "is_shown",
    "keys_of",
    "missing_pictures",
    "newest_edition",
    "parse_edition",
    "read_drawn",
    "report_folder",
    "show_edition",
    "write_drawn",
]

INDEX = "index.html"
_SCREEN = ("image.png", "z.png", "patches.png")
PICTURES = (*_SCREEN, *map(paper_name, _SCREEN))
"""The pictures of a date, in its folder."""
READERS = 16
"""Objects that are looked for side by side."""
COPIED = "edition.json"
"""In a copy of a report: the edition that it is of."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class DrawnDate(_Kept):
    """The pictures of an image: their folder, the events that they cannot show, or why they could not be drawn."""

    folder: str = ""
    unseen: tuple[str, ...] = ()
    failure: Failure | None = None


class DrawnMonth(_Kept):
    """The part that `ReportMonth.drawn` names: the images of a month by label."""

    dates: dict[str, DrawnDate]


class ReportMonth(_Kept):
    """A month of a report.

    Attributes:
        month: such as 2018-07.
        inputs: a digest of what its pictures and its page are made from.
        drawn: key of the part with its `DrawnMonth`.
        failed: images whose pictures could not be drawn.
    """

    month: str
    inputs: str
    drawn: str
    failed: int


class Edition(_Kept):
    """A version of a report.

    Attributes:
        content_id, aoi: the report, and its area.
        inputs: a digest of what the first page is made from.
        ground: a digest of the baseline and of the view.
        baseline: pictures of the baseline; None if they could not be drawn.
        months: in order.
        shown: folders of the pictures on the first page.
        files: keys of the parts with what people open, by name; `index.html` is the first page.
        single_page: key of the first page for places that have no pages of months; empty if it links to none.
    """

    content_id: str
    aoi: str
    inputs: str
    ground: str
    baseline: BaselinePage | None
    months: list[ReportMonth]
    shown: list[str]
    files: dict[str, str]
    single_page: str = ""

    def month(self, name: str) -> ReportMonth | None:
        """A month, if the report has it."""
        return next((month for month in self.months if month.month == name), None)

    @property
    def pictures_of_baseline(self) -> list[str]:
        """Names of the pictures of the baseline, relative to the folder of the report."""
        screen = [self.baseline.mean, self.baseline.std] if self.baseline else []
        return [*screen, *map(paper_name, screen)]

    @property
    def pictures_on_first_page(self) -> list[str]:
        """Names of pictures, relative to the folder of the report."""
        return [*self.pictures_of_baseline, *(f"{folder}/{name}" for folder in self.shown for name in PICTURES)]


def report_folder(aoi: str, content_id: str) -> str:
    """Where a report is below the cube."""
    return f"products/{aoi}/report/{content_id}"


def edition_chain(store: Store, aoi: str, content_id: str) -> NumberedChain:
    """The editions of a report."""
    return NumberedChain(store, aoi, "report", f"{content_id}/editions", ".json")


def newest_edition(chain: NumberedChain) -> tuple[int, Edition | None]:
    """The newest edition and its number; 0 and None before the first."""
    number, body = chain.newest()
    return number, parse_edition(body, chain)


def find_edition(chain: NumberedChain, number: int) -> Edition | None:
    """An edition by its number; None if there is none."""
    return parse_edition(chain.version(number), chain) if number else None


def parse_edition(body: bytes | None, chain: NumberedChain) -> Edition | None:
    """The edition that a document of the chain holds; None for none. CUBE_DAMAGED."""
    try:
        return None if body is None else Edition.model_validate_json(body)
    except ValidationError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"an edition of the report in {chain.scope} cannot be read") from error


def read_drawn(month: ReportMonth | None, store: Store) -> dict[str, DrawnDate]:
    """What was drawn of a month, by label; nothing if there is no month. CUBE_DAMAGED."""
    if month is None:
        return {}
    try:
        return DrawnMonth.model_validate_json(read_part(store, month.drawn)).dates
    except ValidationError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.address_of(month.drawn)} lists no pictures") from error


def write_drawn(name: str, inputs: str, dates: dict[str, DrawnDate], folder: str, store: Store) -> ReportMonth:
    """Write what was drawn of a month."""
    body = DrawnMonth(dates=dict(sorted(dates.items()))).model_dump_json().encode()
    failed = sum(not one.folder for one in dates.values())
    return ReportMonth(
        month=name, inputs=inputs, drawn=write_part(store, f"{folder}/drawn/{name}", ".json", body), failed=failed
    )


def is_shown(edition: Edition, store: Store) -> bool:
    """Whether the first page is that of the edition: it is written last, so then all of them are."""
    index = store.find(f"{report_folder(edition.aoi, edition.content_id)}/{INDEX}")
    return index is not None and index == read_part(store, edition.files[INDEX])


def missing_pictures(edition: Edition, store: Store) -> set[str]:
    """The folders of the first page's pictures that lack one. Those of other pages are not looked for."""
    folder = store.within(report_folder(edition.aoi, edition.content_id))
    names = edition.pictures_on_first_page
    with ThreadPoolExecutor(READERS) as pool:
        there = pool.map(folder.exists, names)
        return {name.rpartition("/")[0] for name, kept in zip(names, there, strict=True) if not kept}


def is_copied(edition: Edition, out: Store) -> bool:
    """Whether a copy is of this edition, with its first page, the pictures of this, and the files for download."""
    if out.find(COPIED) != edition.model_dump_json(indent=1).encode():
        return False
    months = {f"{month.month}.html" for month in edition.months}
    beside_months = [name for name in edition.files if name not in months]
    with ThreadPoolExecutor(READERS) as pool:
        return all(pool.map(out.exists, [*beside_months, *edition.pictures_on_first_page]))


def show_edition(chain: NumberedChain, names: Iterable[str] | None, store: Store) -> None:
    """Copy files of the newest edition to where people open them, the first page last.

    An edition that is published meanwhile is copied over it, so that of several writers the last one leaves the newest.

    Args:
        chain: the editions.
        names: files that may have changed; None for all.
        store: of the cube.
    """
    wanted = None if names is None else {*names, INDEX}
    while True:
        number, edition = newest_edition(chain)
        if edition is None:
            return
        folder = store.within(report_folder(edition.aoi, edition.content_id))
        for name in _index_last(edition.files):
            if wanted is None or name in wanted:
                folder.put(name, read_part(store, edition.files[name]))
        if newest_edition(chain)[0] == number:
            return


def copy_edition(edition: Edition, store: Store, out: Store) -> None:
    """Copy a report: the pictures that the copy lacks, and the pages that changed since the edition that it is of."""
    folder = store.within(report_folder(edition.aoi, edition.content_id))
    earlier = _copied(edition, out)
    if earlier == edition:  # and yet it is to be copied: something of the copy is gone
        earlier = None
    months = {month.month: month.drawn for month in earlier.months} if earlier else {}
    for month in edition.months:
        if months.get(month.month) != month.drawn:
            known = {f"dates/{month.month}/{name}" for name in out.within(f"dates/{month.month}").list()}
            for name in _pictures_of(month, store):
                if name not in known:
                    out.put(name, folder.get(name))
    for name in edition.pictures_of_baseline:
        if not out.exists(name):
            out.put(name, folder.get(name))
    files = earlier.files if earlier else {}
    for name in _index_last(edition.files):
        if files.get(name) != edition.files[name]:
            out.put(name, read_part(store, edition.files[name]))
    out.put(COPIED, edition.model_dump_json(indent=1).encode())


def keys_of(edition: Edition, store: Store) -> set[str]:
    """Every key of the cube that an edition names, directly or through its months."""
    folder = report_folder(edition.aoi, edition.content_id)
    names = {*edition.files, *edition.pictures_on_first_page}
    names |= {name for month in edition.months for name in _pictures_of(month, store)}
    parts = {*edition.files.values(), *(month.drawn for month in edition.months)}
    return {f"{folder}/{name}" for name in names} | parts | ({edition.single_page} if edition.single_page else set())


def _pictures_of(month: ReportMonth, store: Store) -> Iterator[str]:
    folders = [one.folder for one in read_drawn(month, store).values() if one.folder]
    return (f"{folder}/{name}" for folder in folders for name in PICTURES)


def _copied(edition: Edition, out: Store) -> Edition | None:
    """The edition of the same report that a copy is of; None if that is not known."""
    body = out.find(COPIED) if out.exists(INDEX) else None
    try:
        known = Edition.model_validate_json(body) if body else None
    except ValidationError:
        return None
    return known if known is not None and known.content_id == edition.content_id else None


def _index_last(files: Iterable[str]) -> list[str]:
    return sorted(files, key=lambda name: (name == INDEX, name))
