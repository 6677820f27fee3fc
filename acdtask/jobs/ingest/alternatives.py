"""Several filename patterns as one: `|` stands between them."""

from __future__ import annotations

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.pattern import FilenamePattern, Named

__all__ = ["Alternatives"]


class Alternatives:
    """Filename patterns of which a name fits one. USAGE errors: SETTING_INVALID.

    >>> either = Alternatives("A_{date}.tif|B_{start}_{end}.tif")
    >>> [one is not None and one.datetime.year for one in map(either.match, ("A_20200101.tif", "C_20200101.tif"))]
    [2020, False]
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._patterns = [FilenamePattern(part) for part in text.split("|")]
        self.takes_vrt = self._patterns[0].takes_vrt
        if any(one.takes_vrt != self.takes_vrt for one in self._patterns):
            raise AcdError(ErrorCode.SETTING_INVALID, f"the pattern {text!r} is for GeoTIFFs and for VRTs")

    def match(self, path: str) -> Named | None:
        """What the path says by the pattern that fits it, or None.

        FILENAME_AMBIGUOUS if two fit it, and say other things; what `FilenamePattern.match` raises if none fits.
        """
        fitting = self._fitting(path)
        if not fitting:
            return None
        (_, first), *others = fitting
        if any(named != first for _, named in others):
            both = " and ".join(repr(pattern.text) for pattern, _ in fitting)
            raise AcdError(
                ErrorCode.FILENAME_AMBIGUOUS,
                f"{path} fits {both}, which give it other dates or tags",
                "Give --pattern the one that is meant.",
            )
        return first

    def record_name(self, path: str) -> str:
        """The name of the record, by the pattern that fits the path."""
        fitting = self._fitting(path)
        return (fitting[0][0] if fitting else self._patterns[0]).record_name(path)

    def _fitting(self, path: str) -> list[tuple[FilenamePattern, Named]]:
        fitting: list[tuple[FilenamePattern, Named]] = []
        error: AcdError | None = None
        for pattern in self._patterns:
            try:
                named = pattern.match(path)
            except AcdError as fault:  # it has the form of this one; perhaps it is meant by another one
                error = error or fault
            else:
                fitting += [(pattern, named)] if named is not None else []
        if error is not None and not fitting:
            raise error
        return fitting
