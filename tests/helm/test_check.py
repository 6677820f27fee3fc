"""The check before an installation: its job has what it needs, and its command refuses what a schema cannot judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from acdtask.cli import main
from tests.helm.conftest import EXAMPLES, Object, Render, example, merged, of_kind
from tests.helm.test_refusals import AREA, REQUIRED, SQUARE, monitor

pytestmark = pytest.mark.helm

MOUNTED = "/etc/acd/areas"
GRID = {"projection": "EPSG:32632", "resolution": "20"}


def job_of(rendered: list[Object]) -> Object:
    (job,) = of_kind(rendered, "Job")
    return job


def command_of(rendered: list[Object], folder: Path) -> list[str]:
    """The arguments of the job as Kubernetes passes them, with the mounted AOIs in a folder."""
    spec = job_of(rendered)["spec"]["template"]["spec"]
    maps = {item["metadata"]["name"]: item["data"] for item in of_kind(rendered, "ConfigMap")}
    (areas,) = [volume for volume in spec["volumes"] if volume["name"] == "areas"]
    for source in areas["projected"]["sources"]:
        config_map = source["configMap"]
        for item in config_map["items"] if config_map["name"] in maps else []:
            file = folder / item["path"]
            file.parent.mkdir(parents=True)
            file.write_text(maps[config_map["name"]][item["key"]])
    (container,) = spec["containers"]
    assert container["command"] == ["acdtask"]
    assert areas["name"] in {mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == MOUNTED}
    return [word.replace("$$", "$").replace(MOUNTED, str(folder)) for word in container["args"]]


def of_area(**changes: Any) -> Object:
    """The values of one monitor whose area is wrong."""
    return merged(example("minimal"), monitor(aoi={**AREA, **changes}))


def ring(*positions: list[float]) -> Object:
    return {"geometry": {"type": "Polygon", "coordinates": [list(positions)]}}


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        (
            of_area(**ring([7.0, 50.0], [7.1, 50.1], [7.1, 50.0], [7.0, 50.1], [7.0, 50.0])),
            ["ACD-112", "Self-intersection at longitude 7.05, latitude 50.05"],
        ),
        (
            of_area(**ring([7.0, 50.0], [7.1, 50.0], [7.1, 50.1], [7.0, 50.1])),
            ["ACD-112", "a ring that is not closed: it begins at (7, 50), and ends at (7, 50.1)"],
        ),
        (
            of_area(**ring([7.0, 95.0], [7.1, 95.0], [7.1, 95.1], [7.0, 95.0])),
            ["ACD-112", "extends from (7, 95) to (7.1, 95.1)", "latitudes from -90 to 90"],
        ),
        (of_area(graph_config={**GRID, "projection": "EPSG:999999"}), ["ACD-303", "'EPSG:999999'"]),
        (of_area(graph_config={**GRID, "resolution": "0"}), ["ACD-303", "the resolution '0'"]),
        (of_area(graph_config={**GRID, "resolution": "20000000"}), ["ACD-303"]),
        (of_area(geometry={"type": "Polygon", "coordinates": [[["a", "b"]]]}), ["ACD-110", "invalid coordinates"]),
        (of_area(geometry={**SQUARE, "coordinates": [[[7, 50], [7, 50], [7, 50]]]}), ["ACD-111", "no polygon"]),
        (
            of_area(crs={"type": "name", "properties": {"name": "EPSG:999999"}}),
            ["ACD-114", "unknown coordinate system, 'EPSG:999999'"],
        ),
        (of_area(end_time="2021-02-31"), ["end_time of ", "'2021-02-31' is not a day of the calendar"]),
        (
            merged(example("minimal"), monitor(settings={**REQUIRED, "baseline-end": "2021-02-31"})),
            ["ACD-101", "baseline-end: '2021-02-31' is not a day of the calendar"],
        ),
        (
            merged(example("minimal"), monitor(settings={**REQUIRED, "ingest-nodata": 5})),
            ["ACD-101", "--nodata 5 is in the valid range"],
        ),
    ],
)
def test_what_a_schema_cannot_judge_is_refused_by_the_job_with_the_monitors_name(
    values: Object, sentences: list[str], render: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(command_of(render(values), tmp_path))
    told = capsys.readouterr()
    assert status == 78
    assert "error ACD-540: 1 of 1 monitors: koln: " in told.err
    assert [sentence for sentence in sentences if sentence not in told.err] == []
    assert "koln: ACD-" in told.out


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_job_accepts_the_monitors_of_the_examples(
    name: str, render: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitors = example(name).get("monitors", [])
    rendered = render(example(name))
    if not monitors:
        assert of_kind(rendered, "Job") == []
        return
    assert main(command_of(rendered, tmp_path)) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [item["name"] for item in monitors]
    own = {item["name"] for item in monitors if item.get("aoi")}
    elsewhere = [item["name"] for item in monitors if not own & {item["name"], area_of(item)}]
    assert [line.partition(":")[0] for line in lines if "does not exist yet" in line] == elsewhere


def area_of(item: Object) -> str:
    """The name of a monitor's AOI."""
    name: str = item.get("aoiFrom", {}).get("configMap", f"acd-aoi-{item['name']}")
    return name.removeprefix("acd-aoi-")


