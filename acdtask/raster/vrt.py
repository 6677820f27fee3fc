"""Checks VRTs before ingestion: only mosaics of GeoTIFFs, and of such VRTs, below one folder are allowed."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.open_raster import TIFF_MARKS
from acdtask.storage.roots import Roots, open_file, plain_address

__all__ = ["check_vrt", "is_vrt"]

LARGEST_BYTES = 16 * 1024 * 1024
MOST_FILES = 10_000

PLAIN_BANDS = ("", "vrtsourcedrasterband")
PLAIN_TAGS = frozenset(
    {"vrtdataset", "srs", "geotransform", "metadata", "mdi", "blockxsize", "blockysize", "maskband", "vrtrasterband"}
    | {"description", "unittype", "offset", "scale", "categorynames", "category", "colorinterp", "colortable", "entry"}
    | {"nodatavalue", "hidenodatavalue", "simplesource", "complexsource", "sourcefilename", "sourceband"}
    | {"sourceproperties", "srcrect", "dstrect", "nodata", "scaleoffset", "scaleratio", "lut", "usemaskband"}
)
"""Tags of a plain mosaic, in lower case as GDAL ignores case. Others may name files or run code, and are refused."""


def is_vrt(address: str) -> bool:
    """Whether an address ends in .vrt.

    >>> is_vrt("/images/2021.VRT"), is_vrt("/images/2021.tif")
    (True, False)
    """
    return address.lower().endswith(".vrt")


def check_vrt(address: str, folder: str) -> None:
    """Verify that a VRT refers only to GeoTIFFs, and to such VRTs, below a folder.

    Only plain mosaics pass: warped, pansharpened and processed VRTs, raw bands and pixel functions are refused. Call it
    right before GDAL opens the VRT, since files may change in between. Both paths are absolute. INPUT_REFERS_OUTSIDE
    names the file and the reference; INPUT_UNREADABLE if the VRT cannot be read.
    """
    if not (address.startswith("/") and folder.startswith("/")):
        raise _refused(address, "is not a local file, so its references cannot be checked")
    roots = Roots((folder,))
    queue, seen = [_resolved(address, address, roots)], set[str]()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        if len(seen) > MOST_FILES:
            raise _refused(address, f"refers to more than {MOST_FILES} files")
        queue += [source for source in _sources(path, roots) if not _is_tiff(source, path, roots)]


def _sources(path: str, roots: Roots) -> list[str]:
    """Files that a VRT refers to, with symbolic links resolved."""
    sources = []
    for node in _document(path, roots).iter():
        tag, attributes = node.tag.lower(), {key.lower(): value for key, value in node.attrib.items()}
        kind = attributes.get("subclass", "").lower()
        if tag not in PLAIN_TAGS or kind not in (PLAIN_BANDS if tag == "vrtrasterband" else ("",)):
            raise _refused(path, f"contains {node.tag} {attributes.get('subclass', '')}".rstrip())
        if tag == "sourcefilename":
            sources.append(_resolved(_source(node, attributes, path), path, roots))
    return sources


def _source(node: ElementTree.Element, attributes: dict[str, str], path: str) -> str:
    name = node.text or ""
    if len(node) or ":" in name or "<" in name or name != name.strip():
        raise _refused(path, f"refers to {name!r}, which is not a plain file name")
    if attributes.get("relativetovrt", "0") == "1":
        return f"{path.rpartition('/')[0]}/{name}"
    if not name.startswith("/"):
        raise _refused(path, f"refers to {name!r}, which is relative to acd's working folder")
    return name


def _resolved(name: str, path: str, roots: Roots) -> str:
    try:
        plain = plain_address(name)
        if plain.startswith("/"):
            return roots.resolve(plain)
    except AcdError:
        pass
    reference = "" if name == path else f"refers to {name!r}, which "
    raise _refused(path, f"{reference}is not below {roots.addresses[0]}")


def _is_tiff(source: str, path: str, roots: Roots) -> bool:
    """Whether a source is a GeoTIFF (True) or a VRT (False). INPUT_REFERS_OUTSIDE for other files."""
    head = _read(source, roots, 512)
    if head.startswith(TIFF_MARKS):
        return True
    if b"<VRTDataset" in head:
        return False
    raise _refused(path, f"refers to {source!r}, which is neither a GeoTIFF nor a VRT")


def _document(path: str, roots: Roots) -> ElementTree.Element:
    data = _read(path, roots, LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise _refused(path, f"is larger than {LARGEST_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        if "<!" in text.replace("<!--", ""):
            raise _refused(path, "contains a document type declaration or raw text")
        return ElementTree.fromstring(text)  # noqa: S314 - no document type, hence no entities to expand
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{path} is not a VRT: {error}") from error


def _read(path: str, roots: Roots, size: int) -> bytes:
    try:
        with open_file(path, roots) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return file.read(size)
    except OSError as error:
        reason = error.strerror or "not a file"
        raise AcdError(ErrorCode.INPUT_UNREADABLE, f"{Path(path)} cannot be opened: {reason}") from error


def _refused(path: str, why: str) -> AcdError:
    return AcdError(ErrorCode.INPUT_REFERS_OUTSIDE, f"{path} {why}")
