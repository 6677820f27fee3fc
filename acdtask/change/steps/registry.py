"""All steps, in the order in which methods apply them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from acdtask.change.steps.centring import CentringSettings
from acdtask.change.steps.smooth import SmoothSettings
from acdtask.change.steps.step import Step, StepSettings

__all__ = ["STEPS", "AllStepSettings", "recorded_steps", "steps_of"]


class AllStepSettings(CentringSettings, SmoothSettings):
    """The settings of all steps. To add a step, add its settings to the bases; methods apply steps in their order."""


STEPS: tuple[type[Step], ...] = tuple(cast(type[StepSettings], base).step for base in AllStepSettings.__bases__)


def steps_of(given: Mapping[str, Any]) -> tuple[Step, ...]:
    """Create the steps that the settings ask for. SETTING_INVALID, naming the setting.

    >>> steps_of({"centred": True, "smooth": 1.2})
    (Centring(), Smooth(sigma=1.2))
    """
    chosen = (kind.chosen(given) for kind in STEPS)
    return tuple(step for step in chosen if step is not None)


def recorded_steps(steps: Iterable[Step]) -> dict[str, Any]:
    """The settings from which `steps_of` recreates these steps.

    >>> recorded_steps(())
    {'centred': False}
    """
    by_kind = {type(step): step for step in steps}
    return {name: value for kind in STEPS for name, value in kind.recorded(by_kind.get(kind)).items()}
