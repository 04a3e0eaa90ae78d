"""Which containers run again, and whether a pod does: restart policies of pods and containers.

A container can have a restart policy of its own, and rules for exit codes (KEP-5307). Rules count
before its policy, its policy before that of the pod. farlet starts all containers of a pod or none,
so one that must not run again keeps the whole pod from another run. As in a kubelet, init
containers run again whenever their pod does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from farlet.k8s_types import Container, Pod, PodSpec


def of_pod(spec: PodSpec) -> str:
    """`Always`, `OnFailure` or `Never`."""
    return spec.get("restartPolicy", "Always")


def of_container(spec: PodSpec, container: Container) -> str:
    """The policy of a container for exit codes that none of its rules names."""
    return container.get("restartPolicy") or of_pod(spec)


def may_restart(spec: PodSpec, container: Container, exit_code: int) -> bool:
    """Whether a container with this exit code is allowed to run again.

    `ContainerShouldRestart` in pkg/api/v1/pod/util.go.
    """
    if container.get("restartPolicy") is not None:
        for rule in container.get("restartPolicyRules", ()):
            codes = rule.get("exitCodes") or {}
            listed = exit_code in codes.get("values", ())
            if codes.get("operator") == ("In" if listed else "NotIn"):
                return True  # both existing actions, Restart and RestartAllContainers
    policy = of_container(spec, container)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def can_end(spec: PodSpec) -> bool:
    """Whether the end of a container can keep the pod from another run."""
    return of_pod(spec) != "Always" or any(
        of_container(spec, container) != "Always" for container in spec.get("containers") or ()
    )


def final(home: Pod, last: Pod | None) -> str | None:
    """The policy for which a pod without its mirror does not run again; `None`: it does.

    `Never` allows one run, and a mirror whose end is unknown counts as one: what a rule would do
    after its exit is unknown, too. Otherwise an exit counts that home or `last` shows, the mirror
    as it was last seen, in the current or in the previous run.
    """
    spec = home["spec"]
    if of_pod(spec) == "Never":
        return "restartPolicy Never"
    codes = _exit_codes(home, *(() if last is None else (last,)))
    for container in spec.get("containers") or ():
        policy = of_container(spec, container)
        exited = codes[container["name"]]
        if policy == "Never" or not all(may_restart(spec, container, code) for code in exited):
            own = f" of its container {container['name']}" if "restartPolicy" in container else ""
            return f"restartPolicy {policy}{own}"
    return None


def _exit_codes(*pods: Pod) -> Mapping[str, set[int]]:
    """By name of a regular container."""
    result: defaultdict[str, set[int]] = defaultdict(set)
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or ():
            for state in (status.get("state"), status.get("lastState")):
                if state and (terminated := state.get("terminated")):
                    result[status["name"]].add(terminated["exitCode"])
    return result
