"""The quantity of a variable in words, its physical range, and the method that is made for it."""

from __future__ import annotations

from acdtask.change.methods import Profile
from acdtask.change.transform import Transformation
from acdtask.cube.model import Variable

__all__ = ["is_coherence", "physical_range", "quantity_of", "usual_profile"]


def is_coherence(variable: str) -> bool:
    """Whether a variable is interferometric coherence, according to its name.

    >>> [is_coherence(variable) for variable in ("CoherenceVV", "coh_vh", "SigmaVV")]
    [True, True, False]
    """
    return "coh" in variable.lower()


def quantity_of(variable: Variable) -> str:
    """The quantity in words: "coherence", or the variable's name."""
    return "coherence" if is_coherence(variable.name) else variable.name


def usual_profile(variable: str, transform: Transformation = "none") -> Profile:
    """The method for a variable unless another is set: robust for coherence, which it is made for.

    >>> [usual_profile(variable) for variable in ("CoherenceVV", "SigmaVV")]
    ['robust', 'standard']
    """
    return "robust" if is_coherence(variable) and transform == "none" else "standard"


def physical_range(variable: Variable) -> tuple[float, float]:
    """The range of valid values in the variable's unit.

    >>> from acdtask.raster.data_format import DataFormat
    >>> dformat = DataFormat(dtype="int16", nodata=-9999, min=-3500, max=1000)
    >>> physical_range(Variable(name="SigmaVV", dformat=dformat, scale=0.01))
    (-35.0, 10.0)
    """
    dformat = variable.dformat
    return dformat.min * variable.scale, dformat.max * variable.scale
