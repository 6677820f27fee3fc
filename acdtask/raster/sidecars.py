"""Sidecar files of a raster: GDAL's mask (.msk) and metadata (.aux.xml)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.open_raster import TIFF_MARKS
from acdtask.storage.store import Store
from acdtask.storage.web import Web

__all__ = ["MASK_ENDING", "PAM_ENDING", "PamBand", "marks_beside", "read_pam"]

MASK_ENDING, PAM_ENDING = ".msk", ".aux.xml"
LARGEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class PamBand:
    """Metadata of a band from an .aux.xml file; None for missing items."""

    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    description: str | None = None


def marks_beside(store: Store | Web, address: str) -> dict[str, str]:
    """Fingerprints of a raster's existing sidecar files, by ending."""
    if isinstance(store, Web):
        return store.marks_beside(address, {MASK_ENDING: TIFF_MARKS, PAM_ENDING: (b"<PAMDataset", b"<?xml")})
    folder, _, name = address.rpartition("/")
    home = store if folder == store.url else Store.at(folder or "/")
    marks = {ending: _mark(home, name + ending) for ending in (MASK_ENDING, PAM_ENDING)}
    return {ending: mark for ending, mark in marks.items() if mark is not None}


def _mark(store: Store, key: str) -> str | None:
    try:
        return store.fingerprint(key)
    except AcdError as error:
        if error.code is ErrorCode.STORE_DENIED:  # S3 reports a missing key this way if the bucket cannot be listed
            return None
        raise


def read_pam(store: Store | Web, address: str) -> dict[int, PamBand]:
    """Read band metadata from a raster's .aux.xml, by band number from 1; empty if there is no such file.

    GDAL is not used for this, since it would also open all other files beside the raster. INPUT_UNREADABLE if the file
    is damaged.
    """
    path = address + PAM_ENDING
    folder, _, name = path.rpartition("/")
    if isinstance(store, Web):
        data = store.find_small(path, LARGEST_BYTES)
    else:
        data = Store.at(folder or "/").find_small(name, LARGEST_BYTES)
    if data is None:
        return {}
    try:
        text = data.decode("utf-8")
        if "<!DOCTYPE" in text.upper():
            raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{path} has a document type declaration")
        root = ElementTree.fromstring(text)  # noqa: S314 - no document type, hence no entities to expand
        return {int(node.get("band", "0")): _band(node) for node in root.findall("PAMRasterBand")}
    except (ElementTree.ParseError, ValueError) as error:
        fix = "Delete the file if it is not needed, or write it again with GDAL."
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{path} is not GDAL metadata: {error}", fix) from error


def _band(node: ElementTree.Element) -> PamBand:
    numbers: dict[str, Any] = {}
    for tag, name in (("NoDataValue", "nodata"), ("Scale", "scale"), ("Offset", "offset")):
        child = node.find(tag)
        if child is not None and child.text:
            numbers[name] = _number(child)
    description = node.find("Description")
    return PamBand(**numbers, description=description.text if description is not None else None)


def _number(node: ElementTree.Element) -> float:
    text = (node.text or "").strip()
    if text.lower().lstrip("-+") in ("nan", "1.#qnan", "1.#ind"):
        return math.nan
    try:
        return int(text)
    except ValueError:
        return float(text)
