"""Rules: volumes and their mounts, /dev/shm and the files that Ray writes."""

from collections.abc import Iterator
from decimal import Decimal

from deployments.nearest import question
from kuberay.doctor.finding import NOTE, WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import HEAD, PodContainer, PodTemplate, amount, at, mapping, mappings, pod_templates

SHARED_MEMORY = "/dev/shm"
RAYS_FILES = "/tmp/ray"
MOST_WITHOUT_SHARED_MEMORY = 10**10
"""Bytes of an object store which Ray 2.60 puts on a disk where /dev/shm is smaller; it refuses to start with more."""
SHARE = Decimal("0.3")
"""Of a container's memory, which Ray takes for its object store."""
MIB = 2**20


def added(template: PodTemplate) -> set[str]:
    """The volumes that KubeRay adds, where the containers that need them have no mount of their own there."""
    found = set[str]()
    ray = template.ray
    if ray and "plasma-directory" not in template.params and not _mounts(ray, SHARED_MEMORY):
        found.add("shared-mem")
    if ray and template.autoscaler and not (_mounts(ray, RAYS_FILES) and _mounts(template.autoscaler, RAYS_FILES)):
        found.add("ray-logs")
    return found


def _mounts(one: PodContainer, path: str) -> bool:
    return any(mount.get("mountPath") == path for _, mount in one.mounts)


def named(template: PodTemplate) -> set[str]:
    """The names of the volumes of a pod, those of a StatefulSet's claims with them."""
    claims = mappings(template.document.spec.get("volumeClaimTemplates"))
    of_claims = {str(mapping(one.get("metadata")).get("name")) for _, one in claims}
    return {str(one.get("name")) for _, one in template.volumes} | of_claims


