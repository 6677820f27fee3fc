"""Patterns of names, as Geocube has them."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["matcher"]

ANY_CASE = "(?i)"


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches a pattern as a whole: `*` is any text, `?` any character; a last `(?i)` ignores case.

    >>> [matcher("s1?/*(?i)")(name) for name in ("S1A/037", "S1A", "S2A/037")]
    [True, False, False]
    """
    text = pattern.removesuffix(ANY_CASE)
    ignoring = re.IGNORECASE if text != pattern else re.NOFLAG
    if text == "*":
        return lambda _: True
    if not ignoring and "*" not in text and "?" not in text:
        return text.__eq__
    parts = [".*" if char == "*" else "." if char == "?" else re.escape(char) for char in text]
    compiled = re.compile("".join(parts), re.DOTALL | ignoring)
    return lambda value: compiled.fullmatch(value) is not None
