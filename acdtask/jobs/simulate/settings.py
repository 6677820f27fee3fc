"""Settings of a simulated scene, apart from the simulator so that the command line can import them quickly."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Self

from pydantic import BaseModel, Field, model_validator

from acdtask.dates import Day

__all__ = ["SceneSettings"]


class SceneSettings(BaseModel, frozen=True, extra="forbid"):
    """The settings of a scene. Equal settings make the same scene, bit for bit.

    >>> settings = SceneSettings()
    >>> settings.pairs, settings.pair_dates(0)[1].isoformat(), settings.looks
    (70, '2020-08-07', 36)
    """

    seed: int = Field(default=7, ge=0, lt=2**32, description="random seed; the same seed gives the same scene")
    size: int = Field(default=1024, ge=64, le=8192, description="width and height of the scene in pixels")
    pixel: float = Field(default=20.0, gt=0, allow_inf_nan=False, description="width and height of a pixel in metres")
    reference_pairs: int = Field(
        default=60, ge=0, le=1000, description="number of pairs at the beginning, before those with events"
    )
    monitored_pairs: int = Field(default=10, ge=1, le=1000, description="number of pairs after them, with the events")
    events: int = Field(default=44, ge=0, le=1000, description="number of events; every third is a flood")
    reference_events: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="number of changes in the reference pairs, which the truth does not list: a contaminated baseline",
    )
    first_date: Day = Field(
        default=date(2020, 8, 1),
        ge=date(1900, 1, 1),
        le=date(2500, 1, 1),
        description="first date of the first pair",
    )
    pair_days: int = Field(
        default=6,
        ge=1,
        le=48,
        description="days from one acquisition to the next, such as 6 or 12; longer pairs are less coherent",
    )
    track: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1: the same ground and events from a second track, on days halfway between those of track 0",
    )
    crs: str = Field(default="EPSG:32632", description="projected coordinate system of the images, in metres")
    easting: float = Field(
        default=346640.0, allow_inf_nan=False, description="left edge of the scene: a multiple of the pixel size"
    )
    northing: float = Field(
        default=5655340.0, allow_inf_nan=False, description="upper edge of the scene: a multiple of the pixel size"
    )
    samples: int = Field(default=2, ge=1, le=4, description="speckle samples along each side of a pixel")
    window: int = Field(
        default=3, ge=1, le=9, description="side of the estimation window in pixels, odd; above 1, windows overlap"
    )

    @model_validator(mode="after")
    def _on_the_lattice(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} is even; it must be odd to have a middle pixel")
        if any(abs(round(c / self.pixel) * self.pixel - c) > 1e-6 for c in (self.easting, self.northing)):
            raise ValueError(f"easting and northing are not multiples of the pixel size {self.pixel:g} m")
        return self

    @property
    def pairs(self) -> int:
        """The number of images."""
        return self.reference_pairs + self.monitored_pairs

    @property
    def looks(self) -> int:
        """Number of independent speckle samples in an estimate."""
        return (self.samples * self.window) ** 2

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of an image."""
        return self.size, self.size

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Pixel-to-CRS transform, ordered as in acdtask.raster.grid.Grid."""
        return self.pixel, 0.0, self.easting, 0.0, -self.pixel, self.northing

    def pair_dates(self, pair: int) -> tuple[date, date]:
        """First and second date of a pair. The second is the image's date."""
        start = self.first_date + timedelta(days=pair * self.pair_days + self.track * (self.pair_days // 2))
        return start, start + timedelta(days=self.pair_days)

    def lattice_lines(self, cell: int) -> tuple[range, range]:
        """Lines of a grid of `cell` px from (0, 0) of the CRS that cross the scene.

        Returns:
            Rows and columns; a line runs before its row or column. Lines on the scene's edge are excluded.

        >>> SceneSettings().lattice_lines(512)
        (range(143, 1024, 512), range(76, 1024, 512))
        """
        row = round(self.northing / self.pixel) % cell
        column = -round(self.easting / self.pixel) % cell
        return range(row or cell, self.size, cell), range(column or cell, self.size, cell)
