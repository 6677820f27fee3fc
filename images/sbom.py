"""Write the bill of materials of the image's Python libraries, in CycloneDX: `python -m images.sbom [FILE]`.

It is made from the lock, so it has the version and the hashes of every wheel, and it is the same for the same commit.
Libraries that only build acdtask, which the image does not contain, have the scope `excluded`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from acdtask import __version__
from images.slim import BUILD_DEPENDENCIES

__all__ = ["bill_of_materials"]

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "build" / "sbom.json"


def bill_of_materials(lock: Path = ROOT / "requirements" / "run.txt") -> dict[str, Any]:
    """The bill of materials of a lock, checked against the schema of CycloneDX by its own tool."""
    command = [str(Path(sys.executable).with_name("cyclonedx-py")), "requirements", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--short-PURLs", str(lock)]
    made = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # fixed arguments
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


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bill_of_materials(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{file}\n")
