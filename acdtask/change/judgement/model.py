"""The probability that a candidate is a change of the ground: a logistic regression small enough to print.

    p = 1 / (1 + exp(-(b + sum over features of w (x - m) / s)))

with mean m and standard deviation s of each feature x in the scenes that it was fitted on (D. W. Hosmer, S. Lemeshow
and R. X. Sturdivant, "Applied Logistic Regression", Wiley 2013, chapter 2). Coefficients are rounded, terms are added
in a fixed order, and probabilities are rounded to ten-thousandths, so they are the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CERTAIN", "Model", "Term", "fit"]

CERTAIN = 10_000
"""Probabilities are integers in this unit."""
DIGITS = 4
"""Significant digits of coefficients."""
RIDGE = 1.0
"""Weight of the penalty on coefficients of standardised features: half a squared coefficient costs as much as this."""
ITERATIONS = 50
TOLERANCE = 1e-10
LARGEST_LOGIT = 30.0


@dataclass(frozen=True)
class Term:
    """A feature's part of a model: weight * (value - middle) / scale."""

    feature: str
    weight: float
    middle: float
    scale: float


@dataclass(frozen=True)
class Model:
    """A logistic regression.

    >>> model = Model(-2.0, (Term("contrast", 1.5, 1.0, 0.5),))
    >>> model.probabilities({"contrast": np.array([0.0, 1.0, 5.0])}).tolist()
    [67, 1192, 9999]
    """

    intercept: float
    terms: tuple[Term, ...]

    def probabilities(self, features: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
        """The probability of each candidate, as integers in ten-thousandths; never 0 or 1.

        Args:
            features: values by name, each of shape (candidates,); more than those of the model are ignored.
        """
        columns = [(features[term.feature] - term.middle) / term.scale * term.weight for term in self.terms]
        logits = [self.intercept + math.fsum(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        return np.array([_ten_thousandths(logit) for logit in logits], np.int64)


def _ten_thousandths(logit: float) -> int:
    limited = min(max(logit, -LARGEST_LOGIT), LARGEST_LOGIT)
    return min(max(round(CERTAIN / (1 + math.exp(-limited))), 1), CERTAIN - 1)


def fit(features: Mapping[str, NDArray[np.float64]], is_change: NDArray[np.bool_]) -> Model:
    """Fit a model by Newton's method with a ridge penalty.

    Args:
        features: values by name, each of shape (candidates,).
        is_change: shape (candidates,), whether each candidate is a change.

    Raises:
        ValueError: no candidate is a change, or all are.
    """
    if is_change.all() or not is_change.any():
        raise ValueError("candidates of both kinds are needed")
    middles = {name: _rounded(float(np.mean(values))) for name, values in features.items()}
    scales = {name: _rounded(float(np.std(values))) or 1.0 for name, values in features.items()}
    columns = [(values - middles[name]) / scales[name] for name, values in features.items()]
    weights = _newton(np.stack([np.ones(len(is_change)), *columns], axis=1), is_change.astype(np.float64))
    terms = [
        Term(name, _rounded(weight), middles[name], scales[name])
        for name, weight in zip(features, weights[1:].tolist(), strict=True)
    ]
    return Model(_rounded(float(weights[0])), tuple(terms))


def _newton(design: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights that maximise the penalised likelihood; the first, the intercept, is not penalised."""
    penalty = np.eye(design.shape[1]) * RIDGE
    penalty[0, 0] = 0.0
    weights = np.zeros(design.shape[1])
    for _ in range(ITERATIONS):
        expected = 1 / (1 + np.exp(-np.clip(design @ weights, -LARGEST_LOGIT, LARGEST_LOGIT)))
        gradient = design.T @ (expected - target) + penalty @ weights
        curvature = (design * (expected * (1 - expected))[:, np.newaxis]).T @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if float(np.abs(step).max()) < TOLERANCE:
            break
    return weights


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")
