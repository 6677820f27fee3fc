"""Data of a report page. The job fills it from the products; the page reads nothing else."""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, model_validator

from acdtask.change.thresholds import Direction
from acdtask.jobs.report.score import Score

__all__ = [
    "BaselinePage",
    "DatePage",
    "FusedPage",
    "FusedRow",
    "HeldBackRow",
    "LeftOutRow",
    "MonthLine",
    "PatchRow",
    "QualityReason",
    "ReportPage",
    "ScoredResult",
    "TileShape",
]

_PICTURE_RULE = re.compile(r"^(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*\.png$")


def _beside_the_page(name: str) -> str:
    if not _PICTURE_RULE.match(name):
        raise ValueError(f"{name!r} is not the relative name of a PNG: letters, digits, '_', '-', '.' and '/'")
    return name


PictureName = Annotated[str, AfterValidator(_beside_the_page)]
"""Name of a PNG below the folder of index.html."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class TileShape(BaseModel, frozen=True, extra="forbid"):
    """A tile: its cell as i/j, and its outline in longitude and latitude."""

    cell: str
    ring: tuple[tuple[float, float], ...] = Field(min_length=3)


class QualityReason(BaseModel, frozen=True, extra="forbid"):
    """A reason for missing z: its code in the quality mask, and a short text."""

    code: int
    words: str


class BaselinePage(BaseModel, frozen=True, extra="forbid"):
    """The reference period.

    `count_min` and `count_max` are the range of the number of images per pixel.
    """

    mean: PictureName
    std: PictureName
    start: datetime.date
    end: datetime.date
    images: int = Field(ge=0)
    count_min: int = Field(ge=0)
    count_max: int = Field(ge=0)


class HeldBackRow(BaseModel, frozen=True, extra="forbid"):
    """A candidate that is held back: area in px, and the probability of a change, with the reason."""

    area_px: int = Field(gt=0)
    probability: Share
    reason: str
    lon: float
    lat: float


class DatePage(BaseModel, frozen=True, extra="forbid"):
    """A monitored date. Its patches and changed area come from `ReportPage.patches`.

    Attributes:
        date: the later date of the pair, which names the image.
        pair_start: the earlier date; changes happened between the two.
        image, z, patches: pictures made with `coherence_png`, `z_png` and `patches_png`; None if nothing was valid.
        pixels: number of pixels of the tiles inside the AOI.
        valid_fraction: share of these pixels with z.
        quality: (code of a `QualityReason`, number of pixels without z for that reason).
        tiles_left_out: number of tiles missing in the date.
        closest: for a date without patches, what came closest to one and which option would show it; may be empty.
        warnings: sentences about what makes the date's result less reliable, without a period.
        held_back: number of candidates that were not probable enough, if the method judges candidates.
        held_back_rows: the most probable of them.
    """

    date: datetime.date
    pair_start: datetime.date
    image: PictureName | None = None
    z: PictureName | None = None
    patches: PictureName | None = None
    pixels: int = Field(ge=0)
    valid_fraction: Share
    quality: tuple[tuple[int, int], ...] = ()
    tiles_left_out: int = Field(default=0, ge=0)
    closest: str = ""
    warnings: tuple[str, ...] = ()
    held_back: int = Field(default=0, ge=0)
    held_back_rows: tuple[HeldBackRow, ...] = ()

    @property
    def key(self) -> str:
        """The dates of the pair, which identify the image among those of the same date."""
        return f"{self.pair_start}_{self.date}"


class PatchRow(BaseModel, frozen=True, extra="forbid"):
    """A patch. Areas in px and hectares, drop in the page's unit (negative for a rise), centroid in degrees.

    Attributes:
        number: its number in the whole report: by date, and by decreasing area within a date.
        baseline_count: number of baseline images, averaged over its pixels.
        probability: probability of a change; None if the method does not judge candidates.
        reason: why it is a patch; empty if the method does not judge candidates.
    """

    id: str
    number: int = Field(ge=1)
    date: datetime.date
    pair_start: datetime.date
    area_px: int = Field(gt=0)
    area_ha: float = Field(gt=0)
    z_max: float
    z_mean: float
    mean_drop: float
    baseline_count: int = Field(ge=0)
    lon: float
    lat: float
    probability: Share | None = None
    reason: str = ""

    @property
    def place(self) -> str:
        """The end of the id, unique within an image: row and column of the first pixel.

        >>> PatchRow.model_construct(id="koln_2021-01-07_r-7_c12").place
        'r-7_c12'
        """
        return "_".join(self.id.split("_")[-2:])

    @property
    def key(self) -> str:
        """The key of the `DatePage` that the patch belongs to."""
        return f"{self.pair_start}_{self.date}"


class FusedRow(BaseModel, frozen=True, extra="forbid"):
    """A patch of fused series, with its centroid and outer rings in degrees.

    Attributes:
        window: label of its window, whose images are from `start` to `end`.
        found_by: names of the series that have a candidate there.
        reason: what each series says, as a sentence.
    """

    id: str
    window: str
    start: datetime.date
    end: datetime.date
    area_ha: float = Field(gt=0)
    probability: Share
    found_by: tuple[str, ...] = Field(min_length=1)
    reason: str
    lon: float
    lat: float
    outline: tuple[tuple[tuple[float, float], ...], ...]


class FusedPage(BaseModel, frozen=True, extra="forbid"):
    """What a page shows of a fusion: names of its series, number of windows and of held-back findings, and patches.

    Patches are by window, newest first, then by probability.
    """

    members: tuple[str, ...] = Field(min_length=2)
    windows: int = Field(ge=0)
    held_back: int = Field(ge=0)
    rows: tuple[FusedRow, ...] = ()

    @property
    def title(self) -> str:
        """The heading of the section."""
        return "Both series" if len(self.members) == 2 else "All series"


class LeftOutRow(BaseModel, frozen=True, extra="forbid"):
    """Something that was left out of the results because it failed permanently.

    `what` is a file, a tile or pictures; `start` and `end` are the first and last date that it is missing from, or None
    if a file's name does not say its date. `error` is the error's label, if it has one, and `sentence` the reason.
    """

    job: str
    what: str
    start: datetime.date | None
    end: datetime.date | None
    error: str
    sentence: str


class MonthLine(BaseModel, frozen=True, extra="forbid"):
    """A month of the report, as listed on the first page.

    `changed` is the number of dates with patches, `area_ha` the sum of the areas of patches. `page` is empty if it
    cannot be linked.
    """

    month: str
    dates: int = Field(ge=0)
    changed: int = Field(ge=0)
    patches: int = Field(ge=0)
    area_ha: float = Field(ge=0)
    page: str = ""


class ScoredResult(BaseModel, frozen=True, extra="forbid"):
    """A monitoring result by name, and how it agrees with the known events."""

    name: str
    score: Score


class ReportPage(BaseModel, frozen=True, extra="forbid"):
    """The whole page.

    Attributes:
        geometry: the AOI, a GeoJSON geometry in longitude and latitude.
        start, end: the monitored period.
        quantity: what is compared, such as coherence.
        unit, limits: its unit, if any, and its range.
        direction: which changes are abnormal.
        low, high: the thresholds of the hysteresis, in z.
        warnings: sentences about the baseline, without a period.
        inputs: number of datasets read.
        quality_reasons: in the order of their codes in `patches_png`.
        patch_files: names of the files with the full table, beside the page.
        more_files: names of other files beside the page.
        compared: the scores of this result and of others, if they are compared.
        months: all months of the report, if each has its own page; `dates` are then the newest.
        month: the month of this page; empty for the first page.
        months_beside: the cube's folder with the pages of months, for a page that is elsewhere.
        fused: patches of this series fused with others; None without a fusion.
    """

    aoi: str
    variable: str
    geometry: dict[str, Any]
    start: datetime.date
    end: datetime.date
    tiles: tuple[TileShape, ...] = ()
    baseline: BaselinePage | None = None
    dates: tuple[DatePage, ...] = ()
    patches: tuple[PatchRow, ...] = ()
    quality_reasons: tuple[QualityReason, ...] = ()
    quantity: str = "coherence"
    unit: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    direction: Direction = "drop"
    low: float
    high: float
    warnings: tuple[str, ...] = ()
    score: Score | None = None
    compared: tuple[ScoredResult, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    inputs: int = Field(ge=0)
    patch_files: tuple[str, ...] = ("patches.geojson", "patches.parquet")
    more_files: tuple[str, ...] = ()
    left_out: tuple[LeftOutRow, ...] = ()
    months: tuple[MonthLine, ...] = ()
    month: str = ""
    months_beside: str = ""
    fused: FusedPage | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ReportPage:
        days = [day.key for day in self.dates]
        if len(set(days)) != len(days):
            raise ValueError("two dates have the same pair")
        ids = [patch.id for patch in self.patches]
        if len(set(ids)) != len(ids):
            raise ValueError("two patches have the same id")
        if len({patch.number for patch in self.patches}) != len(ids):
            raise ValueError("two patches have the same number")
        stray = sorted({patch.key for patch in self.patches} - set(days))
        if stray:
            raise ValueError(f"a patch is of {stray[0]}, which is not a date of the page")
        known = {reason.code for reason in self.quality_reasons}
        unknown = sorted({code for day in self.dates for code, _ in day.quality} - known)
        if unknown:
            raise ValueError(f"quality code {unknown[0]} has no reason")
        return self
