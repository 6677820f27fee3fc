"""What an event announces of a fusion: windows after the watermark, and no patch twice, though windows change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from acdtask.engine.stages import open_site
from acdtask.jobs.contract import Job
from acdtask.jobs.fuse import publish
from acdtask.jobs.fuse.files import FusedPatch
from acdtask.jobs.fuse.job import FuseJob
from acdtask.jobs.fuse.months import findings_of
from acdtask.jobs.fuse.publish import latest_fusion
from acdtask.jobs.fuse.settings import FuseSettings
from acdtask.jobs.news import Box
from tests.jobs.series import KilledError, Nightly, killed
from tests.jobs.tracks_site import ASCENDING, DESCENDING, SCENES, TRACKS, make_tracks, monitor_track

LAST = SCENES[0].pair_dates(SCENES[0].pairs - 1)[1]


class FuseNights(Nightly):
    """Fuses as a workflow does, with an event at the end of each run."""

    aoi = "koln-demo"

    def job(self, settings: dict[str, Any]) -> tuple[Job[Any, Any], FuseSettings]:
        """The job and its settings."""
        given = {"aoi": str(self.cube.parent / "track0" / "aoi.json"), "members": (ASCENDING, DESCENDING), **settings}
        return FuseJob(), FuseSettings.model_validate(given)

    def monitor(self, *tracks: tuple[str, str, str]) -> None:
        """Judge all images of some tracks."""
        for track, layout, name in tracks:
            monitor_track(self.cube, self.cube.parent / "track0" / "aoi.json", track, layout, name)

    def patches(self, window: str) -> list[FusedPatch]:
        """The patches of a window."""
        return [patch for patch in self.all_patches() if patch.window == window]

    def all_patches(self) -> list[FusedPatch]:
        """The patches of the newest fusion."""
        store = open_site(str(self.cube)).store
        return findings_of(latest_fusion(store, self.aoi, "fused").months, store)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose last images are not judged yet."""
    folder = tmp_path_factory.mktemp("tracks")
    make_tracks(folder, end=f"{LAST.replace(day=LAST.day - 2)}")
    return folder


@pytest.fixture
def nights(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FuseNights:
    return FuseNights(Path(shutil.copytree(made, tmp_path / "made")) / "cube", monkeypatch)


def boxes(patches: list[FusedPatch]) -> list[Box]:
    return [Box(*patch.geometry.bounds) for patch in patches]


def test_what_a_first_fusion_finds_is_shown_and_never_announced(nights: FuseNights) -> None:
    assert nights.run() == ("heartbeat", [])
    assert nights.run() == ("heartbeat", [])
    assert nights.run(false_per_1000km2=100) == ("heartbeat", [])


@pytest.mark.parametrize("first", [0, 1])
def test_a_window_is_announced_once_and_then_what_the_other_track_adds(first: int, nights: FuseNights) -> None:
    """The second track's image is later than the first's, or earlier, so that the window begins with another image."""
    many: dict[str, Any] = {"false_per_1000km2": 2000}
    assert nights.run(**many) == ("heartbeat", [])
    nights.monitor(TRACKS[first])
    kind, (label,) = nights.run(**many)
    alone = nights.patches(label)
    assert alone
    assert (kind, nights.received[-1].data["patches"]) == ("alert", len(alone))
    assert nights.run(**many) == ("heartbeat", [])

    nights.monitor(TRACKS[1 - first])
    kind, labels = nights.run(**many)
    joint = max(patch.window for patch in nights.all_patches())
    assert joint != label
    assert any("," in patch.members for patch in nights.patches(joint)), "both tracks are in the window"
    added = [box for box in boxes(nights.patches(joint)) if not any(box.overlaps(other) for other in boxes(alone))]
    assert len(added) < len(nights.patches(joint))
    assert (kind, labels) == (("alert", [joint]) if added else ("heartbeat", []))
    assert nights.received[-1].data["patches"] == len(added)
    assert nights.run(**many) == ("heartbeat", [])


def test_a_window_of_both_tracks_is_announced_with_its_patches(nights: FuseNights) -> None:
    assert nights.run() == ("heartbeat", [])
    nights.monitor(*TRACKS)
    kind, (label,) = nights.run()
    data = nights.received[-1].data
    assert kind == "alert"
    assert data["patches"] == len(nights.patches(label)) > 0
    assert data["changed_area_m2"] == pytest.approx(sum(patch.area_m2 for patch in nights.patches(label)), abs=0.1)


def test_a_run_that_is_killed_after_publishing_is_announced_by_the_next(
    nights: FuseNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nights.run() == ("heartbeat", [])
    nights.monitor(*TRACKS)
    with monkeypatch.context() as patch:
        patch.setattr(publish, "windows_of_plan", killed)
        with pytest.raises(KilledError):
            nights.work()
    kind, labels = nights.run()
    assert kind == "alert"
    assert len(labels) == 1
    assert nights.run() == ("heartbeat", [])


def test_an_event_that_is_not_delivered_waits_and_is_sent_once(nights: FuseNights) -> None:
    assert nights.run() == ("heartbeat", [])
    nights.monitor(*TRACKS)
    assert nights.run(delivered=False)[0] == "alert"
    nights.run()
    assert [kind for kind, labels in nights.seen if labels] == ["alert"]
