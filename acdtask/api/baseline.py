"""Baselines of arrays: the usual coherence of each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from acdtask.api.files import Address, read_saved, write_saved
from acdtask.api.georeference import Layers, coordinates, crs_attributes, import_xarray, layers_of
from acdtask.api.quantise import DEFAULT_SCALE, Stored
from acdtask.change.moments import Moments
from acdtask.change.thresholds import Detection
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.grid import Grid
from acdtask.raster.warp import pixel_offset

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["Baseline", "baseline", "dataset_of", "stored_image", "stored_scale_of"]

IMAGES_AT_ONCE = 32
"""Number of images that are read and converted at once, so that a lazy stack need not fit into memory."""
FINEST_HINT, COARSEST_HINT = 1 / 65534, 1 / 100
"""A decoded array's scale between these limits is taken as the step in which its values were stored."""

KIND = "baseline"


@dataclass(frozen=True, eq=False)
class Baseline:
    """Count, mean and standard deviation of coherence at each pixel, from exact integer moments.

    Made by `acdtask.baseline`. Adding and subtracting images is exact: in any order, the result is bit-for-bit
    identical to a baseline made from the same images at once.

    Attributes:
        moments: count, sum and sum of squares of each pixel, shape (y, x), as integers in stored units.
        scale: coherence = stored unit * scale.
        times: times of the images, ISO 8601; empty if unknown.
        grid: pixel grid, or None if unknown.
        zero_is_nodata: whether a coherence of 0 counts as nodata.
        nodata: nodata value of images that do not define their own, or None.

    >>> import numpy as np
    >>> stack = np.array([[[0.5, np.nan]], [[0.7, np.nan]]])
    >>> usual = baseline(stack)
    >>> usual.mean, usual.count
    (array([[0.6, nan]], dtype=float32), array([[2, 0]], dtype=int32))
    >>> usual.add(np.array([[0.3, 0.9]])).subtract(stack[0]).mean
    array([[0.5, 0.9]], dtype=float32)
    """

    moments: Moments
    scale: float = DEFAULT_SCALE
    times: tuple[str, ...] = ()
    grid: Grid | None = None
    zero_is_nodata: bool = False
    nodata: float | None = None

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean coherence, shape (y, x); NaN without images."""
        return _scaled(self.moments.mean(), self.scale)

    @property
    def std(self) -> NDArray[np.float32]:
        """Population standard deviation of coherence, shape (y, x); NaN without images."""
        return _scaled(self.moments.standard_deviation(), self.scale)

    @property
    def count(self) -> NDArray[np.int32]:
        """Number of images with data, shape (y, x)."""
        return self.moments.count

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.moments.count.shape
        return height, width

    def add(self, image: NDArray[Any] | DataArray, *, nodata: float | None = None) -> Baseline:
        """Return the baseline with one more image.

        Args:
            image: shape (y, x), on the pixel grid of the baseline; integers are in the baseline's scale.
            nodata: as for `acdtask.monitor`.

        Raises:
            AcdError: IMAGE_REPEATED if the baseline has an image of the same time; errors of `acdtask.monitor`.
        """
        pixels, times = stored_image(image, self, nodata)
        if again := sorted({*times} & {*self.times}):
            raise AcdError(
                ErrorCode.IMAGE_REPEATED, f"the image of {again[0]} is already in the baseline", "Add each image once."
            )
        known = self.times or not self.moments.count.any()
        moments = self.moments + self._moments_of(pixels[np.newaxis])
        return replace(self, moments=moments, times=(*self.times, *times) if known else ())

    def subtract(self, image: NDArray[Any] | DataArray, *, nodata: float | None = None) -> Baseline:
        """Return the baseline without one of its images.

        Args:
            image: shape (y, x), with the values that were added.
            nodata: as for `acdtask.monitor`.

        Raises:
            AcdError: IMAGE_REPEATED if the image is not in the baseline; errors of `acdtask.monitor`.
        """
        pixels, times = stored_image(image, self, nodata)
        if self.times and times and times[0] not in self.times:
            raise AcdError(ErrorCode.IMAGE_REPEATED, f"the image of {times[0]} is not in the baseline")
        rest = self.moments - self._moments_of(pixels[np.newaxis])
        if not _is_possible(rest):
            raise AcdError(ErrorCode.IMAGE_REPEATED, "the image is not in the baseline, or was added with other values")
        kept = tuple(time for time in self.times if time not in times) if times else ()
        return replace(self, moments=rest, times=kept)

    def to_xarray(self) -> Dataset:
        """Convert to an xarray.Dataset of mean, std and count, with coordinates and CRS if known. EXTRA_MISSING."""
        return dataset_of({"mean": self.mean, "std": self.std, "count": self.count}, self.grid)

    def save(self, address: Address) -> None:
        """Write the baseline to a path or s3:// address, for `Baseline.load`; numpy opens it as .npz."""
        moments = self.moments
        metadata = {
            "scale": self.scale,
            "times": list(self.times),
            "grid": self.grid,
            "zero_is_nodata": self.zero_is_nodata,
            "nodata": None if self.nodata is None else repr(self.nodata),
        }
        arrays: dict[str, NDArray[Any]] = {
            "count": moments.count,
            "total": moments.total,
            "total_of_squares": moments.total_of_squares,
        }
        write_saved(address, KIND, metadata, arrays)

    @classmethod
    def load(cls, address: Address) -> Baseline:
        """Read a baseline written by `save`. INPUT_MISSING, SAVED_UNREADABLE."""
        metadata, arrays = read_saved(address, KIND)
        moments = Moments(arrays["count"], arrays["total"], arrays["total_of_squares"])
        nodata = None if metadata["nodata"] is None else float(metadata["nodata"])
        return cls(
            moments, metadata["scale"], tuple(metadata["times"]), metadata["grid"], metadata["zero_is_nodata"], nodata
        )

    def __repr__(self) -> str:
        height, width = self.shape
        count = self.moments.count
        return f"<acdtask.Baseline of {height} x {width} pixels, {count.min()} to {count.max()} images>"

    def _moments_of(self, stack: NDArray[Any]) -> Moments:
        return _moments_of(stack, Stored(self.scale), zero_is_nodata=self.zero_is_nodata)


