"""A pod as a process: its volumes are folders, its outputs files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acdtask.errors import AcdError, ErrorCode
from tests.workflows.equipment.expression import substitute
from tests.workflows.equipment.model import Artifact, Container, Mount, Template, Volume

__all__ = ["Attempt", "Host", "run_pod"]

NOT_STARTED = 64
"""How Argo's executor ends if it cannot start the command."""
SIGNALLED = 128
"""A process that a signal ended has this exit code and the signal's number, in a container."""
TIMED_OUT = 143


@dataclass(frozen=True)
class Host:
    """What stands for the cluster.

    Attributes:
        folder: where pods, artifacts and logs go.
        commands: what to run here for a command of a container, such as {"acdtask": ["python", "-m", "acdtask"]}.
        config_maps: a folder with a file for each key, by the ConfigMap's name.
        environment: variables that the chart would give every pod.
    """

    folder: Path
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    config_maps: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def artifacts(self) -> Path:
        """The artifact repository."""
        return self.folder / "artifacts"


@dataclass(frozen=True)
class Attempt:
    """How one attempt of a pod ended.

    Attributes:
        phase: Succeeded, Failed (the command's exit code says why) or Error (an output is missing).
        progress: what the pod said last of its progress, as done/total.
    """

    phase: str
    exit_code: int
    message: str = ""
    progress: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


def run_pod(template: Template, scope: Mapping[str, str], volumes: Sequence[Volume], host: Host, name: str) -> Attempt:
    """Run the container of a template once.

    Args:
        template: a template with a container.
        scope: what its `{{...}}` stand for.
        volumes: those of the workflow; the template's own come first.
        host: this machine.
        name: of the attempt; its folder has this name.
    """
    container = template.container
    if container is None:
        raise AcdError(ErrorCode.BUG, f"template {template.name} has no container")
    folder = host.folder / "pods" / name
    folder.mkdir(parents=True)
    mounts = _mounted(container, [*template.volumes, *volumes], scope, host, folder)
    progress, log = folder / "progress", folder / "log"
    # Paths of volumes are mapped before parameters are filled in: a parameter's value is the user's own.
    args = [substitute(_mapped(arg, mounts), scope) for arg in container.args]
    command = [*host.commands.get(container.command[0], container.command[:1]), *container.command[1:], *args]
    environment = {**os.environ, **host.environment, "ARGO_PROGRESS_FILE": str(progress)}
    environment |= {variable.name: substitute(variable.value, scope) for variable in container.env}
    if "/tmp" in mounts:  # noqa: S108  # the pod's path
        environment["TMPDIR"] = str(mounts["/tmp"])  # noqa: S108  # the pod's path
    code = _exit_code(command, environment, log, template.active_deadline_seconds)
    said = progress.read_text() if progress.exists() else ""
    if code:
        return Attempt("Failed", code, _last_words(log), said, log=log)
    missing, outputs = _outputs(template, mounts)
    for artifact in template.outputs.artifacts:
        if not _keep(artifact, mounts, scope, host.artifacts) and not artifact.optional:
            missing.append(artifact.path)
    if missing:
        return Attempt("Error", code, f"the pod did not leave {', '.join(missing)}", said, log=log)
    return Attempt("Succeeded", code, "", said, outputs, log)


def _exit_code(command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: int | None) -> int:
    with log.open("wb") as stream:
        try:
            process = subprocess.run(  # the commands of the file that the user runs
                command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        except OSError as error:
            stream.write(f"{command[0]}: {error.strerror}\n".encode())
            return NOT_STARTED
    return process.returncode if process.returncode >= 0 else SIGNALLED - process.returncode


def _last_words(log: Path) -> str:
    """What the log ends with: the error if it is an event of acdtask, else its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = lines[-1] if lines else ""
    try:
        event = json.loads(last)
    except ValueError:
        return last
    return (
        f"{event['code']}: {event['detail']}"
        if isinstance(event, dict) and {"code", "detail"} <= event.keys()
        else last
    )


def _mounted(
    container: Container, volumes: Sequence[Volume], scope: Mapping[str, str], host: Host, folder: Path
) -> dict[str, Path]:
    """The folder that stands for each mount path."""
    by_name = {volume.name: volume for volume in reversed(volumes)}
    return {mount.mount_path: _folder_of(mount, by_name, scope, host, folder) for mount in container.volume_mounts}


def _folder_of(mount: Mount, volumes: Mapping[str, Volume], scope: Mapping[str, str], host: Host, folder: Path) -> Path:
    volume = volumes.get(mount.name)
    if volume is None or (volume.empty_dir is None) == (volume.config_map is None):
        raise AcdError(ErrorCode.SETTING_INVALID, f"volume {mount.name} is not an emptyDir and not a configMap")
    empty = folder / "volumes" / mount.name
    if volume.config_map is not None:
        name = substitute(volume.config_map.name, scope)
        if name in host.config_maps:
            return host.config_maps[name]
        if not volume.config_map.optional:
            raise AcdError(ErrorCode.SETTING_INVALID, f"there is no ConfigMap {name}", "Give it with --config-map.")
    empty.mkdir(parents=True)
    return empty


def _mapped(text: str, mounts: Mapping[str, Path]) -> str:
    """The text with paths of the pod replaced by those of this machine; the longest mount path wins."""
    paths = sorted(mounts, key=len, reverse=True)
    if not paths:
        return text
    pattern = rf"(?<![\w./-])({'|'.join(map(re.escape, paths))})(?![\w.-])"
    return re.sub(pattern, lambda match: str(mounts[match[1]]), text)


def _outputs(template: Template, mounts: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """The files that are missing, and the output parameters."""
    missing, outputs = [], {}
    for parameter in template.outputs.parameters:
        source = parameter.value_from
        path = Path(_mapped(source.path, mounts))
        if path.is_file():
            outputs[parameter.name] = path.read_text(encoding="utf-8")
        elif source.default is not None:
            outputs[parameter.name] = source.default
        else:
            missing.append(source.path)
    return missing, outputs


def _keep(artifact: Artifact, mounts: Mapping[str, Path], scope: Mapping[str, str], repository: Path) -> bool:
    """Copy an artifact to the repository; False if there is none."""
    path, key = Path(_mapped(artifact.path, mounts)), substitute(artifact.s3.key, scope)
    if not path.exists():
        return False
    if path.is_dir() != key.endswith("/"):
        raise AcdError(ErrorCode.SETTING_INVALID, f"artifact {artifact.name}: the key of a folder ends with '/': {key}")
    target = repository / key
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, target)
    return True
