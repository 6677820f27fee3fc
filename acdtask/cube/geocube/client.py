"""A client of a Geocube for notebooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import ValidationError
from shapely.geometry.base import BaseGeometry

from acdtask.cube.follow import Ending, JobEvent, follow
from acdtask.cube.geocube.connection import ADDRESS, Connection
from acdtask.cube.geocube.cube import GeocubeCube
from acdtask.cube.geocube.index import IndexResult, header_of
from acdtask.cube.jobs import Consolidation, JobState, Level, TaskState
from acdtask.cube.model import (
    Addition,
    CubeRequest,
    Dataset,
    Image,
    Instance,
    Outcome,
    Record,
    RecordQuery,
    Variable,
)
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat, Pixels, Resampling
from acdtask.raster.grid import Grid, Layout, RegularGrid, Tile, WebMercatorGrid
from acdtask.raster.tiling import footprint, tiles_of

__all__ = ["Geocube", "Stack", "connect"]

Area: TypeAlias = "BaseGeometry | dict[str, Any] | tuple[float, float, float, float]"
"""Polygons as shapely or GeoJSON, or (west, south, east, north); longitude and latitude."""

EAGER_ATTEMPTS = 2


def connect(address: str = "", **settings: Any) -> Geocube:
    """Connect to a Geocube and check that it responds.

    Args:
        address: geocube://host:port, or geocubes://host:port for TLS; default: ACD_GEOCUBE_ADDRESS.
        settings: fields of `Connection`, such as api_key, ca_file, downloader, compression; default: the
            environment's.

    Raises:
        AcdError: SETTING_INVALID, GEOCUBE_UNREACHABLE, GEOCUBE_DENIED, GEOCUBE_TLS.
    """
    named = os.environ.get(ADDRESS, "").strip()
    if not (address or named):
        fix = "Give geocube://host:port, or geocubes://host:port for a server with TLS."
        raise AcdError(ErrorCode.SETTING_INVALID, f"no address is given, and {ADDRESS} is not set", fix)
    if address in ("", named):  # the environment's key must not be sent to another server
        settings = {**Connection.settings_of_environment(), **settings}
    connection = Connection.to(address or named, **settings)
    GeocubeCube(connection.model_copy(update={"attempts": min(EAGER_ATTEMPTS, connection.attempts)})).version()
    return Geocube(GeocubeCube(connection))


@dataclass(frozen=True)
class Stack:
    """Images of an instance on one grid.

    Attributes:
        pixels: shape (images, height, width), or (images, bands, height, width) for variables of several bands; the
            variable's dtype and nodata.
        records: the records of each image.
        without: the groups without an image, each with its outcome: no data, absent, or failed with a reason.
    """

    variable: Variable
    grid: Grid
    pixels: Pixels
    records: tuple[tuple[Record, ...], ...]
    without: tuple[tuple[tuple[Record, ...], Image], ...] = ()

    @property
    def dates(self) -> list[datetime]:
        """The datetime of each image's first record."""
        return [group[0].datetime for group in self.records]

    @property
    def failed(self) -> list[str]:
        """Reasons of the images that failed."""
        return [image.reason for _, image in self.without if image.outcome is Outcome.FAILED]

    def physical(self) -> NDArray[np.float32]:
        """The pixels as float32 in the variable's unit, with NaN for nodata."""
        scaled = self.pixels.astype(np.float32) * np.float32(self.variable.scale)
        scaled[~self.variable.dformat.valid(self.pixels)] = np.nan
        return np.asarray(scaled, np.float32)