@rule(
    "SG410",
    "a mount names a volume of its pod",
    "Add the volume to the pod's `volumes`, or take the name that it has there.",
)
def a_mount_has_its_volume(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        known = named(template) | added(template)
        for one in template.containers:
            for kind in ("volumeMounts", "volumeDevices"):
                for index, mount in mappings(one.content.get(kind)):
                    name = str(mount.get("name"))
                    if name in known:
                        continue
                    sentence = f"the pod has no volume {name}, and is refused{question(name, known)}"
                    yield template.document.finding(a_mount_has_its_volume, f"{one.place}.{kind}[{index}].name", sentence)


@rule(
    "SG411",
    "a volume is mounted by a container of its pod",
    "Add the mount, or leave the volume out.",
)
def a_volume_is_mounted(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        used = {
            str(mount.get("name"))
            for one in template.containers
            for kind in ("volumeMounts", "volumeDevices")
            for _, mount in mappings(one.content.get(kind))
        }
        for index, volume in template.volumes:
            if str(volume.get("name")) not in used | added(template):
                sentence = f"no container mounts {volume.get('name')}: what it holds is not seen, and the pod still waits for it"
                yield template.document.finding(a_volume_is_mounted, template.at(f"volumes[{index}]"), sentence, NOTE)


@rule(
    "SG412",
    "a mount has an absolute path of its own",
    "Mount each volume at a path of its own that begins with /, and take a `subPath` below the volume.",
)
def a_mount_has_a_path_of_its_own(service: Service) -> Iterator[Finding]:
    own = a_mount_has_a_path_of_its_own
    for template in pod_templates(service):
        for one in template.containers:
            seen = set[str]()
            for index, mount in one.mounts:
                place, path = f"{one.place}.volumeMounts[{index}]", str(mount.get("mountPath", ""))
                document = template.document
                if path in seen:
                    sentence = f"{path} is mounted twice in the container, and the pod is refused"
                    yield document.finding(own, f"{place}.mountPath", sentence)
                elif path.rstrip("/") in {other.rstrip("/") for other in seen}:
                    sentence = f"{path} is mounted twice in the container: one mount hides the other"
                    yield document.finding(own, f"{place}.mountPath", sentence, WARNING)
                seen.add(path)
                if path and not path.strip("/."):
                    yield document.finding(own, f"{place}.mountPath", f"{path} would hide the image's files: nothing starts")
                elif path and not path.startswith("/"):
                    sentence = f"{path} is relative, and is mounted at /{path}, whatever the container's working directory is"
                    yield document.finding(own, f"{place}.mountPath", sentence, WARNING)
                for name in ("subPath", "subPathExpr"):
                    below = str(mount.get(name, ""))
                    if below.startswith("/") or ".." in below.split("/"):
                        sentence = f"{below} is no path below the volume: the pod is refused"
                        yield document.finding(own, f"{place}.{name}", sentence)
                if mount.get("subPath") and mount.get("subPathExpr"):
                    yield document.finding(own, place, "subPath and subPathExpr exclude each other: the pod is refused")


@rule(
    "SG413",
    "a volume has one source",
    "Leave one source, such as `persistentVolumeClaim`; for an empty one write `emptyDir: {}`.",
)
def a_volume_has_one_source(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        for index, volume in template.volumes:
            sources = sorted(set(volume) - {"name"})
            place = template.at(f"volumes[{index}]")
            if len(sources) > 1:
                sentence = f"{volume.get('name')} is {' and '.join(sources)}: one volume has one source, and the pod is refused"
                yield template.document.finding(a_volume_has_one_source, place, sentence)
            elif not sources:
                sentence = f"{volume.get('name')} has no source, so Kubernetes makes it an emptyDir, which is lost with the pod"
                yield template.document.finding(a_volume_has_one_source, place, sentence, NOTE)


@rule(
    "SG414",
    "/dev/shm holds Ray's object store, and the container's memory holds /dev/shm",
    "Leave the volume at /dev/shm out: KubeRay adds one of the container's memory. Or give it 30 % of the memory at least.",
)
def shared_memory_holds_the_object_store(service: Service) -> Iterator[Finding]:
    for template in pod_templates(service):
        ray = template.ray
        if ray is None or "plasma-directory" in template.params:
            continue
        names = {str(mount.get("name")) for _, mount in ray.mounts if str(mount.get("mountPath")).rstrip("/") == SHARED_MEMORY}
        for index, volume in template.volumes:
            empty, place = mapping(volume.get("emptyDir")), template.at(f"volumes[{index}].emptyDir")
            if str(volume.get("name")) not in names:
                continue
            if empty.get("medium") != "Memory":
                sentence = f"{SHARED_MEMORY} is on a disk: Ray's object store and Triton's shared memory would be slow"
                yield template.document.finding(shared_memory_holds_the_object_store, place, sentence, WARNING)
            elif (size := amount(empty.get("sizeLimit", ""))) is not None:
                for sentence in _too_small_or_large(template, ray, size):
                    yield template.document.finding(shared_memory_holds_the_object_store, f"{place}.sizeLimit", sentence, WARNING)


def _too_small_or_large(template: PodTemplate, ray: PodContainer, size: Decimal) -> Iterator[str]:
    memory = ray.limits.get("memory")
    stated = amount(template.params.get("object-store-memory", ""))
    wanted = stated if stated is not None else min(SHARE * memory, Decimal(MOST_WITHOUT_SHARED_MEMORY)) if memory else None
    if wanted is not None and size < wanted:
        happens = (
            "refuses to start"
            if wanted > MOST_WITHOUT_SHARED_MEMORY
            else "puts it on the disk below /tmp, which is slow, and Triton's shared memory has no more either"
        )
        yield f"it is {size / MIB:.0f} MiB, and Ray's object store wants {wanted / MIB:.0f} MiB of it: Ray {happens}"
    if memory is not None and size > memory:
        yield (
            f"it is {size / MIB:.0f} MiB, and what is written there counts as the container's memory, of which there are "
            f"{memory / MIB:.0f} MiB: the container would be killed before {SHARED_MEMORY} is full"
        )


@rule(
    "SG415",
    "Ray can write below /tmp",
    "Mount an `emptyDir` at /tmp, or leave `readOnlyRootFilesystem` out.",
)
def ray_can_write_its_files(service: Service) -> Iterator[Finding]:
    """Below /tmp/ray Ray has its session: sockets, logs and addresses. KubeRay mounts /tmp/ray of a head with an autoscaler."""
    for template in pod_templates(service):
        for one in template.containers:
            if not one.ray and one is not template.autoscaler:
                continue
            mounts = [mount for _, mount in one.mounts if str(mount.get("mountPath")).rstrip("/") in ("/tmp", RAYS_FILES)]
            place, by_kuberay = f"{one.place}.securityContext.readOnlyRootFilesystem", bool(template.autoscaler)
            read_only = one.security.get("readOnlyRootFilesystem") is True
            if one.ray and any(mount.get("readOnly") is True for mount in mounts):
                sentence = "Ray writes below /tmp/ray, and what is mounted there is read-only: Ray does not start"
                yield template.document.finding(ray_can_write_its_files, f"{one.place}.volumeMounts", sentence)
            elif read_only and not mounts and not by_kuberay:
                sentence = "Ray writes below /tmp/ray, and nothing that can be written is mounted at /tmp: Ray does not start"
                yield template.document.finding(ray_can_write_its_files, place, sentence)
            elif read_only and one.ray and template.group == HEAD and not _has_tmp(one):
                sentence = "KubeRay mounts only /tmp/ray, and other files below /tmp cannot be written: mount an emptyDir at /tmp"
                yield template.document.finding(ray_can_write_its_files, place, sentence, WARNING)


def _has_tmp(one: PodContainer) -> bool:
    return any(str(mount.get("mountPath")).rstrip("/") == "/tmp" for _, mount in one.mounts)


@rule(
    "SG416",
    "a volume has the size of something",
    "Write the size with Mi, Gi or Ti: `m` is a thousandth of a byte.",
)
def a_volume_has_a_size(service: Service) -> Iterator[Finding]:
    own, claimed = a_volume_has_a_size, ("spec", "resources", "requests")
    for template in pod_templates(service):
        for index, volume in template.volumes:
            stated = mapping(volume.get("emptyDir")).get("sizeLimit")
            size = amount(stated) if stated is not None else None
            if size is not None and size < MIB:
                sentence = f"{stated} is {size:f} bytes: the pod is evicted as soon as it writes there"
                yield template.document.finding(own, template.at(f"volumes[{index}].emptyDir.sizeLimit"), sentence)
    for document in (service.document, *service.beside):
        claims = [("spec", document.content)] if document.kind == "PersistentVolumeClaim" else []
        claims += [
            (f"spec.volumeClaimTemplates[{index}].spec", one)
            for index, one in mappings(document.spec.get("volumeClaimTemplates"))
        ]
        for place, claim in claims:
            stated = at(claim, claimed).get("storage")
            size = amount(stated) if stated is not None else None
            if size is not None and size < MIB:
                sentence = f"{stated} is {size:f} bytes: the volume is refused, or holds no file"
                yield document.finding(own, f"{place}.resources.requests.storage", sentence)
