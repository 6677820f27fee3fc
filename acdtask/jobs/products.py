"""Products of the jobs: variables, and the contents of manifests, which `acdtask.jobs.manifests` stores."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.model import Dataset, Variable
from acdtask.jobs.cautions import Caution
from acdtask.jobs.near_misses import Closest
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Tile

__all__ = [
    "MASK_NODATA",
    "PARTIAL",
    "Z_FORMAT",
    "Z_SCALE",
    "Z_UNIT",
    "BaselineManifest",
    "BaselinePixels",
    "BaselineTile",
    "ImageProduct",
    "MonitorManifest",
    "MonitorMonth",
    "MonitorTile",
    "MonthImage",
    "MonthOfImages",
    "baseline_variables",
    "change_variable",
    "z_variable",
]

Z_SCALE = 0.01
"""z per stored unit."""

Z_UNIT = "standard deviations"

Z_FORMAT = DataFormat(dtype="int16", nodata=-32768, min=-32767, max=32767)

MASK_NODATA = 255

PARTIAL = "partial"
"""Subfolder for products of an incomplete image; it has a folder per digest of their inputs."""


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


class BaselinePixels(_Manifest):
    """Numbers of pixels of a baseline tile inside the area of interest.

    Attributes:
        area_px: all pixels.
        mean_px: pixels that have a mean.
        scored_px: pixels that can get a z with the default settings of the baseline's profile.
        few_px, steady_px: pixels that cannot, because of too few images or too small a std.
        most_images: maximum number of images of a pixel.
        half_count: number of images that at least half of the pixels with a mean have.
        values, clipped_values: numbers of values in the moments, and left out of them as unusually low.
    """

    area_px: int = 0
    mean_px: int = 0
    scored_px: int = 0
    few_px: int = 0
    steady_px: int = 0
    most_images: int = 0
    half_count: int = 0
    values: int = 0
    clipped_values: int = 0


class BaselineTile(_Manifest):
    """The products of a baseline tile, and the key and digest of its STAC item.

    `pixels` is None in documents of earlier versions.
    """

    tile: Tile
    mean: Dataset
    standard_deviation: Dataset
    count: Dataset
    moments: Dataset
    item: str = ""
    item_checksum: str = ""
    pixels: BaselinePixels | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The keys of the files."""
        return self.mean.uri, self.standard_deviation.uri, self.count.uri, self.moments.uri


def _is_empty(value: tuple[Any, ...] | str) -> bool:
    return not value


def _is_zero(value: int) -> bool:
    return not value


class BaselineManifest(_Manifest):
    """A published baseline. `start` and `end` are the requested period, `last` is the datetime of the last image.

    `quarantined` lists the tiles that are still missing. `files` has the digests of mosaics and styles, by key. `track`
    and `polarisation` are those of the images, if known and the same for all. `warnings` name the months of the year
    without an image.
    """

    content_id: str
    aoi: str
    variable: str
    instance: str
    layout: str
    name: str
    profile: str
    start: dt.datetime
    end: dt.datetime
    last: dt.datetime
    images: list[str]
    records: int
    settings: dict[str, Any]
    version: str
    tiles: list[BaselineTile]
    quarantined: tuple[QuarantinedTile, ...] = Field(default=(), exclude_if=_is_empty)
    files: dict[str, str] = {}
    track: str = Field(default="", exclude_if=_is_empty)
    polarisation: str = Field(default="", exclude_if=_is_empty)
    warnings: tuple[Caution, ...] = Field(default=(), exclude_if=_is_empty)

    def joined_with(self, earlier: BaselineManifest) -> BaselineManifest:
        """Add the tiles that only an earlier version of the same baseline has."""
        own_cells = {product.tile.cell for product in self.tiles}
        tiles = [*self.tiles, *(product for product in earlier.tiles if product.tile.cell not in own_cells)]
        cells = {product.tile.cell for product in tiles}
        return self.model_copy(
            update={
                "tiles": sorted(tiles, key=lambda product: (product.tile.j, product.tile.i)),
                "quarantined": tuple(tile for tile in self.quarantined if tile.cell not in cells),
            }
        )


class MonitorTile(_Manifest):
    """The products of a tile and image."""

    tile: Tile
    z: Dataset
    change: Dataset


