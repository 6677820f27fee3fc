"""Numbers, plurals and suggestions as text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["aligned", "count", "hectares", "known_names", "percent", "plural"]

THIN_SPACE = "\u202f"
MOST_NAMES = 10


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table, two spaces apart.

    >>> aligned([["name", "tiles"], ["utm", "4"], ["mercator", "12"]])
    ['name      tiles', 'utm       4', 'mercator  12']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def count(number: float) -> str:
    """Format a whole number in groups of three digits.

    >>> count(1048576).split(THIN_SPACE)
    ['1', '048', '576']
    """
    return f"{number:,.0f}".replace(",", THIN_SPACE)


def hectares(area: float) -> str:
    """Format an area to about two significant digits, without its unit.

    >>> hectares(0.1234), hectares(2.449), hectares(30.0), hectares(0.0), hectares(0.0049)
    ('0.12', '2.4', '30', '0', '<0.01')
    """
    if area == 0:
        return "0"
    if area < 0.005:
        return "<0.01"
    if area < 1:
        return f"{area:.2f}"
    return f"{area:.1f}" if area < 10 else count(area)


def known_names(wrong: str, known: Iterable[str], *, what: str = "there are") -> str:
    """List the known names and the closest match, as the end of a message about an unknown name.

    >>> known_names("umt", ["utm", "web"])
    '; there are: utm, web; did you mean utm?'
    >>> known_names("utm", [])
    '; there are none'
    """
    names = sorted(set(known))
    if not names:
        return f"; {what} none"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    near = difflib.get_close_matches(wrong, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"; {what}: {', '.join(names[:MOST_NAMES])}{more}{meant}"


def percent(share: float) -> str:
    r"""Format a share as a percentage; 0 and 100 are shown only if exact.

    >>> [percent(share) for share in (0.0, 0.0001, 0.034, 0.965, 0.9999, 1.0)]
    ['0\xa0%', '<0.1\xa0%', '3.4\xa0%', '96.5\xa0%', '>99.9\xa0%', '100\xa0%']
    """
    if share in (0, 1):
        number = f"{100 * share:.0f}"
    elif share < 0.001:
        number = "<0.1"
    elif share > 0.999:
        number = ">99.9"
    else:
        number = f"{100 * share:.1f}"
    return f"{number}\u00a0%"


def plural(number: int, singular: str, many: str = "") -> str:
    """Format a number with its noun.

    >>> plural(1, "patch", "patches"), plural(0, "date")
    ('1 patch', '0 dates')
    """
    return f"{count(number)} {singular if number == 1 else many or singular + 's'}"
