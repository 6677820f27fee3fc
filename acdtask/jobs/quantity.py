"""The quantity of a variable in words, and its physical range, for people."""

from __future__ import annotations

from acdtask.cube.model import Variable

__all__ = ["is_coherence", "physical_range", "quantity_of"]


def is_coherence(variable: Variable) -> bool:
    """Whether a variable is interferometric coherence, according to its name.

    >>> from acdtask.raster.data_format import DataFormat
    >>> dformat = DataFormat(dtype="int16", nodata=-1, min=0, max=1000)
    >>> [is_coherence(Variable(name=name, dformat=dformat)) for name in ("CoherenceVV", "coh_vh", "SigmaVV")]
    [True, True, False]
    """
    return "coh" in variable.name.lower()


def quantity_of(variable: Variable) -> str:
    """The quantity in words: "coherence", or the variable's name."""
    return "coherence" if is_coherence(variable) else variable.name


def physical_range(variable: Variable) -> tuple[float, float]:
    """The range of valid values in the variable's unit.

    >>> from acdtask.raster.data_format import DataFormat
    >>> dformat = DataFormat(dtype="int16", nodata=-9999, min=-3500, max=1000)
    >>> physical_range(Variable(name="SigmaVV", dformat=dformat, scale=0.01))
    (-35.0, 10.0)
    """
    dformat = variable.dformat
    return dformat.min * variable.scale, dformat.max * variable.scale
