"""Names of new models and graphs: their form, and those that are taken."""

import inspect
import keyword
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from sonograph.errors import Failed

LONGEST = 30
MODEL = re.compile("[a-z][a-z0-9]*")
GRAPH = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*_to(_[a-z0-9]+)+")
RESERVED = {
    "decode": "a stage of every graph",
    "encode": "a part of the time that a picture takes",
    "memory": "a resource of Ray's",
    "model": "part of the name of every model's base class",
    "self": "a parameter of every method",
}
NO_WORDS = {"room", "rooms"}
"""Words that no text of the project has, by tests/laws/test_words.py."""


def check_model(name: str, root: Path) -> None:
    """Raise Failed unless a new model can have this name in the checkout."""
    if not MODEL.fullmatch(name) or keyword.iskeyword(name) or len(name) > LONGEST:
        raise Failed(
            f"{name} is no name for a model: it takes a lower-case letter, then letters and digits, up to {LONGEST} in all, "
            "and no keyword of Python"
        )
    _check_free(name, root)


def check_graph(name: str, root: Path) -> None:
    """Raise Failed unless a new graph can have this name in the checkout."""
    if not GRAPH.fullmatch(name) or len(name) > LONGEST:
        raise Failed(
            f"{name} is no name for a graph: it is INPUT_to_OUTPUT, such as speech_to_words, of lower-case letters, digits and "
            f"single underscores, up to {LONGEST} in all"
        )
    _check_free(name, root)


def _check_free(name: str, root: Path) -> None:
    for names, meaning in taken(root):
        if name in names:
            raise Failed(f"{name} is taken: it is {meaning}")
    if words := NO_WORDS & set(name.split("_")):
        raise Failed(f"{name} is no name here: {words.pop()} is a word that this project does without (tests/laws/test_words.py)")


def taken(root: Path) -> Iterator[tuple[set[str], str]]:
    """Names that a checkout has already, and what each of them names there."""
    from deployments.model_spec import Role
    from graphs.core.graph import Graph
    from graphs.settings import Settings

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    for folder in ("deployments", "graphs"):
        modules = {path.relative_to(root / folder).parts[0] for path in (root / folder).glob("**/*.py")}
        yield {name.removesuffix(".py") for name in modules}, f"a module of {folder}/"
    yield set(project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]), "an extra of pyproject.toml"
    bake_file = (root / "images" / "docker-bake.hcl").read_text(encoding="utf-8")
    yield set(re.findall(r'^target "(\w+)"', bake_file, re.MULTILINE)), "a target of images/docker-bake.hcl"
    yield set(get_args(Role)), "a role"
    yield {*dir(Settings), *Settings.model_fields}, "a part of the settings"
    yield {*dir(Graph), *inspect.get_annotations(Graph)}, "an attribute of every graph"
    for name, meaning in RESERVED.items():
        yield {name}, meaning
