"""The picture of the pinning: every deployment with its pins, and the groups that offer them."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from kuberay import diagram
from kuberay.profiles import PROFILES, Profile

SVG = "{http://www.w3.org/2000/svg}"
EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)


def texts(picture: ElementTree.Element) -> list[str]:
    return [str(one.text) for one in picture.iter(f"{SVG}text")]


@EACH
def test_every_deployment_has_both_pins_and_every_group_its_pods(profile: Profile) -> None:
    found = texts(ElementTree.fromstring(diagram.svg(profile)))
    for group in profile.groups:
        assert f"{group.min_pods} to {group.max_pods} pods" in found
        assert found.count(f"label image: {group.name}") == len(group.deployments)
        for deployment in group.deployments:
            assert found.count(f"resource {deployment.name}: 1") == 1


@EACH
def test_every_box_is_inside_the_picture_and_no_group_overlaps_the_next(profile: Profile) -> None:
    picture = ElementTree.fromstring(diagram.svg(profile))
    boxes = [{name: float(value) for name, value in one.items() if name != "class"} for one in picture.iter(f"{SVG}rect")]
    for box in boxes:
        assert 0 <= box["x"] < box["x"] + box["width"] <= float(picture.attrib["width"])
        assert 0 <= box["y"] < box["y"] + box["height"] <= float(picture.attrib["height"])
    groups = [box for box in boxes if box["x"] == diagram.GROUP_X]
    assert len(groups) == len(profile.groups) + 1
    assert all(upper["y"] + upper["height"] < lower["y"] for upper, lower in pairwise(groups))


def test_the_picture_brings_its_background_and_colours_for_dark() -> None:
    """An image in a page knows the reader's scheme, and not the page's: without a background its text could be as dark as the page."""
    picture = ElementTree.fromstring(diagram.svg(PROFILES["cpu"]))
    assert next(picture.iter(f"{SVG}rect")).get("class") == "page"
    light, dark = str(picture.findtext(f"{SVG}style")).split("@media (prefers-color-scheme: dark)")
    for rule in (".page", "text", ".group", ".deployment"):
        assert rule in light
        assert rule in dark
