"""Rules: what pods and containers may do, by Kubernetes itself and by the Pod Security Standard of their namespace."""

from collections.abc import Iterator
from typing import Any

from kuberay.doctor.finding import Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import PodContainer, PodTemplate, pod_templates
from kuberay.doctor.untyped import mapping, mappings

LABEL = "pod-security.kubernetes.io/enforce"
BASELINE_CAPABILITIES = {
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP = ("RuntimeDefault", "Localhost")


@rule(
    "SG440",
    "a container that must not run as root does not run as root",
    "Set `runAsUser` to a number above 0, such as 10001.",
)
def a_container_may_run_as_its_user(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for one in template.containers:
            security = {**template.security, **one.security}
            if security.get("runAsNonRoot") is True and security.get("runAsUser") == 0:
                by_container = one.security.get("runAsUser") == 0
                place = f"{one.place}.securityContext" if by_container else template.at("securityContext")
                sentence = (
                    f"runAsUser is 0, which is root, and runAsNonRoot is true: the container {one.name} never starts "
                    "(CreateContainerConfigError)"
                )
                yield template.document.finding(a_container_may_run_as_its_user, f"{place}.runAsUser", sentence)


@rule(
    "SG441",
    "a security context does not contradict itself",
    "Leave one of both out.",
)
def a_security_context_agrees_with_itself(service: Service) -> Iterator[Finding]:
    own = a_security_context_agrees_with_itself
    for template in pod_templates(service):
        if template.spec.get("hostPID") is True and template.spec.get("shareProcessNamespace") is True:
            sentence = "hostPID and shareProcessNamespace exclude each other: the pod is refused"
            yield template.document.finding(own, template.at("shareProcessNamespace"), sentence)
        contexts = [(template.at("securityContext"), template.security)]
        contexts += [(f"{one.place}.securityContext", one.security) for one in template.containers]
        for place, security in contexts:
            if security.get("allowPrivilegeEscalation") is False:
                added = {_capability(one) for one in _texts(mapping(security.get("capabilities")).get("add"))}
                more = ["privileged"] if security.get("privileged") is True else sorted(added & {"SYS_ADMIN"})
                if more:
                    sentence = f"allowPrivilegeEscalation is false beside {more[0]}, which escalates: the pod is refused"
                    yield template.document.finding(own, f"{place}.allowPrivilegeEscalation", sentence)
            profile = mapping(security.get("seccompProfile"))
            if (profile.get("type") == "Localhost") != bool(profile.get("localhostProfile")):
                sentence = "the type Localhost and a localhostProfile belong together: the pod is refused"
                yield template.document.finding(own, f"{place}.seccompProfile", sentence)


@rule(
    "SG442",
    "a namespace takes the pods that are for it",
    "State what its Pod Security Standard asks for, or take another `pod-security.kubernetes.io/enforce`.",
)
def a_namespace_takes_its_pods(service: Service) -> Iterator[Finding]:
    levels = {one.name: str(mapping(one.metadata.get("labels")).get(LABEL)) for one in service.beside if one.kind == "Namespace"}
    for template in pod_templates(service):
        level = levels.get(template.namespace or "default")
        if level not in ("baseline", "restricted"):
            continue
        found = [*_baseline(template), *(_restricted(template) if level == "restricted" else ())]
        for place, sentence in found:
            refused = f"{sentence}: the pod is refused in {template.namespace}, which enforces {level}"
            yield template.document.finding(a_namespace_takes_its_pods, place, refused)


def _capability(value: str) -> str:
    return value.upper().removeprefix("CAP_")


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _baseline(template: PodTemplate) -> Iterator[tuple[str, str]]:
    """Yield what the standard `baseline` refuses."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if template.spec.get(name) is True:
            yield template.at(name), f"{name} is true"
    for index, volume in template.volumes:
        if "hostPath" in volume:
            yield template.at(f"volumes[{index}].hostPath"), f"{volume.get('name')} is a path of the node"
    for index, sysctl in mappings(template.security.get("sysctls")):
        if sysctl.get("name") not in SYSCTLS:
            yield template.at(f"securityContext.sysctls[{index}]"), f"{sysctl.get('name')} is no safe sysctl"
    yield from _of_context(template.at("securityContext"), template.security)
    for one in template.containers:
        yield from _of_context(f"{one.place}.securityContext", one.security)
        for index, port in one.ports:
            if port.get("hostPort"):
                yield f"{one.place}.ports[{index}].hostPort", f"{port['hostPort']} is a port of the node"
        if one.security.get("privileged") is True:
            yield f"{one.place}.securityContext.privileged", f"the container {one.name} is privileged"
        if one.security.get("procMount", "Default") != "Default":
            yield f"{one.place}.securityContext.procMount", "it is not Default"
        more = {_capability(name) for name in _added(one)} - BASELINE_CAPABILITIES
        if more:
            yield f"{one.place}.securityContext.capabilities.add", f"{', '.join(sorted(more))} is added"


def _of_context(place: str, security: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("seccompProfile", "appArmorProfile"):
        if mapping(security.get(name)).get("type") == "Unconfined":
            yield f"{place}.{name}.type", f"{name} is Unconfined"
    if mapping(security.get("windowsOptions")).get("hostProcess") is True:
        yield f"{place}.windowsOptions.hostProcess", "hostProcess is true"
    options = mapping(security.get("seLinuxOptions"))
    kinds = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
    if options.get("type", "") not in kinds or options.get("user") or options.get("role"):
        yield f"{place}.seLinuxOptions", "SELinux' user, role or type is its own"


def _added(one: PodContainer) -> list[str]:
    return _texts(mapping(one.security.get("capabilities")).get("add"))


def _restricted(template: PodTemplate) -> Iterator[tuple[str, str]]:
    """Yield what the standard `restricted` refuses beyond `baseline`."""
    for index, volume in template.volumes:
        kinds = sorted(set(volume) - {"name", "hostPath"} - RESTRICTED_VOLUMES)
        if kinds:
            yield template.at(f"volumes[{index}]"), f"{volume.get('name')} is a volume of the kind {kinds[0]}"
    if template.security.get("runAsUser") == 0:
        yield template.at("securityContext.runAsUser"), "runAsUser is 0"
    for one in template.containers:
        place = f"{one.place}.securityContext"
        if one.security.get("runAsNonRoot", template.security.get("runAsNonRoot")) is not True:
            yield f"{place}.runAsNonRoot", f"runAsNonRoot is not true for the container {one.name}"
        if one.security.get("runAsUser") == 0:
            yield f"{place}.runAsUser", f"runAsUser is 0 in the container {one.name}"
        if one.security.get("allowPrivilegeEscalation") is not False:
            yield f"{place}.allowPrivilegeEscalation", f"it is not false in the container {one.name}"
        if "ALL" not in _texts(mapping(one.security.get("capabilities")).get("drop")):
            yield f"{place}.capabilities.drop", f"ALL is not dropped in the container {one.name}"
        more = {_capability(name) for name in _added(one)} & BASELINE_CAPABILITIES - {"NET_BIND_SERVICE"}
        if more:
            yield f"{place}.capabilities.add", f"{', '.join(sorted(more))} is added"
        profile = mapping(one.security.get("seccompProfile")) or mapping(template.security.get("seccompProfile"))
        if profile.get("type") not in (*SECCOMP, "Unconfined"):
            yield f"{place}.seccompProfile", f"the container {one.name} has no seccompProfile {' or '.join(SECCOMP)}"
