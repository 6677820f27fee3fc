"""Invalid values are rejected; the message names the value, and without a schema also the fix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helm.conftest import Object, Template, example, merged

pytestmark = pytest.mark.helm

REQUIRED = {"layout": "utm", "ingest-source": "s3://passes/koln"}
SQUARE = {"type": "Polygon", "coordinates": [[[6.8, 50.9], [7.0, 50.9], [7.0, 51.0], [6.8, 50.9]]]}
AREA = {
    "type": "Feature",
    "name": "x",
    "start_time": "2020-08-01T00:00:00Z",
    "end_time": "2031-01-01T00:00:00Z",
    "geometry": SQUARE,
}


def monitor(**changes: Any) -> Object:
    """The values of one valid monitor with changes; None removes a value."""
    right = {"name": "koln", "schedules": ["0 6 * * *"], "aoi": AREA, "settings": REQUIRED}
    return {"monitors": [{key: value for key, value in {**right, **changes}.items() if value is not None}]}


def test_what_the_refusals_start_from_is_accepted(template: Template) -> None:
    assert template(merged(example("minimal"), monitor())).returncode == 0


def under(path: str, value: Any) -> Object:
    """Values with a single value, at a path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


WRONG_SETTINGS: list[tuple[str, Any]] = [
    ("monitor-high", "abc"),
    ("monitor-high", "nan"),
    ("monitor-high", True),
    ("monitor-shard-tiles", 0),
    ("monitor-shard-tiles", "0"),
    ("monitor-shard-tiles", 2.5),
    ("baseline-end", "2020-13-45"),
    ("baseline-end", "2021-02"),
    ("baseline-end", 20210801),
    ("baseline-start", "last year"),
    ("baseline-min-dates", 0),
    ("baseline-pair-days", "6;12"),
    ("baseline-tags", "track"),
    ("baseline-mixed", "perhaps"),
    ("monitor-min-area", -1),
    ("monitor-min-count", 0),
    ("monitor-min-std", -0.1),
    ("monitor-smooth", 17),
    ("monitor-smooth", "16.5"),
    ("monitor-name", "a b"),
    ("ingest-cell-size", 65537),
    ("ingest-cell-size", "0"),
    ("ingest-scale", 0),
    ("ingest-dtype", "int8"),
    ("ingest-source", ""),
    ("ingest-source", " "),
    ("layout", ""),
    ("layout", "utm 32"),
    ("variable", "v" * 181),
    ("profile", "strict"),
    ("resampling", "linear"),
    ("quarantine", "some"),
    ("quarantine", 401),
    ("memory-mib", "lots"),
    ("memory-mib", 0),
    ("here-memory-mib", 9),
    ("here-seconds", "soon"),
    ("pod-start", -1),
    ("monitor", {"high": "abc"}),
    ("baseline", {"min_dates": 0}),
    ("ingest", {"cell-size": 0}),
]

