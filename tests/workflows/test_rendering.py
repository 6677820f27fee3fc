"""The templates are up to date, match the jobs, and follow the rules."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from acdtask import __version__
from acdtask.cli.chain import command as chain_command
from acdtask.cli.notify import command as notify_command
from acdtask.cli.options import options_of, settings_from, values_of_parameters
from acdtask.cli.tidy import command as tidy_command
from acdtask.jobs.registry import JOBS, load_job
from acdtask.maintenance.tidy.retention import Retention
from tests.workflows.equipment.lint import problems
from workflows.metrics import DURATION, FIGURES
from workflows.parameters import EVENT_MONITOR, HERE_SECONDS, POD_START_SECONDS, QUARANTINE, WEBHOOK
from workflows.pods import OUTPUTS
from workflows.rendering import CHART_FILES, render_all, write_all
from workflows.retries import HERE_MEMORY, MEMORY
from workflows.templates import ALONE, CHAIN, TIDY

RENDERED = {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in render_all().items()}
STABLE = [f"acd-{name}" for name in (*CHAIN, *ALONE, "all")]
EVERY = [*STABLE, f"acd-{TIDY}"]


def test_the_chart_ships_what_the_jobs_say() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in CHART_FILES.glob("acd-*.yaml")}
    assert committed == render_all(), "run 'make workflows' and commit helm/acd/files"


def test_rendering_removes_a_template_that_is_no_longer_made(tmp_path: Any) -> None:
    (tmp_path / "acd-old-0-0-1.yaml").write_text("old")
    (tmp_path / "README.md").write_text("kept")
    write_all(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*render_all(), "README.md"}


def test_every_job_but_simulate_has_a_template_and_there_is_one_for_all() -> None:
    assert [*CHAIN, *ALONE] == [name for name in JOBS if name != "simulate"]
    assert set(RENDERED) == set(EVERY)
    assert all(document["metadata"]["name"] == name for name, document in RENDERED.items())


@pytest.mark.parametrize("name", EVERY)
def test_a_template_has_the_version_that_the_chart_puts_behind_its_name(name: str) -> None:
    assert RENDERED[name]["metadata"]["labels"]["app.kubernetes.io/version"] == __version__


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_a_template_keeps_the_rules(name: str) -> None:
    assert problems(RENDERED[name]) == []


def pod(document: Any) -> Any:
    return document["spec"]["templates"][0]


def notify(document: Any) -> Any:
    return next(template for template in document["spec"]["templates"] if template["name"] == "notify")


def fan_out(document: Any) -> Any:
    return next(
        task
        for template in document["spec"]["templates"]
        if "dag" in template
        for task in template["dag"]["tasks"]
        if "withParam" in task
    )


def gather(document: Any) -> Any:
    return next(template for template in document["spec"]["templates"] if template["name"].endswith("-publish"))


def dag(document: Any) -> Any:
    return next(template for template in document["spec"]["templates"] if "dag" in template)


def metric(document: Any) -> Any:
    return next(template for template in document["spec"]["templates"] if "publish" in template["name"])["metrics"][
        "prometheus"
    ][0]


def entry(document: Any) -> Any:
    name = document["spec"]["entrypoint"]
    return next(template for template in document["spec"]["templates"] if template["name"] == name)


def exit_task(document: Any) -> Any:
    exit_dag = next(
        template for template in document["spec"]["templates"] if template["name"] == document["spec"]["onExit"]
    )
    return exit_dag["dag"]["tasks"][0]


def parameter(document: Any) -> Any:
    return document["spec"]["arguments"]["parameters"][0]


BROKEN: list[tuple[Callable[[Any], object], str]] = [
    (lambda d: dag(d).update(retryStrategy=pod(d)["retryStrategy"]), "would run completed tasks again"),
    (lambda d: d["spec"].update(retryStrategy=pod(d)["retryStrategy"]), "which would apply to DAGs"),
    (lambda d: d["spec"].update(templateDefaults={"retryStrategy": {}}), "templateDefaults is not allowed"),
    (lambda d: pod(d).pop("retryStrategy"), "does not have the generated retry expression"),
    (lambda d: pod(d)["retryStrategy"].pop("retryPolicy"), "is not Always"),
    (lambda d: pod(d)["retryStrategy"]["backoff"].update(maxDuration="10m"), "would never be retried"),
    (lambda d: d["spec"].update(synchronization={"mutex": {"name": "x"}}), "the field mutex is not in every"),
    (lambda d: entry(d).pop("synchronization"), "no mutex for its AOI"),
    (lambda d: d["spec"].update(synchronization=entry(d)["synchronization"]), "which its exit handler would hold too"),
    (lambda d: notify(d).update(synchronization=entry(d)["synchronization"]), "has a lock, but is not the entrypoint"),
    (lambda d: fan_out(d).update(template="baseline"), "so it would wait for itself"),
    (lambda d: fan_out(d).update(withParam="{{tasks.plan.outputs.result}}"), "is not an output parameter"),
    (lambda d: fan_out(d).update(withParam="{{tasks.plan.outputs.parameters.x}}"), "does not come from a file"),
    (lambda d: fan_out(d).update(when="{{item}} != 3"), "may skip the whole fan-out"),
    (lambda d: fan_out(d)["arguments"]["parameters"][2].update(value="{{item.tile}}"), "items are integers"),
    (lambda d: fan_out(d).update(template="other"), "has no template other"),
    (lambda d: fan_out(d).update(depends="nobody"), "is not before it"),
    (lambda d: dag(d)["dag"]["tasks"][-1].update(depends="run-moments"), "does not start if a shard has failed"),
    (lambda d: gather(d)["container"]["args"].remove("--quarantine"), "does not get --quarantine"),
    (
        lambda d: dag(d)["dag"]["tasks"][-1].update(when="{{tasks.run-moments.outputs.parameters.x}} == 1"),
        "is not available",
    ),
    (lambda d: pod(d)["outputs"]["parameters"][0]["valueFrom"].pop("default"), "has no default"),
    (lambda d: pod(d)["outputs"]["artifacts"][0].pop("archive"), "is archived"),
    (lambda d: pod(d)["outputs"]["artifacts"][0].update(path="/acd/report"), "its key does not end in '/'"),
    (lambda d: pod(d)["container"]["args"].append("{{workflow.parameters.x}}"), "refers to workflow.parameters.x"),
    (lambda d: pod(d)["container"]["args"].append("{{workflow.status}}"), "refers to workflow.status"),
    (lambda d: notify(d)["container"]["args"].append("{{workflow.failures}}"), "refers to workflow.failures"),
    (lambda d: d["spec"].update(metrics={"prometheus": []}), "only its jobs should"),
    (lambda d: metric(d).pop("when"), "failed attempts, which have no outputs"),
    (lambda d: metric(d).update(name="units_total"), "does not follow our names"),
    (lambda d: metric(d).update(name="acd_units"), "does not follow our names"),
    (lambda d: metric(d).update(name="acd_shard_seconds_total"), "a different help or type elsewhere"),
    (lambda d: metric(d).pop("help"), "has no help"),
    (lambda d: metric(d)["labels"].append({"key": "shard", "value": "1"}), "labels other than job and aoi"),
    (lambda d: metric(d)["counter"].update(value="{{outputs.parameters.x}}"), "refers to outputs.parameters.x"),
    (lambda d: metric(d).update(histogram=metric(d).pop("counter")), "is neither a counter nor a gauge"),
    (lambda d: pod(d)["container"]["args"].append("{{duration}}"), "refers to duration"),
    (lambda d: d["spec"].pop("onExit"), "has no exit handler"),
    (lambda d: d["spec"].update(onExit="notify"), "would start a pod even without a webhook"),
    (lambda d: exit_task(d).pop("when"), "no 'when' that checks for the webhook"),
    (lambda d: exit_task(d).update(template="baseline-plan"), "is used by both the exit handler and the workflow"),
    (lambda d: d["spec"].pop("securityContext"), "may run as root"),
    (lambda d: pod(d)["container"]["securityContext"].pop("readOnlyRootFilesystem"), "is not restricted"),
    (lambda d: pod(d)["container"].pop("name"), "is not named main"),
    (lambda d: pod(d)["container"].update(command=["sh", "-c"]), "does not run acdtask"),
    (lambda d: pod(d).pop("volumes"), "has no writable /tmp"),
    (lambda d: pod(d).pop("activeDeadlineSeconds"), "has no deadline"),
    (lambda d: parameter(d).pop("description"), "has no description"),
    (lambda d: parameter(d).pop("value"), "has no default"),
    (lambda d: parameter(d).update(enum=["koln"]), "is not one of its allowed values"),
    (lambda d: parameter(d).update(name="AOI"), "is not in kebab-case"),
    (lambda d: d["spec"].pop("podGC"), "has no podGC"),
    (lambda d: d["spec"].pop("ttlStrategy"), "has no ttlStrategy"),
    (lambda d: d["metadata"].pop("annotations"), "has no title"),
]


@pytest.mark.parametrize(("break_it", "sentence"), BROKEN)
def test_a_broken_rule_is_reported(break_it: Callable[[Any], object], sentence: str) -> None:
    document = copy.deepcopy(RENDERED["acd-baseline"])
    break_it(document)
    assert any(sentence in problem for problem in problems(document)), problems(document)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("[0, 1]", "withParam of run-moments is not an output parameter of a task: [0, 1]"),
        ("{{tasks.plan.outputs.parameters.x}}", "withParam of run-moments does not come from a file"),
    ],
)
def test_a_fan_out_whose_items_are_given_to_its_dag_keeps_the_rules_too(value: str, sentence: str) -> None:
    document = copy.deepcopy(RENDERED["acd-all"])
    chain = next(template for template in document["spec"]["templates"] if template["name"] == "all")
    (task,) = (task for task in chain["dag"]["tasks"] if task["name"] == "baseline")
    next(item for item in task["arguments"]["parameters"] if item["name"] == "shards")["value"] = value
    assert sentence in problems(document)


def given_to_plan(document: Any, job: str) -> dict[str, str]:
    """The settings and values of the --parameter options of the plan pod."""
    templates = {template["name"]: template for template in document["spec"]["templates"]}
    alone = f"{job}-plan" in templates
    args = templates[f"{job}-plan" if alone else "chain-plan"]["container"]["args"]
    pairs = [args[at + 1] for at, arg in enumerate(args) if arg == "--parameter"]
    mine = pairs if alone else [pair.removeprefix(f"{job}.") for pair in pairs if pair.startswith(f"{job}.")]
    return dict(pair.split("=", 1) for pair in mine)


def parameters_of(document: Any) -> dict[str, Any]:
    parameters = document["spec"]["arguments"]["parameters"]
    by_name = {item["name"]: item for item in parameters}
    assert len(by_name) == len(parameters)  # Argo refuses two of the same name
    return by_name


@pytest.mark.parametrize("job", CHAIN)
def test_every_setting_of_a_job_has_a_parameter_and_no_parameter_is_left_over(job: str) -> None:
    fields = [option.field.replace("_", "-") for option in options_of(load_job(job).settings)]
    alone = RENDERED[f"acd-{job}"]
    assert list(given_to_plan(alone, job)) == list(given_to_plan(RENDERED["acd-all"], job)) == fields
    assert set(parameters_of(alone)) == {*fields, MEMORY, HERE_SECONDS, HERE_MEMORY, QUARANTINE, WEBHOOK, EVENT_MONITOR}


def test_every_parameter_of_the_whole_chain_is_used() -> None:
    text = json.dumps(RENDERED["acd-all"]["spec"])
    for name in parameters_of(RENDERED["acd-all"]):
        assert f"{{{{workflow.parameters.{name}}}}}" in text or f"workflow.parameters['{name}']" in text


@pytest.mark.parametrize("job", CHAIN)
def test_a_parameter_offers_the_values_that_its_setting_can_have(job: str) -> None:
    document = RENDERED[f"acd-{job}"]
    fields = load_job(job).settings.model_fields
    closed = {option.field: option for option in options_of(load_job(job).settings) if option.choices}
    assert set(closed) == {name for name, field in fields.items() if "Literal" in str(field.annotation)}
    for name, option in closed.items():
        offered = parameters_of(document)[name.replace("_", "-")]["enum"]
        assert offered[bool(offered[0] == "") :] == [str(choice) for choice in option.choices]
        assert ("" in offered) == (fields[name].default is None)


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("empty", [False, True])
def test_the_defaults_of_a_template_are_those_of_the_settings(name: str, *, empty: bool) -> None:
    document = RENDERED[name]
    values = {key: "" if empty else item["value"] for key, item in parameters_of(document).items()}
    for job in CHAIN if name == "acd-all" else [name.removeprefix("acd-")]:
        model = load_job(job).settings
        given = []
        for setting, text in given_to_plan(document, job).items():
            for key, value in values.items():
                text = text.replace(f"{{{{workflow.parameters.{key}}}}}", value)
            given.append(f"{setting}={text}")
        chosen = values_of_parameters(model, given)
        needed = {"aoi": "x", "layout": "default", "source": "folder", "members": ["V/layout/one"]}
        needed = {key: text for key, text in needed.items() if key in model.model_fields}
        if not empty:
            needed["pod_start"] = POD_START_SECONDS  # a shard is a pod there
        if name == "acd-all" and job == "ingest" and not empty:
            needed["make_layout"] = "default"  # that of the jobs after it
        plain = model.model_validate(needed)
        assert settings_from(model, {**needed, **chosen, "aoi": "x"}) == plain


def test_what_one_job_names_the_next_one_reads() -> None:
    document = RENDERED["acd-all"]
    assert given_to_plan(document, "monitor")["baseline-name"] == given_to_plan(document, "baseline")["name"]
    assert given_to_plan(document, "ingest")["make-layout"] == given_to_plan(document, "baseline")["layout"]
    assert given_to_plan(document, "report")["name"] == given_to_plan(document, "monitor")["name"]


@pytest.mark.parametrize("job", CHAIN)
def test_a_job_is_a_plan_and_then_a_fan_out_and_a_gather_for_each_round(job: str) -> None:
    tasks = next(resource for resource in RENDERED[f"acd-{job}"]["spec"]["templates"] if resource["name"] == job)[
        "dag"
    ]["tasks"]
    rounds = [f"{stage}-{name}" for name in load_job(job).round_names for stage in ("run", "gather")]
    assert [task["name"] for task in tasks] == ["plan", *rounds]
    gathers = [f"{name} || {name}.Failed || {name}.Errored" for name in rounds[::2]]
    expected = ["plan", *(task_name for pair in zip(gathers, rounds[1::2], strict=True) for task_name in pair)]
    assert [task.get("depends", "") for task in tasks] == ["", *expected[:-1]]
    assert all("way}} == pods" in task["when"] for task in tasks[1:])
    chain = next(resource for resource in RENDERED["acd-all"]["spec"]["templates"] if resource["name"] == job)
    handed_over = {item["name"] for item in chain["inputs"]["parameters"]}
    text = json.dumps(tasks[1:])
    for name in handed_over:
        text = text.replace(f"tasks.plan.outputs.parameters.{name}", f"inputs.parameters.{name}")
    same = [{key: value for key, value in task.items() if value != "plan"} for task in json.loads(text)]
    assert chain["dag"]["tasks"] == same


@pytest.mark.parametrize("name", ["all", "rest"])
def test_the_whole_chain_is_one_pod_and_pods_for_the_job_that_is_too_large_and_then_the_rest(name: str) -> None:
    templates = {resource["name"]: resource for resource in RENDERED["acd-all"]["spec"]["templates"]}
    assert ("synchronization" in templates[name]) == (name == "all")
    tasks = templates[name]["dag"]["tasks"]
    by_name = {task["name"]: task for task in tasks}
    assert list(by_name) == ["plan", *CHAIN, "rest"]
    for job in CHAIN:
        assert by_name[job]["depends"] == "plan"
        assert by_name[job]["when"] == f"{{{{tasks.plan.outputs.parameters.{job}-way}}}} == pods"
    rest = by_name["rest"]
    assert rest["template"] == "rest"
    assert rest["depends"] == " && ".join(CHAIN)
    assert rest["when"] == "{{tasks.plan.outputs.parameters.next}} != end"
    assert rest["arguments"]["parameters"] == [{"name": "from", "value": "{{tasks.plan.outputs.parameters.next}}"}]
    chain_pod = next(
        resource for resource in RENDERED["acd-all"]["spec"]["templates"] if resource["name"] == "chain-plan"
    )
    accepted = {option for item in chain_command.params for option in item.opts}
    assert {word for word in chain_pod["container"]["args"] if word.startswith("--")} <= accepted


@pytest.mark.parametrize("job", CHAIN)
def test_a_pod_that_plans_has_what_the_last_gather_leaves(job: str) -> None:
    alone = {resource["name"]: resource for resource in RENDERED[f"acd-{job}"]["spec"]["templates"]}
    chain = next(resource for resource in RENDERED["acd-all"]["spec"]["templates"] if resource["name"] == "chain-plan")
    publish, plan = alone[f"{job}-publish"], alone[f"{job}-plan"]
    here = {artifact["name"]: artifact for artifact in plan["outputs"]["artifacts"]}
    everywhere = {artifact["name"]: artifact for artifact in chain["outputs"]["artifacts"]}
    for artifact in publish["outputs"].get("artifacts", []):
        assert here[artifact["name"]] == {**artifact, "optional": True}
        assert everywhere[f"{job}-{artifact['name']}"]["s3"] == artifact["s3"]
    assert plan["metrics"] == publish["metrics"]
    given = {item["name"]: item["valueFrom"] for item in chain["outputs"]["parameters"]}
    for output in publish["outputs"]["parameters"]:
        path = output["valueFrom"]["path"].replace(OUTPUTS, f"{OUTPUTS}/{job}")
        assert given[f"{job}-{output['name']}"] == {"path": path, "default": "0"}


@pytest.mark.parametrize("job", CHAIN)
def test_the_last_gather_of_a_job_has_its_figures(job: str) -> None:
    templates = {resource["name"]: resource for resource in RENDERED["acd-all"]["spec"]["templates"]}
    publish, labels = templates[f"{job}-publish"], {"job": job, "aoi": "{{workflow.parameters.aoi}}"}
    assert templates[job]["dag"]["tasks"][-1]["template"] == publish["name"]
    assert templates["all"]["metrics"]["prometheus"][0]["labels"][0] == {"key": "job", "value": "all"}
    outputs = {item["name"]: item["valueFrom"] for item in publish["outputs"]["parameters"]}
    metrics = {item["name"]: item for item in publish["metrics"]["prometheus"]}
    wanted = [figure for figure in FIGURES if not figure.jobs or job in figure.jobs]
    assert len(wanted) == (9 if job == "monitor" else 4)
    assert list(metrics) == [figure.metric for figure in wanted]
    for figure in wanted:
        assert outputs[figure.output] == {"path": f"{OUTPUTS}/figures/{figure.output}", "default": "0"}
        made = metrics[figure.metric]
        assert made["counter"] == {"value": f"{{{{outputs.parameters.{figure.output}}}}}"}
        assert {label["key"]: label["value"] for label in made["labels"]} == labels
    (duration,) = templates[job]["metrics"]["prometheus"]
    assert (duration["name"], duration["gauge"]["value"]) == ("acd_job_duration_seconds", "{{duration}}")


def test_a_metric_has_one_help_and_one_type_in_all_workflows() -> None:
    """All workflows share one controller."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    for document in RENDERED.values():
        for template in document["spec"]["templates"]:
            for item in template.get("metrics", {}).get("prometheus", []):
                kind = (item["help"], "counter" in item, tuple(label["key"] for label in item["labels"]))
                found.setdefault(item["name"], set()).add(kind)
    assert {name: len(kinds) for name, kinds in found.items()} == dict.fromkeys(found, 1)
    assert set(found) == {*(figure.metric for figure in FIGURES), DURATION}


