"""Check a pod's specification against the level `restricted` of Kubernetes' Pod Security Standards.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted (Kubernetes 1.34, Linux).
"""

from __future__ import annotations

from typing import Any

__all__ = ["violations"]

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = {"RuntimeDefault", "Localhost"}
HOST = ("hostNetwork", "hostPID", "hostIPC")


def violations(pod: dict[str, Any]) -> list[str]:
    """The violations of a pod, one sentence each; empty if it may run."""
    context = pod.get("securityContext", {})
    found = [f"{name} is set" for name in HOST if pod.get(name)]
    found += [f"volume {volume['name']} is of a kind that is not allowed" for volume in _odd_volumes(pod)]
    found += [f"the pod sets {name}" for name in ("sysctls", "seLinuxOptions", "appArmorProfile") if name in context]
    if context.get("runAsUser") == 0:
        found.append("the pod runs as root")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind, []):
            found += [f"container {container['name']}: {why}" for why in _of_container(container, context)]
    return found


def _odd_volumes(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [volume for volume in pod.get("volumes", []) if not set(volume) - {"name"} <= VOLUMES]


def _of_container(container: dict[str, Any], of_pod: dict[str, Any]) -> list[str]:
    context = container.get("securityContext", {})
    capabilities = context.get("capabilities", {})
    seccomp = context.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type")
    checks = {
        "it is privileged": context.get("privileged"),
        "it may gain rights": context.get("allowPrivilegeEscalation") is not False,
        "it may run as root": context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True,
        "it runs as root": context.get("runAsUser") == 0,
        "it has no seccomp profile": seccomp not in SECCOMP,
        "it keeps capabilities": "ALL" not in capabilities.get("drop", []),
        "it adds capabilities": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "it uses a port of the host": any(port.get("hostPort") for port in container.get("ports", [])),
        "it sets procMount": context.get("procMount", "Default") != "Default",
        "it sets SELinux or AppArmor": {"seLinuxOptions", "appArmorProfile"} & set(context),
    }
    return [why for why, broken in checks.items() if broken]
