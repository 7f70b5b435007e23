"""The picture of the pinning, docs/kubernetes/pinning.svg: each deployment with its pins, and the worker group that offers both.

Pages show it as an image, so it brings its own background, and colours for light and dark.
"""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from kuberay.profiles import Profile

ROW_PX, BOX_PX = 100, 76
WIDTH_PX, TOP_PX, MARGIN_PX = 780, 58, 20
DEPLOYMENT_PX, GROUP_PX = 140, 320
GROUP_X, ARROW_X = WIDTH_PX - MARGIN_PX - GROUP_PX, MARGIN_PX + DEPLOYMENT_PX
STYLE = """
text { font: 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { fill: #59636e }
.name { font-weight: 600 }
.page { fill: #ffffff; stroke: #d1d9e0 }
.deployment { fill: #ddf4ff; stroke: #0969da }
.group { fill: #f6f8fa; stroke: #59636e }
.head { stroke-dasharray: 5 4 }
.arrow { stroke: #0969da; fill: none }
.tip { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .title { fill: #9198a1 }
  .page { fill: #0d1117; stroke: #3d444d }
  .deployment { fill: #121d2f; stroke: #4493f8 }
  .group { fill: #151b23; stroke: #9198a1 }
  .arrow { stroke: #4493f8 }
  .tip { fill: #4493f8 }
}
"""


def svg(profile: Profile) -> str:
    """Draw a deployment a row, each group as high as its deployments, and the head below the groups."""
    rows = sum(len(group.deployments) for group in profile.groups)
    height = TOP_PX + rows * ROW_PX + BOX_PX + MARGIN_PX
    size = {"width": str(WIDTH_PX), "height": str(height), "viewBox": f"0 0 {WIDTH_PX} {height}"}
    picture = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})
    SubElement(picture, "title").text = "Deployments of Ray Serve, and the worker groups that they are pinned to"
    SubElement(picture, "style").text = STYLE
    _box(picture, "page", 0.5, 0.5, WIDTH_PX - 1, height - 1, radius=8)
    for x, title in ((MARGIN_PX, "Ray Serve: deployments"), (GROUP_X, "KubeRay: worker groups, each with its image")):
        _text(picture, x, 32, title, "title")
    top = TOP_PX
    for group in profile.groups:
        (label,) = (f"{key}: {value}" for key, value in group.labels.items())
        offers = ", ".join(f"{name} {amount}" for name, amount in group.resources.items())
        _group(picture, top, len(group.deployments), group.name, f"{group.min_pods} to {group.max_pods} pods", f"offers {offers}")
        for deployment in group.deployments:
            _deployment(picture, top + BOX_PX // 2, deployment.name, label)
            top += ROW_PX
    _group(picture, top, 1, "head", "1 pod", "offers CPU 0, so it gets no replica", kind="group head")
    ElementTree.indent(picture)
    return ElementTree.tostring(picture, encoding="unicode") + "\n"


def _group(picture: Element, top: int, rows: int, name: str, pods: str, offers: str, kind: str = "group") -> None:
    height = (rows - 1) * ROW_PX + BOX_PX
    _box(picture, kind, GROUP_X, top, GROUP_PX, height, radius=6)
    middle, left = top + height // 2, GROUP_X + 16
    _text(picture, left, middle - 16, name, "name")
    _text(picture, left, middle + 5, pods)
    _text(picture, left, middle + 26, offers)


def _deployment(picture: Element, middle: int, name: str, label: str) -> None:
    """Draw a deployment, and the arrow to its group with both pins."""
    _box(picture, "deployment", MARGIN_PX, middle - 22, DEPLOYMENT_PX, 44, radius=22)
    _text(picture, MARGIN_PX + DEPLOYMENT_PX // 2, middle + 5, name, "name", anchor="middle")
    SubElement(picture, "path", {"class": "arrow", "d": f"M{ARROW_X} {middle} H{GROUP_X - 8}"})
    SubElement(picture, "path", {"class": "tip", "d": f"M{GROUP_X} {middle} l-10 -5 v10 z"})
    centre = (ARROW_X + GROUP_X - 10) // 2
    _text(picture, centre, middle - 10, f"resource {name}: 1", anchor="middle")
    _text(picture, centre, middle + 22, f"label {label}", anchor="middle")


def _box(picture: Element, kind: str, x: float, y: float, width: float, height: float, radius: int) -> None:
    place = {"x": x, "y": y, "width": width, "height": height, "rx": radius}
    SubElement(picture, "rect", {"class": kind, **{name: str(value) for name, value in place.items()}})


def _text(picture: Element, x: int, y: int, text: str, kind: str = "", anchor: str = "start") -> None:
    attributes = {"x": str(x), "y": str(y), "text-anchor": anchor}
    SubElement(picture, "text", {"class": kind, **attributes} if kind else attributes).text = text
