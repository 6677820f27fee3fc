"""Sentences about a name that is not known: which ones are, and which of them may be meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["known_names"]

MOST_NAMES = 10


def known_names(wrong: str, known: Iterable[str], *, what: str = "there are") -> str:
    """What to add to a message about an unknown name.

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
