"""A Geocube and its ingester: every pod that uses records gets address, key and CA, and no other pod does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.conftest import EXAMPLES, Object, Render, example, merged, of_kind
from tests.helm.test_templates import CA, containers

pytestmark = pytest.mark.helm

OURS = ("ACD_GEOCUBE_", "ACD_INGESTER_")
FILE = "/etc/acd/geocube/ca.crt"


def told(container: Object) -> dict[str, Any]:
    """Their variables in the environment of a container."""
    return {
        variable["name"]: variable.get("value") or variable["valueFrom"]["secretKeyRef"]
        for variable in container["env"]
        if variable["name"].startswith(OURS)
    }


def ours(rendered: list[Object]) -> list[Object]:
    """All containers that run acdtask."""
    (pod,) = of_kind(rendered, "Pod")
    return [*containers(rendered), *pod["spec"]["initContainers"], *pod["spec"]["containers"]]


def test_every_container_has_the_address_the_key_and_the_ca(render: Render) -> None:
    found = ours(render(example("geocube")))
    assert len(found) > 10
    for container in found:
        assert told(container) == {
            "ACD_GEOCUBE_ADDRESS": "geocubes://geocube.example.com:443",
            "ACD_GEOCUBE_KEY": {"name": "geocube", "key": "apikey"},
            "ACD_GEOCUBE_CA_FILE": FILE,
            "ACD_GEOCUBE_DOWNLOADER": "geocubes://downloader.geocube.svc.cluster.local:8080",
            "ACD_INGESTER_ADDRESS": "http://ingester.geocube.svc.cluster.local:8080",
            "ACD_INGESTER_TOKEN": {"name": "ingester", "key": "token"},
            "ACD_INGESTER_INSECURE": "1",
        }
        assert [mount for mount in container["volumeMounts"] if mount["name"] == CA] == [
            {"name": CA, "mountPath": "/etc/acd/geocube", "readOnly": True}
        ]


@pytest.mark.parametrize(
    ("changes", "volume"),
    [
        ({}, {"configMap": {"name": "our-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}}),
        (
            {"caConfigMap": {"name": ""}, "caSecret": {"name": "ca"}},
            {"secret": {"secretName": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ),
    ],
    ids=["config map", "secret"],
)
def test_the_ca_is_a_volume_of_every_pod(changes: Object, volume: Object, render: Render) -> None:
    rendered = render(merged(example("geocube"), {"geocube": changes}))
    for resource in (*of_kind(rendered, "WorkflowTemplate"), *of_kind(rendered, "Pod")):
        assert [each for each in resource["spec"]["volumes"] if each["name"] == CA] == [{"name": CA, **volume}]
    assert {told(container)["ACD_GEOCUBE_CA_FILE"] for container in ours(rendered)} == {FILE}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "geocube"])
def test_without_one_nothing_speaks_of_it(name: str, render: Render) -> None:
    rendered = render(example(name))
    assert [told(container) for container in ours(rendered)] == [{} for _ in ours(rendered)]
    for resource in (*of_kind(rendered, "WorkflowTemplate"), *of_kind(rendered, "Pod")):
        assert CA not in [each["name"] for each in resource["spec"].get("volumes", [])]


def test_an_address_alone_asks_for_no_secret_and_no_volume(render: Render) -> None:
    rendered = render(merged(example("minimal"), {"geocube": {"address": "geocube://geocube.watch.svc:8080"}}))
    for container in ours(rendered):
        assert told(container) == {"ACD_GEOCUBE_ADDRESS": "geocube://geocube.watch.svc:8080"}
        assert CA not in [mount["name"] for mount in container["volumeMounts"]]


def test_a_key_may_go_without_tls_where_that_is_allowed(render: Render) -> None:
    geocube = {"address": "geocube://geocube.watch.svc:8080", "existingSecret": {"name": "keys"}, "insecure": True}
    rendered = render(merged(example("minimal"), {"geocube": geocube}))
    for container in ours(rendered):
        assert told(container) == {
            "ACD_GEOCUBE_ADDRESS": "geocube://geocube.watch.svc:8080",
            "ACD_GEOCUBE_KEY": {"name": "keys", "key": "key"},
            "ACD_GEOCUBE_INSECURE_KEY": "1",
        }


def test_they_can_be_reached_through_the_policy(render: Render) -> None:
    (policy,) = of_kind(render(example("geocube")), "NetworkPolicy")
    inside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "geocube"}}}
    assert policy["spec"]["egress"][3:] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [inside], "ports": [{"protocol": "TCP", "port": 8080}]},
        {"to": [inside], "ports": [{"protocol": "TCP", "port": 8080}]},
    ]
