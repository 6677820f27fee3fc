"""Shows plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdtask.cli.output import bytes_text, say, seconds_text, table, write_json
from acdtask.errors import AcdError, ErrorCode

if TYPE_CHECKING:
    from acdtask.jobs.contract import Plan, PlanHead

__all__ = ["notes_of", "show_plan", "why_too_large", "write_map"]


def notes_of(plan: PlanHead) -> dict[str, Any]:
    """The notes of a plan, without its map."""
    return {name: note for name, note in plan.notes.items() if name != "map"}


def why_too_large(plan: Plan[Any, Any]) -> str:
    """Why a workflow could not run the plan; empty if it can."""
    from acdtask.engine.workflow_limits import require_fits_workflow

    try:
        require_fits_workflow(plan)
    except AcdError as error:
        return str(error)
    return ""


def show_plan(plan: Plan[Any, Any], unit: str) -> None:
    """Show the work of a plan, counted in a unit such as tiles, and its expected cost."""
    from acdtask.engine.processes import cores
    from acdtask.engine.stages import unusable_lines

    if plan.nothing_to_do:
        say(f"nothing to do: {plan.nothing_to_do}")
        for line in unusable_lines(plan):
            say(line)
        return

    estimate, workers = plan.estimate, cores()
    rows: list[tuple[str, object]] = [
        *[(name, count) for name, count in ((unit, estimate.tiles), ("dates", estimate.dates)) if count],
        ("shards", plan.shards),
        ("rounds", ", ".join(plan.rounds)),
        ("bytes to read", bytes_text(estimate.bytes_read)),
        ("bytes to write", bytes_text(estimate.bytes_written)),
        (f"expected time, {workers} workers", seconds_text(estimate.core_seconds / workers)),
    ]
    notes = {name: "; ".join(note) if _is_texts(note) else note for name, note in notes_of(plan).items()}
    rows += [(name, note) for name, note in notes.items() if isinstance(note, (str, int, float)) and note != ""]
    table((plan.job, "plan"), rows)
    for line in unusable_lines(plan):
        say(line)
    say(f"plan id: {plan.plan_id}")
    if reason := why_too_large(plan):
        say(f"too large for a workflow: {reason}")


def _is_texts(note: object) -> bool:
    return isinstance(note, list) and all(isinstance(item, str) for item in note)


def write_map(plan: PlanHead, file: Path) -> None:
    """Write the tiles of a plan as GeoJSON. USAGE if it has none."""
    tiles = plan.notes.get("map")
    if tiles is None:
        reason = plan.nothing_to_do or f"{plan.job} does not work on tiles"
        raise AcdError(ErrorCode.USAGE, f"there is no map to write to {file}: {reason}", "Omit --map.")
    write_json(file, tiles)
