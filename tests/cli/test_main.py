"""The command as a process: its output and exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from acdtask.cli import main
from acdtask.cli.app import COMMANDS
from acdtask.jobs.registry import JOBS

ACDTASK = Path(sys.executable).with_name("acdtask")
HEAVY = ("rasterio", "skimage", "scipy", "zarr", "numpy", "obstore", "shapely")
SCENE = ("--size", "64", "--reference-pairs", "3", "--monitored-pairs", "2", "--events", "0")
PATIENCE = 60.0


def run(*arguments: str, log: str = "text", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ACD_LOG": log, "COLUMNS": "100"}
    return subprocess.run(
        [str(ACDTASK), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )


def imported(*arguments: str) -> set[str]:
    command = [sys.executable, "-X", "importtime", "-m", "acdtask", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["monitor", "--help"], ["layout"]])
def test_help_imports_nothing_heavy(arguments: Sequence[str]) -> None:
    modules = imported(*arguments)
    assert "acdtask" in modules
    assert modules.isdisjoint(HEAVY)


def test_the_first_help_imports_no_models() -> None:
    assert "pydantic" not in imported("--help")


def test_help_names_every_command_and_ends_well() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert command.summary in done.stdout
    assert run().stdout == done.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"layout", "show", *JOBS}])
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"Example:\n    acdtask {name} " in done.stdout


def test_version_is_told() -> None:
    assert run("--version").stdout == "acdtask 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["records"], "Missing option '--cube'"),
        (["recrods"], "No such command 'recrods'. Did you mean 'records'?\n"),
        (["records", "--cube", "x", "--wrong"], "No such option"),
        (["records", "--cube", "x", "--limit", "many"], "'--limit'"),
        (["--log", "xml", "records"], "'xml' is not one of"),
        (["simulate", "plan"], "--out must be given"),
        (["layout", "create", "utm", "--cube", "x", "--crs", "EPSG:32632"], "needs --crs and --resolution"),
        (["layout", "create", "utm", "--cube", "x", "--zoom", "3", "--crs", "EPSG:32632"], "either regular"),
    ],
)
def test_a_mistake_of_usage_ends_with_2(arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "error ACD-100: " in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_error_is_a_message_and_its_fix_on_its_own_line(tmp_path: Path) -> None:
    done = run("simulate", "plan", "--out", str(tmp_path), "--size", "5")
    assert done.returncode == 78
    assert done.stderr.splitlines()[-2:] == [
        "error ACD-101: --size is 5, and should be greater than or equal to 64.",
        "Set the named setting to a value that the message allows.",
    ]


def test_an_unknown_plan_ends_with_66(tmp_path: Path) -> None:
    done = run("simulate", "run", "--out", str(tmp_path), "--plan", "0123", "--round", "images", "--shard", "0")
    assert done.returncode == 66
    assert "error ACD-500: " in done.stderr


def test_a_bug_ends_with_70_and_shows_its_traceback_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import acdtask.cli.records\n"
        "def broken(): raise ZeroDivisionError('of all things')\n"
        "acdtask.cli.records.command = broken\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ACD_LOG": "text"}
    for options, traced in (([], False), (["--verbose"], True)):
        command = [str(ACDTASK), *options, "records", "--cube", "x"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)
        assert done.returncode == 70
        assert "error ACD-900: ZeroDivisionError: of all things.\n" in done.stderr
        assert ("Traceback" in done.stderr) is traced


def test_json_logs_are_json_alone_with_one_run_id(tmp_path: Path) -> None:
    done = run("simulate", "local", "--out", str(tmp_path), *SCENE, "--workers", "1", log="json")
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[0]["event"] == "run.started"
    assert events[0]["acd"] == "0.1.0"
    assert events[0]["arguments"][:2] == ["simulate", "local"]
    assert {"round.started", "round.done"} <= {event["event"] for event in events}
    assert len({event["run"] for event in events}) == 1
    assert all({"time", "level", "part"} <= set(event) for event in events)


def test_a_failure_in_json_has_code_fix_and_exit_status(tmp_path: Path) -> None:
    done = run("simulate", "plan", "--out", str(tmp_path), "--size", "5", log="json")
    failed = [json.loads(line) for line in done.stderr.splitlines()][-1]
    assert failed["event"] == "command.failed"
    assert (failed["code"], failed["name"], failed["exit_status"]) == ("ACD-101", "SETTING_INVALID", 78)
    assert failed["fix"]
    assert failed["retryable"] is False


def test_values_can_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "size.txt").write_text("96\n")
    (tmp_path / "settings.toml").write_text(
        'size = 128\nreference-pairs = 1\nmonitored-pairs = 1\nevents = 0\nout = "s"\n'
    )
    plan = ("simulate", "plan", "--json", "--settings", "settings.toml")
    assert json.loads(run(*plan, cwd=tmp_path).stdout)["settings"]["size"] == 128
    assert json.loads(run(*plan, "--size", "@size.txt", cwd=tmp_path).stdout)["settings"]["size"] == 96
    assert json.loads(run(*plan, "--size=@size.txt", cwd=tmp_path).stdout)["settings"]["size"] == 96
    absent = run(*plan, "--size", "@absent.txt", cwd=tmp_path)
    assert absent.returncode == 66
    assert "absent.txt cannot be read" in absent.stderr
    at = run(*plan, "--out", "@@odd", cwd=tmp_path)
    assert json.loads(at.stdout)["settings"]["out"] == "@odd"


def test_the_stages_of_a_job_one_by_one_are_what_local_does(tmp_path: Path) -> None:
    by_hand, at_once = tmp_path / "by-hand", tmp_path / "at-once"
    scene = (*SCENE, "--shard-images", "2")
    plan = json.loads(run("simulate", "plan", "--out", str(by_hand), *scene, "--json").stdout)
    assert plan["shards"] == 3
    which = ("--out", str(by_hand), "--plan", plan["plan_id"], "--round", plan["rounds"][0])
    early = run("simulate", "gather", *which)
    assert early.returncode == 75
    assert "0, 1, 2" in early.stderr
    for shard in (2, 0, 1, 1):
        assert run("simulate", "run", *which, "--shard", str(shard)).returncode == 0
    assert run("simulate", "run", *which, "--shard", "3").returncode == 78
    assert run("simulate", "gather", *which).returncode == 0
    assert run("simulate", "local", "--out", str(at_once), *scene).returncode == 0
    images = sorted(path.relative_to(by_hand) for path in by_hand.rglob("*.tif"))
    assert len(images) == 5
    assert all((by_hand / image).read_bytes() == (at_once / image).read_bytes() for image in images)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_75_and_goes_on_later(number: signal.Signals, tmp_path: Path) -> None:
    scene = ("--size", "256", "--reference-pairs", "60", "--monitored-pairs", "10", "--events", "0")
    command = [str(ACDTASK), "simulate", "local", "--out", str(tmp_path), *scene, "--shard-images", "1"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "ACD_LOG": "text"}
    )
    deadline = time.monotonic() + PATIENCE
    while not any(tmp_path.rglob("*.tif")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(number)
    struck = time.monotonic()
    _, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == 75
    assert time.monotonic() - struck < 5
    assert "error ACD-504: " in told
    assert "Traceback" not in told
    done = len(list(tmp_path.rglob("*.tif")))
    assert 0 < done < 70
    assert run(*command[1:]).returncode == 0
    assert len(list(tmp_path.rglob("*.tif"))) == 70


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    plan = f"{ACDTASK} simulate plan --json --out {tmp_path} {' '.join(SCENE)}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {plan} | true"],
        capture_output=True,
        text=True,
        env={**os.environ, "ACD_LOG": "text"},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    assert "error" not in done.stderr
    assert "Broken" not in done.stderr


def test_a_terminal_shows_a_bar_and_no_log_lines(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [str(ACDTASK), "simulate", "local", "--out", str(tmp_path), *SCENE, "--shard-images", "1"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "ACD_LOG": "auto"}
    running = subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE, text=True, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += part
    told, _ = running.communicate(timeout=PATIENCE)
    os.close(ours)
    assert running.returncode == 0
    assert b"simulate: images" in shown
    assert b"5/5" in shown
    assert b"run.started" not in shown
    assert "done" in told


def test_completion_offers_commands_and_options() -> None:
    def offered(words: str) -> str:
        environment = {**os.environ, "_ACDTASK_COMPLETE": "complete_bash", "COMP_WORDS": words}
        environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        return subprocess.run(
            [str(ACDTASK)], capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
        ).stdout

    assert "monitor" in offered("acdtask mon").split()
    assert set(offered("acdtask layout ").split()) == {"list", "create", "show", "delete"}
    assert "--seed" in offered("acdtask simulate plan --se").split()


def test_a_panic_of_a_library_is_a_bug_with_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Rust panic is not an Exception, and its class cannot be imported from the library."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def panicking(_: Sequence[str]) -> int:
        raise panic("called `Result::unwrap()` on an `Err` value")

    monkeypatch.setattr("acdtask.cli._run", panicking)
    assert main(["records"]) == 70
    assert "ACD-900: PanicException" in capsys.readouterr().err