class ImageProduct(_Manifest):
    """The product of an image. `start` is the first date of the pair, if known.

    `records` are the ids of the image's records in stacking order. The index knows where their pixels are, since
    consolidation moves them.

    `quarantined` lists the tiles that are still missing; such an image is partial and not in the index. `content` is
    the label and a digest of the inputs; `baseline` is the content id of the baseline version that the image was judged
    against. `rejected` is the key of the table of rejected candidates, which is beside the patches, for methods that
    judge candidates. `checksums` has the digest of each file other than rasters, by file name. `closest` is the closest
    near miss; None in documents of earlier versions. `warnings` say what makes the result less reliable.
    """

    label: str
    datetime: dt.datetime
    start: dt.datetime | None
    records: list[str]
    tiles: list[MonitorTile]
    patches: str
    patches_geojson: str
    patch_count: int
    changed_px: int
    quality_px: dict[str, int]
    checksums: dict[str, str]
    quarantined: tuple[QuarantinedTile, ...] = Field(default=(), exclude_if=_is_empty)
    closest: Closest | None = None
    content: str = ""
    baseline: str = ""
    warnings: tuple[Caution, ...] = Field(default=(), exclude_if=_is_empty)
    rejected: str = Field(default="", exclude_if=_is_empty)
    rejected_count: int = Field(default=0, exclude_if=_is_zero)

    @property
    def folder(self) -> str:
        """The folder of the image's products once it is complete. It changes if the records do."""
        folder = self.patches.rpartition("/")[0]
        return folder.rpartition(f"/{PARTIAL}/")[0] if self.quarantined else folder


class MonitorMonth(_Manifest):
    """The images of a month (UTC) in a monitoring result.

    Attributes:
        month: such as 2018-07.
        images, partial, changed: number of images, of those that lack tiles, and of those that have patches.
        patches: number of patches of all images.
        changed_area_m2: sum of their areas.
        document: key of the part with the `MonthOfImages`.
        table: key of the part with the patches, a GeoParquet file.
        quality_px: sum of `ImageProduct.quality_px`; empty if not counted.
        closest, closest_image: closest near miss of all images, None if unknown, and the label of its image.
        baselines: number of images judged against each baseline version.
        baseline: baseline version of the newest image.
    """

    month: str
    images: int
    partial: int
    changed: int
    patches: int
    changed_area_m2: float
    document: str
    table: str
    quality_px: dict[str, int] = {}
    closest: Closest | None = None
    closest_image: str = ""
    baselines: dict[str, int] = {}
    baseline: str = ""


class MonthImage(_Manifest):
    """An image of a month: its label, and the key of the part with its `ImageProduct`."""

    label: str
    document: str


class MonthOfImages(_Manifest):
    """The images of a month by datetime and label, stored as the part `MonitorMonth.document`.

    It is rewritten with every image of the month, so it only has references to the images' documents.
    """

    images: list[MonthImage]


class MonitorManifest(_Manifest):
    """A published monitoring result, month by month. `content_id` is the id of the series.

    `baseline` is the content id of the baseline version that the newest image was judged against; `ImageProduct` has
    that of each image. `since` is the start of the series if none is given.

    The months are sorted. `acdtask.jobs.monitor.months` reads the documents that they refer to.
    """

    content_id: str
    aoi: str
    aoi_geometry: dict[str, Any]
    variable: str
    instance: str
    layout: str
    baseline: str
    months: list[MonitorMonth]
    settings: dict[str, Any]
    version: str
    since: dt.datetime | None = None


def baseline_variables(variable: Variable) -> tuple[Variable, Variable, Variable, Variable]:
    """`<name>_Mean`, `_StandardDeviation`, `_Count` (float32) and `_Moments` (exact integers), in stored units."""
    low, high = variable.dformat.min, variable.dformat.max

    def derived(suffix: str, top: float, scale: float, what: str) -> Variable:
        dformat = DataFormat(dtype="float32", nodata=math.nan, min=min(low, 0.0), max=top)
        name = f"{variable.name}_{suffix}"
        return Variable(name=name, dformat=dformat, unit=variable.unit, scale=scale, description=what)

    exact = DataFormat(dtype="int64", nodata=-1, min=0, max=float(2**62))
    return (
        derived("Mean", high, variable.scale, f"mean of {variable.name} over a reference period"),
        derived("StandardDeviation", high - low, variable.scale, f"population standard deviation of {variable.name}"),
        derived("Count", float(2**24), 1.0, f"number of valid images of {variable.name}"),
        Variable(
            name=f"{variable.name}_Moments",
            dformat=exact,
            bands=("count", "sum", "sum_of_squares"),
            resampling="nearest",
            description=f"exact integer moments of {variable.name}",
        ),
    )


def z_variable(variable: Variable) -> Variable:
    """`<name>_Z`: (mean - image) / std in hundredths."""
    return Variable(
        name=f"{variable.name}_Z",
        dformat=Z_FORMAT,
        scale=Z_SCALE,
        description=f"drop of {variable.name} below its baseline, in standard deviations",
    )


def change_variable(variable: Variable) -> Variable:
    """`<name>_Change`: band change (1 changed, 0 not, 255 no z) and band quality (acdtask.change.zscore.Quality)."""
    return Variable(
        name=f"{variable.name}_Change",
        dformat=DataFormat(dtype="uint8", nodata=MASK_NODATA, min=0, max=254),
        bands=("change", "quality"),
        resampling="nearest",
        description=f"abnormal change of {variable.name}, and why a pixel has no z",
    )
