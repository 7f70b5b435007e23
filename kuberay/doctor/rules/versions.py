"""Rules: one Ray and one Python everywhere, and images that cannot change under their tag."""

import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

from kuberay.doctor.documents import Document
from kuberay.doctor.finding import WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.images import versions
from kuberay.versions import PYTHON


@rule(
    "SG501",
    "every image has the Ray of the lock, and the manifest says so",
    "Build the images from one release.",
    house=True,
)
def ray_is_one_version(service: Service) -> Iterator[Finding]:
    own = ray_is_one_version
    locked, stated = importlib.metadata.version("ray"), service.cluster.ray_version
    if stated != locked:
        sentence = f"it is {stated or 'not stated'}, and the lock has Ray {locked}: the images are made from the lock"
        yield service.finding(own, "spec.rayClusterConfig.rayVersion", sentence)
    for document, field, image in images(service):
        found = versions(image)
        if found is not None and found.ray != locked:
            sentence = f"{image} has Ray {found.ray}, and the lock {locked}: Ray refuses a node of another version"
            yield document.finding(own, field, sentence)


@rule(
    "SG502",
    "every image says its Ray and Python in its tag, and has the same Python",
    "Use the images that images/ builds.",
    house=True,
)
def python_is_one_version(service: Service) -> Iterator[Finding]:
    own = python_is_one_version
    for group in (service.cluster.head_group_spec, *service.groups):
        if versions(group.ray.image) is None:
            sentence = f"the tag of {group.ray.image} does not name its Ray and Python (-ray2.60.0-py{PYTHON})"
            yield service.finding(own, service.field(group, "template.spec.containers[0].image"), sentence)
    for document, field, image in images(service):
        found = versions(image)
        if found is not None and found.python != PYTHON:
            sentence = (
                f"{image} has Python {found.python}, and the images are built with {PYTHON}: Ray compares even the last number"
            )
            yield document.finding(own, field, sentence)


@rule(
    "SG503",
    "the images are of one release",
    "Build and render all of them together.",
)
def the_code_is_one_release(service: Service) -> Iterator[Finding]:
    """Values that cross a handle are pickled: both ends need the same classes."""
    found = {group.ray.image: versions(group.ray.image) for group in (service.cluster.head_group_spec, *service.groups)}
    releases = {image: version.release for image, version in found.items() if version is not None}
    if len(set(releases.values())) > 1:
        listed = ", ".join(f"{image} {release}" for image, release in releases.items())
        sentence = f"the images are of different releases, and would not understand each other: {listed}"
        yield service.finding(the_code_is_one_release, "spec.rayClusterConfig", sentence)


@rule(
    "SG504",
    "an image is named by its digest",
    "Render with `--digests`.",
    house=True,
)
def an_image_has_a_digest(service: Service) -> Iterator[Finding]:
    reported = set[str]()
    for document, field, image in images(service):
        if "@sha256:" not in image and image not in reported:
            reported.add(image)
            sentence = f"{image} has no digest, so its content may change under its tag: sonograph render --digests pins it"
            yield document.finding(an_image_has_a_digest, field, sentence, WARNING)


@rule(
    "SG505",
    "an image of Ray has the version of the manifest",
    "Make `rayVersion` and the images' tags agree.",
)
def an_image_has_the_ray_of_the_manifest(service: Service) -> Iterator[Finding]:
    """Judge images of Ray's own by their tags: KubeRay decides by `rayVersion` what a pod is given."""
    stated = service.cluster.ray_version
    found: dict[str, str] = {}
    for group in (service.cluster.head_group_spec, *service.groups):
        tag = re.search(r"(?:^|/)rayproject/ray(?:-\w+)?:v?(\d+\.\d+\.\d+)", group.ray.image)
        if tag is None:
            continue
        field = service.field(group, "template.spec.containers[0].image")
        found.setdefault(tag[1], field)
        if stated and tag[1] != stated:
            sentence = (
                f"{group.ray.image} has Ray {tag[1]}, and rayVersion is {stated}: KubeRay would start "
                "its pods as those of another Ray"
            )
            yield service.finding(an_image_has_the_ray_of_the_manifest, field, sentence, WARNING)
    if len(found) > 1:
        sentence = f"the images have Ray {' and '.join(found)}: Ray refuses a node of another version"
        yield service.finding(an_image_has_the_ray_of_the_manifest, list(found.values())[1], sentence)


@rule(
    "SG506",
    "an image has a tag or a digest",
    "Name one version: a tag that is never moved, or a digest.",
)
def an_image_names_one_version(service: Service) -> Iterator[Finding]:
    """Judge tags by their names: a pod that starts tomorrow has another content under `latest`, and Ray refuses its version."""
    for group in (service.cluster.head_group_spec, *service.groups):
        image = group.ray.image
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@" not in image and tag in ("", "latest", "nightly"):
            sentence = f"{image} is whatever was pushed last, so two pods of one cluster may have two versions of Ray: name a tag"
            field = service.field(group, "template.spec.containers[0].image")
            yield service.finding(an_image_names_one_version, field, sentence, WARNING)


def images(service: Service) -> Iterator[tuple[Document, str, str]]:
    """Document, field and name of each image in the folder."""
    for document in (service.document, *service.beside):
        for field, image in _images(document.content):
            yield document, field, image


def _images(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _images(item, f"{field}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "image" and isinstance(item, str) and ".labels" not in field and not field.endswith("labels"):
                yield f"{field}.image".lstrip("."), item
            else:
                yield from _images(item, f"{field}.{key}".lstrip("."))
