"""Several filename patterns in one, separated by `|`."""

from __future__ import annotations

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.pattern import FilenamePattern, ParsedName

__all__ = ["Alternatives"]


class Alternatives:
    """Alternative filename patterns. SETTING_INVALID if some are for GeoTIFFs and others for VRTs.

    >>> either = Alternatives("A_{date}.tif|B_{start}_{end}.tif")
    >>> [name and name.datetime.year for name in map(either.match, ("A_20200101.tif", "C_20200101.tif"))]
    [2020, None]
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._patterns = [FilenamePattern(part) for part in text.split("|")]
        self.takes_vrt = self._patterns[0].takes_vrt
        if any(pattern.takes_vrt != self.takes_vrt for pattern in self._patterns):
            raise AcdError(ErrorCode.SETTING_INVALID, f"the pattern {text!r} mixes GeoTIFFs and VRTs")

    def match(self, path: str) -> ParsedName | None:
        """Parse a path by the pattern that it matches; None if it matches none.

        FILENAME_AMBIGUOUS if it matches two with different results. If none matches, the first error that
        `FilenamePattern.match` raised.
        """
        matches = self._matches(path)
        if not matches:
            return None
        (_, first), *others = matches
        if any(parsed != first for _, parsed in others):
            both = " and ".join(repr(pattern.text) for pattern, _ in matches)
            raise AcdError(
                ErrorCode.FILENAME_AMBIGUOUS,
                f"{path} matches {both}, which give different dates or tags",
                "Give --pattern only the one that applies.",
            )
        return first

    def record_name(self, path: str) -> str:
        """The record's name, by the pattern that the path matches."""
        matches = self._matches(path)
        return (matches[0][0] if matches else self._patterns[0]).record_name(path)

    def _matches(self, path: str) -> list[tuple[FilenamePattern, ParsedName]]:
        matches: list[tuple[FilenamePattern, ParsedName]] = []
        first_error: AcdError | None = None
        for pattern in self._patterns:
            try:
                parsed = pattern.match(path)
            except AcdError as error:  # this pattern's form with invalid dates; another one may still match
                first_error = first_error or error
            else:
                matches += [(pattern, parsed)] if parsed is not None else []
        if first_error is not None and not matches:
            raise first_error
        return matches
