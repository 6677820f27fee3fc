"""A single picture that summarises a report, for places that show one file."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from acdtask.jobs.report.model import BaselinePage, ReportPage

__all__ = ["MAX_SIDE", "quicklook", "quicklook_png"]

MAX_SIDE = 1024
"""Maximum side in px, including the caption."""
_ENLARGED = 2
"""Scale of the built-in 11 px font. An outline font would need a library that acd's image lacks."""
_MARGIN = 8
_PAPER, _INK = (255, 255, 255), (20, 22, 26)


def quicklook(page: ReportPage, baseline: BaselinePage | None, picture: Callable[[str], bytes]) -> bytes:
    """Draw the newest image that has a picture, with its patches; if there is none, the baseline's mean.

    `baseline` is the reference period, if it has pictures; `picture` returns a picture of the report by its name.

    Raises:
        ValueError: the page has no picture.
    """
    newest = max((day for day in page.dates if day.patches), key=lambda day: (day.date, day.pair_start), default=None)
    if newest is None or newest.patches is None:
        if baseline is None:
            raise ValueError("the page has no picture")
        caption = f"{page.aoi}: mean of {baseline.images} images, {baseline.start} to {baseline.end}"
        return quicklook_png(picture(baseline.mean), caption)
    hectares = [patch.area_ha for patch in page.patches if patch.key == newest.key]
    summary = f"{len(hectares)} {'patches' if len(hectares) > 1 else 'patch'}, {sum(hectares):.1f} ha"
    caption = f"{page.aoi}, {newest.pair_start} to {newest.date}: {summary if hectares else 'no patch'}"
    return quicklook_png(picture(newest.patches), caption)


def quicklook_png(picture: bytes, caption: str) -> bytes:
    """Draw a picture of the report on white, with a caption above; equal input gives equal bytes.

    The caption is one line; characters beyond Latin-1 become '?'.
    """
    line = _line(caption)
    with Image.open(io.BytesIO(picture)) as opened:
        drawn = opened.convert("RGBA")
    top = line.height + 2 * _MARGIN
    share = min(1.0, MAX_SIDE / drawn.width, (MAX_SIDE - top) / drawn.height)
    size = (max(1, int(drawn.width * share)), max(1, int(drawn.height * share)))
    flat = Image.new("RGB", drawn.size, _PAPER)
    flat.paste(drawn, mask=drawn)
    width = min(MAX_SIDE, max(size[0], line.width + 2 * _MARGIN))
    sheet = Image.new("RGB", (width, top + size[1]), _PAPER)
    sheet.paste(line, (_MARGIN, _MARGIN))
    sheet.paste(flat.resize(size, Image.Resampling.BOX), (0, top))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=7)
    return buffer.getvalue()


def _line(caption: str) -> Image.Image:
    font = ImageFont.load_default_imagefont()
    text = caption.encode("latin-1", "replace").decode("latin-1")
    left, top, right, bottom = (int(side) for side in font.getbbox(text))
    line = Image.new("RGB", (max(1, right - left), max(1, bottom - top)), _PAPER)
    ImageDraw.Draw(line).text((-left, -top), text, fill=_INK, font=font)
    return line.resize((line.width * _ENLARGED, line.height * _ENLARGED), Image.Resampling.NEAREST)
