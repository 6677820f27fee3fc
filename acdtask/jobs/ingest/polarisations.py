"""Which files of a source go into one variable: those of one polarisation, each with its track."""

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


def polarisation_to_take(said: Iterable[str], settings: IngestSettings) -> str:
    """The polarisation to take, empty for any: the setting's, or the one that the variable's name says.

    Args:
        said: what each file says, empty for nothing.
        settings: with the variable.

    Raises:
        AcdError: POLARISATION_MISMATCH if files are of another polarisation and none is of the wanted one, or of
            several if none is wanted.
    """
    counts = Counter(one for one in said if one)
    if settings.polarisation == "any":
        return ""
    wanted = settings.polarisation or polarisation_of_variable(settings.variable)
    if not counts or ((wanted in counts) if wanted else len(counts) == 1):
        return wanted
    there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    first = next(name for name in PREFERRED if name in counts)
    if settings.polarisation:
        raise AcdError(
            ErrorCode.POLARISATION_MISMATCH,
            f"--polarisation is {wanted}, and the files of {settings.source} are {there}",
            f"Choose one that is there, such as --polarisation {first}.",
        )
    if not wanted:
        raise AcdError(
            ErrorCode.POLARISATION_MISMATCH,
            f"the files of {settings.source} are {there}, and {settings.variable} can hold one polarisation",
            f"Choose one with --polarisation {first}, or name the variable after it (--variable Coherence{first}).",
        )
    raise AcdError(
        ErrorCode.POLARISATION_MISMATCH,
        f"the files of {settings.source} are {there}, and the variable {settings.variable} is of {wanted}",
        f"Name the variable after one, such as --variable {settings.variable.replace(wanted, first)}, which takes the"
        f" files of {first} alone.",
    )


def polarisation_of_asset(item: Mapping[str, Any], key: str) -> str:
    """What a STAC item says of the polarisation of one of its assets; empty for nothing."""
    asset = item["assets"][key]
    named = polarisation_in(key) or polarisation_in(posixpath.basename(str(asset["href"])))
    return _listed(asset) or named or _listed(item["properties"]) or polarisation_in(item["id"])


def _listed(node: Mapping[str, Any]) -> str:
    """The only polarisation in STAC's list of them."""
    listed = node.get("sar:polarizations")
    return polarisation_in(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else ""


def track_to_note(recognised: str, tags: Mapping[str, str], address: str, settings: IngestSettings) -> dict[str, str]:
    """The tag with the track of a file: that of --track, or else the one that it says, if its tags do not have it.

    TRACK_CONFLICT if both say one, and not the same.
    """
    said = tags.get(TRACK, "") or recognised
    if settings.track:
        given = normal_track(settings.track)
        if said and not _is_same(normal_track(said), given):
            raise AcdError(ErrorCode.TRACK_CONFLICT, f"{address} is of track {said}, and --track is {given}")
        return {TRACK: given}
    return {} if TRACK in tags or not recognised else {TRACK: recognised}


def _is_same(one: str, other: str) -> bool:
    """Whether two tracks may be the same; some names say the orbit alone (T064)."""
    return one == other or ("T" in (one[:1], other[:1]) and one[1:] == other[1:])
