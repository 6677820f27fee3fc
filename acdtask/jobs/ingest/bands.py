"""Choice of the band that holds the variable: the requested one, the only one, or the one with its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.stac_bands import StatedBand
from acdtask.raster.source_files import BandHeader, Header

__all__ = ["alpha_of", "chosen_band", "list_of_bands"]

POLARISATIONS = frozenset({"VV", "VH", "HV", "HH"})
COHERENCE = re.compile(r"COH|COHERENCE|CC|CORR?|CORRELATION")
OTHER_QUANTITY = re.compile(
    r"AMP|AMPLITUDE|COUNT|ERROR|FLAGS?|INTENSITY|MASK|N|NUMBER|PHASE|POWER|QUALITY|SIGMA|STD|STDEV|UNC|UNCERTAINTY|VAR|"
    r"VARIANCE"
)
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+")
GLUED = re.compile(r"(?P<name>[A-Za-z]{2,})(?P<polarisation>VV|VH|HV|HH)")
BANDS_SHOWN = 20


def chosen_band(
    address: str, header: Header, stated: Sequence[StatedBand], variable: str, requested: int | None
) -> int:
    """Choose the band to read, and return its number.

    `stated` describes each band as its STAC item does. The name of the `variable` gives its polarisation and quantity.
    `requested` is the band that the user asks for; it overrides everything else. INPUT_BANDS, listing the bands with
    their names, if the choice is unclear.
    """
    if requested is not None:
        if requested > header.bands:
            raise AcdError(ErrorCode.INPUT_BANDS, f"{address} has {header.bands} bands, not band {requested}")
        return requested
    texts = [_names_of(band, item) for band, item in zip(header.details, stated, strict=True)]
    data = [number for number in range(1, header.bands + 1) if number != alpha_of(header, stated)]
    if len(data) == 1:
        if _contradicts(texts[data[0] - 1], variable):
            raise _unclear(address, header, stated, f"but {variable} has another polarisation", data)
        return data[0]
    named = [number for number in data if _names_variable(texts[number - 1], variable)]
    if len(named) != 1:
        which = f"the names of bands {', '.join(map(str, named))} all match" if named else "no name matches"
        raise _unclear(address, header, stated, f"and one should be {variable}, but {which}", data)
    return named[0]


def alpha_of(header: Header, stated: Sequence[StatedBand] = ()) -> int:
    """The number of the alpha band, or 0. A band with a name other than alpha is data, whatever its colour."""
    for index, band in enumerate(header.details):
        names = _names_of(band, stated[index] if stated else StatedBand())
        if band.colour == "alpha" and header.bands > 1 and all(text.strip().lower() == "alpha" for text in names):
            return index + 1
    return 0


def list_of_bands(header: Header, stated: Sequence[StatedBand]) -> str:
    """List the bands with their names, for a message.

    >>> band = BandHeader("float32", description="coh_VV")
    >>> from acdtask.raster.grid import Grid
    >>> grid = Grid(crs="EPSG:32632", transform=(20, 0, 0, 0, -20, 0), width=1, height=1)
    >>> list_of_bands(Header(grid, "float32", None, 2, details=(band, BandHeader("uint8"))), [StatedBand()] * 2)
    '1: coh_VV, 2: no name'
    """
    shown = []
    for index, (band, item) in enumerate(zip(header.details, stated, strict=True), start=1):
        texts = dict.fromkeys(_names_of(band, item))
        colour = band.colour if band.colour not in ("", "gray", "undefined") else ""
        shown.append(f"{index}: {' / '.join(texts) or colour or 'no name'}")
    more = f", and {len(shown) - BANDS_SHOWN} more" if len(shown) > BANDS_SHOWN else ""
    return ", ".join(shown[:BANDS_SHOWN]) + more


def _unclear(address: str, header: Header, stated: Sequence[StatedBand], why: str, data: list[int]) -> AcdError:
    bands = f"{header.bands} bands" if header.bands > 1 else "1 band"
    detail = f"{address} has {bands} ({list_of_bands(header, stated)}), {why}"
    return AcdError(ErrorCode.INPUT_BANDS, detail, f"Say which band to read, such as --band {data[0] if data else 1}.")


def _names_of(band: BandHeader, stated: StatedBand) -> tuple[str, ...]:
    return tuple(text for text in (band.description, *stated.texts) if text.strip())


def _words_in(text: str) -> frozenset[str]:
    """The words of a name, in upper case.

    >>> sorted(_words_in("coh_IW2_VV_04Jan2020")), sorted(_words_in("CoherenceVV"))
    (['04JAN2020', 'COH', 'IW2', 'VV'], ['COHERENCE', 'VV'])
    """
    words: list[str] = []
    for word in CAMEL.split(text):
        glued = GLUED.fullmatch(word)
        words += [glued["name"], glued["polarisation"]] if glued else [word]
    return frozenset(word.upper() for word in words if word)


def _words_in_all(texts: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*map(_words_in, texts))


def _contradicts(texts: Sequence[str], variable: str) -> bool:
    """Whether a band's names state another polarisation than the variable's."""
    own, stated = _words_in(variable) & POLARISATIONS, _words_in_all(texts) & POLARISATIONS
    return bool(own and stated and not own & stated)


def _names_variable(texts: Sequence[str], variable: str) -> bool:
    """Whether a band has the variable's name, or is named as coherence of its polarisation and nothing else."""
    wanted, stated = _words_in(variable), _words_in_all(texts)
    if any(_words_in(text) == wanted for text in texts):
        return not stated & POLARISATIONS - wanted
    if not any(COHERENCE.fullmatch(word) for word in wanted):
        return False
    is_coherence = any(COHERENCE.fullmatch(word) for word in stated)
    is_other = any(OTHER_QUANTITY.fullmatch(word) for word in stated)
    return is_coherence and not is_other and stated & POLARISATIONS == wanted & POLARISATIONS
