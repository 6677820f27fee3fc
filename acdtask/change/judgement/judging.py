"""Settings of the judgement of candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from acdtask.errors import AcdError, ErrorCode

__all__ = ["MODEL", "MODELS", "ONLY_WITHOUT_JUDGEMENT", "Judging"]

ONLY_WITHOUT_JUDGEMENT = ("low",)
"""Settings of methods without judgement. In methods with it, the extent of a candidate has no threshold of z."""

MODEL, RULE = "model", "rule"
MODELS = (MODEL, RULE)
"""Names of the models: all features, or only how far the contrast exceeds the largest of the past."""


@dataclass(frozen=True)
class Judging:
    """How candidates are judged.

    Attributes:
        false_per_1000km2: number of false patches that are accepted in 1000 square kilometres of an image.
        judged_by: name of the model that gives the probability of a candidate; one of MODELS.

    Raises:
        AcdError: SETTING_INVALID, naming the setting.
    """

    false_per_1000km2: float = 20.0
    judged_by: str = MODEL

    def __post_init__(self) -> None:
        if not (math.isfinite(self.false_per_1000km2) and self.false_per_1000km2 >= 0):
            detail = f"false_per_1000km2 is {self.false_per_1000km2}; it must be a number of at least 0"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)
        if self.judged_by not in MODELS:
            detail = f"judged_by is {self.judged_by!r}; it must be one of {', '.join(MODELS)}"
            raise AcdError(ErrorCode.SETTING_INVALID, detail)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the settings."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> Judging | None:
        """The judgement that recorded settings describe; None if they have none.

        >>> Judging.chosen({"false_per_1000km2": 10.0}), Judging.chosen({"low": 1.7})
        (Judging(false_per_1000km2=10.0, judged_by='model'), None)
        """
        values = {name: given[name] for name in cls.names() if name in given}
        return cls(**values) if values else None

    @classmethod
    def recorded(cls, judging: Judging | None) -> dict[str, Any]:
        """The settings from which `chosen` recreates the judgement; empty if there is none."""
        return {name: getattr(judging, name) for name in cls.names()} if judging else {}
