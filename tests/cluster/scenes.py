"""What the cluster's workflows are given, and what `local` makes of the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acdtask.jobs.simulate.settings import SceneSettings
from tests.jobs.chain import reference_end

ALL_PODS = {"here-seconds": "0"}
"""However small the work is, every plan gets pods of its own."""
SCENE = SceneSettings(size=128, reference_pairs=20, monitored_pairs=2, events=4, seed=11)
LAYOUT = "utm32"


def settings_of(job: str, source: str, scene: SceneSettings = SCENE) -> dict[str, str]:
    """The settings of a job of the chain, by the names of its options."""
    end = reference_end(scene).isoformat()
    return {
        "ingest": {"source": source, "make-layout": LAYOUT, "cell-size": "128"},
        "consolidate": {"layout": LAYOUT},
        "baseline": {"layout": LAYOUT, "end": end, "min-dates": "3"},
        "monitor": {"layout": LAYOUT, "min-count": "10"},
        "report": {"layout": LAYOUT},
    }[job]


def parameters(source: str, scene: SceneSettings = SCENE) -> dict[str, str]:
    """The same, as parameters of acd-all; and shards as large as they can be."""
    given = {"aoi": "koln", "layout": LAYOUT}
    for job in ("ingest", "consolidate", "baseline", "monitor", "report"):
        for name, value in settings_of(job, source, scene).items():
            if name not in {"layout", "make-layout"}:
                given[f"{job}-{name}"] = value
    return given | {"ingest-shard-files": "15", "consolidate-shard-tiles": "4"}


def monitor_of(scene: Path, **more: Any) -> dict[str, Any]:
    """A monitor for the chart's values, with the AOI; it starts nothing by itself, and tests submit the source."""
    aoi = json.loads((scene / "aoi.json").read_text())
    settings = {"layout": LAYOUT, "ingest-source": "s3://named-by/the-test"}
    return {"name": "koln", "schedules": ["0 0 1 1 *"], "suspend": True, "aoi": aoi, "settings": settings, **more}


def acdtask(*words: str) -> str:
    """Run acdtask here."""
    command = [sys.executable, "-m", "acdtask", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_locally(
    jobs: tuple[str, ...], scene: Path, cube: Path, settings: SceneSettings = SCENE, cell_size: str = "128"
) -> None:
    """`acdtask JOB local` for each job."""
    for job in jobs:
        of_job = settings_of(job, str(scene / "images"), settings)
        options = _options({**of_job, **({"cell-size": cell_size} if job == "ingest" else {})})
        acdtask(job, "local", "--cube", str(cube), "--aoi", str(scene / "aoi.json"), *options)


def _options(values: Mapping[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name}", value)]
