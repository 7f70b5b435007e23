"""The drawing of one request's way, made from the code: `python docs/one_request.py` writes docs/one-request.svg.

Names come from the graph's class, the stage's chain of policies, the application's middleware, the models' descriptions, and their
Triton models' config.pbtxt. A test holds the file to them.
"""

import ast
import inspect
import re
import textwrap
from html import escape
from pathlib import Path
from typing import Any

from deployments.model_spec import ModelSpec, specs
from graphs.core import stage as stages
from graphs.core.graph import Graph
from graphs.voice_to_image import VoiceToImage
from testing.fakes import FakeService

FILE = Path(__file__).with_name("one-request.svg")
ROOT = Path(__file__).parents[1]
WIDTH, MARGIN, INSET, GAP, LINE = 1000, 20, 12, 34, 18
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1d1b20 } .small { font-size: 12px; fill: #55525c } .name { font-weight: 600 }
.page, .box { fill: #fffdf8 } .process { fill: #f1ece1; stroke: #b9b0a0 } .box { stroke: #8b8374 }
.arrow { stroke: #b3541e } .head { fill: #b3541e } .crossing { font-size: 12px; fill: #8f3f10 }
@media (prefers-color-scheme: dark) {
  text { fill: #ece7ef } .small { fill: #b7b1bd } .crossing { fill: #f4b48f }
  .page, .box { fill: #151317 } .process { fill: #242027; stroke: #5b5561 } .box { stroke: #7c7583 }
  .arrow { stroke: #f0935b } .head { fill: #f0935b }
}
""".strip()


def policies() -> list[str]:
    """Return the policies around every stage's call, from the first to the last."""
    chain = ast.parse(textwrap.dedent(inspect.getsource(stages.Stage._chain)))
    calls = [node.func for node in ast.walk(chain) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return [
        "Rollout",
        *(call.id for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)) if call.id[0].isupper()),
    ]


def middleware() -> str:
    """Return the names of the application's middleware, from the outermost."""
    app: Any = FakeService().app()
    return " → ".join(one.cls.__name__.removesuffix("Middleware") for one in app.user_middleware)


def declared(graph: type[Graph[Any, Any]]) -> dict[str, ModelSpec]:
    """Return each stage of the graph, by its attribute, with the model that has its role by default."""
    found = {name: value.target for name, value in vars(graph).items() if isinstance(value, stages.Declared)}
    by_role = {spec.role: spec for spec in reversed(specs().values())}
    return {name: target if isinstance(target, ModelSpec) else by_role[target] for name, target in found.items()}


def types(graph: type[Graph[Any, Any]], name: str) -> tuple[str, str]:
    """Return the names of a stage's request and result, as the graph's source has them."""
    ((request, result),) = re.findall(rf"{name} = Stage\[(\w+), (\w+)\]", inspect.getsource(graph))
    return request, result


def tensors(spec: ModelSpec) -> tuple[str, str]:
    """Return the names of the Triton model's inputs and outputs."""
    config = (ROOT / "deployments" / spec.name / "repository" / spec.name / "config.pbtxt").read_text(encoding="utf-8")
    into, _, out = config.partition("output [")
    names = (re.findall(r'\{ name: "(\w+)"', side) for side in (into, out))
    into, out = (", ".join(each) for each in names)
    return f"in: {into}", f"out: {out}"


class Drawing:
    def __init__(self) -> None:
        self.parts: list[str] = []

    def process(self, x: float, y: float, width: float, height: float, title: str, note: str) -> None:
        self.parts.append(f'<rect class="process" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        self.text(x + 12, y + 20, title, "name")
        self.text(x + width - 12, y + 20, note, "small", "end")

    def box(self, x: float, y: float, width: float, title: str, *lines: str) -> float:
        """Draw a box and return the y of its lower edge."""
        height = 16 + LINE * (1 + len(lines))
        self.parts.append(f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        self.text(x + 10, y + 20, title, "name")
        for number, line in enumerate(lines, 1):
            self.text(x + 10, y + 20 + LINE * number, line, "small")
        return y + height

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        self.parts.append(f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')

    def both_ways(self, x: float, top: float, bottom: float, there: str, back: str) -> None:
        """Draw an arrow down with what goes there, and one up with what comes back."""
        for at, begin, end, text, anchor, beside in (
            (x - 5, top, bottom, there, "end", -8),
            (x + 5, bottom, top, back, "start", 8),
        ):
            tip = 7 if end > begin else -7
            self.parts.append(f'<path class="arrow" d="M{at} {begin}V{end - tip}"/>')
            self.parts.append(f'<path class="head" d="M{at} {end}l-4 {-tip}h8z"/>')
            self.text(at + beside, (top + bottom) / 2 + 4, text, "crossing", anchor)

    def svg(self, height: float, title: str) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        )
        page = f'<rect class="page" width="{WIDTH}" height="{height:g}"/>'
        return "\n".join([head, f"<style>{STYLE}</style>", page, *self.parts, "</svg>\n"])


def draw(graph: type[Graph[Any, Any]]) -> str:
    """Return the drawing of a request to this graph."""
    drawing, middle, full = Drawing(), WIDTH / 2, WIDTH - 2 * MARGIN
    y = drawing.box(middle - 150, MARGIN, 300, f"client: POST {graph.path}")
    drawing.both_ways(middle, y, y + GAP, "HTTP: a recording", "an image, JSON or events")
    y = drawing.box(middle - 150, y + GAP, 300, "Serve's proxy", "of the node that the client reaches")
    drawing.both_ways(middle, y, y + GAP, "gRPC: the request", "the response")
    top, inner = y + GAP, MARGIN + INSET
    drawing.process(MARGIN, top, full, 236, "ingress replica", "image: ingress")
    y = drawing.box(
        inner,
        top + 32,
        full - 2 * INSET,
        "HTTP edge (graphs/http)",
        f"middleware {middleware()}; then API key, place, deadline, upload",
    )
    drawing.box(
        inner, y + 10, 280, "decode worker (graphs/audio)", "a process: FFmpeg, speech or silence", "shared memory both ways"
    )
    stages_of = declared(graph)
    calls = ", then ".join(f"{name} ({types(graph, name)[1]})" for name in stages_of)
    y = drawing.box(
        inner + 290, y + 10, full - 290 - 2 * INSET, f"graph {graph.__name__}", calls, "asyncio, in one file of graphs/"
    )
    chain = drawing.box(inner, y + 10, full - 2 * INSET, "each stage's call (graphs/core)", " → ".join(policies()))
    width = (full - 20 * (len(stages_of) - 1)) / len(stages_of)
    contracts = {
        spec.name: [line for one in tensors(spec) for line in textwrap.wrap(one, 60, subsequent_indent="  ")]
        for spec in stages_of.values()
    }
    below, height = top + 236 + GAP, 250 + LINE * max(map(len, contracts.values()))
    for number, (name, spec) in enumerate(stages_of.items()):
        x, (request, result) = MARGIN + number * (width + 20), types(graph, name)
        drawing.both_ways(x + width / 2, chain, below, f"gRPC: {request}", result)
        drawing.process(x, below, width, height, f"{spec.name} replica", f"image: {spec.name}")
        cls, contract = spec.deployment.partition(":")[2], contracts[spec.name]
        y = drawing.box(
            x + INSET,
            below + 32,
            width - 2 * INSET,
            f"{cls} (deployments/{spec.name}/deployment.py)",
            f"a Serve deployment: {request} to {result}",
        )
        drawing.both_ways(x + width / 2, y, y + GAP, "tensors", "tensors")
        y = drawing.box(x + INSET, y + GAP, width - 2 * INSET, "Triton server, in the same process", *contract)
        drawing.both_ways(x + width / 2, y, y + GAP, "shared memory", "shared memory")
        drawing.box(
            x + INSET, y + GAP, width - 2 * INSET, "stub: model.py and engine.py", "a process of Triton's: the model, in batches"
        )
    return drawing.svg(below + height + MARGIN, f"The way of POST {graph.path} through its processes")


if __name__ == "__main__":
    FILE.write_text(draw(VoiceToImage), encoding="utf-8")
