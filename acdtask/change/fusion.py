r"""Fusion of the judged candidates of several series of images of the same ground: other tracks, other polarisations.

Candidates of different members of a window that overlap on the ground are one finding. Each member adds what it says in
addition to the prior, in log odds, with a factor for what members have in common (speckle is independent, weather and
farm work are not):

    logit p = logit prior + shrink sum over members of (logit pk - logit prior)

pk is the highest probability of a member's candidates there. A candidate that its own history makes unlikely therefore
speaks against the finding. A member that saw the place and has no candidate there adds -absence, and one without data
there nothing, so that a finding of a single member keeps its own probability.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from acdtask.change.components import components
from acdtask.change.judgement.model import CERTAIN

__all__ = ["FUSING", "Candidate", "Finding", "Fusing", "WindowImage", "fuse", "in_order", "sample_points", "windows_of"]

Sees: TypeAlias = Callable[[int, BaseGeometry], bool]
"""Whether a member has data at an outline."""

GRID_DEGREES = 1e-7
"""Outlines are united on the lattice of the coordinates in tables: about a centimetre."""
SAMPLES = 8
"""Rows and columns of the points by which an outline is sampled."""


@dataclass(frozen=True)
class Fusing:
    """How candidates of several members are joined.

    Attributes:
        shrink, absence, prior: the numbers of the equation; the prior is a probability.
        overlap: share of the smaller of two candidates that must lie in the other for them to be one finding.
        outline: a candidate is part of the outline if its probability is at least this share of the highest.
    """

    shrink: float
    absence: float
    prior: float
    overlap: float = 0.2
    outline: float = 0.5

    def probability(self, probabilities: Sequence[int], absent: int) -> int:
        """The probability of a finding, in ten-thousandths.

        Args:
            probabilities: the highest of each member that has a candidate there, in ten-thousandths.
            absent: number of members that saw the place and have none.

        >>> FUSING.probability([7000], absent=0), FUSING.probability([7000], absent=1)
        (7000, 7000)
        >>> FUSING.probability([7000, 50], absent=0) < 7000 < FUSING.probability([7000, 7000], absent=0)
        True
        """
        logits = sorted(_logit(probability / CERTAIN) for probability in probabilities)
        prior = _logit(self.prior)
        joined = logits[0] if len(logits) == 1 else prior + self.shrink * math.fsum(logit - prior for logit in logits)
        logit = joined - self.absence * absent
        return min(max(round(CERTAIN / (1 + math.exp(-logit))), 1), CERTAIN - 1)


FUSING = Fusing(shrink=0.6, absence=0.0, prior=0.033)
"""The defaults, chosen on scenes for fitting (`python -m benchmarks.fusion --fit`). The prior is the share of their
candidates that are changes."""


@dataclass(frozen=True)
class WindowImage:
    """An image of a member: the member's number, its datetime, and its label."""

    member: int
    datetime: datetime
    label: str


@dataclass(frozen=True)
class Candidate:
    """A judged candidate of a member.

    Attributes:
        member: the member's number.
        outline: polygon(s) in longitude and latitude.
        probability: in ten-thousandths.
    """

    member: int
    outline: BaseGeometry
    probability: int


@dataclass(frozen=True)
class Finding:
    """Candidates of different members that are one change of the ground, or a candidate of one member alone.

    Attributes:
        candidates: positions of its candidates, most probable first.
        outline: union of those that are nearly as probable as the first; exteriors are counter-clockwise.
        probability: in ten-thousandths.
        members: numbers of the members that have a candidate there, sorted.
        absent: numbers of the members that saw the place and have none.
        unseen: numbers of the members without data there.
        digest: digest of the outline, for an id.
    """

    candidates: tuple[int, ...]
    outline: BaseGeometry
    probability: int
    members: tuple[int, ...]
    absent: tuple[int, ...]
    unseen: tuple[int, ...]
    digest: str


def in_order(image: WindowImage) -> tuple[datetime, int, str]:
    """The key by which images are ordered in time."""
    return image.datetime, image.member, image.label


def windows_of(images: Sequence[WindowImage], days: float) -> list[tuple[WindowImage, ...]]:
    """Group images into windows: at most one image of each member, the first and last at most `days` apart.

    A window begins with the earliest image that is in no other, and ends before the next one of a member that it has.
    The order of `images` does not matter.

    >>> days = [datetime(2021, 6, day) for day in (1, 4, 7, 10, 20)]
    >>> images = [WindowImage(number % 2, day, f"{day:%d}") for number, day in enumerate(days)]
    >>> [[image.label for image in window] for window in windows_of(images, 3)]
    [['01', '04'], ['07', '10'], ['20']]
    """
    windows: list[tuple[WindowImage, ...]] = []
    current: list[WindowImage] = []
    for image in sorted(images, key=in_order):
        late = current and image.datetime - current[0].datetime > timedelta(days=days)
        if late or image.member in {other.member for other in current}:
            windows.append(tuple(current))
            current = []
        current.append(image)
    return [*windows, tuple(current)] if current else windows


