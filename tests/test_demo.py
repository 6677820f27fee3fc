"""The demonstration on a small scene, with all steps of `make demo`."""

from __future__ import annotations

from pathlib import Path

import pytest

from acdtask.demo import run_demo


def test_the_demo_ends_with_a_report_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = run_demo(tmp_path / "demo", workers=0, size=320, seed=3)
    output = capsys.readouterr().out
    assert (tmp_path / "demo/report/index.html").is_file()
    assert len(score.events) >= 40
    assert score.recall is not None
    assert score.recall > 0.3
    assert "recall" in output
    assert "false" in output


def test_the_demo_continues_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_demo(tmp_path / "demo", workers=0, size=256, seed=3)
    (tmp_path / "demo/report/index.html").unlink()
    again = run_demo(tmp_path / "demo", workers=0, size=256, seed=3)
    assert again == first
    assert capsys.readouterr().out.count("nothing to do") == 7
    assert (tmp_path / "demo/report/index.html").is_file()