def test_the_errors_of_all_monitors_are_reported_at_once(
    render: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bow_tie = {**AREA, **ring([7.0, 50.0], [7.1, 50.1], [7.1, 50.0], [7.0, 50.1], [7.0, 50.0])}
    (right,) = monitor()["monitors"]
    others = [
        {**right, "name": "bonn", "aoi": {**bow_tie, "name": "bonn"}},
        {**right, "name": "trier", "aoi": {**AREA, "name": "trier"}, "settings": {**REQUIRED, "ingest-nodata": 5}},
    ]
    assert main(command_of(render({**example("minimal"), "monitors": [right, *others]}), tmp_path)) == 78
    told = capsys.readouterr()
    assert "2 of 3 monitors: bonn: ACD-112" in told.err
    assert "; trier: ACD-101" in told.err
    assert "koln: its settings and AOI are valid" in told.out


def test_a_setting_reaches_the_check_to_the_letter(
    render: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = "$(HOME)_$$_{start:%Y%m%d}_{end:%Y%m%d}.tif"
    values = merged(example("minimal"), monitor(settings={**REQUIRED, "ingest-pattern": pattern}))
    args = command_of(render(values), tmp_path)
    given = json.loads(args[args.index("--monitor") + 1])
    assert given["settings"] == {**REQUIRED, "ingest-pattern": pattern}
    assert main(args) == 0, capsys.readouterr().err


def test_the_job_needs_nothing_that_is_not_there_before_an_installation(render: Render) -> None:
    job = job_of(render(example("one-monitor")))
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in spec
    (container,) = spec["containers"]
    assert "env" not in container
    assert container["args"][-1] == "--offline"
    text = json.dumps(job)
    assert "secretKeyRef" not in text
    rule = job["spec"]["podFailurePolicy"]["rules"][0]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2, 66, 70, 78])


def test_helm_test_checks_the_same_monitors_with_their_sources(render: Render) -> None:
    rendered = render(example("many-monitors"))
    (pod,) = of_kind(rendered, "Pod")
    monitors = next(container for container in pod["spec"]["containers"] if container["name"] == "monitors")
    (container,) = job_of(rendered)["spec"]["template"]["spec"]["containers"]
    assert ["--log", "text", *monitors["args"], "--offline"] == container["args"]
    assert {"name": "ACD_CUBE", "value": "s3://ground"} in monitors["env"]
    names = {source["configMap"]["name"] for source in sources_of(pod["spec"])}
    assert names == {"acd-aoi-koln", "acd-aoi-bonn"}
    before = {source["configMap"]["name"] for source in sources_of(job_of(rendered)["spec"]["template"]["spec"])}
    assert before == {"acd-check-koln", "acd-check-bonn"}


def sources_of(spec: Object) -> list[Object]:
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "areas"]
    sources: list[Object] = volume["projected"]["sources"]
    assert all(source["configMap"]["optional"] for source in sources)
    return sources


def test_the_check_can_be_left_out(render: Render) -> None:
    rendered = render(merged(example("one-monitor"), {"check": {"beforeInstall": False}}))
    assert of_kind(rendered, "Job") == []
    assert [item["metadata"]["name"] for item in of_kind(rendered, "ConfigMap")] == ["acd-artifacts", "acd-aoi-koln"]
