"""Records metrics like Argo's controller: counters add up, gauges are set, and a name has one help text."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from acdtask.errors import AcdError, ErrorCode
from tests.workflows.equipment.expression import evaluate_when, substitute
from tests.workflows.equipment.model import Metric

__all__ = ["MetricSeries", "Registry"]


@dataclass(frozen=True)
class MetricSeries:
    """Name and labels (sorted by key) of a metric's time series."""

    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass
class Registry:
    """Values of a workflow's metrics."""

    values: dict[MetricSeries, float] = field(default_factory=dict)
    _kinds: dict[str, tuple[str, str, tuple[str, ...]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, metrics: Iterable[Metric], scope: Mapping[str, str]) -> None:
        """Record the metrics of a template that has ended.

        Raises:
            AcdError: SETTING_INVALID where Argo would only report a MetricsError: a value is not a number, or a name
                has a different help, type or labels than before.
        """
        for metric in metrics:
            if metric.when and not evaluate_when(metric.when, scope):
                continue
            series = MetricSeries(
                metric.name, tuple(sorted((label.key, substitute(label.value, scope)) for label in metric.labels))
            )
            with self._lock:
                self._check(metric, series)
                previous = self.values.get(series, 0.0) if metric.counter else 0.0
                self.values[series] = previous + _number(metric, scope)

    def _check(self, metric: Metric, series: MetricSeries) -> None:
        if (metric.counter is None) == (metric.gauge is None):
            raise AcdError(ErrorCode.SETTING_INVALID, f"metric {metric.name} must be either a counter or a gauge")
        kind = ("counter" if metric.counter else "gauge", metric.help, tuple(key for key, _ in series.labels))
        if self._kinds.setdefault(metric.name, kind) != kind:
            raise AcdError(
                ErrorCode.SETTING_INVALID, f"metric {metric.name} already exists with a different help, type or labels"
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
