"""Appearance of products in QGIS: colour tables, and styles (.qml) that QGIS loads with a raster of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from acdtask.change.thresholds import Direction
from acdtask.change.zscore import Quality
from acdtask.cube.model import Variable
from acdtask.jobs.colours import COHERENCE, PATCH, STD, Z_BOTH, ColourMap, Z, css_hex
from acdtask.raster.cog import Colour

__all__ = ["CHANGE_CATEGORIES", "CHANGE_COLOURS", "QUALITY_CATEGORIES", "STYLES", "patch_style", "raster_style"]

CHANGE_CATEGORIES = ("not changed", "changed")
CHANGE_COLOURS: Mapping[int, Colour] = {0: (0, 0, 0, 0), 1: (*PATCH, 255)}
"""Only changed pixels are drawn, so that the mask can be laid over any map."""

QUALITY_CATEGORIES = tuple(
    {
        Quality.VALID: "judged",
        Quality.NO_DATA: "the image has no data",
        Quality.TOO_FEW_IMAGES: "too few images in the baseline",
        Quality.STEADY: "standard deviation too small",
        Quality.NO_BASELINE: "no image in the baseline",
        Quality.OUTSIDE: "outside the area",
    }[reason]
    for reason in Quality
)

STOPS = 17


def raster_style(product: str, variable: Variable, *, direction: Direction = "drop") -> bytes:
    """The style of a product's rasters in physical values, since QGIS applies the scale before the style.

    `product` is a name in `STYLES`; `variable` is that of the images. `direction` is the method's; with both, z is
    drawn on either side of 0.
    """
    if product == "change":
        return _document(_paletted())
    least, greatest = (number * variable.scale for number in (variable.dformat.min, variable.dformat.max))
    ramps = {
        "z": (Z_BOTH, -6.0, 6.0, "z") if direction == "both" else (Z, -2.0, 6.0, "z"),
        "mean": (COHERENCE, least, greatest, "mean"),
        "std": (STD, 0.0, (greatest - least) / 4, "standard deviation"),
        "count": (STD, 0.0, 60.0, "images"),
    }
    return _document(_pseudocolour(*ramps[product]))


STYLES = ("z", "change", "mean", "std", "count")


def patch_style(*, direction: Direction = "drop") -> bytes:
    """The style of patches: outlines whose width grows with z, or with its absolute value if both directions count."""
    z_max = 'abs("z_max")' if direction == "both" else '"z_max"'
    renderer = Element("renderer-v2", type="singleSymbol", symbollevels="0", enableorderby="0", forceraster="0")
    symbol = SubElement(SubElement(renderer, "symbols"), "symbol", name="0", type="fill", alpha="1", clip_to_extent="1")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    red, green, blue = PATCH
    options = SubElement(layer, "Option", type="Map")
    for name, value in (
        ("color", f"{red},{green},{blue},60"),
        ("outline_color", f"{red},{green},{blue},255"),
        ("outline_style", "solid"),
        ("outline_width", "0.5"),
        ("outline_width_unit", "MM"),
        ("style", "solid"),
    ):
        SubElement(options, "Option", name=name, type="QString", value=value)
    properties = SubElement(SubElement(layer, "data_defined_properties"), "Option", type="Map")
    SubElement(properties, "Option", name="name", type="QString", value="")
    width = SubElement(SubElement(properties, "Option", name="properties", type="Map"), "Option", name="outlineWidth")
    width.set("type", "Map")
    SubElement(width, "Option", name="active", type="bool", value="true")
    SubElement(width, "Option", name="expression", type="QString", value=f"scale_linear({z_max}, 3, 10, 0.3, 1.2)")
    SubElement(width, "Option", name="type", type="int", value="3")
    SubElement(properties, "Option", name="type", type="QString", value="collection")
    root = Element("qgis", version="3.34", styleCategories="Symbology|Labeling")
    root.append(renderer)
    return _encoded(root)


def _paletted() -> Element:
    renderer = _renderer("paletted")
    palette = SubElement(renderer, "colorPalette")
    for value, category in enumerate(CHANGE_CATEGORIES):
        red, green, blue, alpha = CHANGE_COLOURS[value]
        SubElement(
            palette,
            "paletteEntry",
            value=str(value),
            label=category,
            color=css_hex((red, green, blue)),
            alpha=str(alpha),
        )
    return renderer


def _pseudocolour(colours: ColourMap, least: float, greatest: float, label: str) -> Element:
    """A colour ramp between two physical values."""
    renderer = _renderer("singlebandpseudocolor")
    renderer.set("classificationMin", repr(least))
    renderer.set("classificationMax", repr(greatest))
    shader = SubElement(
        SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        minimumValue=repr(least),
        maximumValue=repr(greatest),
    )
    values = np.linspace(least, greatest, STOPS)
    for value, colour in zip(values.tolist(), colours.table(STOPS).tolist(), strict=True):
        SubElement(
            shader, "item", value=f"{value:.6g}", label=f"{label} {value:.3g}", color=css_hex(colour), alpha="255"
        )
    return renderer


def _renderer(kind: str) -> Element:
    return Element("rasterrenderer", type=kind, band="1", opacity="1", alphaBand="-1", nodataColor="")


def _document(renderer: Element) -> bytes:
    root = Element("qgis", version="3.34", styleCategories="Symbology")
    pipe = SubElement(root, "pipe")
    pipe.append(renderer)
    SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    SubElement(pipe, "rasterresampler", maxOversampling="2")
    return _encoded(root)


def _encoded(root: Element) -> bytes:
    ElementTree.indent(root, space=" ")
    head = b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return head + ElementTree.tostring(root, encoding="unicode").encode() + b"\n"
