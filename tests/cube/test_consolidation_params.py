"""Parameters of consolidated containers."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import zarr

from acdtask.cube.jobs import ConsolidationParams
from acdtask.cube.local.cube import LocalCube
from acdtask.errors import AcdError, ErrorCode
from acdtask.raster.data_format import DataFormat
from tests.serve.consolidation.small_cube import (
    consolidated,
    consolidation,
    expected_stack,
    jobs_of,
    make_cube,
    stack,
    work,
)


@pytest.fixture
def cube(tmp_path: Path) -> LocalCube:
    return make_cube(str(tmp_path / "cube"))


def refused(code: ErrorCode, match: str = "") -> AbstractContextManager[object]:
    return pytest.raises(AcdError, match=re.escape(code.label) + ".*" + match)


def test_the_parameters_of_a_variable_are_kept_and_those_of_a_job_do_not_change(cube: LocalCube) -> None:
    assert jobs_of(cube).params("CoherenceVV") is None
    byte = DataFormat(dtype="uint8", nodata=255, min=0, max=250)
    params = ConsolidationParams(dformat=byte, compression="LOSSY", storage_class="ARCHIVE", resampling="nearest")
    jobs_of(cube).configure("CoherenceVV", params)
    assert jobs_of(LocalCube.open(cube.store.url)).params("CoherenceVV") == params
    job_id = jobs_of(cube).consolidate(consolidation())
    jobs_of(cube).configure("CoherenceVV", ConsolidationParams())
    assert work(cube, job_id).state == "DONE"
    assert {dataset.dformat for dataset in consolidated(cube)} == {byte}
    found, truth = stack(cube, "0/0"), expected_stack("0/0")
    np.testing.assert_array_equal(found == -1, truth == -1)
    assert np.abs(found - truth).max() == 2, "half a step of 4"
    array = zarr.open_array(
        cube.store.zarr_store(consolidated(cube)[0].uri, read_only=True), path="CoherenceVV", mode="r"
    )
    assert (str(array.dtype), array.fill_value, array.attrs["scale_factor"]) == ("uint8", 255, 0.004)
    assert "add_offset" not in array.attrs


def test_numbers_of_a_container_mean_the_same_to_other_readers(cube: LocalCube) -> None:
    shifted = DataFormat(dtype="int16", nodata=-32768, min=-1000, max=1000)
    jobs_of(cube).configure("CoherenceVV", ConsolidationParams(dformat=shifted))
    work(cube, jobs_of(cube).consolidate(consolidation()))
    (uri,) = {dataset.uri for dataset in consolidated(cube) if dataset.cell == "0/0"}
    array = zarr.open_array(cube.store.zarr_store(uri, read_only=True), path="CoherenceVV", mode="r")
    numbers = np.asarray(array[:]).astype("f8")
    physical = numbers * float(str(array.attrs["scale_factor"])) + float(str(array.attrs["add_offset"]))
    truth = expected_stack("0/0")
    np.testing.assert_allclose(physical[truth != -1], 0.001 * truth[truth != -1], atol=1e-9)
    np.testing.assert_array_equal(stack(cube, "0/0"), truth)


def test_unsupported_parameters_are_refused(cube: LocalCube) -> None:
    for params in (ConsolidationParams(exponent=2.0), ConsolidationParams(compression="CUSTOM")):
        with refused(ErrorCode.SETTING_INVALID):
            jobs_of(cube).configure("CoherenceVV", params)
    jobs_of(cube).configure(
        "CoherenceVV", ConsolidationParams(compression="CUSTOM", creation_params={"COMPRESS": "ZSTD"})
    )
    with refused(ErrorCode.VARIABLE_UNKNOWN):
        jobs_of(cube).configure("Nope", ConsolidationParams())
    cube.store.put("consolidation/CoherenceVV.json", b"{")
    with refused(ErrorCode.CUBE_DAMAGED, "consolidation/CoherenceVV.json"):
        jobs_of(cube).params("CoherenceVV")
