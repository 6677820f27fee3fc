from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acdtask.jobs.simulate.land import CLASSES, Cover, make_land
from acdtask.jobs.simulate.settings import SceneSettings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "simulation.md"


def test_the_reference_shows_the_numbers_of_the_code() -> None:
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    for cover, model in CLASSES.items():
        numbers = (
            f"{model.coherence:.2f} | {model.texture:.2f} | {model.season_depth:.2f} | {model.season_day:.0f}"
            f" | {model.wet_loss:.2f} | {model.orbit_loss:.2f} | {model.moisture:.2f} | {model.drift:.2f}"
            f" | {model.decay_days:.0f}"
        )
        assert f"| {cover.name.lower()} | {numbers} |" in rows


@pytest.mark.parametrize("size", [64, 100, 333])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_ground_of_any_size_and_seed_is_sound(size: int, seed: int) -> None:
    land = make_land(SceneSettings(size=size, seed=seed))
    assert land.cover.shape == land.parcel.shape == land.coherence.shape == (size, size)
    assert set(np.unique(land.cover)) <= {int(cover) for cover in Cover}
    assert land.coherence.min() >= 0
    assert land.coherence.max() <= 0.95
    assert 0 <= land.parcel.min() <= land.parcel.max() < land.parcels


def test_every_class_is_there_and_has_its_coherence() -> None:
    land = make_land(SceneSettings(size=512))
    shares = {cover: float((land.cover == cover).mean()) for cover in Cover}
    assert min(shares.values()) > 0.01
    assert shares[Cover.CROP] == max(shares.values())
    for cover, model in CLASSES.items():
        values = land.coherence[land.cover == cover]
        assert float(values.mean()) == pytest.approx(model.coherence, abs=0.02)
        assert float(values.std()) == pytest.approx(model.texture, abs=0.3 * model.texture + 1e-6)


def test_parcels_are_of_a_size_that_fields_have() -> None:
    land = make_land(SceneSettings(size=512))
    fields = np.isin(land.cover, [Cover.CROP, Cover.GRASS])
    _, areas = np.unique(land.parcel[fields], return_counts=True)
    assert 100 < np.median(areas) < 800
    assert land.parcel.min() >= 0
    assert land.parcel.max() < land.parcels