def fuse(candidates: Sequence[Candidate], members: int, sees: Sees, fusing: Fusing = FUSING) -> list[Finding]:
    """Join the candidates of a window into findings. The order of `candidates` matters to no outline or probability.

    Args:
        candidates: those of all members.
        members: number of members that have an image in the window.
        sees: whether a member has data at an outline.
        fusing: how they are joined.

    Returns:
        Findings in the order of their outlines.

    >>> west, east = shapely.box(7, 50, 7.002, 50.001), shapely.box(7.001, 50, 7.003, 50.001)
    >>> (finding,) = fuse([Candidate(0, west, 6000), Candidate(1, east, 7000)], 2, lambda member, outline: True)
    >>> finding.candidates, finding.outline.bounds, finding.probability > 7000
    ((1, 0), (7.0, 50.0, 7.003, 50.001), True)
    """
    candidates = [replace(candidate, outline=_valid(candidate.outline)) for candidate in candidates]
    keys = [shapely.to_wkb(shapely.normalize(candidate.outline), byte_order=1) for candidate in candidates]
    findings = [
        _finding(group, candidates, keys, members, sees, fusing) for group in _groups(candidates, fusing.overlap)
    ]
    return sorted(findings, key=_order)


def _order(finding: Finding) -> tuple[bytes, int, tuple[int, ...]]:
    return shapely.to_wkb(finding.outline, byte_order=1), finding.probability, finding.members


def sample_points(outline: BaseGeometry) -> NDArray[np.float64]:
    """Points of an outline, shape (points, 2): those of a regular lattice inside it, and one that always is.

    >>> sample_points(shapely.box(0, 0, 8, 8)).shape, sample_points(shapely.box(0, 0, 8, 8))[0].tolist()
    ((65, 2), [0.5, 0.5])
    """
    left, bottom, right, top = outline.bounds
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    x, y = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
    inside = shapely.contains_xy(outline, x.ravel(), y.ravel())
    points = np.stack([x.ravel()[inside], y.ravel()[inside]], axis=1)
    return np.concatenate([points, shapely.get_coordinates(shapely.point_on_surface(outline))])


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _groups(candidates: Sequence[Candidate], overlap: float) -> list[list[int]]:
    """Positions of the candidates of each finding: those connected by overlaps of different members."""
    outlines = np.array([candidate.outline for candidate in candidates], dtype=object)
    member = np.array([candidate.member for candidate in candidates], np.int64)
    pairs = shapely.STRtree(outlines).query(outlines, predicate="intersects").T
    pairs = pairs[member[pairs[:, 0]] < member[pairs[:, 1]]]
    first, second = outlines[pairs[:, 0]], outlines[pairs[:, 1]]
    smaller = np.minimum(shapely.area(first), shapely.area(second))
    joined = pairs[shapely.area(shapely.intersection(first, second)) > overlap * smaller]
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(components(len(candidates), joined.astype(np.int32)).tolist()):
        groups.setdefault(group, []).append(position)
    return [*groups.values()]


def _finding(
    group: list[int],
    candidates: Sequence[Candidate],
    keys: Sequence[bytes],
    members: int,
    sees: Sees,
    fusing: Fusing,
) -> Finding:
    ordered = sorted(group, key=lambda position: (-candidates[position].probability, keys[position]))
    highest: dict[int, int] = {}
    for position in ordered:
        highest.setdefault(candidates[position].member, candidates[position].probability)
    best = candidates[ordered[0]].probability
    shown = [position for position in ordered if candidates[position].probability >= fusing.outline * best]
    outline = _union([candidates[position].outline for position in sorted(shown, key=lambda position: keys[position])])
    others = [member for member in range(members) if member not in highest]
    absent = tuple(member for member in others if sees(member, outline))
    return Finding(
        candidates=tuple(ordered),
        outline=outline,
        probability=fusing.probability([*highest.values()], len(absent)),
        members=tuple(sorted(highest)),
        absent=absent,
        unseen=tuple(member for member in others if member not in absent),
        digest=hashlib.sha256(shapely.to_wkb(outline, byte_order=1)).hexdigest()[:10],
    )


def _valid(outline: BaseGeometry) -> BaseGeometry:
    """The outline itself, unless rounding to the decimals of a table made its rings cross."""
    return outline if outline.is_valid else shapely.make_valid(outline, method="structure")


def _union(outlines: Sequence[BaseGeometry]) -> BaseGeometry:
    """The union, normalised, with counter-clockwise exteriors. A single outline has its own coordinates."""
    united = outlines[0] if len(outlines) == 1 else shapely.union_all(list(outlines), grid_size=GRID_DEGREES)
    return shapely.orient_polygons(shapely.normalize(united), exterior_cw=False)
