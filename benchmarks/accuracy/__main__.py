"""Judge all methods on simulated scenes and write docs/accuracy.md: `python -m benchmarks.accuracy`.

With `--small` a few small scenes are judged, as a test; the figures mean nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from acdtask.engine.processes import cores
from benchmarks.accuracy.page import write_page
from benchmarks.accuracy.run import judge
from benchmarks.accuracy.scenes import JUDGE_SEEDS, KINDS, SIZE

DOCS = Path(__file__).parents[2] / "docs"
SCENES = 12
SMALL = {"size": 128, "monitored_pairs": 3, "events": 3}
SMALL_SCENES = 2


def main() -> None:
    """Run the comparison and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"scenes of each kind ({SCENES})")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (one per core)")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the page (docs)")
    parser.add_argument("--keep", type=Path, help="folder that keeps the results of each scene, to continue from")
    parser.add_argument("--small", action="store_true", help="judge a few small scenes")
    arguments = parser.parse_args()
    if not 1 <= arguments.scenes <= len(JUDGE_SEEDS):
        parser.error(f"--scenes must be 1 to {len(JUDGE_SEEDS)}")
    started = time.monotonic()
    seeds = JUDGE_SEEDS[: SMALL_SCENES if arguments.small else arguments.scenes]
    others = SMALL if arguments.small else {}
    results = judge(seeds, arguments.workers, arguments.keep, KINDS, **others)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_page(arguments.out, results, size=others.get("size", SIZE))
    print(f"{time.monotonic() - started:.0f} s; wrote {arguments.out / 'accuracy.md'}")


if __name__ == "__main__":
    main()
