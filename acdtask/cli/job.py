"""The commands of a job: plan, run, gather, and local, which does all three on this machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from acdtask import log
from acdtask.cli.cube_options import AsJson, Cube
from acdtask.cli.lazy import CONTEXT, Lazy, LazyGroup, command_of, example
from acdtask.cli.output import say, say_json
from acdtask.cli.plans import notes_of, show_plan, why_too_large, write_map
from acdtask.cli.project import AREA_OPTIONS
from acdtask.cli.small_work import MEMORY_DEFAULT, HereMemory, HereSeconds
from acdtask.engine.progressbar import ProgressBar
from acdtask.errors import AcdError, ErrorCode
from acdtask.jobs.registry import JOBS, JobEntry, load_job

if TYPE_CHECKING:
    from acdtask.engine.local import LocalOutcome
    from acdtask.jobs.contract import Job, Settings, Site

__all__ = ["group", "stage"]

_STAGES = {
    "plan": "Show the work and its expected cost.",
    "run": "Do one shard of a round.",
    "gather": "Join the shards of a round.",
    "local": "Plan, run and gather on this machine.",
}

PlanId = Annotated[str, typer.Option("--plan", metavar="ID", help="Plan id that 'plan' printed.")]
Round = Annotated[str, typer.Option("--round", metavar="NAME", help="Round of the plan.")]
ShardIndex = Annotated[int, typer.Option("--shard", metavar="N", help="Shard of the round, from 0.")]
SettingsFile = Annotated[
    Path, typer.Option("--settings", metavar="FILE", help="Settings in a .json or .toml file; options take precedence.")
]
Parameters = Annotated[
    list[str],
    typer.Option(
        "--parameter",
        metavar="NAME=VALUE",
        help="Setting as workflows give it; an empty value means the default.  [repeatable]",
    ),
]
Outputs = Annotated[Path, typer.Option("--outputs", metavar="FOLDER", help="Write the outputs for a workflow here.")]
MapFile = Annotated[Path, typer.Option("--map", metavar="FILE", help="Write the tiles to this file, as GeoJSON.")]
Workers = Annotated[int, typer.Option("--workers", metavar="N", help="Number of processes.  [default: one per core]")]


def _shards(text: str) -> int:
    """Parse a number of shards; workflows give an empty text for 0."""
    number = text.strip() or "0"
    if not (number.isascii() and number.isdigit()):
        raise typer.BadParameter(f"{text!r} is not a number of shards.")
    return int(number)


Quarantine = Annotated[
    int,
    typer.Option(
        "--quarantine",
        metavar="N",
        parser=_shards,
        help="Number of shards that may fail permanently and are left out.",
    ),
]


def group(name: str) -> LazyGroup:
    """Make the group of a job's commands. The job itself is imported when one of them is used."""
    entry = JOBS[name]
    stages = {stage: Lazy(summary, "acdtask.cli.job:stage", (name, stage)) for stage, summary in _STAGES.items()}
    return _JobGroup(
        lazy=stages,
        name=name,
        help=entry.help + example(f"acdtask {name} local {entry.example}"),
        context_settings=CONTEXT,
    )


