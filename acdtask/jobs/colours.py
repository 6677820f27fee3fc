"""Colour maps with lightness linear in the value, interpolated from a few anchors in OKLCh.

In OKLab equal distances look equally different: B. Ottosson, "A perceptual color space for image processing", 2020
(https://bottosson.github.io/posts/oklab/). The matrices below are from that page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COHERENCE", "MISSING", "PATCH", "QUALITY", "STD", "TRUTH", "Z_BOTH", "ColourMap", "Z", "css_hex"]

Rgb = tuple[int, int, int]

_OKLAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

PATCH: Rgb = (224, 44, 18)
"""Colour of patches in pictures."""
TRUTH: Rgb = (0, 150, 255)
"""Colour of outlines of true events in pictures."""
MISSING: Rgb = (128, 132, 140)
"""Colour of the hatching of pixels without a value."""
QUALITY: tuple[Rgb, ...] = (
    (146, 152, 162),
    (196, 158, 62),
    (92, 142, 120),
    (140, 112, 170),
    (176, 120, 104),
    (84, 128, 168),
)
"""Colours of the reasons for missing z, in order; the last one is used for any further reasons."""


@dataclass(frozen=True)
class ColourMap:
    """A colour for each position from 0 to 1.

    Attributes:
        anchors: (position, lightness 0..1, chroma, hue in degrees) in OKLCh, positions rising from 0 to 1. Between
            two anchors the colour is a straight line in OKLab, so lightness is linear there.
    """

    anchors: tuple[tuple[float, float, float, float], ...]

    def colours(self, positions: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Colours in sRGB, shape (n, 3), at positions of shape (n,).

        >>> COHERENCE.colours(np.array([0.0, 1.0])).tolist()
        [[6, 6, 6], [245, 245, 245]]
        """
        at, lightness, chroma, hue = np.array(self.anchors).T
        angle = np.deg2rad(hue)
        lab = np.stack(
            [np.interp(positions, at, axis) for axis in (lightness, chroma * np.cos(angle), chroma * np.sin(angle))],
            axis=-1,
        )
        linear = np.clip((lab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_LINEAR_RGB.T, 0.0, 1.0)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        rounded: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
        return rounded

    def table(self, size: int) -> NDArray[np.uint8]:
        """Evenly spaced colours from 0 to 1, shape (size, 3)."""
        return self.colours(np.linspace(0.0, 1.0, size))

    def css_gradient(self, stops: int = 17) -> str:
        """The map as a CSS gradient from left to right."""
        return f"linear-gradient(90deg, {', '.join(css_hex(colour) for colour in self.table(stops).tolist())})"


def css_hex(colour: Rgb | list[int]) -> str:
    """A colour in CSS notation.

    >>> css_hex((224, 44, 18))
    '#e02c12'
    """
    return "#" + "".join(f"{channel:02x}" for channel in colour)


COHERENCE = ColourMap(((0.0, 0.12, 0.0, 0.0), (1.0, 0.97, 0.0, 0.0)))
"""Grey: dark where coherence is low."""

STD = ColourMap(
    ((0.0, 0.97, 0.02, 110.0), (0.35, 0.738, 0.09, 175.0), (0.7, 0.506, 0.09, 235.0), (1.0, 0.307, 0.11, 285.0))
)
"""Pale to dark blue: pale where coherence is stable."""

Z = ColourMap(
    (
        (0.0, 0.73, 0.085, 230.0),
        (0.25, 0.96, 0.006, 90.0),
        (0.4625, 0.7645, 0.12, 72.0),
        (0.625, 0.615, 0.19, 38.0),
        (1.0, 0.27, 0.105, 20.0),
    )
)
"""For z from -2 to 6: white at 0, blue below it; ochre at 1.7, red at 3. A step in z is the same step in lightness."""

Z_BOTH = ColourMap(
    (
        (0.0, 0.27, 0.105, 275.0),
        (0.25, 0.615, 0.15, 255.0),
        (0.35833, 0.7645, 0.1, 245.0),
        (0.5, 0.96, 0.0, 245.0),
        (0.5, 0.96, 0.0, 72.0),
        (0.64167, 0.7645, 0.12, 72.0),
        (0.75, 0.615, 0.19, 38.0),
        (1.0, 0.27, 0.105, 20.0),
    )
)
"""For z from -6 to 6, where both directions count: white at 0, ochre and red above it, and as dark in blue below it."""
