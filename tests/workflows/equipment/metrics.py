"""Metrics as Argo's controller takes them: counters add up, gauges are set, and each help belongs to one name."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from acdtask.errors import AcdError, ErrorCode
from tests.workflows.equipment.expression import evaluate_when, substitute
from tests.workflows.equipment.model import Metric

__all__ = ["Registry", "Series"]


@dataclass(frozen=True)
class Series:
    """A name and its labels, sorted by key."""

    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass
class Registry:
    """The values of a workflow's metrics."""

    values: dict[Series, float] = field(default_factory=dict)
    _kinds: dict[str, tuple[str, str, tuple[str, ...]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, metrics: Iterable[Metric], scope: Mapping[str, str]) -> None:
        """Take the metrics of a template that has ended.

        Raises:
            AcdError: SETTING_INVALID where Argo would only note a MetricsError: a value that is no number, or a name
                with another help, type or labels than before.
        """
        for metric in metrics:
            if metric.when and not evaluate_when(metric.when, scope):
                continue
            series = Series(
                metric.name, tuple(sorted((label.key, substitute(label.value, scope)) for label in metric.labels))
            )
            with self._lock:
                self._check(metric, series)
                known = self.values.get(series, 0.0) if metric.counter else 0.0
                self.values[series] = known + _number(metric, scope)

    def _check(self, metric: Metric, series: Series) -> None:
        if (metric.counter is None) == (metric.gauge is None):
            raise AcdError(ErrorCode.SETTING_INVALID, f"metric {metric.name} is not one counter and not one gauge")
        kind = ("counter" if metric.counter else "gauge", metric.help, tuple(key for key, _ in series.labels))
        if self._kinds.setdefault(metric.name, kind) != kind:
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"metric {metric.name} is there with another help, type or labels"
            )


def _number(metric: Metric, scope: Mapping[str, str]) -> float:
    source = metric.counter or metric.gauge
    text = substitute(source.value, scope) if source else ""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (metric.counter and number < 0):
        raise AcdError(ErrorCode.SETTING_INVALID, f"the value of metric {metric.name} is {text!r}")
    return number
