"""Editions of a report: numbered documents that list its pages, its pictures and the drawings of each month.

Below `products/<aoi>/report/<id>/`, `editions/` has the documents, `drawn/` and `pages/` the immutable parts that they
list, and `dates/` and `baseline-<digest>/` the pictures. The newest edition's pages are copied to their public names,
`index.html` last, so that a report's address is stable and its page works at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ValidationError

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.manifests import NumberedChain
from acdtask.jobs.parts import read_part, write_part
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
"""Names of a date's pictures, in its folder."""
CHECK_THREADS = 16
"""Number of objects checked in parallel."""
COPY_MARKER = "edition.json"
"""File in a copy of a report that holds the copied edition."""


class DrawnDate(BaseModel, frozen=True):
    """The pictures of an image: their folder, the events in areas without data, or why they were not drawn."""

    folder: str = ""
    unseen: tuple[str, ...] = ()
    failure: Failure | None = None


class DrawnMonth(BaseModel, frozen=True):
    """The part named by `ReportMonth.drawn`: the images of a month, by label."""

    dates: dict[str, DrawnDate]


class ReportMonth(BaseModel, frozen=True):
    """A month of a report.

    `inputs` is a digest of the inputs of its pictures and page, `drawn` the key of the part with its `DrawnMonth`,
    `failed` the number of images whose pictures could not be drawn.
    """

    month: str
    inputs: str
    drawn: str
    failed: int


class Edition(BaseModel, frozen=True):
    """A version of a report.

    Attributes:
        content_id, aoi: id and AOI of the report.
        inputs: digest of the first page's inputs.
        ground: digest of the baseline and the view.
        baseline: pictures of the baseline; None if they could not be drawn.
        months: in order.
        shown: folders of the pictures on the first page.
        files: keys of the parts with public files, by name; `index.html` is the first page.
        single_page: key of a first page without links to months, for use elsewhere; empty if `index.html` has none.
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
        """Names of the baseline's pictures, relative to the report's folder."""
        screen = [self.baseline.mean, self.baseline.std] if self.baseline else []
        return [*screen, *map(paper_name, screen)]

    @property
    def pictures_on_first_page(self) -> list[str]:
        """Names of the first page's pictures, relative to the report's folder."""
        return [*self.pictures_of_baseline, *(f"{folder}/{name}" for folder in self.shown for name in PICTURES)]


def report_folder(aoi: str, content_id: str) -> str:
    """The folder of a report in the cube."""
    return f"products/{aoi}/report/{content_id}"


def edition_chain(store: Store, aoi: str, content_id: str) -> NumberedChain:
    """The editions of a report."""
    return NumberedChain(store, aoi, "report", f"{content_id}/editions", ".json")


def newest_edition(chain: NumberedChain) -> tuple[int, Edition | None]:
    """The newest edition and its number; 0 and None before the first."""
    number, body = chain.newest()
    return number, parse_edition(body, chain)


def find_edition(chain: NumberedChain, number: int) -> Edition | None:
    """An edition by its number; None if the number is 0 or unused."""
    return parse_edition(chain.version(number), chain) if number else None


def parse_edition(body: bytes | None, chain: NumberedChain) -> Edition | None:
    """Parse a document of the chain; None for None. CUBE_DAMAGED."""
    try:
        return None if body is None else Edition.model_validate_json(body)
    except ValidationError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"an edition of the report in {chain.scope} cannot be read") from error


def read_drawn(month: ReportMonth | None, store: Store) -> dict[str, DrawnDate]:
    """Read the drawings of a month, by label; empty if the month is None. CUBE_DAMAGED."""
    if month is None:
        return {}
    try:
        return DrawnMonth.model_validate_json(read_part(store, month.drawn)).dates
    except ValidationError as error:
        raise AcdError(ErrorCode.CUBE_DAMAGED, f"{store.address_of(month.drawn)} is not a list of pictures") from error


def write_drawn(name: str, inputs: str, dates: dict[str, DrawnDate], folder: str, store: Store) -> ReportMonth:
    """Write the drawings of a month."""
    body = DrawnMonth(dates=dict(sorted(dates.items()))).model_dump_json().encode()
    failed = sum(not date.folder for date in dates.values())
    return ReportMonth(
        month=name, inputs=inputs, drawn=write_part(store, f"{folder}/drawn/{name}", ".json", body), failed=failed
    )


def is_shown(edition: Edition, store: Store) -> bool:
    """Whether an edition's first page is in place. It is written last, so all pages are then in place."""
    index = store.find(f"{report_folder(edition.aoi, edition.content_id)}/{INDEX}")
    return index is not None and index == read_part(store, edition.files[INDEX])


def missing_pictures(edition: Edition, store: Store) -> set[str]:
    """Folders on the first page with a missing picture. Pictures of other pages are not checked."""
    folder = store.within(report_folder(edition.aoi, edition.content_id))
    names = edition.pictures_on_first_page
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        exists_all = pool.map(folder.exists, names)
        return {name.rpartition("/")[0] for name, exists in zip(names, exists_all, strict=True) if not exists}


def is_copied(edition: Edition, out: Store) -> bool:
    """Whether a folder has a copy of this edition: first page, its pictures, and the files to download."""
    if out.find(COPY_MARKER) != edition.model_dump_json(indent=1).encode():
        return False
    months = {f"{month.month}.html" for month in edition.months}
    expected = [name for name in edition.files if name not in months]
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        return all(pool.map(out.exists, [*expected, *edition.pictures_on_first_page]))


def show_edition(chain: NumberedChain, names: Iterable[str] | None, store: Store) -> None:
    """Copy the newest edition's files to their public names, the first page last.

    If another edition is published meanwhile, it is copied next, so that the last of several writers leaves the newest.

    `names` are the files that may have changed; None means all.
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
    """Copy a report: pictures missing in the copy, and pages that changed since the copied edition."""
    folder = store.within(report_folder(edition.aoi, edition.content_id))
    earlier = _edition_of_copy(edition, out)
    if earlier == edition:  # the same edition is copied again only if files of the copy are missing
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
    out.put(COPY_MARKER, edition.model_dump_json(indent=1).encode())


def keys_of(edition: Edition, store: Store) -> set[str]:
    """All keys of the cube that an edition lists, directly or through its months."""
    folder = report_folder(edition.aoi, edition.content_id)
    names = {*edition.files, *edition.pictures_on_first_page}
    names |= {name for month in edition.months for name in _pictures_of(month, store)}
    parts = {*edition.files.values(), *(month.drawn for month in edition.months)}
    return {f"{folder}/{name}" for name in names} | parts | ({edition.single_page} if edition.single_page else set())


def _pictures_of(month: ReportMonth, store: Store) -> Iterator[str]:
    folders = [date.folder for date in read_drawn(month, store).values() if date.folder]
    return (f"{folder}/{name}" for folder in folders for name in PICTURES)


def _edition_of_copy(edition: Edition, out: Store) -> Edition | None:
    """The edition of the same report in a copy; None if unknown."""
    body = out.find(COPY_MARKER) if out.exists(INDEX) else None
    try:
        known = Edition.model_validate_json(body) if body else None
    except ValidationError:
        return None
    return known if known is not None and known.content_id == edition.content_id else None


def _index_last(files: Iterable[str]) -> list[str]:
    return sorted(files, key=lambda name: (name == INDEX, name))
