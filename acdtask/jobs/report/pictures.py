"""Rendering of arrays as PNG; equal arrays give equal bytes.

The scale is an integer: picture pixels per image pixel, or image pixels per picture pixel. The longer side of a picture
has MIN_SIDE to MAX_SIDE px where an integer scale allows it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import dilation, footprint_rectangle

from acdtask.jobs.colours import COHERENCE, MISSING, PATCH, QUALITY, STD, TRUTH, Z_BOTH, ColourMap, Z

__all__ = [
    "MAX_SIDE",
    "UNIT_RANGE",
    "Z_RANGE",
    "Z_RANGE_BOTH",
    "coherence_png",
    "magnification",
    "paper_jpeg",
    "paper_name",
    "patches_png",
    "std_png",
    "std_range",
    "z_png",
]

MAX_SIDE = 1200
"""Maximum side of a picture, in px."""
MIN_SIDE = 600
"""Smaller images are enlarged up to this side, in px."""
PAPER_SIDE = 480
"""Maximum side of a picture for print, in px: three in a row on A4 have 190 px per inch."""
PAPER_QUALITY = 75
Z_RANGE, Z_RANGE_BOTH = (-2.0, 6.0), (-6.0, 6.0)
UNIT_RANGE = (0.0, 1.0)
"""The range of coherence."""

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Codes = NDArray[np.integer[Any]]

_LEVELS = 250
_GAP, _HATCH = _LEVELS, _LEVELS + 1
_HATCH_ALPHA = 120

_GREYS = 100
_PATCH_FILL = 100
_PATCH_GAP, _PATCH_HATCH, _PATCH_LINE, _TRUTH_LINE, _QUALITY = 200, 201, 202, 203, 204
_FILL_STRENGTH = 0.66
_LINE = 2


def magnification(shape: tuple[int, int]) -> tuple[int, int]:
    """Scale of an image: (picture pixels per image pixel, image pixels per picture pixel); one of them is 1.

    >>> magnification((60, 100)), magnification((1024, 1024)), magnification((4096, 3000))
    ((6, 1), (1, 1), (1, 4))
    """
    longest = max(shape)
    if longest > MAX_SIDE:
        return 1, -(-longest // MAX_SIDE)
    return max(1, MIN_SIDE // longest), 1


def std_range(limits: tuple[float, float]) -> tuple[float, float]:
    """The range over which standard deviations are drawn, for a quantity of this range.

    >>> std_range(UNIT_RANGE)
    (0.0, 0.25)
    """
    return 0.0, (limits[1] - limits[0]) / 4


def coherence_png(values: Floats, limits: tuple[float, float] = UNIT_RANGE) -> bytes:
    """Draw coherence, or another quantity over its range, in grey, NaN hatched; shape (height, width)."""
    return _mapped_png(values, COHERENCE, limits)


def z_png(z: Floats, *, both: bool = False) -> bytes:
    """Draw z over Z_RANGE: blue below 0, white at 0, ochre and red above; NaN hatched; shape (height, width).

    If both directions count, it is drawn over Z_RANGE_BOTH, as dark below 0 as above.
    """
    return _mapped_png(z, Z_BOTH, Z_RANGE_BOTH) if both else _mapped_png(z, Z, Z_RANGE)


def std_png(values: Floats, limits: tuple[float, float] = UNIT_RANGE) -> bytes:
    """Draw the standard deviation of coherence or of a quantity of this range, NaN hatched; shape (height, width)."""
    return _mapped_png(values, STD, std_range(limits))


def patches_png(
    image: Floats,
    change: Mask,
    quality: Codes,
    reasons: Sequence[int],
    truth: Mask | None = None,
    limits: tuple[float, float] = UNIT_RANGE,
) -> bytes:
    """Draw patches over coherence, or another quantity, in grey.

    Args:
        image: coherence, NaN for nodata, shape (height, width). The other arrays have the same shape.
        change: True in patches.
        quality: a code for each pixel.
        reasons: the codes for missing z, in the order of the legend; each is hatched in its colour of QUALITY. Other
            codes are not drawn.
        truth: True in events that show on this date; drawn as outlines.
        limits: range of the quantity.
    """
    _check(image, change, quality, *([] if truth is None else [truth]))
    grey = _to_picture(image.astype(np.float64))
    known = ~np.isnan(grey)
    position = (np.where(known, grey, limits[0]) - limits[0]) / (limits[1] - limits[0])
    level = np.rint(np.clip(position, 0.0, 1.0) * (_GREYS - 1)).astype(np.uint8)
    stripes = _stripes(grey.shape)
    index = np.where(known, level, np.where(stripes, _PATCH_HATCH, _PATCH_GAP)).astype(np.uint8)

    shares = [_to_picture((quality == code).astype(np.float64)) for code in reasons]
    if shares:
        share = np.stack(shares)
        hidden = share.sum(axis=0) > 0.5
        colour = _QUALITY + 2 * np.minimum(share.argmax(axis=0), len(QUALITY) - 1)
        index = np.where(hidden, colour + stripes, index).astype(np.uint8)

    patch = _to_picture(change.astype(np.float64)) > 0
    index = np.where(patch, level + _PATCH_FILL, index).astype(np.uint8)
    index[_outline(patch, 0)] = _PATCH_LINE
    if truth is not None:
        index[_outline(_to_picture(truth.astype(np.float64)) > 0, _LINE)] = _TRUTH_LINE
    return _indexed_png(index, *_patches_palette())


def paper_name(name: str) -> str:
    """The name of the print version of a picture.

    >>> paper_name("dates/2021-08/a/z.png")
    'dates/2021-08/a/z-paper.jpg'
    """
    return f"{name.removesuffix('.png')}-paper.jpg"


def paper_jpeg(picture: bytes) -> bytes:
    """Convert a picture for print, on white. A PDF embeds a JPEG as it is, but inflates a PNG many times.

    Args:
        picture: a PNG of this module.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        drawn = opened.convert("RGBA")
    flat = Image.new("RGB", drawn.size, (255, 255, 255))
    flat.paste(drawn, mask=drawn)
    share = min(1.0, PAPER_SIDE / max(flat.size))
    size = (max(1, round(flat.width * share)), max(1, round(flat.height * share)))
    buffer = io.BytesIO()
    flat.resize(size, Image.Resampling.BOX).save(buffer, format="JPEG", quality=PAPER_QUALITY)
    return buffer.getvalue()


