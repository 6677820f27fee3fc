"""Products of the jobs: variables, keys, and the manifests that list a product's files."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from acdtask.cube.model import Dataset, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.fence import Fence, newest_number
from acdtask.jobs.near_misses import Closest
from acdtask.jobs.quarantine import QuarantinedTile
from acdtask.raster.data_format import DataFormat
from acdtask.raster.grid import Tile
from acdtask.storage.seal import seal, unseal
from acdtask.storage.store import Store
from acdtask.wording import known_names

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
    "NumberedChain",
    "baseline_variables",
    "body_of",
    "change_variable",
    "damaged_result",
    "digest_of_file",
    "find_manifest",
    "is_latest",
    "manifest_chain",
    "point_latest",
    "read_product",
    "z_variable",
]

Z_SCALE = 0.01
"""z per stored unit."""

Z_UNIT = "standard deviations"

Z_FORMAT = DataFormat(dtype="int16", nodata=-32768, min=-32767, max=32767)

MASK_NODATA = 255

PARTIAL = "partial"
"""Subfolder for products of an incomplete image; it has a folder per digest of their inputs."""

PUBLISH_ATTEMPTS = 50

LATEST = re.compile(r"products/(?P<aoi>.+?)/(?P<job>baseline|monitor)/(?P<name>.+)\.latest/\d+")
"""Matches the key of a pointer to the latest publication of a name."""


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


class BaselineManifest(_Manifest):
    """A published baseline. `start` and `end` are the requested period, `last` is the datetime of the last image.

    `quarantined` lists the tiles that are still missing. `files` has the digests of mosaics and styles, by key. `track`
    and `polarisation` are those of the images, if known and the same for all.
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
    against. `checksums` has the digest of each file other than rasters, by file name. `closest` is the closest near
    miss; None in documents of earlier versions.
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


class NumberedChain:
    """A chain of versions of a JSON document, numbered from 1. Only one writer can add the next number.

    Each version is stored with its checksum.

    Args:
        store: store of the cube.
        aoi, job: names of the AOI and job.
        name: name of the document below these.
        ending: file name extension of the versions.
    """

    def __init__(self, store: Store, aoi: str, job: str, name: str, ending: str = "") -> None:
        self.scope = f"{aoi}/{job}/{name}"
        self._store = store.within(f"products/{self.scope}")
        self._ending = ending

    @property
    def folder(self) -> str:
        """Address of the folder with the versions."""
        return self._store.url

    def newest(self) -> tuple[int, bytes | None]:
        """Number and content of the newest version; 0 and None before the first. PRODUCT_DAMAGED."""
        number = newest_number(self._store)
        return (number, self.version(number)) if number else (0, None)

    def version(self, number: int) -> bytes | None:
        """The content of a version, or None. PRODUCT_DAMAGED."""
        data, address = self._store.find(self._key(number)), self._store.address_of(self._key(number))
        return None if data is None else unseal(data, address, ErrorCode.PRODUCT_DAMAGED, self._repair_hint)

    def publish(self, make: Callable[[bytes | None], bytes], fence: Fence, holds: Mapping[str, str]) -> None:
        """Add a version made from the newest one, unless it is the same.

        The content is announced first, and announcements of others are checked after the newest number is read. A plan
        that announces later therefore sees this version or takes its number, so an older plan never replaces results of
        a newer one.

        Raises:
            AcdError: PLAN_OVERTAKEN if a plan with a newer token announced another version of any name in `holds`;
                PRODUCT_DAMAGED, STORE_CONTENDED.
        """
        fence.announce(self.scope, holds)
        for _ in range(PUBLISH_ATTEMPTS):
            number, newest = self.newest()
            body = make(newest)
            if body == newest:
                return
            fence.require(self.scope, holds)
            if self._store.create(self._key(number + 1), seal(body)):
                return
        raise AcdError(
            ErrorCode.STORE_CONTENDED, f"{self._store.url}: other writers were faster {PUBLISH_ATTEMPTS} times"
        )

    def require(self, fence: Fence, holds: Mapping[str, str]) -> None:
        """Fail before writing anything if a newer plan is already known. PLAN_OVERTAKEN."""
        fence.require(self.scope, holds)

    @property
    def _repair_hint(self) -> str:
        return f"Restore it from a backup, or delete the folder {self.folder} and rerun the job that wrote it."

    def _key(self, number: int) -> str:
        return f"{number:06d}{self._ending}"


