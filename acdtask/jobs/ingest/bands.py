"""Which band of a raster holds the variable: the one that is asked for, the only one, or the one that is named so."""

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
NAMED_AT_MOST = 20


def chosen_band(address: str, header: Header, stated: Sequence[StatedBand], variable: str, wanted: int | None) -> int:
    """The number of the band to read.

    Args:
        address: of the raster.
        header: of the raster.
        stated: what its STAC item says of each band.
        variable: the name of the variable; its polarisation and quantity are read from it.
        wanted: the band that the user asks for; nothing else counts then.

    Raises:
        AcdError: INPUT_BANDS, with the bands and what they are called, if it is not clear.
    """
    if wanted is not None:
        if wanted > header.bands:
            raise AcdError(ErrorCode.INPUT_BANDS, f"{address} has {header.bands} bands, not band {wanted}")
        return wanted
    texts = [_texts(band, said) for band, said in zip(header.details, stated, strict=True)]
    data = [number for number in range(1, header.bands + 1) if number != alpha_of(header, stated)]
    if len(data) == 1:
        if _contradicts(texts[data[0] - 1], variable):
            raise _unclear(address, header, stated, f"and {variable} has another polarisation", data)
        return data[0]
    named = [number for number in data if _names(texts[number - 1], variable)]
    if len(named) != 1:
        which = f"bands {', '.join(map(str, named))} are all named so" if named else "none of which is named so"
        raise _unclear(address, header, stated, f"of which one should be {variable}; {which}", data)
    return named[0]


def alpha_of(header: Header, stated: Sequence[StatedBand] = ()) -> int:
    """The number of the alpha band, or 0. A band that is called something else is none, whatever its colour is."""
    for index, band in enumerate(header.details):
        texts = _texts(band, stated[index] if stated else StatedBand())
        if band.colour == "alpha" and header.bands > 1 and all(text.strip().lower() == "alpha" for text in texts):
            return index + 1
    return 0


def list_of_bands(header: Header, stated: Sequence[StatedBand]) -> str:
    """The bands with what they are called, for a message.

    >>> band = BandHeader("float32", description="coh_VV")
    >>> from acdtask.raster.grid import Grid
    >>> grid = Grid(crs="EPSG:32632", transform=(20, 0, 0, 0, -20, 0), width=1, height=1)
    >>> list_of_bands(Header(grid, "float32", None, 2, details=(band, BandHeader("uint8"))), [StatedBand()] * 2)
    '1: coh_VV, 2: no name'
    """
    shown = []
    for index, (band, said) in enumerate(zip(header.details, stated, strict=True), start=1):
        texts = dict.fromkeys(_texts(band, said))
        colour = band.colour if band.colour not in ("", "gray", "undefined") else ""
        shown.append(f"{index}: {' / '.join(texts) or colour or 'no name'}")
    more = f", and {len(shown) - NAMED_AT_MOST} more" if len(shown) > NAMED_AT_MOST else ""
    return ", ".join(shown[:NAMED_AT_MOST]) + more


def _unclear(address: str, header: Header, stated: Sequence[StatedBand], why: str, data: list[int]) -> AcdError:
    bands = f"{header.bands} bands" if header.bands > 1 else "1 band"
    detail = f"{address} has {bands} ({list_of_bands(header, stated)}), {why}"
    return AcdError(ErrorCode.INPUT_BANDS, detail, f"Say which band to read, such as --band {data[0] if data else 1}.")


def _texts(band: BandHeader, stated: StatedBand) -> tuple[str, ...]:
    return tuple(text for text in (band.description, *stated.texts) if text.strip())


def _words(text: str) -> frozenset[str]:
    """The words of a name, in capitals.

    >>> sorted(_words("coh_IW2_VV_04Jan2020")), sorted(_words("CoherenceVV"))
    (['04JAN2020', 'COH', 'IW2', 'VV'], ['COHERENCE', 'VV'])
    """
    words: list[str] = []
    for word in CAMEL.split(text):
        glued = GLUED.fullmatch(word)
        words += [glued["name"], glued["polarisation"]] if glued else [word]
    return frozenset(word.upper() for word in words if word)


def _all_words(texts: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*map(_words, texts))


def _contradicts(texts: Sequence[str], variable: str) -> bool:
    """Whether a band is called by another polarisation than the variable's."""
    own, said = _words(variable) & POLARISATIONS, _all_words(texts) & POLARISATIONS
    return bool(own and said and not own & said)


def _names(texts: Sequence[str], variable: str) -> bool:
    """Whether a band is called by the variable's name, or is its coherence in its polarisation, and nothing else."""
    wanted, said = _words(variable), _all_words(texts)
    if any(_words(text) == wanted for text in texts):
        return not said & POLARISATIONS - wanted
    if not any(COHERENCE.fullmatch(word) for word in wanted):
        return False
    is_coherence = any(COHERENCE.fullmatch(word) for word in said)
    is_other = any(OTHER_QUANTITY.fullmatch(word) for word in said)
    return is_coherence and not is_other and said & POLARISATIONS == wanted & POLARISATIONS
