"""Formats of coherence that acd does not read, each with advice for converting it to GeoTIFF."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["other_formats"]

FORMATS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name, advice)
    for pattern, name, advice in (
        (r"\.safe/", ".SAFE", "A .SAFE folder holds radar images, not coherence: process pairs to coherence first."),
        (
            r"\.zarr/",
            ".zarr",
            "Convert .zarr with gdal_translate: gdal_translate 'ZARR:\"in.zarr\":/coherence' out.tif.",
        ),
        (r"\.(zip|tar|tgz|tar\.gz|tar\.bz2|7z|rar)$", "archive (.zip, .tar)", "Unpack the archives: unzip '*.zip'."),
        (
            r"\.(nc|nc4|cdf)$",
            ".nc",
            "Convert .nc with gdal_translate: gdalinfo in.nc lists the layers, then "
            "gdal_translate 'NETCDF:\"in.nc\":/layer' out.tif.",
        ),
        (
            r"\.(h5|hdf5|he5|hdf)$",
            ".h5",
            "Convert .h5 with gdal_translate: gdalinfo in.h5 lists the layers, then "
            "gdal_translate 'HDF5:\"in.h5\"://layer' out.tif.",
        ),
        (
            r"\.(img|dim)$",
            ".img or .dim (SNAP)",
            "Export from SNAP as GeoTIFF, or convert each .img in the .data folder: gdal_translate in.img out.tif.",
        ),
        (
            r"\.vrt$",
            ".vrt",
            "Convert the .vrt files to GeoTIFF: gdal_translate in.vrt out.tif. Plain mosaics of GeoTIFFs are read "
            "directly, with a --pattern that ends in .vrt.",
        ),
        (
            r"\.(cor|coh|cc|slc|int)$",
            ".cor (ISCE, GAMMA)",
            "Convert with gdal_translate (for ISCE, the .vrt beside the file): gdal_translate in.cor.vrt out.tif. "
            "Geocode files in radar geometry first.",
        ),
        (
            r"\.(jp2|grd|bil|bip|bsq|bin|dat|asc|hgt|flt|nitf|ntf)$",
            "other rasters",
            "Convert: gdal_translate in out.tif.",
        ),
        (r"\.(png|jpe?g|kmz)$", "pictures", "Pictures hold no coherence; download the GeoTIFFs of the product."),
    )
)


def other_formats(keys: Iterable[str]) -> tuple[Counter[str], list[str]]:
    """Count files by format, and give the advice for these formats in the order of the table.

    >>> other_formats(["a.zip", "b.zip", "notes.txt"])
    (Counter({'archive (.zip, .tar)': 2}), ["Unpack the archives: unzip '*.zip'."])
    """
    counts: Counter[str] = Counter()
    for key in keys:
        name = next((name for pattern, name, _ in FORMATS if pattern.search(key)), None)
        if name is not None:
            counts[name] += 1
    return counts, [advice for _, name, advice in FORMATS if name in counts]