@dataclass(frozen=True)
class Geocube:
    """A Geocube server.

    Attributes:
        room: the same server as acd's jobs use it (`acdtask.cube.model.Cube`).
    """

    room: GeocubeCube

    def create_variable(
        self,
        name: str,
        dtype: str,
        *,
        nodata: float,
        valid: tuple[float, float],
        scale: float = 1.0,
        unit: str = "",
        description: str = "",
        bands: Sequence[str] = ("",),
        resampling: Resampling = "bilinear",
        palette: str = "",
    ) -> Variable:
        """Create a variable if it does not exist.

        Args:
            name: letters, digits, '-', ':' and '_', with '/' between parts.
            dtype: such as "int16".
            nodata: the stored value of pixels without data.
            valid: minimum and maximum of the stored valid values.
            scale: physical = stored * scale.
            unit: of the physical values.
            description: free text.
            bands: the name of each band; "" for a single band.
            resampling: GDAL's resampling method for grids other than the file's.
            palette: name of the palette for pictures.

        Raises:
            AcdError: NAME_INVALID, SETTING_INVALID, VARIABLE_CONFLICT.
        """
        fields = {"dtype": dtype, "nodata": nodata, "min": valid[0], "max": valid[1]}
        variable: Variable = _built(
            lambda: Variable(
                name=name,
                dformat=DataFormat.model_validate(fields),
                unit=unit,
                description=description,
                bands=tuple(bands),
                resampling=resampling,
                scale=scale,
                palette=palette,
            )
        )
        self.room.add_variable(variable)
        return variable

    def create_instance(self, variable: str, name: str = "master", **metadata: str) -> Instance:
        """Create an instance of a variable if it does not exist. NAME_INVALID, VARIABLE_UNKNOWN."""
        instance: Instance = _built(lambda: Instance(variable=variable, name=name, metadata=metadata))
        self.room.add_instance(instance)
        return instance

    def create_layout(
        self,
        name: str,
        *,
        crs: str = "",
        resolution: float = 0,
        cell_size: int = 256,
        origin: tuple[float, float] = (0, 0),
        zoom: int | None = None,
    ) -> Layout:
        """Create a layout if it does not exist: cells of cell_size px in a CRS, or web map tiles of a zoom level.

        NAME_INVALID, LAYOUT_INVALID, LAYOUT_CONFLICT.
        """

        def grid() -> RegularGrid | WebMercatorGrid:
            if zoom is not None:
                return WebMercatorGrid.model_validate({"zoom": zoom, "scale": cell_size // 256})
            ox, oy = origin
            return RegularGrid(crs=crs, resolution=resolution, cell_size=cell_size, ox=ox, oy=oy)

        layout = Layout(name=name, grid=_built(grid, ErrorCode.LAYOUT_INVALID))
        self.room.add_layout(layout)
        return layout

    def create_records(self, records: Iterable[Record]) -> list[Record]:
        """Create the records that do not exist yet. Returns all of them. NAME_INVALID, AOI_EMPTY, AOI_INVALID."""
        wanted = list(records)
        self.room.commit(Addition(records=wanted))
        return wanted

    def records(
        self,
        name: str = "",
        *,
        area: Area | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        tags: dict[str, str] | None = None,
        limit: int = 0,
    ) -> list[Record]:
        """Records sorted by datetime.

        Args:
            name: pattern with `*` and `?`.
            area: polygons that the footprint intersects.
            start: inclusive lower bound of the datetime.
            end: inclusive upper bound of the datetime.
            tags: tags that a record has; an empty value matches any.
            limit: maximum number of records; 0 for all.
        """
        query = RecordQuery(
            name=name,
            tags=tags or {},
            start=start,
            end=end,
            area=_geojson(area) if area is not None else None,
            limit=limit,
        )
        return self.room.records(query)

    def index_files(
        self,
        paths: Iterable[str | Path],
        record: Callable[[Path], Record],
        variable: str,
        instance: str = "master",
        *,
        stored: DataFormat | None = None,
        managed: bool = False,
    ) -> list[IndexResult]:
        """Index files, which the server must be able to open under the same absolute paths.

        Args:
            paths: files that can be opened here.
            record: returns the record of a file, which is created if needed; an empty footprint is replaced by the
                file's outline.
            variable: the variable that the files contain.
            instance: its instance.
            stored: data format of the files; default: the variable's.
            managed: hand the files over to the server, which deletes a file together with its last dataset.

        Returns:
            The result of each file; all other files are indexed even if some are refused.

        Raises:
            AcdError: INPUT_MISSING, INPUT_UNREADABLE, VARIABLE_UNKNOWN, INSTANCE_UNKNOWN, as `create_records`.
        """
        definition = self.room.variable(variable)
        records, datasets = [], []
        for path in (Path(name).absolute() for name in paths):
            header = header_of(str(path))
            if header is None:
                raise AcdError(ErrorCode.INPUT_MISSING, f"there is no file {path}")
            built = _built(lambda path=path: record(path))  # type: ignore[misc]  # mypy has no type for such a default
            if not built.footprint:
                built = built.model_copy(update={"footprint": footprint(header.grid)})
            records.append(built)
            datasets.append(
                Dataset(
                    record_id=built.id,
                    variable=variable,
                    instance=instance,
                    uri=str(path),
                    bands=tuple(range(1, len(definition.bands) + 1)),
                    dformat=stored or definition.dformat,
                    grid=header.grid,
                )
            )
        self.create_records(records)
        return self.room.index_containers(datasets, managed=managed)

    def tile(self, area: Area, layout: Layout | str) -> list[Tile]:
        """The cells of a layout that an area intersects, sorted by row, then column. LAYOUT_UNKNOWN, AOI_INVALID.

        They are computed here in double precision: Geocube's protocol rounds coordinates by up to a metre.
        """
        grid = self.room.layout(layout) if isinstance(layout, str) else layout
        return tiles_of(shapely.geometry.shape(_geojson(area)), grid)

    def cube(
        self,
        variable: str,
        instance: str,
        place: Tile | Grid,
        *,
        records: Iterable[Record] | None = None,
        group_by_date: bool = True,
        resampling: Resampling | None = None,
    ) -> Stack:
        """The images of an instance on a tile or grid, in one array.

        Args:
            variable: name of the variable.
            instance: its instance.
            place: a tile, or any grid.
            records: sorted by datetime, as `records` returns them; default: all that intersect the place.
            group_by_date: combine the records of a day (UTC) into one image, later records on top.
            resampling: default: the variable's.

        Raises:
            AcdError: VARIABLE_UNKNOWN, INSTANCE_UNKNOWN. Images that cannot be read are listed in `Stack.without`.
        """
        grid = place.grid if isinstance(place, Tile) else place
        chosen = list(records) if records is not None else self.records(area=footprint(grid))
        grouped: dict[object, list[Record]] = {}
        for record in chosen:
            grouped.setdefault(record.datetime.date() if group_by_date else record.id, []).append(record)
        groups = [tuple(group) for group in grouped.values()]
        request = CubeRequest(
            variable=variable,
            instance=instance,
            grid=grid,
            groups=tuple(tuple(record.id for record in group) for group in groups),
            resampling=resampling,
        )
        pixels, images = self.room.stack(request)
        grouped_images = list(zip(groups, images, strict=True))
        return Stack(
            variable=self.room.variable(variable),
            grid=grid,
            pixels=pixels,
            records=tuple(group for group, image in grouped_images if image.outcome is Outcome.DATA),
            without=tuple((group, image) for group, image in grouped_images if image.outcome is not Outcome.DATA),
        )

    def consolidate(
        self,
        name: str,
        variable: str,
        instance: str,
        layout: str,
        records: Iterable[Record],
        *,
        level: Level = Level.ASYNCHRONOUS,
        approve: Callable[[JobState], bool] | None = None,
        say: Callable[[str], object] | None = None,
        timeout: float = 86400.0,
    ) -> Ending:
        """Consolidate records into one container per cell of a layout, and follow the job until it ends.

        Args:
            name: name of the job.
            variable: name of the variable.
            instance: its instance.
            layout: name of the layout.
            records: the records to consolidate.
            level: level at which the job pauses and asks `approve`.
            approve: called with a paused job; returns whether it may continue.
            say: called with a line of text for every step, such as `print`.
            timeout: seconds.

        Returns:
            How the job ended, with the last error and advice. `acdtask.cube.follow.require_done` raises it as an error.
        """
        wanted = _built(
            lambda: Consolidation(
                name=name,
                variable=variable,
                instance=instance,
                layout=layout,
                records=tuple(record.id for record in records),
                level=level,
            )
        )
        job_id = self.room.consolidate(wanted)

        def report(event: JobEvent) -> None:
            job = event.job
            if say is not None and (event.entered or event.lines):
                done = f", {job.count(TaskState.DONE)} of {len(job.tasks)} cells" if job.tasks else ""
                say(f"{job.name}: {job.state}{' (waiting)' if job.waiting else ''}{done}")

        return follow(self.room, job_id, approve, report, timeout=timeout)


def _geojson(area: Area) -> dict[str, Any]:
    if isinstance(area, dict):
        return area
    shape = shapely.box(*area) if isinstance(area, tuple) else area
    mapping: dict[str, Any] = shapely.geometry.mapping(shape)
    return mapping


def _built(build: Callable[[], Any], code: ErrorCode = ErrorCode.SETTING_INVALID) -> Any:
    """The result of `build`. A validation error is raised as AcdError, naming the field."""
    try:
        return build()
    except ValidationError as error:
        first = error.errors()[0]
        field, reason = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        is_name = field in ("name", "variable", "instance", "layout")
        raise AcdError(ErrorCode.NAME_INVALID if is_name else code, f"{field}: {reason}" if field else reason) from None
