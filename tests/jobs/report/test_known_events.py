"""Reading the file with known events."""

from __future__ import annotations

from pathlib import Path

import pytest

from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.report.truth import read_truth


def test_a_path_in_the_root_folder_is_not_one_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "events-of-test-known-events.geojson"
    (tmp_path / name).write_bytes(b"{}")
    assert read_truth(name) == read_truth(f"{tmp_path}/{name}") == b"{}"
    with pytest.raises(AcdError) as caught:
        read_truth(f"/{name}")
    assert caught.value.code is ErrorCode.TRUTH_UNREADABLE