WRONG: list[tuple[str, Any]] = [
    ("image.repository", "registry.example.com/acdtask:1.0"),
    ("image.repository", "Registry/acd task"),
    ("image.repository", "https://registry.example.com/acdtask"),
    ("image.tag", "a tag"),
    ("image.tag", 1.0),
    ("image.digest", "sha256:abc"),
    ("image.digest", "a" * 64),
    ("image.pullPolicy", "Sometimes"),
    ("image.pullSecrets", "registry-key"),
    ("objectStore.bucket", "s3://ground"),
    ("objectStore.bucket", "Ground"),
    ("objectStore.prefix", "/cubes"),
    ("objectStore.prefix", "cubes/"),
    ("objectStore.endpoint", "s3.example.com"),
    ("objectStore.endpoint", "https://s3.example.com/bucket"),
    ("objectStore.region", "eu central 1"),
    ("objectStore.existingSecret.name", "Not A Name"),
    ("objectStore.existingSecret.accessKeyIdKey", ""),
    ("objectStore.workloadIdentity", "true"),
    ("artifacts.create", "yes please"),
    ("artifacts.keyFormat", ""),
    ("geocube.address", "https://geocube.example.com"),
    ("geocube.address", "geocube.example.com:443"),
    ("geocube.address", "geocubes://key@geocube.example.com"),
    ("geocube.address", "geocubes://geocube.example.com/v1"),
    ("geocube.address", "geocubes://geocube.example.com:0"),
    ("geocube.address", "geocubes://geocube.example.com"),
    ("geocube.insecure", "yes"),
    ("geocube.downloader", "grpc://downloader:8080"),
    ("geocube.existingSecret.name", "Not A Name"),
    ("geocube.existingSecret.key", ""),
    ("geocube.caConfigMap.key", "../ca.crt"),
    ("geocube.caSecret.name", "a..b"),
    ("ingester.address", "ingester:8080"),
    ("ingester.address", "https://user:secret@ingester.example.com"),
    ("ingester.existingSecret.key", ""),
    ("ingester.insecure", "yes"),
    ("networkPolicy.geocube.cidrs", ["10.0.0.0"]),
    ("networkPolicy.downloader.ports", []),
    ("networkPolicy.ingester.namespaces", ["Default"]),
    ("webhook.url", "example.com/hook"),
    ("webhook.url", "https://user:secret@example.com/hook"),
    ("webhook.existingSecret.name", "Not A Name"),
    ("webhook.existingSecret.key", ""),
    ("serviceAccount.name", ""),
    ("serviceAccount.annotations", {"a": 1}),
    ("resources.plan.limits.memory", "2 GB"),
    ("resources.plan.limits", {"ram": "2Gi"}),
    ("resources.run.limits", {"memory": "2Gi"}),
    ("resources.run.memoryMiB", "2Gi"),
    ("resources.run.memoryMiB", 16),
    ("resources.here.memoryMiB", 16),
    ("resources.here.limits", {"memory": "2Gi"}),
    ("scheduling.nodeSelector", ["pool=batch"]),
    ("scheduling.tolerations", [{"effect": "NeverSchedule"}]),
    ("scheduling.affinity", {"nodes": {}}),
    ("scheduling.priorityClassName", "Very High"),
    ("extraEnv", {"NOT-A-NAME": "x"}),
    ("extraEnv", {"NUMBER": 1}),
    ("monitorDefaults.template", "acd-baseline"),
    ("monitorDefaults.timezone", "UTC+1:00"),
    ("monitorDefaults.startingDeadlineSeconds", -1),
    ("monitorDefaults.settings", {"layout": ["utm"]}),
    ("networkPolicy.enabled", "on"),
    ("parallelism", 0),
    ("executor.tokenOnly", "no"),
    ("check.beforeInstall", "yes"),
    ("monitoring.prometheusRule.silentAfter", "a day"),
    ("monitoring.prometheusRule.labels", {"release": 1}),
    ("monitoring.dashboard.enabled", "true"),
    ("networkPolicy.objectStore.cidrs", ["10.0.0.0"]),
    ("networkPolicy.objectStore.ports", [0]),
    ("networkPolicy.objectStore.ports", []),
    ("networkPolicy.apiServer.namespaces", ["Default"]),
    ("image.repository", "registry.example.com:0/acdtask"),
    ("image.repository", "registry.example.com:65536/acdtask"),
    ("image.repository", "registry.example.com:5000"),
    ("objectStore.bucket", "a..b"),
    ("objectStore.bucket", "192.168.0.1"),
    ("objectStore.bucket", "ab"),
    ("objectStore.bucket", "under_score"),
    ("objectStore.prefix", "cubes//rhine"),
    ("objectStore.prefix", "cubes/../rhine"),
    ("objectStore.prefix", "."),
    ("objectStore.endpoint", "https://s3.example.com:0"),
    ("objectStore.endpoint", "https://s3.example.com:65536"),
    ("objectStore.endpoint", "https://s3..example.com"),
    ("objectStore.endpoint", "https://s3.example.com/"),
    ("objectStore.region", "-"),
    ("objectStore.existingSecret.name", "a..b"),
    ("objectStore.existingSecret.secretAccessKeyKey", ".."),
    ("artifacts.prefix", "/artifacts"),
    ("artifacts.prefix", "artifacts/"),
    ("artifacts.keyFormat", "/{{pod.name}}"),
    ("artifacts.keyFormat", "{{pod.name}}/"),
    ("artifacts.keyFormat", "logs/{{workflow.name}}"),
    ("artifacts.keyFormat", "{{workflow.nam}}/{{pod.name}}"),
    ("artifacts.keyFormat", "{{workflow.name/{{pod.name}}"),
    ("artifacts.archiveLogs", "true"),
    ("serviceAccount.name", "a.-b"),
    ("serviceAccount.annotations", {"a/b/c": "x"}),
    ("resources.plan.limits.memory", "0"),
    ("resources.plan.limits.memory", "0Mi"),
    ("resources.plan.limits.memory", "0.0Gi"),
    ("resources.plan.limits.memory", "512m"),
    ("resources.plan.limits.memory", "512"),
    ("resources.gather.requests.cpu", "0"),
    ("resources.gather.requests.cpu", "0m"),
    ("resources.gather.requests.cpu", "2Gi"),
    ("resources.gather.requests.cpu", 0),
    ("resources.run.memoryMiB", 2048.5),
    ("scheduling.tolerations", [{"operator": "Equal", "value": "x"}]),
    ("scheduling.tolerations", [{"key": "a", "operator": "Exists", "value": "x"}]),
    ("scheduling.tolerations", [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}]),
    ("scheduling.tolerations", [{"key": "a b"}]),
    ("scheduling.affinity", {"nodeAffinity": {"required": {}}}),
    ("scheduling.nodeSelector", {"a" * 64: "x"}),
    ("monitorDefaults.timezone", "Local"),
    ("monitorDefaults.settings", {"ingest-source": "{{workflow.name}}"}),
    ("networkPolicy.objectStore.cidrs", ["999.0.0.1/8"]),
    ("networkPolicy.objectStore.cidrs", [":::::::/64"]),
    ("networkPolicy.objectStore.cidrs", ["10.0.0.0/33"]),
    *[(f"monitorDefaults.settings.{name}", value) for name, value in WRONG_SETTINGS],
]


