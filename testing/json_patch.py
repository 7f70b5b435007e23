"""JSON Patch (RFC 6902) as far as the documented and printed commands use it, and JSON Merge Patch (RFC 7396)."""

import copy
from typing import Any


def patched(document: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the document after `test`, `replace` and `add` of fields of objects. The first two need the field to exist."""
    made = copy.deepcopy(document)
    for step in steps:
        *path, last = step["path"].removeprefix("/").split("/")
        place: Any = made
        for name in path:
            place = place[int(name) if isinstance(place, list) else name]
        assert isinstance(place, dict), step["path"]
        assert step["op"] in ("test", "replace", "add")
        assert last in place or step["op"] == "add", step["path"]
        if step["op"] == "test":
            assert place[last] == step["value"], step["path"]
        else:
            place[last] = step["value"]
    return made


def merged(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return the document after a merge patch that removes nothing."""
    made = {**document}
    for name, value in patch.items():
        made[name] = merged(made.get(name, {}), value) if isinstance(value, dict) else value
    return made
