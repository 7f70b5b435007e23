"""Kubernetes objects of files, folders and standard input, each with the lines of its fields."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kuberay.doctor.finding import ERROR, Finding, Severity, rule

STANDARD_INPUT = Path("-")
ENDINGS = ("*.yaml", "*.yml", "*.json")
"""Files of a folder that `kubectl apply` reads, and those of the folders in it."""
MOST_NODES = 500_000
"""Longest content of a file, aliases written out: about a hundred times a rendered folder."""
MOST_DEPTH = 100
"""Deepest nesting: a rendered folder has 20. The parser ends the process of a text that is nested without end."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C where PyYAML has it."""
SERVE_CONFIG = "spec.serveConfigV2"


class Unreadable(Exception):
    """The paths hold nothing to examine, or cannot be read."""


@dataclass(frozen=True)
class Document:
    """A Kubernetes object. Fields that are null are left out, as Kubernetes does."""

    file: Path
    content: dict[str, Any]
    node: yaml.Node | None = field(default=None, compare=False, repr=False)
    """Node of its text, where it has one."""

    @property
    def kind(self) -> str:
        return str(self.content.get("kind", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        found = self.content.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        """An empty one is that of kubectl's context."""
        return str(self.metadata.get("namespace") or "")

    @property
    def title(self) -> str:
        """Its kind and name, for sentences."""
        return f"{self.kind} {self.name}"

    @property
    def spec(self) -> dict[str, Any]:
        found = self.content.get("spec")
        return found if isinstance(found, dict) else {}

    def finding(self, rule: Callable[..., Any], place: str, sentence: str, severity: Severity = ERROR) -> Finding:
        """Return a finding at a field, such as `spec.serveConfigV2: applications[0].name`."""
        return Finding(self.file, place or "the object", sentence, rule.__name__, severity, line=self.line(place))

    def line(self, place: str) -> int | None:
        """Return the line, counted from 1, of the field or of the nearest one above it; None without a text."""
        if self.node is None:
            return None
        outer, _, inner = place.partition(": ")
        node, mark = _find(self.node, outer)
        if outer != SERVE_CONFIG or not inner or not isinstance(node, yaml.ScalarNode):
            return mark + 1
        try:
            config = yaml.compose(node.value, Loader=LOADER)
        except yaml.YAMLError:
            return mark + 1
        within = _find(config, inner)[1] if config is not None else 0
        # The lines of a block, as `|` begins it, follow the line of the indicator.
        return mark + 2 + within if node.style in ("|", ">") else mark + 1


def _find(node: yaml.Node, place: str) -> tuple[yaml.Node, int]:
    """Return the node at this place, or the last one on the way to it, and the line of its key, counted from 0."""
    line = node.start_mark.line
    while place:
        index = re.match(r"\[(\d+)\]\.?|(\d+)(?:\.|$)", place)
        if isinstance(node, yaml.SequenceNode) and index and int(index[1] or index[2]) < len(node.value):
            node = node.value[int(index[1] or index[2])]
            line, place = node.start_mark.line, place[index.end() :]
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        keys = [(str(key.value), key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        matching = [one for one in keys if place == one[0] or place.startswith((f"{one[0]}.", f"{one[0]}["))]
        if not matching:
            break
        name, key, node = max(matching, key=lambda one: len(one[0]))
        line, place = key.start_mark.line, place[len(name) :].removeprefix(".")
    return node, line


def read(paths: Iterable[Path]) -> Iterator[Document | Finding]:
    """Yield each object of these files, and of the files in these folders: of a `List` its items. Raises Unreadable."""
    for path in paths:
        for file in sorted({one for ending in ENDINGS for one in path.rglob(ending)}) if path.is_dir() else [path]:
            yield from _documents(file, only_objects=path.is_dir())


@rule(
    "SG001",
    "every file can be read as YAML",
    "Fix the YAML, or leave the file out. `helm template` and kustomize make plain YAML.",
)
def a_file_can_be_read(file: Path, error: str) -> Finding:
    return Finding(file, "the file", f"cannot be read: {' '.join(error.split())}", a_file_can_be_read.__name__)


@rule("SG002", "a key stands once in its mapping", "Remove all but one: kubectl refuses both, and other tools take the last.")
def a_key_stands_once(file: Path, node: yaml.Node) -> Iterator[Finding]:
    seen, waiting = set[int](), [node]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, yaml.MappingNode):
            names = set[str]()
            for key, value in one.value:
                if isinstance(key, yaml.ScalarNode) and key.value in names:
                    sentence = f"{key.value} stands twice in one mapping"
                    yield Finding(file, key.value, sentence, a_key_stands_once.__name__, line=key.start_mark.line + 1)
                names.add(str(key.value))
                waiting.append(value)
        elif isinstance(one, yaml.SequenceNode):
            waiting += one.value


def _documents(file: Path, only_objects: bool) -> Iterator[Document | Finding]:
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        yield a_file_can_be_read(file, str(error))
        return
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
    try:
        _check_depth(text)
        nodes = [node for node in yaml.compose_all(text, Loader=LOADER) if node is not None]
        for node in nodes:
            if _size(node, {}) > MOST_NODES:
                raise yaml.YAMLError(f"with its aliases written out it has more than {MOST_NODES} values")
        contents = [LOADER("").construct_document(node) for node in nodes]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield a_file_can_be_read(file, str(error))
        return
    for node, content in zip(nodes, contents, strict=True):
        yield from a_key_stands_once(file, node)
        yield from _objects(file, content, node, only_objects or file.suffix == ".json")


def _check_depth(text: str) -> None:
    """Raise YAMLError for a text that is nested too deep to be composed."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {MOST_DEPTH} levels")


def _objects(file: Path, content: Any, node: yaml.Node, only_objects: bool) -> Iterator[Document]:
    if not isinstance(content, dict):
        return
    if str(content.get("kind", "")).endswith("List") and isinstance(content.get("items"), list):
        items = _find(node, "items")[0]
        for number, item in enumerate(content["items"]):
            yield from _objects(file, item, items.value[number], only_objects)
    elif "kind" in content or not only_objects:
        yield Document(file, _without_nulls(content), node)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values in a node, aliases written out. Raises YAMLError for one that holds itself."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError("an alias holds itself")
        return known[id(node)]
    known[id(node)] = 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [one for pair in node.value for one in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    known[id(node)] = 1 + sum(_size(one, known) for one in parts)
    return known[id(node)]
