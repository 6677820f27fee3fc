"""Geocube's patterns for names."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["matcher"]

ANY_CASE = "(?i)"


def matcher(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern to a function that tests whether a whole text matches.

    `*` matches any text and `?` any character. With `(?i)` at the end, case is ignored.

    >>> [matcher("s1?/*(?i)")(name) for name in ("S1A/037", "S1A", "S2A/037")]
    [True, False, False]
    """
    text = pattern.removesuffix(ANY_CASE)
    case = re.IGNORECASE if text != pattern else re.NOFLAG
    if text == "*":
        return lambda _: True
    if not case and "*" not in text and "?" not in text:
        return text.__eq__
    parts = [".*" if char == "*" else "." if char == "?" else re.escape(char) for char in text]
    compiled = re.compile("".join(parts), re.DOTALL | case)
    return lambda value: compiled.fullmatch(value) is not None
