"""Compare an image with a baseline: z, change mask and patches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import shapely.geometry
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.api.baseline import Baseline, dataset_of, stored_image
from acdtask.api.files import Address, read_saved, write_saved
from acdtask.api.patches import PatchTable, table_of
from acdtask.api.quantise import Stored
from acdtask.change import detect
from acdtask.change.methods import STANDARD
from acdtask.change.packing import pack_rows, unpack_rows
from acdtask.change.polygons import Outline, join_all, trace
from acdtask.change.seams import BLOB
from acdtask.change.steps.registry import steps_of
from acdtask.change.thresholds import Detection, Direction
from acdtask.change.zscore import Quality, ZScore
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.raster.masks import inside_mask

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["Area", "Change", "monitor", "patches"]

Area: TypeAlias = NDArray[np.bool_] | BaseGeometry | dict[str, Any]
"""A boolean mask, shape (y, x), True inside; or a shapely or GeoJSON geometry in longitude and latitude."""

KIND = "change"


@dataclass(frozen=True, eq=False)
class Change:
    """The changes in one image. Made by `acdtask.monitor`.

    Attributes:
        detected: scores and blobs, in pixels and stored units.
        detection: the thresholds; `min_std` in stored units.
        scale: coherence = stored unit * scale.
        time: time of the image, ISO 8601; empty if unknown.
        grid: pixel grid, or None if unknown.
    """

    detected: detect.ImageChange
    detection: Detection
    scale: float
    time: str = ""
    grid: Grid | None = None

    @property
    def z(self) -> NDArray[np.float32]:
        """Standard deviations by which coherence is below its mean (above it, if only rises count), shape (y, x).

        NaN where not judged.
        """
        return self.detected.score.z

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True in patches, shape (y, x)."""
        return self.detected.blob_ids > 0

    @property
    def quality(self) -> NDArray[np.uint8]:
        """The reason why a pixel has no z, shape (y, x).

        0: it has a z. 1: nodata. 2: too few images. 3: hardly varies. 4: no baseline. 5: outside the area.
        """
        return self.detected.score.quality

    @property
    def judged(self) -> float:
        """The fraction of the area's pixels that have a z, 0 to 1."""
        counts = np.bincount(self.quality.reshape(-1), minlength=len(Quality))
        return float(counts[Quality.VALID] / max(1, counts.sum() - counts[Quality.OUTSIDE]))

    @property
    def highest_z(self) -> float:
        """The highest z of all pixels, in a patch or not; the highest absolute value if both directions count."""
        return float(np.nanmax(np.abs(self.z) if self.detection.direction == "both" else self.z))

    @cached_property
    def patches(self) -> PatchTable:
        """The patches, largest first."""
        return patches(self)

    def to_xarray(self) -> Dataset:
        """Convert to an xarray.Dataset of z, mask and quality, with coordinates and CRS if known. EXTRA_MISSING."""
        dataset = dataset_of({"z": self.z, "mask": self.mask, "quality": self.quality}, self.grid)
        return dataset.assign_attrs(time=self.time) if self.time else dataset

    def save(self, address: Address) -> None:
        """Write the change to a path or s3:// address, for `Change.load`; numpy opens it as .npz."""
        metadata = {"scale": self.scale, "time": self.time, "grid": self.grid, "detection": self.detection.recorded()}
        arrays: dict[str, NDArray[Any]] = {
            "z": self.z,
            "quality": self.quality,
            "blob_ids": self.detected.blob_ids,
            "blobs": pack_rows(self.detected.blobs),
        }
        write_saved(address, KIND, metadata, arrays)

    @classmethod
    def load(cls, address: Address) -> Change:
        """Read a change written by `save`. INPUT_MISSING, SAVED_UNREADABLE."""
        metadata, arrays = read_saved(address, KIND)
        blob_ids = arrays["blob_ids"]
        outlines: dict[int, Outline] = join_all(trace(blob_ids, (0, 0)))
        detected = detect.ImageChange(
            ZScore(arrays["z"], arrays["quality"]), blob_ids, unpack_rows(arrays["blobs"], BLOB), outlines
        )
        return cls(detected, Detection.of(metadata["detection"]), metadata["scale"], metadata["time"], metadata["grid"])

    def __repr__(self) -> str:
        date = f" on {self.time[:10]}" if self.time else ""
        number = len(self.detected.blobs)
        return (
            f"<acdtask.Change{date}: {number} {'patch' if number == 1 else 'patches'},"
            f" {100 * self.judged:.1f} % of the pixels judged, highest z {self.highest_z:.1f}>"
        )


