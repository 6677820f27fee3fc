"""Variables under a transform: what a baseline and a monitor compare instead of the ingested values."""

from __future__ import annotations

from acdtask.change.transform import NODATA, Transform, Transformation
from acdtask.cube.model import DESCRIBED_NAME_BYTES, Variable
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat

__all__ = ["transform_of", "transformed"]


def transform_of(variable: Variable, name: Transformation) -> Transform | None:
    """The transform of a variable; None if its values are compared as they are. SETTING_INVALID, INPUT_BANDS."""
    if name == "none":
        return None
    dformat = variable.dformat
    return Transform.of(
        name,
        dformat.dtype,
        nodata=dformat.nodata,
        valid_range=(dformat.min, dformat.max),
        scale=variable.scale,
    )


def transformed(variable: Variable, name: Transformation) -> Variable:
    """The variable of the transformed values, `<variable>_<transform>`; without a transform, the variable itself.

    Products are named after it, so that those with and without a transform can be in one cube.

    >>> intensity = DataFormat(dtype="uint16", nodata=0, min=1, max=10000)
    >>> decibels = transformed(Variable(name="SigmaVV", dformat=intensity, scale=0.001), "log")
    >>> decibels.name, decibels.dformat.min, decibels.dformat.max, decibels.scale, decibels.unit
    ('SigmaVV_log', -3000.0, 1000.0, 0.01, 'dB')
    """
    transform = transform_of(variable, name)
    if transform is None:
        return variable
    long_name = f"{variable.name}_{name}"
    if len(long_name) > DESCRIBED_NAME_BYTES:
        raise AcdError(
            ErrorCode.SETTING_INVALID,
            f"transform is {name}, but the variable's name may then have at most"
            f" {DESCRIBED_NAME_BYTES - len(name) - 1} bytes: {variable.name[:20]}...",
        )
    least, greatest = transform.valid_range
    return Variable(
        name=long_name,
        dformat=DataFormat(dtype="int16", nodata=NODATA, min=least, max=greatest),
        unit=transform.unit,
        description=f"{name} of {variable.name}",
        resampling=variable.resampling,
        scale=transform.scale,
    )
