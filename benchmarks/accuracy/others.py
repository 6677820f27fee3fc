"""Methods of others, written down from their sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label, regionprops

from benchmarks.accuracy.detected import MIN_AREA, Detected, by_hysteresis, larger_than, of_mask
from benchmarks.accuracy.scenes import Series

__all__ = ["dist_s1", "dist_s1_confirmed", "median_mad", "percentile", "tutorial_as_printed"]

LOW, HIGH = 1.7, 3.0
NORMAL_MAD = 1.4826
"""Standard deviation of a normal variable / its median absolute deviation."""


def _z(series: Series, image: NDArray[np.int16]) -> NDArray[np.float64]:
    """Z against mean and std; NaN without data."""
    mean, std = series.moments.mean().astype(np.float64), series.moments.standard_deviation().astype(np.float64)
    return np.where(image == series.nodata, np.nan, (mean - image) / np.where(std > 0, std, np.nan))


def tutorial_as_printed(series: Series) -> list[Detected]:
    """The notebook's `abnormal_changes`, with the region numbers that it prints.

    `regionprops_table` numbers its rows from 0 and `label` its regions from 1, and the notebook marks
    `blobs == index`: instead of each large region, the one before it, whatever its size; for the first region, the
    background.

    Source: airbusgeo/geocube-client-python, Jupyter/Geocube-Client-SDK-2.ipynb.
    """
    detected = []
    for image in series.monitored:
        z = _z(series, image)
        known = np.where(np.isnan(z), -np.inf, z)
        blobs = label(apply_hysteresis_threshold(known, LOW, HIGH))
        changes = np.zeros(blobs.shape, np.bool_)
        for index, blob in enumerate(regionprops(blobs)):
            if blob.area > MIN_AREA:
                changes[blobs == index] = True
        detected.append(of_mask(changes, known))
    return detected


def median_mad(series: Series) -> list[Detected]:
    """The tutorial with the median for the mean, and 1.4826 times the median absolute deviation for the std.

    Source: P. J. Rousseeuw, C. Croux: Alternatives to the median absolute deviation. JASA 88 (1993), 1273-1283.
    """
    median = quantile(series.in_order, series.count, 0.5)
    last = np.iinfo(np.int16).max
    deviations = np.where(series.in_order == last, np.inf, np.abs(series.in_order - median))
    mad = NORMAL_MAD * quantile(np.sort(deviations, axis=0), series.count, 0.5)
    spread = np.where(mad > 0, mad, np.nan)
    return [
        by_hysteresis(np.where(image == series.nodata, np.nan, (median - image) / spread), LOW, HIGH)
        for image in series.monitored
    ]


def percentile(series: Series, share: float = 0.05) -> list[Detected]:
    """Potentially affected areas: pixels below a percentile of their own history, 5 % or 1 %.

    Regions of more than 100 pixels count as patches, as in the tutorial; the paper ranks areas by other data.

    Source: S. Olen, B. Bookhagen: Mapping damage-affected areas after natural hazard events using Sentinel-1 coherence
    time series. Remote Sensing 10 (2018), 1272.
    """
    limit = quantile(series.in_order, series.count, share)
    detected = []
    for image in series.monitored:
        drop = np.where(image == series.nodata, np.nan, limit - image)
        detected.append(of_mask(larger_than(drop > 0, MIN_AREA), drop))
    return detected


def quantile(in_order: NDArray[np.generic], count: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """The quantile of the first `count` values of each pixel, interpolated linearly; NaN where there are none.

    >>> quantile(np.array([[[1]], [[2]], [[4]], [[99]]]), np.array([[3]]), 0.75)
    array([[3.]])
    """
    position = share * (np.maximum(count, 1) - 1)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count, 1) - 1)
    low, high = (np.take_along_axis(in_order, index[np.newaxis], 0)[0].astype(np.float64) for index in (below, above))
    known = count > 0
    step = np.subtract(high, low, out=np.full_like(low, np.nan), where=known)
    return np.asarray(low + (position - below) * step, np.float64)


ALERT, CERTAIN_ALERT = 2.5, 4.5
CONFIRMED = 3**2
"""Confidence that confirms an alert, in units of the alert's threshold: that of three alerts in succession."""


def _distances(series: Series) -> NDArray[np.float64]:
    """|logit(x) - mean| / std of the logits of the reference, shape (monitored images, height, width)."""
    reference = logit(np.clip(series.reference / 1000.0, 0.001, 0.999))
    valid = series.reference != series.nodata
    count = np.where(series.count > 1, series.count, np.nan)
    mean = np.where(valid, reference, 0).sum(axis=0) / count
    std = np.sqrt(np.where(valid, (reference - mean) ** 2, 0).sum(axis=0) / count)
    std[std == 0] = np.nan
    images = logit(np.clip(series.monitored / 1000.0, 0.001, 0.999))
    return np.where(series.monitored == series.nodata, np.nan, np.abs(images - mean) / std)


def dist_s1(series: Series) -> list[Detected]:
    """The first alert of OPERA DIST-S1 with high confidence: a distance of at least 4.5 in logits.

    The product takes mean and standard deviation from a transformer and despeckled backscatter; here they are those of
    the reference. It makes maps of pixels: every region is a patch, whatever its size.

    Source: opera-adt/dist-s1, dist_processing.py (`compute_logit_mdist`, `label_one_disturbance`).
    """
    return [of_mask(distance >= CERTAIN_ALERT, distance) for distance in _distances(series)]


def dist_s1_confirmed(series: Series) -> list[Detected]:
    """The confirmed alerts of OPERA DIST-S1, of low and high confidence.

    An image alerts where the distance is at least 2.5. The confidence of a disturbance is the mean distance since its
    first alert times the square of the number of alerts; it is confirmed at nine times the threshold. A disturbance
    ends if its first alert is not followed by another, or after two images without an alert.

    Source: opera-adt/dist-s1, confirmation.py (`confirm_disturbance_arr`), without its limits of days and per year.
    """
    shape = series.monitored.shape[1:]
    alerts, images, quiet = (np.zeros(shape, np.int64) for _ in range(3))
    total = np.zeros(shape)
    detected = []
    for distance in _distances(series):
        seen = ~np.isnan(distance)
        alert = seen & (distance >= ALERT)
        quiet = np.where(alert, 0, quiet + (seen & (alerts > 0)))
        ended = (quiet >= 2) | ((quiet == 1) & (alerts == 1))
        alerts, images = (
            np.where(ended, 0, alerts + alert),
            np.where(ended, 0, images + (seen & (alert | (alerts > 0)))),
        )
        total = np.where(ended, 0.0, total + np.where(images > 0, np.where(seen, distance, 0), 0))
        confidence = total / np.maximum(images, 1) * alerts**2
        detected.append(of_mask(alert & (confidence >= CONFIRMED * ALERT), distance))
    return detected