class _JobGroup(LazyGroup):
    """The commands of a job. Options without a step are passed to `local`, with a note on stderr."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_option = bool(args) and args[0].startswith("-") and args[0] not in CONTEXT["help_option_names"]
        if is_option and not ctx.resilient_parsing:
            args = [_guessed_step(str(self.name), args), *args]
        return super().parse_args(ctx, args)


def _guessed_step(name: str, args: list[str]) -> str:
    """Assume the step `local`. USAGE if an option belongs to another step."""
    options = {arg.partition("=")[0] for arg in args}
    other = next((step for option, step in _STEP_OF_OPTION.items() if option in options), "")
    if other:
        raise AcdError(
            ErrorCode.USAGE,
            f"'acdtask {name}' needs one of {', '.join(_STAGES)} before its options",
            f"These options belong to '{other}': write 'acdtask {name} {other}' before them.",
        )
    if log.current().mode == "json":
        log.events("cli").warning("step.guessed", command=f"acdtask {name}", step="local")
    else:
        typer.echo(f"acdtask {name}: no step given, running 'acdtask {name} local'", err=True)
    return "local"


_STEP_OF_OPTION = {"--shard": "run", "--round": "gather", "--plan": "gather", "--map": "plan", "--outputs": "plan"}
"""Options that `local` does not have, with the step that has them."""


def stage(name: str, stage_name: str) -> TyperCommand:
    """Make one command of a job."""
    job, entry = load_job(name), JOBS[name]
    return {"plan": _plan, "run": _run, "gather": _gather, "local": _local}[stage_name](job, entry)


def _plan(job: Job[Any, Any], entry: JobEntry) -> TyperCommand:
    from acdtask.engine.pod import require_writable
    from acdtask.engine.run_summary import record_plan, recording_failure
    from acdtask.engine.small_work import Budget, Way, do_or_hand_over
    from acdtask.engine.stages import make_plan, open_site

    def call(
        map_file: Path | None,
        outputs: Path | None,
        as_json: bool,
        quarantine: int,
        here_seconds: float,
        here_memory: int,
        **given: Any,
    ) -> None:
        if outputs is not None:
            require_writable(outputs)
        elif here_seconds:
            raise AcdError(
                ErrorCode.USAGE,
                "--here-seconds is for workflows and needs --outputs",
                f"Use 'acdtask {job.name} local' to run the plan on this machine.",
            )
        with recording_failure(given.get("cube", ""), job.name, "plan"):
            settings, address = _settings_and_address(job, entry, given)
            site = open_site(address)
            if outputs is None:
                plan = make_plan(job, settings, site)
                record_plan(plan, settings, site)
        if outputs is not None:
            budget = Budget(here_seconds, here_memory)
            step = do_or_hand_over(job, settings, site, budget, outputs, quarantine=quarantine)
            plan = step.plan
            if step.way is Way.HERE:
                say(f"{job.name}: {step.summary}")
                for line in step.lines:
                    say(f"{job.name}: {line}")
        if map_file is not None:
            write_map(plan, map_file)
        if as_json:
            notes = {**notes_of(plan), **({"too large": reason} if (reason := why_too_large(plan)) else {})}
            say_json({**plan.model_dump(mode="json", exclude={"content", "notes"}), "notes": notes})
        else:
            show_plan(plan, job.unit)

    parameters = [
        _parameter("map_file", MapFile, None),
        _parameter("outputs", Outputs, None),
        _parameter("as_json", AsJson, False),
        _parameter("quarantine", Quarantine, "0"),
        _parameter("here_seconds", HereSeconds, "0"),
        _parameter("here_memory", HereMemory, MEMORY_DEFAULT),
    ]
    text = f"{_STAGES['plan']} {entry.help} Equal inputs and settings give equal plan ids." + example(
        f"acdtask {job.name} plan {entry.example}", f"acdtask {job.name} plan {entry.example} --json"
    )
    return command_of(_with_settings(call, job, entry, parameters), text, ("cube",))


def _run(job: Job[Any, Any], entry: JobEntry) -> TyperCommand:
    from acdtask.engine.pod import ArgoProgress
    from acdtask.engine.run_summary import recording_failure
    from acdtask.engine.stages import blocks_of, load_plan, load_shard, open_site, run_shard

    def call(plan_id: str, round_name: str, shard: int, **given: Any) -> None:
        site = _site(entry, given)
        with recording_failure(site.address, job.name, "run", round_name, shard):
            plan = load_plan(job, plan_id, site)
            total = load_shard(job, plan, shard, site).units
            argo = ArgoProgress(total)
            title = f"{job.name}: {round_name}, shard {shard}"
            with (
                ProgressBar(title, total=total, unit=job.unit) as bar,
                blocks_of(job, one_unit=total == 1) as blocks,
            ):

                def progress(units: int) -> None:
                    bar.update(shard, units)
                    argo(units)

                left_out = run_shard(job, plan, round_name, shard, open_site(site.address, blocks), progress)
                progress(total)
        if left_out is not None and not left_out.unusable:
            say(f"{job.name}: nothing to do, since an earlier round left out shard {left_out}")
            return
        for failure in left_out.unusable.values() if left_out is not None else ():
            say(f"{job.name}: not usable: {failure}")
        say(f"{job.name}: shard {shard} of round {round_name} is done")

    parameters = [
        _site_parameter(entry),
        _parameter("plan_id", PlanId),
        _parameter("round_name", Round),
        _parameter("shard", ShardIndex),
    ]
    text = f"{_STAGES['run']} A finished shard is skipped. The rounds are {', '.join(job.round_names)}."
    text += example(f"acdtask {job.name} run {_site_example(entry)} --plan ID --round {job.round_names[0]} --shard 0")
    return command_of(_signed(call, parameters), text, ("cube",))


def _gather(job: Job[Any, Any], entry: JobEntry) -> TyperCommand:
    from acdtask.engine.pod import require_writable, write_artifacts, write_figures
    from acdtask.engine.run_summary import record_gathered, recording_failure
    from acdtask.engine.stages import gather_round, gathered_rounds, load_plan, unusable_lines

    def call(plan_id: str, round_name: str, outputs: Path | None, quarantine: int, **given: Any) -> None:
        site = _site(entry, given)
        if outputs is not None:
            require_writable(outputs)
        with recording_failure(site.address, job.name, "gather", round_name):
            plan = load_plan(job, plan_id, site)
            left_out = gather_round(job, plan, round_name, site, quarantine=quarantine)
            if round_name == plan.rounds[-1]:
                record = record_gathered(job, plan, gathered_rounds(plan, site), site)
                if outputs is not None:
                    write_figures(record.news, outputs)
                    write_artifacts(job.artifacts(plan, site), site, outputs)
        say(f"{job.name}: round {round_name} is gathered")
        for note in job.notes(plan, site) if round_name == plan.rounds[-1] else ():
            say(f"{job.name}: {note}")
        for shard in left_out:
            if not shard.unusable:
                say(f"{job.name}: left out: shard {shard}")
        for line in unusable_lines(plan, left_out):
            say(f"{job.name}: {line}")

    parameters = [
        _site_parameter(entry),
        _parameter("plan_id", PlanId),
        _parameter("round_name", Round),
        _parameter("outputs", Outputs, None),
        _parameter("quarantine", Quarantine, "0"),
    ]
    text = (
        f"{_STAGES['gather']} Missing shards are an error; the last gather publishes the results. "
        f"The rounds are {', '.join(job.round_names)}."
    )
    text += example(f"acdtask {job.name} gather {_site_example(entry)} --plan ID --round {job.round_names[0]}")
    return command_of(_signed(call, parameters), text, ("cube",))


def _local(job: Job[Any, Any], entry: JobEntry) -> TyperCommand:
    def call(workers: int | None, quarantine: int, as_json: bool, **given: Any) -> None:
        from acdtask.engine.local import run_locally
        from acdtask.engine.processes import WorkerPool, cores

        settings, address = _settings_and_address(job, entry, given)
        with WorkerPool(cores() if workers is None else workers) as pool:
            outcome = run_locally(job, settings, address, pool=pool, progress=None, quarantine=quarantine)
        if as_json:
            say_json(_outcome_as_json(job, outcome, address))
            return
        for line in outcome.lines:
            say(line)

    text = (
        f"{entry.help} Shards run in processes on this machine. After an interruption, the same command does only the "
        f"missing work." + example(f"acdtask {job.name} local {entry.example}")
    )
    run_options = [
        _parameter("workers", Workers, None),
        _parameter("quarantine", Quarantine, "0"),
        _parameter("as_json", AsJson, False),
    ]
    return command_of(_with_settings(call, job, entry, run_options), text, ("cube",))


def _outcome_as_json(job: Job[Any, Any], outcome: LocalOutcome, address: str) -> dict[str, Any]:
    """The result of a local run as JSON."""
    from acdtask.engine.stages import open_site
    from acdtask.jobs.contract import Findings

    plan = outcome.plan
    findings = Findings() if plan.nothing_to_do else job.findings(plan, open_site(address))
    return {
        "job": job.name,
        "plan": plan.plan_id,
        "nothing_to_do": plan.nothing_to_do,
        "seconds": round(outcome.seconds, 3),
        "unusable": {name: str(failure) for name, failure in outcome.unusable.items()},
        **findings.model_dump(mode="json"),
        "lines": outcome.lines,
    }


def _settings_and_address(job: Job[Any, Any], entry: JobEntry, given: dict[str, Any]) -> tuple[Settings, str]:
    from acdtask.cli.options import values_of_file, values_of_parameters
    from acdtask.cli.settings import settings_of_job

    address = given.pop("cube", "")
    file, parameters = given.pop("settings_file"), values_of_parameters(job.settings, given.pop("parameters") or [])
    options = {**parameters, **{name: value for name, value in given.items() if value is not None}}
    settings = settings_of_job(job, options, values_of_file(file) if file is not None else {}, address)
    return settings, str(getattr(settings, entry.site_setting)) if entry.site_setting else address


def _site(entry: JobEntry, given: dict[str, Any]) -> Site:
    from acdtask.engine.stages import open_site

    return open_site(given[entry.site_setting or "cube"])


def _site_parameter(entry: JobEntry) -> inspect.Parameter:
    if not entry.site_setting:
        return _parameter("cube", Cube)
    flag = f"--{entry.site_setting.replace('_', '-')}"
    option = typer.Option(flag, metavar="FOLDER", help="Folder that was given to 'plan'.")
    return _parameter(entry.site_setting, Annotated[str, option])


def _site_example(entry: JobEntry) -> str:
    return f"--{entry.site_setting} scene" if entry.site_setting else "--cube cube"


def _with_settings(
    call: Callable[..., None], job: Job[Any, Any], entry: JobEntry, more: list[inspect.Parameter]
) -> Callable[..., None]:
    """Give a function an option for each setting, and the options that every job has."""
    from acdtask.cli.options import options_of

    site = [] if entry.site_setting else [_parameter("cube", Cube)]
    settings = [option.parameter() for option in options_of(job.settings)]
    if "aoi" in job.settings.model_fields:
        settings += [_parameter(name, option, None) for name, option in AREA_OPTIONS.items()]
    more = [_parameter("settings_file", SettingsFile, None), _parameter("parameters", Parameters, None), *more]
    return _signed(call, [*site, *settings, *more])


def _signed(call: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """Give a function a signature with these parameters, which typer reads."""

    def function(**values: Any) -> None:
        call(**values)

    required_first = sorted(parameters, key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    function.__signature__ = inspect.Signature(required_first)  # type: ignore[attr-defined]  # inspect reads it
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