def baseline(
    stack: NDArray[Any] | DataArray,
    *,
    scale: float | None = None,
    nodata: float | None = None,
    zero_is_nodata: bool = False,
    crs: str | None = None,
    transform: Iterable[float] | None = None,
) -> Baseline:
    """Make a baseline from a stack of coherence images.

    Args:
        stack: shape (time, y, x): a numpy array, or an xarray.DataArray, whose coordinates and CRS are kept. Floats
            are coherence from 0 to 1, rounded to a thousandth as by `acdtask ingest`. Integers need a scale. A lazy
            array is read a few images at a time.
        scale: for integers, coherence = value * scale: 0.001 for 0 to 1000, 1/255 for bytes. For floats, the step to
            which they are rounded. Default: the array's own scale, or 0.001 for floats.
        nodata: nodata value, in addition to NaN and masked pixels. Default: the array's own.
        zero_is_nodata: whether a coherence of 0 also counts as nodata.
        crs: coordinate reference system, such as "EPSG:32632". Default: the array's own.
        transform: pixel to CRS: a, b, c, d, e, f, such as an `affine.Affine`. Default: the array's own.

    Raises:
        AcdError: STACK_UNFIT, SCALE_UNKNOWN, SETTING_INVALID, INPUT_OUT_OF_RANGE, INPUT_NOT_FINITE.
    """
    layers = layers_of(stack, 3, crs=crs, transform=transform)
    stored = Stored(stored_scale_of(layers, scale))
    missing = layers.nodata if nodata is None else nodata
    moments = Moments.zeros((layers.values.shape[1], layers.values.shape[2]))
    for images in _batches(layers.values):
        moments = moments + _moments_of(stored.of(images, missing, "the stack"), stored, zero_is_nodata=zero_is_nodata)
    return Baseline(moments, stored.scale, layers.times, layers.grid, zero_is_nodata, missing)


