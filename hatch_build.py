"""Makes Python modules of Geocube's protocol (acdtask/cube/protocol/*.proto) whenever acd is built or installed.

Messages become `<file>_pb2.py`, services `services_pb2_grpc.py`, each with the `.pyi` of its types. They lie beside
their sources, and git does not see them.
"""

from __future__ import annotations

import os
from importlib.metadata import files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOCOL = "acdtask/cube/protocol"
MADE = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


class ProtocolBuildHook(BuildHookInterface[Any]):
    """Runs protoc before the wheel is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the modules, and let the wheel have them although git ignores them."""
        del version
        generate(Path(self.root))
        build_data["artifacts"] += [f"{PROTOCOL}/{pattern}" for pattern in MADE]

    def clean(self, versions: list[str]) -> None:
        """Remove the modules."""
        del versions
        remove(Path(self.root))


def remove(root: Path) -> None:
    """Remove the modules of a checkout."""
    for pattern in MADE:
        for path in (root / PROTOCOL).glob(pattern):
            path.unlink()


def generate(root: Path, out: Path | None = None) -> None:
    """Make the modules of a checkout, there or below another folder."""
    import grpc_tools
    from grpc_tools import protoc

    out = out or root
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    sources = sorted(str(path.relative_to(root)) for path in (root / PROTOCOL).glob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={root}",
        f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={_program('protoc-gen-mypy')}",
        f"--plugin=protoc-gen-mypy_grpc={_program('protoc-gen-mypy_grpc')}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    ]
    here = Path.cwd()
    os.chdir(root)  # protoc names files as they were given
    try:
        status = protoc.main(arguments)
    finally:
        os.chdir(here)
    if status:
        raise RuntimeError(f"protoc ended with {status}")
    for path in (out / PROTOCOL).glob("*_pb2_grpc.py*"):
        if path.name.removesuffix(".pyi").removesuffix(".py") != "services_pb2_grpc":
            path.unlink()  # no services in these


def _program(name: str) -> Path:
    """A program of mypy-protobuf, wherever that is installed: beside this Python, or in an isolated build."""
    return next(Path(str(path.locate())).resolve() for path in files("mypy-protobuf") or () if path.name == name)
