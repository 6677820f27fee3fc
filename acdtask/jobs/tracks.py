"""Track and polarisation of records, from their tags or from producers' file names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from acdtask.cube.model import Record

__all__ = [
    "POLARISATION",
    "TRACK",
    "normal_track",
    "polarisation_in",
    "polarisation_of",
    "polarisation_of_tags",
    "polarisation_of_variable",
    "track_in",
    "track_of",
    "track_of_stac",
]

TRACK = "track"
"""Tag with the orbit direction and relative orbit of a record, such as A015."""

RELATIVE_ORBITS = 175
"""Number of relative orbits of Sentinel-1."""

POLARISATION = "polarisation"
"""Tag with the polarisation of a record whose name does not contain it."""

POLARISATION_TAGS = (POLARISATION, "polarization", "pol", "sar:polarizations")
POLARISATION_WORD = re.compile(r"(?<![A-Za-z0-9])(VV|VH|HH|HV)(?![A-Za-z0-9])", re.IGNORECASE)
VARIABLE_POLARISATION = re.compile(r"(?:(?<![A-Z])|(?<=COH))(VV|VH|HH|HV)(?![A-Za-z])")

_BEFORE, _AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
TRACKS_IN_NAMES = (
    re.compile(rf"{_BEFORE}(?P<direction>[AD])(?P<orbit>\d{{3}}){_AFTER}"),  # many archives: S1_A015_20200104_...
    re.compile(r"GUNW-(?P<direction>[AD])-[RL]-(?P<orbit>\d{3})-"),  # ARIA: S1-GUNW-A-R-014-tops-...
    re.compile(rf"{_BEFORE}(?P<orbit>\d{{3}})(?P<direction>[AD])_\d{{5}}_\d{{6}}{_AFTER}"),  # LiCSAR: 087D_04904_121313
    re.compile(rf"{_BEFORE}(?P<direction>)T(?P<orbit>\d{{3}})[-_]\d{{6}}[-_]IW[123]{_AFTER}"),  # OPERA: T064-135518-IW1
)
SHORT_TRACK = re.compile(r"(?P<direction>[AD])(?P<orbit>\d{1,3})", re.IGNORECASE)


def track_in(text: str) -> str:
    """The track in a file's path or a record's name; empty if there is none or several.

    >>> track_in("S1_A015_20200104_20200116_VV.tif"), track_in("S1-GUNW-D-R-087-tops-20180807_20180726.tif")
    ('A015', 'D087')
    >>> track_in("087D_04904_121313/20200104_20200116.cc.tif"), track_in("CSLC-S1_T064-135518-IW1_20230101.tif")
    ('D087', 'T064')
    >>> track_in("A015/S1_D066_20200104.tif"), track_in("20200104_20200116.tif"), track_in("S1_A999_20200104.tif")
    ('', '', '')
    """
    tracks = {
        f"{match['direction'] or 'T'}{match['orbit']}"
        for pattern in TRACKS_IN_NAMES
        for match in pattern.finditer(text)
        if 1 <= int(match["orbit"]) <= RELATIVE_ORBITS
    }
    return tracks.pop() if len(tracks) == 1 else ""


def normal_track(text: str) -> str:
    """Normalise a track: letter and three digits if it denotes an orbit, otherwise unchanged.

    >>> normal_track("a15"), normal_track("D066"), normal_track("frame-3")
    ('A015', 'D066', 'frame-3')
    """
    match = SHORT_TRACK.fullmatch(text.strip())
    return f"{match['direction'].upper()}{int(match['orbit']):03d}" if match else text.strip()


def track_of_stac(properties: Mapping[str, object]) -> str:
    """The track from STAC's satellite extension; empty if unknown.

    >>> track_of_stac({"sat:orbit_state": "descending", "sat:relative_orbit": 66})
    'D066'
    >>> track_of_stac({"sat:relative_orbit": 66}), track_of_stac({"sat:orbit_state": "ascending"})
    ('T066', '')
    """
    orbit, state = str(properties.get("sat:relative_orbit", "")), str(properties.get("sat:orbit_state", ""))
    if not orbit.isdigit():
        return ""
    direction = {"ascending": "A", "descending": "D"}.get(state.lower(), "T")
    return f"{direction}{int(orbit):03d}"


def track_of(record: Record) -> str:
    """The track of a record, from its tag, the tags of STAC's satellite extension, or its name; empty if unknown."""
    tag = record.tags.get(TRACK, "")
    return normal_track(tag) if tag else track_of_stac(record.tags) or track_in(record.name)


def polarisation_in(text: str) -> str:
    """The polarisation in a path or name, last path component first; empty if there is none or several.

    >>> polarisation_in("S1_20200104_20200116_VV.tif"), polarisation_in("vh/20200104_20200116.cc.tif")
    ('VV', 'VH')
    >>> polarisation_in("S1_VV_VH_20200104.tif"), polarisation_in("IVVX_20200104.tif")
    ('', '')
    """
    for part in reversed(text.split("/")):
        polarisations = {match.upper() for match in POLARISATION_WORD.findall(part)}
        if polarisations:
            return polarisations.pop() if len(polarisations) == 1 else ""
    return ""


def polarisation_of_variable(name: str) -> str:
    """The polarisation in a variable's name; empty if there is none or several.

    >>> [polarisation_of_variable(name) for name in ("CoherenceVV", "coh_HV", "COHVH", "CoherenceVVVH", "Coherence")]
    ['VV', 'HV', 'VH', '', '']
    """
    polarisations = set(VARIABLE_POLARISATION.findall(name))
    return polarisations.pop() if len(polarisations) == 1 else ""


def polarisation_of_tags(tags: Mapping[str, str]) -> str:
    """The polarisation in tags; empty if there is none or several."""
    for tag in POLARISATION_TAGS:
        if tag in tags:
            return polarisation_in(tags[tag])
    return ""


def polarisation_of(record: Record) -> str:
    """The polarisation of a record, from its tags or its name; empty if unknown."""
    return polarisation_of_tags(record.tags) or polarisation_in(record.name)
