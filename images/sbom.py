"""Write the bill of materials of the image's Python libraries, in CycloneDX: `python -m images.sbom [FILE]`.

It is made from the lock, so it has the version and the hashes of every wheel, and it is the same for the same commit.
Entries of the lock for other versions of Python, or other systems, are left out.
Libraries that only build acdtask, which the image does not contain, have the scope `excluded`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.markers import Marker

from acdtask import __version__
from images.slim import BUILD_DEPENDENCIES

__all__ = ["bill_of_materials", "entries_of_image", "python_of_image"]

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "build" / "sbom.json"
ENTRY = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)
MARKER = re.compile(r"^\S+ ; (.*?) *\\?$", re.MULTILINE)


def bill_of_materials() -> dict[str, Any]:
    """The bill of materials of the lock, checked against the schema of CycloneDX by its own tool."""
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--short-PURLs", "-"]
    lock = entries_of_image((ROOT / "requirements" / "run.txt").read_text(encoding="utf-8"), python_of_image())
    made = subprocess.run(command, input=lock, capture_output=True, text=True, check=True)  # noqa: S603  # fixed arguments
    bill: dict[str, Any] = json.loads(made.stdout)
    main = bill["metadata"]["component"]
    main |= {"version": __version__, "purl": f"pkg:pypi/acdtask@{__version__}"}
    for component in bill["components"]:
        component.pop("description", None)  # the line of the lock
        component["scope"] = "excluded" if component["name"] in BUILD_DEPENDENCIES else "required"
    for dependency in bill["dependencies"]:
        if dependency["ref"] == main["bom-ref"]:
            dependency["dependsOn"] = sorted(component["bom-ref"] for component in bill["components"])
    return bill


def python_of_image() -> str:
    """The version of Python in the image, such as 3.14."""
    base = re.search(r"^ARG BASE=\S*python:(\d+\.\d+)", (ROOT / "images" / "Containerfile").read_text(), re.MULTILINE)
    if base is None:
        raise ValueError("images/Containerfile does not name its base python:X.Y")
    return base[1]


def entries_of_image(lock: str, python: str) -> str:
    r"""The entries of a lock that pip installs on Linux with a version of Python.

    >>> entries_of_image("a==1\nb==1 ; sys_platform == 'win32'\nc==1 ; python_full_version < '3.12'\n", "3.14")
    'a==1\n'
    """
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }

    def installed(entry: str) -> bool:
        marker = MARKER.match(entry)
        return marker is None or Marker(marker[1]).evaluate(machine)

    return "".join(entry for entry in ENTRY.split(lock) if installed(entry))


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bill_of_materials(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{file}\n")
