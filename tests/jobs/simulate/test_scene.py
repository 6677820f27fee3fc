from __future__ import annotations

import math
from datetime import date
from multiprocessing import get_context

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from acdtask.jobs.simulate.farm import FarmCalendar
from acdtask.jobs.simulate.land import Cover
from acdtask.jobs.simulate.scene import Scene, SceneSettings, scene_of
from acdtask.jobs.simulate.speckle import NODATA

SMALL = SceneSettings(size=160, events=4, reference_pairs=6, monitored_pairs=4)
YEAR = SceneSettings(size=128, events=0, reference_pairs=61, monitored_pairs=2)


@pytest.fixture(scope="module")
def year() -> Scene:
    return Scene(YEAR)


def image_bytes(pair: int) -> bytes:
    return Scene(SMALL).image(pair).tobytes()


def test_an_image_is_the_same_bits_in_any_order_and_in_any_process() -> None:
    pairs = list(range(SMALL.pairs))
    scene = Scene(SMALL)
    forward = [scene.image(pair).tobytes() for pair in pairs]
    other = Scene(SMALL)
    backward = [other.image(pair).tobytes() for pair in reversed(pairs)][::-1]
    with get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(image_bytes, [7, 2])
    assert forward == backward
    assert elsewhere == [forward[7], forward[2]]
    assert len(set(forward)) == len(pairs)


def test_another_seed_is_another_scene() -> None:
    other = Scene(SMALL.model_copy(update={"seed": SMALL.seed + 1}))
    assert (other.image(0) != Scene(SMALL).image(0)).mean() > 0.9
    assert (other.land.cover != Scene(SMALL).land.cover).any()


def test_more_pairs_leave_the_images_that_were_there_alone() -> None:
    longer = Scene(YEAR.model_copy(update={"monitored_pairs": 5}))
    assert (longer.image(3) == Scene(YEAR).image(3)).all()


def test_values_are_0_to_1000_where_valid_and_nodata_elsewhere() -> None:
    scene = Scene(SMALL)
    for pair in range(SMALL.pairs):
        image, valid = scene.image(pair), scene.valid(pair)
        assert image.dtype == np.int16
        assert image.shape == SMALL.shape
        assert (image[~valid] == NODATA).all()
        assert image[valid].min() >= 0
        assert image[valid].max() <= 1000


def test_the_swath_has_a_slanted_edge_that_moves_and_some_slices_are_missing(year: Scene) -> None:
    masks = [year.valid(pair) for pair in range(YEAR.pairs)]
    whole = [mask for mask in masks if mask[:, 0].all()]
    assert 0.02 < 1 - len(whole) / len(masks) < 0.35
    edges = np.array([mask.sum(axis=1) for mask in whole])
    assert (np.diff(edges, axis=1) >= 0).all()
    assert (edges[:, -1] > edges[:, 0]).all()
    assert len({int(edge) for edge in edges[:, 0]}) > 3
    for mask in masks:
        assert mask.mean() > 0.7


def class_means(scene: Scene, cover: Cover, pairs: list[int]) -> list[float]:
    where: NDArray[np.bool_] = scene.land.cover == cover
    return [float(scene.coherence(pair)[where].mean()) for pair in pairs]


def dry_means(scene: Scene, cover: Cover, pairs: list[int]) -> list[float]:
    where: NDArray[np.bool_] = scene.land.cover == cover
    return [float((scene.coherence(pair) / scene.weather.factor(pair))[where].mean()) for pair in pairs]


def test_crops_lose_coherence_in_early_summer_and_towns_hardly_do(year: Scene) -> None:
    june = [pair for pair in range(YEAR.pairs) if YEAR.pair_dates(pair)[0].month == 6]
    january = [pair for pair in range(YEAR.pairs) if YEAR.pair_dates(pair)[0].month == 1]
    crop = np.mean(dry_means(year, Cover.CROP, june)) / np.mean(dry_means(year, Cover.CROP, january))
    town = np.mean(dry_means(year, Cover.TOWN, june)) / np.mean(dry_means(year, Cover.TOWN, january))
    assert crop < 0.65
    assert 0.88 < town < 1.0


