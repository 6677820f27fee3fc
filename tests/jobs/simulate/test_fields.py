from __future__ import annotations

import numpy as np
import pytest

from acdtask.jobs.simulate.fields import Stream, generator, smooth_field, spline_weights


def test_generators_of_different_streams_and_items_differ() -> None:
    draws = {generator(seed, stream, k).random() for seed in (1, 2) for stream in Stream for k in range(3)}
    assert len(draws) == 2 * len(Stream) * 3


def test_a_blend_of_knots_keeps_unit_variance_at_every_phase() -> None:
    weights = spline_weights(np.linspace(0, 1, 101))
    assert np.allclose((weights**2).sum(axis=0), 1)
    assert (weights >= 0).all()


def test_a_smooth_field_is_standard_normal_and_smooth() -> None:
    field = smooth_field(np.random.default_rng(1), (400, 300), 6.0)
    assert field.shape == (400, 300)
    assert field.dtype == np.float32
    assert float(field.mean()) == pytest.approx(0, abs=0.05)
    assert float(field.std()) == pytest.approx(1, abs=0.05)
    assert np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(field[:, 30:].ravel(), field[:, :-30].ravel())[0, 1]) < 0.05


def test_a_length_that_divides_nothing_and_a_field_of_one_column_work() -> None:
    assert smooth_field(np.random.default_rng(1), (61, 1), 7.3).shape == (61, 1)
    assert smooth_field(np.random.default_rng(1), (5, 5), 80.0).std() < 1
