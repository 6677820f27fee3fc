"""All steps, in the order in which methods apply them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from acdtask.change.steps.calibration import Calibration, CalibrationSettings
from acdtask.change.steps.centring import Centring, CentringSettings
from acdtask.change.steps.likelihood import Likelihood, LikelihoodSettings
from acdtask.change.steps.mean_field import MeanField, MeanFieldSettings
from acdtask.change.steps.smooth import SmoothSettings
from acdtask.change.steps.step import Step, StepSettings
from acdtask.change.steps.wide import WideSettings
from acdtask.errors import AcdError, ErrorCode

__all__ = ["STEPS", "AllStepSettings", "recorded_steps", "steps_of"]


class AllStepSettings(
    CentringSettings, CalibrationSettings, SmoothSettings, LikelihoodSettings, MeanFieldSettings, WideSettings
):
    """The settings of all steps. To add a step, add its settings to the bases; methods apply steps in their order."""


STEPS: tuple[type[Step], ...] = tuple(cast(type[StepSettings], base).step for base in AllStepSettings.__bases__)


def steps_of(given: Mapping[str, Any]) -> tuple[Step, ...]:
    """Create the steps that the settings ask for. SETTING_INVALID, naming the setting.

    >>> steps_of({"centred": True, "smooth": 1.2})
    (Centring(), Smooth(sigma=1.2))
    """
    chosen = (kind.chosen(given) for kind in STEPS)
    steps = tuple(step for step in chosen if step is not None)
    kinds = {type(step) for step in steps}
    if {Centring, Calibration} <= kinds:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            "centred and calibrated are both on; calibrated z is centred already",
            "Give --no-centred, or --no-calibrated.",
        )
    if MeanField in kinds and Likelihood not in kinds:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            "mean_field needs looks: neighbours support each other's likelihood of a drop",
            "Give --looks, such as --looks 36, or --no-mean-field.",
        )
    return steps


def recorded_steps(steps: Iterable[Step]) -> dict[str, Any]:
    """The settings from which `steps_of` recreates these steps.

    >>> recorded_steps(())
    {'centred': False}
    """
    by_kind = {type(step): step for step in steps}
    return {name: value for kind in STEPS for name, value in kind.recorded(by_kind.get(kind)).items()}