def test_wet_acquisitions_lower_whole_pairs_and_forest_more_than_town(year: Scene) -> None:
    weather = year.weather
    amounts = [weather.amount(acquisition) for acquisition in range(YEAR.pairs + 1)]
    assert 0.3 < np.mean(np.array(amounts) == 0) < 0.7
    assert sum(amount >= 1 for amount in amounts[:60]) == 1  # one in sixty
    dry = [pair for pair in range(YEAR.pairs) if max(amounts[pair : pair + 2]) == 0]
    wet = [pair for pair in range(YEAR.pairs) if max(amounts[pair : pair + 2]) > 0.5]
    assert dry
    assert wet

    def relative(cover: Cover, pairs: list[int]) -> float:
        season = [float(year.season(pair)[cover].mean()) for pair in pairs]
        return float(np.mean(np.array(class_means(year, cover, pairs)) / season))

    forest, town = (relative(cover, wet) / relative(cover, dry) for cover in (Cover.FOREST, Cover.TOWN))
    assert forest < 0.75
    assert forest + 0.1 < town < 0.95
    for acquisition in range(0, YEAR.pairs, 5):
        wetness = weather.wetness(acquisition)
        assert (wetness.min() > 0) == (amounts[acquisition] > 0)
        assert wetness.max() <= 1.35
        assert np.abs(np.diff(wetness, axis=0)).max() < 0.05


def test_consecutive_pairs_share_the_weather_and_the_missing_slice_of_an_acquisition(year: Scene) -> None:
    amounts = [year.weather.amount(acquisition) for acquisition in range(YEAR.pairs + 1)]
    storm = int(np.argmax(amounts[1:-2])) + 1
    town = year.land.cover == Cover.TOWN
    means = [float(year.weather.factor(pair)[town].mean()) for pair in (storm - 1, storm)]
    assert max(means) < 0.85
    lacking = [not year.valid(pair)[:, 0].all() for pair in range(YEAR.pairs)]
    runs = "".join("x" if lack else " " for lack in lacking).split()
    assert runs
    assert all(len(run) >= 2 for run in runs if not (lacking[0] or lacking[-1]))


def test_a_long_perpendicular_baseline_lowers_forest_most(year: Scene) -> None:
    baselines = [year.weather.baseline(pair) for pair in range(YEAR.pairs)]
    assert max(baselines) > 130
    assert min(baselines) < 20
    dry = [pair for pair in range(YEAR.pairs) if max(map(year.weather.amount, (pair, pair + 1))) == 0]
    longest, shortest = max(dry, key=baselines.__getitem__), min(dry, key=baselines.__getitem__)
    losses = []
    for cover in (Cover.FOREST, Cover.TOWN):
        where = year.land.cover == cover
        factors = [float(year.weather.factor(pair)[where].mean()) for pair in (shortest, longest)]
        losses.append(1 - factors[1] / factors[0])
    assert losses[0] > losses[1] > 0


def test_the_noise_of_consecutive_pairs_is_correlated_and_that_of_others_hardly() -> None:
    """Residuals of the images from the true coherence, over the town."""
    # Windows of one pixel, so that the mean of an estimate depends on the coherence of its own pixel only.
    scene = Scene(SceneSettings(size=256, events=0, reference_pairs=4, monitored_pairs=1, samples=4, window=1))
    town = (scene.land.cover == Cover.TOWN) & scene.valid(0) & scene.valid(1) & scene.valid(2) & scene.valid(3)
    noise = [scene.image(pair)[town] / 1000 - scene.coherence(pair)[town] for pair in range(4)]
    following = [np.corrcoef(noise[pair], noise[pair + 1])[0, 1] for pair in range(3)]
    assert min(following) > 0.05
    # Speckle is remembered for two acquisitions only, which leaves a little correlation with later pairs.
    assert abs(np.corrcoef(noise[0], noise[2])[0, 1]) < 0.12
    assert abs(np.corrcoef(noise[0], noise[3])[0, 1]) < 0.12


def test_pairs_of_twelve_days_are_less_coherent_and_span_more_farm_work() -> None:
    six, twelve = (Scene(YEAR.model_copy(update={"pair_days": days, "reference_pairs": 30})) for days in (6, 12))
    for cover, least, most in ((Cover.FOREST, 0.4, 0.55), (Cover.CROP, 0.7, 0.85), (Cover.TOWN, 0.93, 1.0)):
        where = six.land.cover == cover
        ratio = float(twelve.land.coherence[where].mean() / six.land.coherence[where].mean())
        assert least < ratio < most
    assert np.mean([twelve.farm_work(pair) for pair in range(30)]) > np.mean(
        [six.farm_work(pair) for pair in range(30)]
    )
    assert (twelve.settings.pair_dates(1)[0] - twelve.settings.pair_dates(0)[0]).days == 12


def test_fields_keep_their_calendar_but_some_get_another_crop() -> None:
    calendar = FarmCalendar(7, 4000)
    kept = {c: np.mean(calendar.times(2020, c) == calendar.times(2021, c)) for c in (Cover.CROP, Cover.GRASS)}
    assert 0.85 < kept[Cover.GRASS] < 0.93  # 6 % are worked once more, in either year
    assert 0.60 < kept[Cover.CROP] < 0.72