@pytest.fixture(scope="session")
def told_of_wrong_values(template: Template) -> list[str]:
    """The message of helm for each of WRONG. Helm reports all errors at once, so only repeated paths need more runs."""
    runs: list[Object] = []
    run_of = []
    for index, (path, value) in enumerate(WRONG):
        run = sum(1 for before, _ in WRONG[:index] if before == path or before.startswith(f"{path}."))
        runs += [example("minimal")] if run == len(runs) else []
        runs[run] = merged(runs[run], under(path, value))
        run_of.append(run)
    told = [template(values) for values in runs]
    assert all(done.returncode != 0 for done in told)
    return [told[run].stderr for run in run_of]


@pytest.mark.parametrize("index", range(len(WRONG)), ids=[f"{path}={value}" for path, value in WRONG])
def test_a_value_out_of_its_domain_is_refused_by_name(index: int, told_of_wrong_values: list[str]) -> None:
    path, _ = WRONG[index]
    assert f"at '/{path.replace('.', '/')}" in told_of_wrong_values[index]


WRONG_MONITORS: list[tuple[Object, str]] = [
    ({"name": "Köln"}, "/name"),
    ({"name": "-koln"}, "/name"),
    ({"name": "k" * 49}, "/name"),
    ({"name": None}, ""),
    ({"schedules": None}, ""),
    ({"schedules": []}, "/schedules"),
    ({"schedules": "0 6 * * *"}, "/schedules"),
    ({"schedules": ["0 6 * *"]}, "/schedules/0"),
    ({"schedules": ["0 0 6 * * *"]}, "/schedules/0"),
    ({"schedules": ["60 6 * * *"]}, "/schedules/0"),
    ({"schedules": ["0 24 * * *"]}, "/schedules/0"),
    ({"schedules": ["0 6 0 * *"]}, "/schedules/0"),
    ({"schedules": ["0 6 32 * *"]}, "/schedules/0"),
    ({"schedules": ["0 6 * 13 *"]}, "/schedules/0"),
    ({"schedules": ["0 6 * * 7"]}, "/schedules/0"),
    ({"schedules": ["*/0 6 * * *"]}, "/schedules/0"),
    ({"schedules": ["@every 1h"]}, "/schedules/0"),
    ({"schedules": ["TZ=UTC 0 6 * * *"]}, "/schedules/0"),
    ({"schedules": ["0 6 * * *", "0 6 * * *"]}, "/schedules"),
    ({"timezone": "Mitteleuropa, Sommer"}, "/timezone"),
    ({"template": "acd-report"}, "/template"),
    ({"suspend": "no"}, "/suspend"),
    ({"settings": {"high": [2]}}, "/settings/high"),
    ({"settings": {"ingest-source": "a\nb"}}, "/settings/ingest-source"),
    ({"timezone": ""}, "/timezone"),
    ({"schedules": ["@never"]}, "/schedules/0"),
    ({"aoi": {"name": "x"}}, "/aoi"),
    ({"aoi": {**AREA, "type": "Area"}}, "/aoi"),
    ({"aoi": {**AREA, "name": 3}}, "/aoi"),
    ({"aoi": {**AREA, "geometry": {}}}, "/aoi"),
    ({"aoi": None, "aoiFrom": {"configMap": "koln"}}, "/aoiFrom/configMap"),
    ({"schedule": "0 6 * * *"}, ""),
]


