"""A parser of Grafana Alloy's configuration syntax: blocks, attributes, and the expressions that our files use."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(
    r"""\s+|//[^\n]*|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d+(?:\.\d+)?)|(?P<sign>[{}\[\]=,.])"""
)


@dataclass(frozen=True)
class Reference:
    """A value of another component: `loki.write.loki.receiver`."""

    name: str


@dataclass
class Block:
    name: str
    """With dots: `loki.process`, `stage.json`, `rule`."""
    label: str | None
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)

    def all(self, name: str) -> list["Block"]:
        """Its own blocks of a name."""
        return [block for block in self.blocks if block.name == name]

    def values(self) -> Iterator[Any]:
        """Every value below it, those inside lists and objects too."""
        for value in self.attributes.values():
            yield from _flat(value)
        for block in self.blocks:
            yield from block.values()


def parse(text: str) -> list[Block]:
    """The file's components. Raises ValueError with the place of what is no Alloy syntax."""
    parser = _Parser(list(_tokens(text)))
    root = parser.body("")
    if root.attributes:
        raise ValueError(f"an attribute outside of a block: {', '.join(root.attributes)}")
    return root.blocks


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: {text[at : at + 20]!r}")
        at = found.end()
        if found.lastgroup:
            yield found.lastgroup, found[0]
    yield "end", ""


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _flat(one)
    else:
        yield value


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self, *wanted: str) -> tuple[str, str]:
        """The next token, which is of one of these kinds, or one of these signs."""
        kind, text = self._tokens[self._at]
        if wanted and kind not in wanted and text not in wanted:
            raise ValueError(f"token {self._at}: {text or kind!r} where {' or '.join(wanted)} belongs")
        self._at += 1
        return kind, text

    def _is(self, text: str) -> bool:
        return self._tokens[self._at][1] == text

    def _name(self) -> str:
        name = self._next("name")[1]
        while self._is("."):
            self._next(".")
            name += f".{self._next('name')[1]}"
        return name

    def body(self, name: str, label: str | None = None) -> Block:
        block = Block(name, label)
        while not self._is("}") and self._tokens[self._at][0] != "end":
            key = self._name()
            if self._is("="):
                self._next("=")
                if key in block.attributes or "." in key:
                    raise ValueError(f"{key} is set twice in {name}, or has a dot")
                block.attributes[key] = self._value()
                continue
            label = self._next("string")[1][1:-1] if self._tokens[self._at][0] == "string" else None
            self._next("{")
            block.blocks.append(self.body(key, label))
            self._next("}")
        return block

    def _value(self) -> Any:
        kind, text = self._tokens[self._at]
        if kind == "name":
            name = self._name()
            return {"true": True, "false": False, "null": None}.get(name, Reference(name))
        self._next("string", "number", "[", "{")
        if kind == "string":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "number":
            return float(text)
        return self._list() if text == "[" else self._object()

    def _list(self) -> list[Any]:
        found: list[Any] = []
        while not self._is("]"):
            found.append(self._value())
            if not self._is("]"):
                self._next(",")
        self._next("]")
        return found

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._is("}"):
            key = self._next("name", "string")[1].strip('"')
            self._next("=")
            found[key] = self._value()
            if not self._is("}"):
                self._next(",")
        self._next("}")
        return found
