"""Fusion of one window: reads the candidates of its images, joins them, and chooses which to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import shape

from acdtask.change.fusion import Candidate, Finding, fuse
from acdtask.change.judgement.choice import chosen, false_accepted
from acdtask.change.judgement.model import CERTAIN
from acdtask.change.patches import geodesic_area
from acdtask.jobs.contract import Site
from acdtask.jobs.fuse.content import FuseContent, Member, PlannedWindow
from acdtask.jobs.fuse.files import FusedPatch
from acdtask.jobs.fuse.seen import JudgedPixels, judged_km2
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.monitor.models import load_models
from acdtask.jobs.monitor.months import patches_of_image, read_image, rejected_of_image
from acdtask.jobs.monitor.reasons import comparison_in, held_back
from acdtask.jobs.patch_files import LocatedPatch

__all__ = ["fuse_window"]


@dataclass(frozen=True)
class _Judged:
    """A candidate of a member with its judgement."""

    member: int
    patch: LocatedPatch

    @property
    def probability(self) -> int:
        """In ten-thousandths."""
        return round(self.patch.judgement.probability * CERTAIN) if self.patch.judgement else 1

    @property
    def comparison(self) -> str:
        """The comparison with its past."""
        return comparison_in(self.patch.judgement.reason) if self.patch.judgement else ""


def fuse_window(
    window: PlannedWindow, settings: FuseSettings, content: FuseContent, site: Site
) -> tuple[list[FusedPatch], float]:
    """The findings of a window, in the order of their outlines, and the judged area in square kilometres."""
    products = {image.member: read_image(image.document, site.store) for image in window.images}
    judged = [
        _Judged(member, patch)
        for member, product in sorted(products.items())
        for patch in (*patches_of_image(product, site.store), *rejected_of_image(product, site.store))
    ]
    pixels = {number: JudgedPixels(product, content.members[number], site) for number, product in products.items()}

    def sees(member: int, outline: shapely.Geometry) -> bool:
        return member in pixels and pixels[member].sees(outline)

    candidates = [Candidate(each.member, each.patch.geometry, each.probability) for each in judged]
    findings = fuse(candidates, len(content.members), sees)
    area_km2 = judged_km2(shape(content.area), [*pixels.values()])
    accepted = settings.false_per_1000km2
    probabilities = np.array([finding.probability for finding in findings], np.int64)
    sure = load_models().named(content.judged_by).threshold(accepted)
    kept = chosen(probabilities, false_accepted(accepted, area_km2), sure)
    images = {image.member: image.label for image in window.images}
    patches = [
        _patch(finding, judged, bool(is_kept), window, images, content, accepted)
        for finding, is_kept in zip(findings, kept.tolist(), strict=True)
    ]
    return patches, area_km2


def _patch(
    finding: Finding,
    judged: Sequence[_Judged],
    kept: bool,
    window: PlannedWindow,
    images: Mapping[int, str],
    content: FuseContent,
    accepted: float,
) -> FusedPatch:
    candidates = [judged[position] for position in finding.candidates]
    best = candidates[0].patch
    starts = [candidate.patch.start for candidate in candidates]
    reason = _reason(finding, candidates, content.members, images)
    probability = finding.probability / CERTAIN
    if not kept:
        reason = held_back(reason, probability, accepted)
    return FusedPatch(
        id=f"{content.aoi}_{window.label}_{finding.digest}",
        aoi=content.aoi,
        window=window.label,
        datetime=max(candidate.patch.datetime for candidate in candidates),
        start_datetime=min(start for start in starts if start) if all(starts) else None,
        area_m2=round(geodesic_area(finding.outline), 1),
        probability=probability,
        kept=kept,
        members=_names(finding.members, content.members),
        absent=_names(finding.absent, content.members),
        unseen=_names(finding.unseen, content.members),
        patches=",".join(candidate.patch.patch.id for candidate in candidates),
        z_max=round(best.patch.z_max, 3),
        drop_mean=round(best.patch.drop_mean, 6),
        reason=reason,
        geometry=finding.outline,
    )


def _names(numbers: Sequence[int], members: Sequence[Member]) -> str:
    return ",".join(members[number].name for number in numbers)


def _reason(
    finding: Finding, candidates: Sequence[_Judged], members: Sequence[Member], images: Mapping[int, str]
) -> str:
    """The sentence: what each member says, and how the most probable candidate compares with its past."""
    highest: dict[int, float] = {}
    for candidate in candidates:
        highest.setdefault(candidate.member, candidate.probability / CERTAIN)
    said = [f"{members[number].name} finds it with probability {p:.2f}" for number, p in sorted(highest.items())]
    said += [f"{members[number].name} saw the place and has no candidate" for number in finding.absent]
    for number in finding.unseen:
        missing = "no data there" if number in images else "no image in the window"
        said.append(f"{members[number].name} has {missing}")
    return f"{'; '.join(said)}; in {members[candidates[0].member].name} it {candidates[0].comparison}"