def body_of(manifest: BaselineManifest | MonitorManifest, earlier: bytes | None) -> bytes:
    """Encode a manifest. If it differs from the earlier version only in the version of acd, that is returned."""
    if earlier is not None:
        known = type(manifest).model_validate_json(earlier)
        if manifest.model_copy(update={"version": known.version}) == known:
            return earlier
    return manifest.model_dump_json(indent=1).encode()


def manifest_chain(store: Store, aoi: str, job: str, content_id: str) -> NumberedChain:
    """The versions of a product's manifest."""
    return NumberedChain(store, aoi, job, f"{content_id}/manifests", ".json")


def point_latest(store: Store, aoi: str, job: str, name: str, content_id: str, fence: Fence) -> None:
    """Make a content id the `latest` of a name (such as variable and layout), unless a newer plan has set it."""
    try:
        body = json.dumps({"latest": content_id}).encode()
        _pointer(store, aoi, job, name).publish(lambda _: body, fence, {"latest": content_id})
    except AcdError as error:
        if error.code is not ErrorCode.PLAN_OVERTAKEN:
            raise


def is_latest(store: Store, aoi: str, job: str, name: str, content_id: str) -> bool:
    """Whether a content id is the `latest` of a name. PRODUCT_DAMAGED."""
    return _latest(store, aoi, job, name) == content_id


def _latest(store: Store, aoi: str, job: str, name: str) -> str:
    """The content id that is the `latest` of a name; empty if nothing was published. PRODUCT_DAMAGED."""
    body = _pointer(store, aoi, job, name).newest()[1]
    return str(json.loads(body)["latest"]) if body else ""


def _pointer(store: Store, aoi: str, job: str, name: str) -> NumberedChain:
    return NumberedChain(store, aoi, job, f"{name}.latest")


def find_manifest(
    store: Store, aoi: str, job: str, name: str, content_id: str, missing: ErrorCode, version: int = 0
) -> tuple[int, bytes]:
    """Find a manifest; returns its version and content. The content id `latest` means the latest publication of a name.

    Version 0 means the newest one. Raises the error `missing` if there is none, and PRODUCT_DAMAGED.
    """
    latest = content_id == "latest"
    wanted_id = _latest(store, aoi, job, name) if latest else content_id
    if wanted_id:
        chain = manifest_chain(store, aoi, job, wanted_id)
        number, body = (version, chain.version(version)) if version else chain.newest()
        if body is not None:
            return number, body
    wanted = f"{job} of {name}" if latest else f"{job} {content_id}"
    raise AcdError(missing, f"the AOI {aoi} has no {wanted} at {store.url}{_known_results(store, aoi, job, name)}")


def _known_results(store: Store, aoi: str, job: str, name: str) -> str:
    """Alternatives to a missing result: other results of the AOI, or AOIs that have results."""
    matches = [LATEST.fullmatch(key) for key in store.list("products")]
    pointers = [(match["aoi"], match["name"]) for match in matches if match and match["job"] == job]
    if names := [other for area, other in pointers if area == aoi]:
        return known_names(name, names, what="it has")
    return known_names(aoi, (area for area, _ in pointers), what=f"AOIs with a {job} are") if pointers else ""


def digest_of_file(data: bytes) -> str:
    """The digest of a product's file as in its manifest: SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_product(store: Store, key: str, digest: str) -> bytes:
    """Read a file of an image's product and check its digest. PRODUCT_DAMAGED."""
    data = store.find(key)
    if data is None or digest_of_file(data) != digest:
        state = "missing" if data is None else "damaged"
        raise damaged_result(store, key, f"{store.address_of(key)} is {state}")
    return data


def damaged_result(store: Store, key: str, detail: str) -> AcdError:
    """The error PRODUCT_DAMAGED for a file of a monitoring result, with advice on how to recreate it."""
    manifests = store.address_of("/".join([*key.split("/")[:4], "manifests"]))
    return AcdError(
        ErrorCode.PRODUCT_DAMAGED,
        detail,
        f"Restore it from a backup, or delete the folder {manifests} and rerun the monitor: it judges the images again,"
        " with the same result.",
    )