@pytest.mark.parametrize("name", STABLE)
def test_the_end_is_told_only_where_there_is_a_webhook(name: str) -> None:
    document = RENDERED[name]
    assert parameters_of(document)[WEBHOOK]["value"] == ""
    assert exit_task(document) == {
        "name": "notify",
        "template": "notify",
        "when": "{{=workflow.parameters.webhook != ''}}",
    }
    args = notify(document)["container"]["args"]
    given = dict(zip(args[1::2], args[2::2], strict=True))
    assert args[0] == "notify"
    assert given == {
        "--run": "{{workflow.uid}}",
        "--status": "{{workflow.status}}",
        "--aoi": "{{workflow.parameters.aoi}}",
        "--webhook": "{{workflow.parameters.webhook}}",
        "--workflow": "{{workflow.name}}",
        "--namespace": "{{workflow.namespace}}",
        "--monitor": "{{workflow.parameters.event-monitor}}",
        "--retry": "{{retries}}",
        "--retries": "3",
    }
    accepted = {option for item in notify_command.params for option in item.opts}
    assert set(given) < accepted


def test_tidy_is_one_pod_with_a_parameter_for_each_retention_and_no_mutex_of_an_aoi() -> None:
    document = RENDERED["acd-tidy"]
    assert document["spec"]["synchronization"]["mutexes"] == [{"name": "acd.tidy"}]
    assert {name: item["value"] for name, item in parameters_of(document).items()} == {
        **{name.replace("_", "-"): str(field.default) for name, field in Retention.model_fields.items()},
        WEBHOOK: "",
    }
    pods = [template["container"] for template in document["spec"]["templates"] if "container" in template]
    (args,) = [item["args"] for item in pods if item["args"][0] == "tidy"]
    accepted = {option for item in tidy_command.params for option in item.opts}
    assert {word for word in args if word.startswith("--")} <= accepted
    assert args[1:4] == ["--apply", "--if-any", "--json"]
    assert args[4::2] == [f"--{name.replace('_', '-')}" for name in Retention.model_fields]


def test_a_tidy_that_fails_is_told_and_one_that_ends_well_is_not() -> None:
    when = exit_task(RENDERED["acd-tidy"])["when"]
    assert when == "{{=workflow.parameters.webhook != '' && workflow.status != 'Succeeded'}}"


def test_a_tidy_without_a_mutex_breaks_a_rule() -> None:
    document = copy.deepcopy(RENDERED["acd-tidy"])
    del document["spec"]["synchronization"]
    assert "the workflow has no mutex" in problems(document)
