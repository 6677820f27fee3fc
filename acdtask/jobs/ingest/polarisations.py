"""Selection of a source's files by polarisation, and the track tag of each."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.ingest.settings import IngestSettings
from acdtask.jobs.tracks import TRACK, normal_track, polarisation_in, polarisation_of_variable

__all__ = ["polarisation_of_asset", "polarisation_to_take", "track_to_note"]

PREFERRED = ("VV", "HH", "VH", "HV")


def polarisation_to_take(stated: Iterable[str], settings: IngestSettings) -> str:
    """The polarisation to ingest: that of the settings, else of the variable's name; empty for any.

    `stated` has the polarisation of each file, empty if unknown. POLARISATION_MISMATCH if all files with a known
    polarisation have another one, or if none is wanted and they have several.
    """
    counts = Counter(filter(None, stated))
    if settings.polarisation == "any":
        return ""
    wanted = settings.polarisation or polarisation_of_variable(settings.variable)
    if not counts or ((wanted in counts) if wanted else len(counts) == 1):
        return wanted
    available = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    first = next(name for name in PREFERRED if name in counts)
    if settings.polarisation:
        raise AcdError(
            ErrorCode.POLARISATION_MISMATCH,
            f"--polarisation is {wanted}, but the files of {settings.source} are {available}",
            f"Choose one of these, such as --polarisation {first}.",
        )
    if not wanted:
        raise AcdError(
            ErrorCode.POLARISATION_MISMATCH,
            f"the files of {settings.source} are {available}, but {settings.variable} can hold only one polarisation",
            f"Choose one with --polarisation {first}, or name the variable after it (--variable Coherence{first}).",
        )
    raise AcdError(
        ErrorCode.POLARISATION_MISMATCH,
        f"the files of {settings.source} are {available}, but the variable {settings.variable} is {wanted}",
        f"Name the variable after one, such as --variable {settings.variable.replace(wanted, first)}, to ingest only"
        f" the {first} files.",
    )


def polarisation_of_asset(item: Mapping[str, Any], key: str) -> str:
    """The polarisation of an asset, according to its STAC item; empty if unknown."""
    asset = item["assets"][key]
    named = polarisation_in(key) or polarisation_in(posixpath.basename(str(asset["href"])))
    return _listed(asset) or named or _listed(item["properties"]) or polarisation_in(item["id"])


def _listed(node: Mapping[str, Any]) -> str:
    """The polarisation in `sar:polarizations`, if it lists exactly one."""
    listed = node.get("sar:polarizations")
    return polarisation_in(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else ""


def track_to_note(recognised: str, tags: Mapping[str, str], address: str, settings: IngestSettings) -> dict[str, str]:
    """The track tag to add to a file: from --track, else as recognised; empty if its tags already have one.

    TRACK_CONFLICT if --track and the file disagree.
    """
    stated = tags.get(TRACK, "") or recognised
    if settings.track:
        given = normal_track(settings.track)
        if stated and not _is_same(normal_track(stated), given):
            raise AcdError(ErrorCode.TRACK_CONFLICT, f"{address} is from track {stated}, but --track is {given}")
        return {TRACK: given}
    return {} if TRACK in tags or not recognised else {TRACK: recognised}


def _is_same(track: str, other: str) -> bool:
    """Whether two tracks may be the same. Some names have only the relative orbit, without direction (T064)."""
    return track == other or ("T" in (track[:1], other[:1]) and track[1:] == other[1:])