@pytest.fixture(scope="session")
def told_of_wrong_monitors(template: Template) -> str:
    """The message of helm for all of WRONG_MONITORS together."""
    monitors = [monitor_values for changes, _ in WRONG_MONITORS for monitor_values in monitor(**changes)["monitors"]]
    done = template(merged(example("minimal"), {"monitors": monitors}))
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("index", range(len(WRONG_MONITORS)), ids=[str(changes) for changes, _ in WRONG_MONITORS])
def test_a_wrong_monitor_is_refused_by_name(index: int, told_of_wrong_monitors: str) -> None:
    assert f"at '/monitors/{index}{WRONG_MONITORS[index][1]}'" in told_of_wrong_monitors


UNKNOWN = [
    "unknown",
    "image.version",
    "objectStore.accessKey",
    "objectStore.existingSecret.key",
    "artifacts.key",
    "geocube.key",
    "geocube.existingSecret.keyKey",
    "geocube.caConfigMap.file",
    "ingester.url",
    "networkPolicy.geocube.host",
    "webhook.address",
    "webhook.existingSecret.authorizationKey",
    "serviceAccount.role",
    "resources.report",
    "resources.run.memory",
    "scheduling.zone",
    "monitorDefaults.suspend",
    "networkPolicy.registry",
    "networkPolicy.dns.port",
    "executor.token",
    "check.offline",
    "monitoring.rules",
]


def test_values_that_there_are_not_are_refused_by_name(template: Template) -> None:
    values = example("minimal")
    for path in UNKNOWN:
        values = merged(values, under(path, {}))
    done = template(values)
    assert done.returncode != 0
    for path in UNKNOWN:
        parent, _, key = f".{path}".rpartition(".")
        assert f"at '{parent.replace('.', '/')}': additional properties '{key}' not allowed" in done.stderr


