"""`sonograph new model|graph NAME`. What a command needs is imported when it runs."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sonograph.errors import Failed, fail
from sonograph.new.files import TEMPLATES

ROLES = sorted(path.name for path in TEMPLATES.glob("*_to_*"))
PARTS = ("pyproject.toml", "deployments/model_spec.py", "graphs/core/graph.py", "images/docker-bake.hcl", "testing/fakes.py")
"""Files by which a checkout is known."""
PROJECT = Path("pyproject.toml")

cli = typer.Typer(no_args_is_help=True, help="Begin a model or a graph, in a checkout of the repository: docs/adding-a-model.md.")
console = Console(highlight=False, soft_wrap=True)


@cli.command()
def model(
    name: Annotated[str, typer.Argument(help="A lower-case letter, then letters and digits.", show_default=False)],
    role: Annotated[str, typer.Option(help=f"What it takes and returns: {', '.join(ROLES)}.")] = "image_to_image",
) -> None:
    """Write a small model that works: deployments/NAME/, tests/deployments/NAME/, and its extra in pyproject.toml.

    Its engine computes something small without torch; REPLACE marks the places of the real model. Nothing is overwritten.
    """
    from sonograph.new import files, names

    if role not in ROLES:
        raise typer.BadParameter(f"there is no {role} here, only {', '.join(ROLES)}", param_hint="--role")
    with _reporting():
        root = _checkout()
        names.check_model(name, root)
        new = files.rendered(("model", role), {"name": name, "Class": name.capitalize(), "role": role})
        project = files.with_extra((root / PROJECT).read_text(encoding="utf-8"), name)
        files.write(new, {PROJECT: project}, root)
    _print(
        {**dict.fromkeys(map(str, new), ""), str(PROJECT): f"the extra {name}"},
        {
            f"deployments/{name}/engine.py": f"replace what REPLACE marks; deployments/{name}/README.md names the rest",
            **_use(name, role),
            ".venv/bin/sonograph render": "adds its image to images/docker-bake.hcl",
            f".venv/bin/pytest tests/deployments/{name}": "tests the engine, and the deployment in a real Triton",
            "make check": "checks types, laws, documents and manifests",
        },
    )


def _use(name: str, role: str) -> dict[str, str]:
    """The steps by which a graph gets the model."""
    if role != "image_to_image":
        return {f"models: {{{role}: {name}}}": "the setting that gives it the role (docs/settings.md)"}
    return {
        "graphs/voice_to_image.py": f'add, among the stages: {name} = Stage[Image, Image].soft("{role}")',
        "": f"and, in _draw: image = await self.{name}(image, context, otherwise=image)",
        f"{name}: {{enabled: true}}": "the setting that deploys it (docs/settings.md)",
    }


@cli.command()
def graph(name: Annotated[str, typer.Argument(help="INPUT_to_OUTPUT, such as speech_to_words.", show_default=False)]) -> None:
    """Write a small graph that works: graphs/NAME.py, with one stage, and its test over fakes, tests/graphs/test_NAME.py.

    REPLACE marks the place of further stages. Nothing is overwritten.
    """
    from sonograph.new import files, names

    title, path = "".join(map(str.capitalize, name.split("_"))), f"/{name.replace('_', '-')}"
    with _reporting():
        root = _checkout()
        names.check_graph(name, root)
        new = files.rendered(("graph",), {"name": name, "Class": title, "path": path})
        files.write(new, {}, root)
    _print(
        dict.fromkeys(map(str, new), ""),
        {
            f"graphs/{name}.py": f"replace what REPLACE marks; its route is POST {path}",
            f".venv/bin/pytest tests/graphs/test_{name}.py": "tests it over stages that answer at once",
            "make check": "checks types, laws and documents",
            f"graphs: [voice_to_image, voice_to_text, {name}]": "the setting that mounts it (docs/settings.md)",
        },
    )


def _checkout() -> Path:
    """The current folder. Raises Failed unless it is a checkout of the repository."""
    root = Path.cwd()
    if not all((root / part).is_file() for part in PARTS):
        raise Failed(f"{root} is no checkout of Sonograph's repository: run it in the folder of its pyproject.toml")
    return root


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except Failed as error:
        fail("new", error)


def _print(written: Mapping[str, str], steps: Mapping[str, str]) -> None:
    """Print two columns of files and steps."""
    width = max(map(len, [*written, *steps]))
    for heading, rows in {"Written:": written, "Next:": steps}.items():
        console.print(heading)
        for left, right in rows.items():
            console.print(f"  {left:<{width}}  {right}".rstrip(), markup=False)