def _mapped_png(values: Floats, colours: ColourMap, limits: tuple[float, float]) -> bytes:
    _check(values)
    lower, upper = limits
    picture = _to_picture(values.astype(np.float64))
    known = ~np.isnan(picture)
    position = np.clip((np.where(known, picture, lower) - lower) / (upper - lower), 0.0, 1.0)
    index = np.rint(position * (_LEVELS - 1)).astype(np.uint8)
    index = np.where(known, index, np.where(_stripes(picture.shape), _HATCH, _GAP)).astype(np.uint8)
    palette = np.concatenate([colours.table(_LEVELS), np.array([MISSING, MISSING], dtype=np.uint8)])
    alpha = [255] * _LEVELS + [0, _HATCH_ALPHA]
    return _indexed_png(index, palette, alpha)


def _patches_palette() -> tuple[NDArray[np.uint8], list[int]]:
    grey = COHERENCE.table(_GREYS)
    strong = np.array(PATCH, dtype=np.float64)
    filled = np.rint(grey * (1 - _FILL_STRENGTH) + strong * _FILL_STRENGTH).astype(np.uint8)
    single = np.array([MISSING, MISSING, PATCH, TRUTH], dtype=np.uint8)
    hatched = np.array([shade for colour in QUALITY for shade in (_lighter(colour), colour)], dtype=np.uint8)
    palette = np.concatenate([grey, filled, single, hatched])
    alpha = [255] * _PATCH_GAP + [0, _HATCH_ALPHA] + [255] * (2 + len(hatched))
    return palette, alpha


def _lighter(colour: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple((channel + 2 * 255) // 3 for channel in colour)


def _check(image: NDArray[Any], *others: NDArray[Any]) -> None:
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"a picture needs rows and columns, not shape {image.shape}")
    for other in others:
        if other.shape != image.shape:
            raise ValueError(f"shapes differ: {other.shape} and {image.shape}")


def _to_picture(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale an array to the size of its picture: pixels repeated, or means of blocks without NaN."""
    larger, smaller = magnification((values.shape[0], values.shape[1]))
    if smaller > 1:
        return _block_means(values, smaller)
    return values.repeat(larger, axis=0).repeat(larger, axis=1)


def _block_means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    starts = [np.arange(0, length, size) for length in values.shape]

    def sums(array: NDArray[Any]) -> NDArray[np.float64]:
        by_row = np.add.reduceat(array, starts[0], axis=0, dtype=np.float64)
        return np.asarray(np.add.reduceat(by_row, starts[1], axis=1))

    total, count = sums(np.where(known, values, 0.0)), sums(known)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _stripes(shape: tuple[int, ...]) -> Mask:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows + columns) % 8 < 2)


def _outline(mask: Mask, distance: int) -> Mask:
    """A line around the mask at `distance` px, so that even a patch of one pixel is visible."""
    inner = _grown(mask, distance)
    return np.asarray(_grown(inner, _LINE) & ~inner)


def _grown(mask: Mask, distance: int) -> Mask:
    """The pixels at most `distance` rows and columns from the mask."""
    side = 2 * distance + 1
    return np.asarray(dilation(mask, footprint_rectangle((side, side))), np.bool_)


def _indexed_png(index: NDArray[np.uint8], palette: NDArray[np.uint8], alpha: list[int]) -> bytes:
    height, width = index.shape
    image = Image.frombytes("P", (width, height), np.ascontiguousarray(index).tobytes())
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=bytes(alpha), compress_level=7)
    return buffer.getvalue()
