"""Rasters as people have them: bands with names, scales, masks of every kind, STAC items, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.enums import ColorInterp

from acdtask.engine.local import LocalOutcome, run_locally
from acdtask.engine.processes import WorkerPool
from acdtask.jobs.ingest.job import IngestJob
from acdtask.jobs.ingest.settings import IngestSettings
from tests.jobs.rasters import CRS, ORIGIN

NAME = "S1_20210101_20210107_VV.tif"
SIZE = 8
UNSAID = "unsaid"


def write_odd(
    path: Path,
    pixels: NDArray[Any],
    *,
    nodata: float | None = None,
    descriptions: Sequence[str] = (),
    scale: float | None = None,
    offset: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    mask_beside: NDArray[np.bool_] | None = None,
    colours: Sequence[ColorInterp] = (),
    pam: str = "",
    crs: str | None = CRS,
    transform: Affine | None = None,
    **more: Any,
) -> Path:
    """A GeoTIFF of one band (height, width) or several (bands, height, width), and what lies beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = pixels if pixels.ndim == 3 else pixels[np.newaxis]
    place = Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1]) if transform is None else transform
    how = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    with (
        np.errstate(over="ignore"),  # of a nodata value that the data type cannot hold
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", nodata=nodata, crs=crs, transform=place, **how, **more) as raster,
    ):
        if colours:
            raster.colorinterp = tuple(colours)
        raster.write(bands)
        if descriptions:
            raster.descriptions = tuple(descriptions)
        if scale is not None:
            raster.scales = (scale,) * len(bands)
        if offset is not None:
            raster.offsets = (offset,) * len(bands)
        if mask is not None:
            raster.write_mask(mask)
    if mask_beside is not None:
        write_mask_beside(path, mask_beside)
    if pam:
        body = f'<PAMDataset><PAMRasterBand band="1">{pam}</PAMRasterBand></PAMDataset>'
        path.with_name(f"{path.name}.aux.xml").write_text(body)
    return path


def write_mask_beside(path: Path, mask: NDArray[np.bool_]) -> Path:
    """The file that GDAL writes for a mask without GDAL_TIFF_INTERNAL_MASK."""
    beside = path.with_name(f"{path.name}.msk")
    how = {"count": 1, "height": mask.shape[0], "width": mask.shape[1], "dtype": "uint8"}
    place = Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1])
    with rasterio.open(beside, "w", driver="GTiff", crs=CRS, transform=place, **how) as raster:
        raster.write(mask.astype(np.uint8) * 255, 1)
        raster.update_tags(INTERNAL_MASK_FLAGS_1="2")
    return beside


def write_item(folder: Path, raster: Path, asset: dict[str, Any]) -> Path:
    """A STAC item of a raster, whose asset says this of it."""
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": raster.stem,
        "geometry": {"type": "Polygon", "coordinates": [[[6, 51], [7, 51], [7, 52], [6, 52], [6, 51]]]},
        "bbox": [6, 51, 7, 52],
        "properties": {"datetime": "2021-01-07T05:00:00Z"},
        "assets": {"coherence": {"href": str(raster), **asset}},
        "links": [],
    }
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path


def ingest(cube: Path, source: Path, *, quarantine: int = 0, **settings: Any) -> LocalOutcome:
    """Ingest a folder or an item in this process."""
    with WorkerPool(0) as pool:
        chosen = IngestSettings(source=str(source), **settings)
        return run_locally(IngestJob(), chosen, str(cube), pool=pool, progress=False, quarantine=quarantine)


def stored(cube: Path, variable: str = "CoherenceVV") -> dict[str, NDArray[Any]]:
    """The stored pixels of each record, by name."""
    found = {}
    for path in sorted((cube / "data" / variable).rglob("*.tif")):
        with rasterio.open(path) as raster:
            found[path.stem.rpartition("-")[0]] = raster.read(1)
    return found