def test_every_field_is_worked_one_to_four_times_a_year_and_hardly_in_winter() -> None:
    settings = YEAR.model_copy(update={"first_date": date(2020, 1, 1)})
    year = Scene(settings)
    worked = {pair: year.farm_work(pair) for pair in range(61)}
    land = year.land
    fields = np.isin(land.cover, [Cover.CROP, Cover.GRASS])
    times = np.sum(list(worked.values()), axis=0)
    assert not times[~fields].any()
    assert 1.4 < times[fields].mean() < 2.6
    assert times[fields].min() == 1  # two works that fall into the same pair count once
    assert times.max() <= 5
    winter = [m.mean() for pair, m in worked.items() if settings.pair_dates(pair)[0].month in (12, 1)]
    assert np.mean(winter) < 0.2 * np.mean([m.mean() for m in worked.values()])
    for pair, mask in worked.items():
        for parcel in np.unique(land.parcel[mask]):
            parts = mask[(land.parcel == parcel) & fields]
            cover = land.cover[(land.parcel == parcel) & fields]
            assert all(parts[cover == c].all() or not parts[cover == c].any() for c in np.unique(cover))
        if mask.any():
            usual = (land.coherence * year.season(pair)[land.cover, land.parcel] * year.weather.factor(pair))[mask]
            assert float(np.median(year.coherence(pair)[mask] / usual)) < 0.85


def test_the_drift_is_slow_in_time_and_space(year: Scene) -> None:
    def agreement(a: int, b: int) -> float:
        return float(np.corrcoef(year.drift(a).ravel(), year.drift(b).ravel())[0, 1])

    assert agreement(10, 11) > 0.9
    assert np.mean([abs(agreement(pair, pair + 30)) for pair in range(0, 30, 6)]) < 0.6
    assert np.abs(np.diff(year.drift(10), axis=1)).max() < 0.15


def test_true_coherence_stays_in_its_bounds(year: Scene) -> None:
    for pair in range(0, YEAR.pairs, 7):
        true = year.coherence(pair)
        assert true.dtype == np.float32
        assert true.min() >= 0
        assert true.max() <= 0.97


def test_dates_follow_each_other_and_a_pair_spans_its_days() -> None:
    settings = SceneSettings()
    assert settings.pair_dates(0) == (date(2020, 8, 1), date(2020, 8, 7))
    assert settings.pair_dates(1)[0] == settings.pair_dates(0)[1]
    assert settings.pair_dates(settings.pairs - 1) == (date(2021, 9, 19), date(2021, 9, 25))
    assert Scene(settings).day_of_year(0) == date(2020, 8, 4).timetuple().tm_yday


def test_the_scene_lies_near_cologne_on_the_pixel_lattice_and_off_the_tile_lattice() -> None:
    settings = SceneSettings()
    assert settings.easting % 20 == 0
    assert settings.northing % 20 == 0
    rows, columns = settings.lattice_lines(512)
    assert len(rows) == len(columns) == 2
    for line in rows:
        assert (settings.northing - 20 * line) % (512 * 20) == 0
    for line in columns:
        assert (settings.easting + 20 * line) % (512 * 20) == 0
    assert 0 not in rows
    aligned = SceneSettings(easting=512 * 20 * 34, northing=512 * 20 * 552)
    assert aligned.lattice_lines(512) == (range(512, 1024, 512), range(512, 1024, 512))


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 4},
        {"easting": 346650.0},
        {"northing": 1.0},
        {"size": 10},
        {"seed": -1},
        {"monitored_pairs": 0},
        {"x": 1},
        {"easting": float("inf")},
        {"pixel": float("nan")},
        {"first_date": "9999-12-30"},
    ],
)
def test_settings_that_make_no_scene_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SceneSettings.model_validate(wrong)


def test_every_setting_says_what_it_is() -> None:
    for name, field in SceneSettings.model_fields.items():
        assert field.description, name


def test_a_fractional_pixel_size_can_be_on_its_lattice() -> None:
    assert SceneSettings(pixel=0.1, easting=346640.3, northing=5655340.7).pixel == 0.1


def test_equal_settings_share_one_scene() -> None:
    assert scene_of(SMALL) is scene_of(SceneSettings.model_validate(SMALL.model_dump()))


def test_the_mean_over_dates_is_that_of_the_true_coherence_and_keeps_the_texture_of_the_ground(year: Scene) -> None:
    stack = np.stack([year.image(pair) for pair in range(60)]).astype(np.float64)
    seen = np.all([year.valid(pair) for pair in range(60)], axis=0)
    mean = stack.mean(axis=0)
    true = np.mean([year.coherence(pair) for pair in range(60)], axis=0)
    assert np.corrcoef(mean[seen], true[seen])[0, 1] > 0.95
    assert np.corrcoef(mean[seen], year.land.coherence[seen])[0, 1] > 0.8
    water = mean[seen & (year.land.cover == Cover.WATER)]
    assert water.min() < 1000 * 1.4 * math.sqrt(math.pi / (4 * YEAR.looks))