def stored_scale_of(layers: Layers, scale: float | None) -> float:
    """Choose the scale in which an array is stored. SCALE_UNKNOWN."""
    if scale is not None:
        return scale
    kind = np.dtype(layers.values.dtype).kind
    if kind in "iu":
        if layers.scale is None:
            raise AcdError(ErrorCode.SCALE_UNKNOWN, f"the array holds integers ({layers.values.dtype}) without a scale")
        return layers.scale
    hint = layers.scale
    is_step = (
        hint is not None and FINEST_HINT <= hint <= COARSEST_HINT and abs(1 / hint - round(1 / hint)) < 1e-6 / hint
    )
    return hint if hint is not None and is_step else DEFAULT_SCALE


def stored_image(
    image: NDArray[Any] | DataArray, baseline: Baseline, nodata: float | None
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Convert an image to the stored units of a baseline; also return its time, if known.

    PIXELS_DIFFER, STACK_UNFIT, INPUT_OUT_OF_RANGE, INPUT_NOT_FINITE.
    """
    layers = layers_of(image, 2)
    _require_same_pixels(layers, baseline)
    is_integer = np.dtype(layers.values.dtype).kind in "iu"
    if is_integer and layers.scale is not None and layers.scale != baseline.scale:
        raise AcdError(
            ErrorCode.PIXELS_DIFFER,
            f"the image's integers have the scale {layers.scale:g}, but the baseline's have {baseline.scale:g}",
            "Give the image as floats: integers times scale.",
        )
    choices = (nodata, layers.nodata, baseline.nodata)
    missing = next((choice for choice in choices if choice is not None), None)
    return Stored(baseline.scale).of(_read(layers.values), missing, "the image"), layers.times


def _require_same_pixels(layers: Layers, baseline: Baseline) -> None:
    if np.shape(layers.values) != baseline.shape:
        raise AcdError(
            ErrorCode.PIXELS_DIFFER,
            f"the image has shape {np.shape(layers.values)}, but the baseline has {baseline.shape}",
        )
    mine, other = baseline.grid, layers.grid
    if mine is None or other is None:
        return
    if mine.crs and other.crs and mine.crs != other.crs:
        raise AcdError(ErrorCode.PIXELS_DIFFER, f"the image is in {other.crs}, but the baseline is in {mine.crs}")
    if pixel_offset(mine, other.model_copy(update={"crs": mine.crs})) != (0, 0):
        raise AcdError(
            ErrorCode.PIXELS_DIFFER, f"the image has the bounds {other.bounds}, but the baseline has {mine.bounds}"
        )


def dataset_of(arrays: dict[str, NDArray[Any]], grid: Grid | None) -> Dataset:
    """Make an xarray.Dataset of arrays of shape (y, x). EXTRA_MISSING."""
    xr = import_xarray()
    coords: dict[str, Any] = {}
    if grid is not None:
        coords = dict(coordinates(grid))
        if grid.crs:
            coords["spatial_ref"] = ((), 0, crs_attributes(grid))
    dataset: Dataset = xr.Dataset({name: (("y", "x"), array) for name, array in arrays.items()}, coords)
    if "spatial_ref" in coords:
        for name in arrays:
            dataset[name].encoding["grid_mapping"] = "spatial_ref"
    return dataset


def _batches(stack: Any) -> Iterator[NDArray[Any]]:
    for first in range(0, stack.shape[0], IMAGES_AT_ONCE):
        yield _read(stack[first : first + IMAGES_AT_ONCE])


def _read(array: Any) -> NDArray[Any]:
    """Load an array into memory; a masked array stays masked."""
    return array if isinstance(array, np.ndarray) else np.asarray(array)


def _moments_of(stack: NDArray[Any], stored: Stored, *, zero_is_nodata: bool) -> Moments:
    return Moments.of_images(*Detection(zero_is_nodata=zero_is_nodata).without_zeros(stack, stored.nodata))


def _is_possible(moments: Moments) -> bool:
    """Whether any set of images could have these moments."""
    count, total, squares = moments.count, moments.total, moments.total_of_squares
    empty = count == 0
    return bool(
        (count >= 0).all()
        and (total >= 0).all()
        and not (total[empty].any() or squares[empty].any())
        and (count * squares >= total * total).all()
    )


def _scaled(stored: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    return (stored.astype(np.float64) * scale).astype(np.float32)
