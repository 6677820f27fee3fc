"""Images of a cube as an xarray.Variable that reads pixels on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acdtask.api.georeference import import_xarray
from acdtask.cube.local.cube import LocalCube
from acdtask.cube.model import CubeRequest, Outcome, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import Resampling
from acdtask.raster.grid import Grid, Window

__all__ = ["LazyImages"]


@dataclass(frozen=True)
class LazyImages:
    """Images that are read on demand.

    Attributes:
        cube, definition, instance: cube, variable and instance to read.
        grid: pixel grid of the images.
        groups: record ids of each image.
        resampling: resampling; None for that of the variable.
        stored: whether to return stored integers instead of physical values.
    """

    cube: LocalCube
    definition: Variable
    instance: str
    grid: Grid
    groups: tuple[tuple[str, ...], ...]
    resampling: Resampling | None
    stored: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, y, x), or (time, band, y, x)."""
        bands = (len(self.definition.bands),) if len(self.definition.bands) > 1 else ()
        return len(self.groups), *bands, *self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the returned pixels."""
        return np.dtype(self.definition.dformat.dtype if self.stored else np.float32)

    def variable(self, dimensions: tuple[str, ...]) -> Any:
        """Wrap the images in an xarray.Variable."""
        xr = import_xarray()
        from xarray.backends import BackendArray
        from xarray.core import indexing

        images = self

        class Backend(BackendArray):
            """Adapter through which xarray reads pixels."""

            shape, dtype = images.shape, images.dtype

            def __getitem__(self, key: Any) -> Any:
                return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, images.read)

        scaling = {"scale_factor": self.definition.scale, "_FillValue": self.definition.dformat.nodata}
        attrs: dict[str, Any] = {"units": self.definition.unit} if self.definition.unit else {}
        return xr.Variable(
            dimensions,
            indexing.LazilyIndexedArray(Backend()),
            attrs | (scaling if self.stored else {}),
            {} if self.stored else {**scaling, "dtype": self.definition.dformat.dtype},
        )

    def read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """Read the pixels of an index of integers and slices."""
        time, *bands, rows, columns = key
        images = np.arange(self.shape[0])[time]
        row, column = (_Span.of(index, size) for index, size in zip((rows, columns), self.grid.shape, strict=True))
        pixels = np.empty((np.size(images), *self.shape[1:-2], row.size, column.size), self.dtype)
        if pixels.size:
            window = Window(row=row.first, column=column.first, height=row.size, width=column.size)
            self._fill(pixels, np.atleast_1d(images).tolist(), self.grid.window(window))
        image = 0 if np.ndim(images) == 0 else slice(None)
        return np.asarray(pixels[(image, *bands, row.within, column.within)])

    def _fill(self, pixels: NDArray[Any], images: list[int], grid: Grid) -> None:
        request = CubeRequest(
            variable=self.definition.name,
            instance=self.instance,
            grid=grid,
            groups=tuple(self.groups[image] for image in images),
            resampling=self.resampling,
        )
        for number, image in enumerate(self.cube.images(request)):
            if image.outcome is Outcome.FAILED:
                raise AcdError(ErrorCode.CUBE_DAMAGED, f"an image cannot be read: {image.reason}")
            pixels[number] = self._converted(image.pixels)

    def _converted(self, pixels: NDArray[Any] | None) -> Any:
        """Convert stored pixels to the returned values; None stands for an image without data."""
        dformat = self.definition.dformat
        if pixels is None:
            return dformat.nodata if self.stored else np.nan
        if self.stored:
            return pixels
        physical = (pixels.astype(np.float64) * self.definition.scale).astype(np.float32)
        physical[~dformat.valid(pixels)] = np.nan
        return physical


@dataclass(frozen=True)
class _Span:
    """The range of rows or columns to read for an index, and the index within this range."""

    first: int
    size: int
    within: int | slice

    @classmethod
    def of(cls, key: int | slice, size: int) -> _Span:
        chosen = np.arange(size)[key]
        if np.ndim(chosen) == 0:
            return cls(int(chosen), 1, 0)
        if not chosen.size:
            return cls(0, 0, slice(None))
        first, last = int(chosen.min()), int(chosen.max())
        return cls(first, last - first + 1, slice(None, None, key.step if isinstance(key, slice) else None))
