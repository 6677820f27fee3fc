"""The permissions and network connections of the pods."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import text_of, without_blocks
from tests.helm.conftest import EXAMPLES, Object, Render, Template, example, merged, of_kind

pytestmark = pytest.mark.helm

RULES = [{"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}]
TABLE = re.compile(r"^\|.*\|$", re.MULTILINE)
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "Secret", "Namespace")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_role_has_one_rule(name: str, render: Render) -> None:
    rendered = render(example(name))
    own = example(name).get("serviceAccount", {}).get("create", True)
    assert [role["rules"] for role in of_kind(rendered, "Role")] == ([RULES] if own else [])
    assert [resource for kind in CLUSTER_WIDE for resource in of_kind(rendered, kind)] == []


def test_the_page_has_the_rules_of_the_role_each_with_its_reason(render: Render) -> None:
    (role,) = of_kind(render(example("minimal")), "Role")
    section = without_blocks(text_of("docs/how-to/kubernetes.md")).partition("\n## Rights\n")[2].partition("\n## ")[0]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.findall(section)]
    rules = [
        {
            "apiGroups": re.findall(r"\((.+)\)", head[0]),
            "resources": [name.strip("`") for name in resources.split(", ")],
            "verbs": verbs.split(", "),
        }
        for resources, verbs, _ in rows[1:]
    ]
    assert rules == role["rules"]
    assert all(len(why) > len("because") for _, _, why in rows[1:])


def test_the_binding_names_the_account_and_the_role(render: Render) -> None:
    rendered = render(example("minimal"))
    (binding,) = of_kind(rendered, "RoleBinding")
    (role,), (account,) = of_kind(rendered, "Role"), of_kind(rendered, "ServiceAccount")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(subject["kind"], subject["name"], subject["namespace"]) for subject in binding["subjects"]] == [
        ("ServiceAccount", account["metadata"]["name"], account["metadata"]["namespace"])
    ]


def test_an_account_made_elsewhere_is_not_made(render: Render) -> None:
    rendered = render(example("own-account"))
    assert [
        resource for kind in ("ServiceAccount", "Role", "RoleBinding") for resource in of_kind(rendered, kind)
    ] == []


PLACES = {name: {"cidrs": ["10.0.0.1/32"]} for name in ("objectStore", "apiServer")}


@pytest.mark.parametrize(
    ("policy", "made"),
    [
        ({}, False),
        ({"dns": {"namespaces": ["dns"]}}, False),
        (PLACES, True),
        ({"enabled": "auto", **PLACES}, True),
        ({"enabled": True, **PLACES}, True),
        ({"enabled": False, **PLACES}, False),
    ],
)
def test_there_is_a_network_policy_as_soon_as_its_places_are_given(
    policy: Object, *, made: bool, render: Render
) -> None:
    rendered = render(merged(example("minimal"), {"networkPolicy": policy}))
    assert len(of_kind(rendered, "NetworkPolicy")) == made


@pytest.mark.parametrize("given", sorted(PLACES))
def test_places_that_are_only_given_in_part_are_refused(given: str, template: Template) -> None:
    (other,) = set(PLACES) - {given}
    done = template(merged(example("minimal"), {"networkPolicy": {given: PLACES[given]}}))
    assert done.returncode != 0
    assert f"networkPolicy.{other} has neither cidrs nor namespaces" in done.stderr


def test_the_network_policy_denies_all_but_what_is_named(render: Render) -> None:
    (policy,) = of_kind(render(example("network-policy")), "NetworkPolicy")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == []

    def namespace(name: str) -> Object:
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    assert spec["egress"] == [
        {"to": [namespace("kube-system")], "ports": [{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}]},
        {"to": [namespace("storage")], "ports": [{"protocol": "TCP", "port": 7070}]},
        {
            "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "fd00::1/128"}}],
            "ports": [{"protocol": "TCP", "port": 6443}],
        },
    ]


def test_the_webhook_can_be_reached_through_the_policy(render: Render) -> None:
    policy = {"webhook": {"cidrs": ["192.0.2.7/32"], "ports": [8443]}}
    values = merged(
        example("network-policy"), {"webhook": {"url": "https://hooks.example.com/acd"}, "networkPolicy": policy}
    )
    (made,) = of_kind(render(values), "NetworkPolicy")
    assert made["spec"]["egress"][-1] == {
        "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}],
        "ports": [{"protocol": "TCP", "port": 8443}],
    }


def test_the_network_policy_holds_every_pod(render: Render) -> None:
    rendered = render(example("network-policy"))
    (policy,) = of_kind(rendered, "NetworkPolicy")
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    assert chosen
    for workflow in of_kind(rendered, "WorkflowTemplate"):
        assert workflow["spec"]["podMetadata"]["labels"].items() >= chosen
        for template in workflow["spec"]["templates"]:
            overridden = template.get("metadata", {}).get("labels", {})
            assert not set(overridden) & {name for name, _ in chosen}
    (pod,) = of_kind(rendered, "Pod")
    assert pod["metadata"]["labels"].items() >= chosen


def test_no_rule_of_the_policy_is_without_a_destination(render: Render) -> None:
    values = merged(example("network-policy"), {"networkPolicy": {"dns": {"namespaces": []}}})
    (policy,) = of_kind(render(values), "NetworkPolicy")
    assert len(policy["spec"]["egress"]) == 2
    assert all(rule["to"] and rule["ports"] for rule in policy["spec"]["egress"])
