"""Runs pods as processes, with folders as volumes."""

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
"""Exit code of Argo's executor if it cannot start the command."""
SIGNALLED = 128
"""In a container, a process ended by a signal exits with this plus the signal's number."""
TIMED_OUT = 143


@dataclass(frozen=True)
class Host:
    """Replacement for the cluster.

    Attributes:
        folder: folder for pods, artifacts and logs.
        commands: local commands for those of containers, such as {"acdtask": ["python", "-m", "acdtask"]}.
        config_maps: folders with a file for each key, by ConfigMap name.
        environment: variables that the chart sets in every pod.
    """

    folder: Path
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    config_maps: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def artifacts(self) -> Path:
        """Folder of the artifact repository."""
        return self.folder / "artifacts"


@dataclass(frozen=True)
class Attempt:
    """Result of one attempt of a pod.

    Attributes:
        phase: Succeeded, Failed (the command's exit code is not 0) or Error (an output is missing).
        exit_code: exit code of the command.
        message: reason of a failure.
        progress: last progress reported, as done/total.
        outputs: output parameters by name.
        log: file with the container's output.
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
        template: template with a container.
        scope: values of `{{...}}`.
        volumes: volumes of the workflow; the template's own take precedence.
        host: replacement for the cluster.
        name: name of the attempt and of its folder.
    """
    container = template.container
    if container is None:
        raise AcdError(ErrorCode.BUG, f"template {template.name} has no container")
    folder = host.folder / "pods" / name
    folder.mkdir(parents=True)
    mounts = _mounted(container, [*template.volumes, *volumes], scope, host, folder)
    progress, log = folder / "progress", folder / "log"
    # Map paths of volumes before parameters are filled in: the values of parameters are not paths in the pod.
    args = [substitute(_mapped(arg, mounts), scope) for arg in container.args]
    command = [*host.commands.get(container.command[0], container.command[:1]), *container.command[1:], *args]
    environment = {**os.environ, **host.environment, "ARGO_PROGRESS_FILE": str(progress)}
    environment |= {variable.name: substitute(variable.value, scope) for variable in container.env}
    if "/tmp" in mounts:  # noqa: S108  # the pod's path
        environment["TMPDIR"] = str(mounts["/tmp"])  # noqa: S108  # the pod's path
    code = _exit_code(command, environment, log, template.active_deadline_seconds)
    done = progress.read_text() if progress.exists() else ""
    if code:
        return Attempt("Failed", code, _last_message(log), done, log=log)
    missing, outputs = _outputs(template, mounts)
    for artifact in template.outputs.artifacts:
        if not _keep(artifact, mounts, scope, host.artifacts) and not artifact.optional:
            missing.append(artifact.path)
    if missing:
        return Attempt("Error", code, f"the pod did not write {', '.join(missing)}", done, log=log)
    return Attempt("Succeeded", code, "", done, outputs, log)


def _exit_code(command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: int | None) -> int:
    with log.open("wb") as stream:
        try:
            process = subprocess.run(  # commands of a file chosen by the user
                command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        except OSError as error:
            stream.write(f"{command[0]}: {error.strerror}\n".encode())
            return NOT_STARTED
    return process.returncode if process.returncode >= 0 else SIGNALLED - process.returncode


def _last_message(log: Path) -> str:
    """Last line of a log; if it is an error event of acdtask, the error's code and detail."""
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
    """Folders of all mount paths."""
    by_name = {volume.name: volume for volume in reversed(volumes)}
    return {mount.mount_path: _folder_of(mount, by_name, scope, host, folder) for mount in container.volume_mounts}


def _folder_of(mount: Mount, volumes: Mapping[str, Volume], scope: Mapping[str, str], host: Host, folder: Path) -> Path:
    volume = volumes.get(mount.name)
    if volume is None or (volume.empty_dir is None) == (volume.config_map is None):
        raise AcdError(ErrorCode.SETTING_INVALID, f"volume {mount.name} must be either an emptyDir or a configMap")
    empty = folder / "volumes" / mount.name
    if volume.config_map is not None:
        name = substitute(volume.config_map.name, scope)
        if name in host.config_maps:
            return host.config_maps[name]
        if not volume.config_map.optional:
            raise AcdError(ErrorCode.SETTING_INVALID, f"there is no ConfigMap {name}", "Pass it with --config-map.")
    empty.mkdir(parents=True)
    return empty


def _mapped(text: str, mounts: Mapping[str, Path]) -> str:
    """Replace paths of the pod in a text by local ones; the longest mount path wins."""
    paths = sorted(mounts, key=len, reverse=True)
    if not paths:
        return text
    pattern = rf"(?<![\w./-])({'|'.join(map(re.escape, paths))})(?![\w.-])"
    return re.sub(pattern, lambda match: str(mounts[match[1]]), text)


def _outputs(template: Template, mounts: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """Read output parameters; returns missing files and values by name."""
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
    """Copy an artifact to the repository; False if it is missing."""
    path, key = Path(_mapped(artifact.path, mounts)), substitute(artifact.s3.key, scope)
    if not path.exists():
        return False
    if path.is_dir() != key.endswith("/"):
        raise AcdError(
            ErrorCode.SETTING_INVALID, f"artifact {artifact.name}: only the key of a folder ends with '/': {key}"
        )
    target = repository / key
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, target)
    return True
