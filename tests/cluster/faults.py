"""Faults of pods: what `acdtask` does wrong, on which attempt. The same on a cluster and in the runner."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CONFIG_MAP", "FOLDER", "Fault", "config_map", "has_faults", "with_faults"]

CONFIG_MAP = "acd-faults"
FOLDER = "/etc/acd/faults"
VOLUME = "faults"

PROGRAM = """
# Python reads this before anything else.
import json, os, pathlib, sys, time
place = pathlib.Path(__file__).parent
words = sys.orig_argv
for fault in json.loads((place / "faults.json").read_text()):
    if set(fault["words"]) <= set(words) and int(os.environ["ACD_ATTEMPT"]) in fault["attempts"]:
        if fault["wait"]:
            time.sleep(fault["wait"])
        if fault["memory"]:
            held = b"x" * (fault["memory"] << 20)
        if fault["exit"]:
            os._exit(fault["exit"])
"""


@dataclass(frozen=True)
class Fault:
    """What happens before `acdtask` begins, when all words are on its command line and this is one of the attempts.

    Attributes:
        words: such as ("run", "check", "1").
        attempts: the first one is 0.
        wait: seconds to wait.
        memory: MiB to fill.
        exit: the status to end with; 0: go on.
    """

    words: tuple[str, ...]
    attempts: tuple[int, ...] = (0,)
    wait: float = 0
    memory: int = 0
    exit: int = 0


def config_map(faults: Sequence[Fault]) -> dict[str, str]:
    """The files of the ConfigMap."""
    return {"sitecustomize.py": PROGRAM, "faults.json": json.dumps([asdict(fault) for fault in faults])}


def has_faults(template: dict[str, Any]) -> bool:
    """Whether a WorkflowTemplate reads faults from the ConfigMap."""
    return any(volume["name"] == VOLUME for volume in template["spec"].get("volumes", []))


def with_faults(template: dict[str, Any], folder: str = FOLDER) -> dict[str, Any]:
    """A WorkflowTemplate whose pods read faults from a folder; from the ConfigMap, if it is FOLDER."""
    changed = copy.deepcopy(template)
    spec = changed["spec"]
    if folder == FOLDER:
        spec.setdefault("volumes", []).append({"name": VOLUME, "configMap": {"name": CONFIG_MAP}})
    for pod in spec["templates"]:
        container = pod.get("container")
        if container is None:
            continue
        container["env"] += [{"name": "PYTHONPATH", "value": folder}, {"name": "ACD_ATTEMPT", "value": "{{retries}}"}]
        if folder == FOLDER:
            container.setdefault("volumeMounts", []).append({"name": VOLUME, "mountPath": FOLDER})
    return changed