def monitor(
    image: NDArray[Any] | DataArray,
    baseline: Baseline,
    *,
    nodata: float | None = None,
    area: Area | None = None,
    low: float = STANDARD.low,
    high: float = STANDARD.high,
    min_area: int = STANDARD.min_area,
    min_count: int = STANDARD.min_count,
    min_std: float = 0.005,
    centred: bool = True,
    smooth: float = 0.0,
    direction: Direction = "drop",
) -> Change:
    """Compare a new image with a baseline.

    The result is bit-for-bit identical to that of `acdtask monitor` on the same pixels.

    Args:
        image: shape (y, x), on the pixel grid of the baseline; integers are in the baseline's scale.
        baseline: baseline to compare with.
        nodata: nodata value, in addition to NaN and masked pixels. Default: the array's own, or the baseline's.
        area: area to judge: a boolean mask, shape (y, x), True inside, or a shapely or GeoJSON geometry in longitude
            and latitude. Default: all pixels.
        low: lower threshold of z: connected pixels above it extend a patch.
        high: upper threshold of z: every edge-connected part of a patch has at least one pixel above it.
        min_area: a patch has more pixels than this.
        min_count: minimum number of baseline images; pixels with fewer get no z.
        min_std: minimum standard deviation of coherence; pixels with less get no z.
        centred: whether to measure z against the median z of pixels with similar baseline coherence in the same image,
            so that rain triggers no alarm.
        smooth: standard deviation, in pixels, of a Gaussian that smooths z before thresholding, such as 1.2; 0 for no
            smoothing.
        direction: which changes are abnormal: "drop", "rise" or "both".

    Raises:
        AcdError: PIXELS_DIFFER, IMAGE_UNJUDGED, SETTING_INVALID, INPUT_OUT_OF_RANGE, INPUT_NOT_FINITE.

    >>> import numpy as np
    >>> import acdtask
    >>> rng = np.random.default_rng(0)
    >>> usual = acdtask.baseline(rng.normal(0.7, 0.05, (30, 40, 40)))
    >>> image = np.full((40, 40), 0.7)
    >>> image[10:22, 5:17] = 0.2
    >>> acdtask.monitor(image, usual)
    <acdtask.Change: 1 patch, 100.0 % of the pixels judged, highest z 16.7>
    """
    pixels, times = stored_image(image, baseline, nodata)
    stored = Stored(baseline.scale)
    detection = Detection(
        low=low,
        high=high,
        min_area=min_area,
        min_count=min_count,
        min_std=round(min_std / stored.scale, 9),  # in stored units; 0.005 is exactly 5 steps of 0.001
        zero_is_nodata=baseline.zero_is_nodata,
        direction=direction,
        steps=steps_of({"centred": centred, "smooth": smooth}),
    )
    detected = detect.detect_against(
        baseline.moments,
        pixels,
        detection,
        nodata=stored.nodata,
        valid_range=(0, stored.greatest),
        inside=_inside(area, baseline),
    )
    _require_judged(detected, baseline, min_count, min_std)
    return Change(detected, detection, baseline.scale, times[0] if times else "", baseline.grid)


def _inside(area: Area | None, baseline: Baseline) -> NDArray[np.bool_] | None:
    if area is None:
        return None
    if isinstance(area, np.ndarray):
        if area.shape != baseline.shape or area.dtype != np.bool_:
            raise AcdError(
                ErrorCode.PIXELS_DIFFER,
                f"the mask of the area has shape {area.shape} and type {area.dtype}",
                f"Give booleans of shape {baseline.shape}.",
            )
        return area
    if baseline.grid is None or not baseline.grid.crs:
        raise AcdError(
            ErrorCode.INPUT_CRS_MISSING,
            "the position of the pixels is unknown, so an area in longitude and latitude cannot be located",
            "Give crs= and transform= to acdtask.baseline, or the area as a mask.",
        )
    geometry = shapely.geometry.shape(area.get("geometry", area)) if isinstance(area, dict) else area
    return inside_mask(geometry, baseline.grid)


def _require_judged(detected: detect.ImageChange, baseline: Baseline, min_count: int, min_std: float) -> None:
    quality = detected.score.quality
    if (quality == Quality.VALID).any():
        return
    counts = np.bincount(quality.reshape(-1), minlength=len(Quality))
    reason = Quality(int(np.argmax(counts[1 : Quality.OUTSIDE])) + 1) if counts[1 : Quality.OUTSIDE].any() else None
    most = int(baseline.count.max())
    causes = {
        None: ("the image has no pixels in the area", "Check the area: longitude comes first."),
        Quality.NO_DATA: ("the image has no data there", "Check the image and its nodata value."),
        Quality.TOO_FEW_IMAGES: (
            f"the baseline has at most {most} images, but min_count is {min_count}",
            f"Add images to the baseline, or lower min_count to {most} or less.",
        ),
        Quality.STEADY: (
            f"no pixel's standard deviation reaches min_std, {min_std:g}",
            f"Lower min_std; the largest standard deviation is {np.nanmax(baseline.std, initial=0.0):.3g}.",
        ),
        Quality.NO_BASELINE: (
            "the baseline has no images there",
            "Check the baseline's images and their nodata value.",
        ),
    }
    cause, fix = causes[reason]
    raise AcdError(ErrorCode.IMAGE_UNJUDGED, f"no pixel could be judged: {cause}", fix)


def patches(change: Change, *, name: str = "area") -> PatchTable:
    """List the patches of a change, largest first.

    Args:
        change: from `acdtask.monitor`.
        name: prefix of the ids, such as the name of the area.

    >>> import numpy as np
    >>> import acdtask
    >>> rng = np.random.default_rng(0)
    >>> stack = rng.normal(0.7, 0.05, (30, 40, 40))
    >>> usual = acdtask.baseline(stack, crs="EPSG:32632", transform=(20, 0, 346640, 0, -20, 5655340))
    >>> image = np.full((40, 40), 0.7)
    >>> image[10:22, 5:17] = 0.2
    >>> acdtask.patches(acdtask.monitor(image, usual))
    number  area_px  hectares  z_max  drop_mean  bounds
    1       144      5.76      16.7   0.499      346740, 5654900, 346980, 5655140
    """
    return table_of(change.detected, scale=change.scale, time=change.time, grid=change.grid, name=name)