IDENTITY = {"objectStore": {"existingSecret": {"name": ""}, "workloadIdentity": True}}
TLS = {"address": "geocubes://x:443"}
TWO = [
    {"name": name, "schedules": ["0 6 * * *"], "aoi": {**AREA, "name": area}, "settings": REQUIRED}
    for name, area in (("a", "x"), ("b", "x"))
]
OF_THE_SAME_AREA = {"name": "b", "schedules": ["@daily"], "aoiFrom": {"configMap": "acd-aoi-a"}, "settings": REQUIRED}


@pytest.mark.parametrize(
    ("changes", "sentence", "fix"),
    [
        ({"image": {"repository": ""}}, "image.repository is empty", "Set it to where you pushed the image"),
        ({"image": {"tag": "latest"}}, "image.tag is latest", "Set a version or image.digest"),
        ({"objectStore": {"bucket": ""}}, "objectStore.bucket is empty", "Set it to the name of the bucket"),
        (
            {"objectStore": {"existingSecret": {"name": ""}}},
            "The pods have no credentials",
            "Set objectStore.existingSecret.name",
        ),
        ({"objectStore": {"workloadIdentity": True}}, "both existingSecret.name and workloadIdentity", "Remove one"),
        (IDENTITY, "serviceAccount.annotations names no identity", "Add the annotation of your cloud"),
        ({"extraEnv": {"ACD_CUBE": "x"}}, "extraEnv has ACD_CUBE", "Use the values of objectStore"),
        (
            {"networkPolicy": {"enabled": True, "apiServer": {"cidrs": ["10.0.0.1/32"]}}},
            "networkPolicy.objectStore has neither cidrs nor namespaces",
            "Set one of them",
        ),
        (
            {"networkPolicy": {"enabled": True, "objectStore": {"cidrs": ["10.0.0.1/32"]}}},
            "networkPolicy.apiServer has neither cidrs nor namespaces",
            "Set one of them",
        ),
        ({"monitors": [monitor()["monitors"][0]] * 2}, "Two monitors are named koln", "Give each its own name"),
        ({"monitors": TWO}, "Monitors a and b both define an AOI named x", "Rename one of the AOIs"),
        (
            {"monitors": [TWO[0], OF_THE_SAME_AREA]},
            "Monitors a and b watch the same images under the same result name monitor",
            "Set another monitor-name",
        ),
        (
            {
                "webhook": {"url": "https://example.com/hook"},
                "networkPolicy": {
                    "enabled": True,
                    "objectStore": {"cidrs": ["10.0.0.1/32"]},
                    "apiServer": {"cidrs": ["10.0.0.1/32"]},
                },
            },
            "networkPolicy.webhook has neither cidrs nor namespaces",
            "Set one of them",
        ),
        ({"extraEnv": {"ACD_GEOCUBE_KEY": "x"}}, "extraEnv has ACD_GEOCUBE_KEY", "geocube"),
        ({"extraEnv": {"ACD_INGESTER_TOKEN": "x"}}, "extraEnv has ACD_INGESTER_TOKEN", "ingester"),
        (
            {"geocube": {"existingSecret": {"name": "x"}}},
            "geocube.existingSecret.name is set, but geocube.address is empty",
            "Set it to the Geocube's address",
        ),
        ({"geocube": {"downloader": "geocube://x:80"}}, "geocube.downloader is set, but geocube.address", "Set it to"),
        (
            {"geocube": {**TLS, "caConfigMap": {"name": "x"}, "caSecret": {"name": "x"}}},
            "both caConfigMap.name and caSecret.name",
            "Remove one",
        ),
        (
            {"geocube": {"address": "geocube://x:80", "caSecret": {"name": "x"}}},
            "geocube.address is geocube://x:80, without TLS",
            "Use geocubes://",
        ),
        (
            {"geocube": {"address": "geocube://x:80", "existingSecret": {"name": "x"}}},
            "others on the network could read the key",
            "Use geocubes://",
        ),
        ({"ingester": {"existingSecret": {"name": "x"}}}, "ingester.address is empty", "Set it to the ingester's"),
        (
            {"ingester": {"address": "http://x", "existingSecret": {"name": "x"}}},
            "others on the network could read the token",
            "Use https://",
        ),
        *[
            (
                {
                    "geocube": {**TLS, "downloader": "geocubes://y:443"},
                    "ingester": {"address": "https://x"},
                    "networkPolicy": {
                        "enabled": True,
                        **{
                            name: {"cidrs": ["10.0.0.1/32"]}
                            for name in ("objectStore", "apiServer", "geocube", "downloader", "ingester")
                            if name != missing
                        },
                    },
                },
                f"networkPolicy.{missing} has neither cidrs nor namespaces",
                "Set one of them",
            )
            for missing in ("geocube", "downloader", "ingester")
        ],
        ({"extraEnv": {"ACD_WEBHOOK_AUTHORIZATION": "x"}}, "extraEnv has ACD_WEBHOOK_AUTHORIZATION", "webhook"),
        (monitor(aoi=None), "Monitor koln has no area", "Set aoi"),
        (monitor(aoiFrom={"configMap": "acd-aoi-x"}), "Monitor koln has both aoi and aoiFrom", "Remove one"),
        (
            monitor(aoi="{not json"),
            "Monitor koln has an aoi that is not GeoJSON with a name",
            "Give JSON with type and name",
        ),
        (
            monitor(aoi='{"type": "Polygon"}'),
            "Monitor koln has an aoi that is not GeoJSON with a name",
            "type and name",
        ),
        (monitor(aoi='{"name": "x"}'), "Monitor koln has an aoi without a polygon", "Give GeoJSON"),
        (
            monitor(settings={"baseline": {"ende": "2021-01-29"}}),
            "Monitor koln has the setting baseline-ende",
            "It has: aoi,",
        ),
        (monitor(settings={"layouts": {"name": "x"}}), "Monitor koln has the setting layouts-name", "It has: aoi,"),
        (
            monitor(aoi={**AREA, "geometry": {"type": "Polygon", "coordinates": [1.2345] * 150_000}}),
            "Monitor koln has an aoi of",
            "Simplify",
        ),
        (
            {"objectStore": {"existingSecret": {"accessKeyIdKey": "k", "secretAccessKeyKey": "k"}}},
            "uses the same key for",
            "Set two different keys",
        ),
        (
            {"objectStore": {"prefix": "artifacts"}},
            "artifacts.prefix and objectStore.prefix are the same",
            "Set another prefix",
        ),
        (
            {"resources": {"plan": {"requests": {"memory": "3Gi"}}}},
            "resources.plan.requests.memory is 3Gi, more than the limit 2Gi",
            "Set resources.plan.limits.memory too",
        ),
        ({"extraEnv": {"AWS_DEFAULT_REGION": "x"}}, "extraEnv has AWS_DEFAULT_REGION", "Use the values of objectStore"),
        ({"monitorDefaults": {"timezone": "Europe/Koeln"}}, "monitorDefaults.timezone is Europe/Koeln", "Use a zone"),
        (monitor(timezone="Mars/Olympus"), "the timezone of monitor koln is Mars/Olympus", "Use a zone"),
        ({"monitorDefaults": {"settings": {"hihg": 2}}}, "the setting hihg", "It has: aoi, "),
        (monitor(settings={"layout": "utm"}), "Monitor koln has no ingest-source", "Set it in the settings of the"),
        (monitor(settings={"ingest-source": "s3://x"}), "Monitor koln has no layout", "or in monitorDefaults.settings"),
        (monitor(settings=None), "Monitor koln has no ingest-source", "Set it in the settings of the monitor"),
        (monitor(settings={}, template="acd-monitor"), "Monitor koln has no layout", "Set it in the settings"),
        (monitor(schedules=["0 22-5 * * *"]), "whose range 22-5 ends before it begins", "Split it"),
        (monitor(schedules=["0 6 * * SAT-MON"]), "whose range SAT-MON ends before", "Split it"),
        (monitor(schedules=["0 6 31 2 *"]), '"0 6 31 2 *", which never occurs', "Use a day that the month has"),
        (monitor(schedules=["0 6 31 nov *"]), "which never occurs", "Use a day that the month has"),
        (monitor(aoi={**AREA, "name": "a b"}), 'Monitor koln has an aoi named "a b"', "Use letters"),
        (monitor(aoi={**AREA, "start_time": "yesterday"}), "whose start_time is yesterday", "Write it as"),
        (monitor(aoi={**AREA, "start_time": "2032-01-01"}), "ends before it starts", "Set end_time after"),
        (
            monitor(aoi={**AREA, "geometry": {"type": "Point", "coordinates": [7, 51]}}),
            "without a polygon",
            "Give GeoJSON",
        ),
        (monitor(aoi={**AREA, "geometry": {**SQUARE, "coordinates": []}}), "without a polygon", "Give GeoJSON"),
        (monitor(aoi={key: AREA[key] for key in AREA if key != "geometry"}), "without a polygon", "Give GeoJSON"),
        (monitor(aoi=json.dumps({**AREA, "geometry": None})), "without a polygon", "Give GeoJSON"),
        (monitor(aoi=json.dumps({**AREA, "name": "a b"})), 'Monitor koln has an aoi named "a b"', "Use letters"),
        (monitor(settings={"hihg": 2}), "Monitor koln has the setting hihg", "It has: aoi, "),
        (monitor(settings={"aoi": "x"}), "Monitor koln has the setting aoi", "Use the monitor's aoi"),
        (monitor(settings={"event-monitor": "x"}), "Monitor koln has the setting event-monitor", "its name"),
    ],
)
def test_what_a_schema_cannot_say_is_refused_with_the_fix(
    changes: Object, sentence: str, fix: str, template: Template
) -> None:
    done = template(merged(example("minimal"), changes))
    assert done.returncode != 0
    assert sentence in done.stderr
    assert fix in done.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedules": ["0 22-23,0-5 * * MON-SAT"]},
        {"schedules": ["0 6 31 1,3 *"]},
        {"schedules": ["0 6 31 2 MON"]},
        {"timezone": "Asia/Kolkata"},
        {"timezone": "Etc/UTC"},
        {"timezone": "GMT"},
        {"aoi": {**AREA, "start_time": "2020-08-01", "end_time": "2020-08-01T23:59:59.5+02:00"}},
        {"aoi": {**AREA, **SQUARE}},
        {"aoi": {**AREA, "type": "FeatureCollection", "features": [{"type": "Feature", "geometry": SQUARE}]}},
        {"aoi": {**AREA, "type": "GeometryCollection", "geometries": [SQUARE]}},
        {"settings": {**REQUIRED, "ingest-pattern": "S1_{start:%Y%m%d}_{end:%Y%m%d}.tif", "memory-mib": 8192}},
        {"settings": {**REQUIRED, "baseline-end": "", "monitor-high": "2.5", "monitor-low": 1, "baseline-mixed": True}},
        {"settings": {**REQUIRED, "baseline-pair-days": 6, "baseline-leave-out": "a*,b*"}},
        {"settings": {"layout": "utm", "ingest": {"source": "s3://x", "cell_size": 512, "shard-files": "4"}}},
        {"settings": {"layout": "utm", "baseline": "latest"}, "template": "acd-monitor"},
    ],
)
def test_what_looks_odd_and_is_right_is_accepted(changes: Object, template: Template) -> None:
    done = template(merged(example("minimal"), monitor(**changes)))
    assert done.returncode == 0, done.stderr
