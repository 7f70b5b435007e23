"""The files of a new model or graph: made from templates, and written all together or not at all."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from string import Template

from sonograph.errors import Failed

TEMPLATES = Path(__file__).with_name("templates")


def rendered(folders: Sequence[str], names: Mapping[str, str]) -> dict[Path, str]:
    """The text of each file by its path in the repository, from these folders of templates."""
    found = {}
    for folder in (TEMPLATES / name for name in folders):
        for template in folder.rglob("*.tmpl"):
            path = str(template.relative_to(folder)).replace("NAME", names["name"]).removesuffix(".tmpl")
            found[Path(path)] = Template(template.read_text(encoding="utf-8")).substitute(names)
    return dict(sorted(found.items()))


def with_extra(project: str, name: str) -> str:
    """The text of pyproject.toml with the model's extra, the first of all."""
    extra = f'{name} = {{ file = ["deployments/{name}/requirements.txt"] }}\n'
    (heading,) = re.finditer(r"^\[tool\.setuptools\.dynamic\.optional-dependencies\].*\n", project, re.MULTILINE)
    return project[: heading.end()] + extra + project[heading.end() :]


def write(files: Mapping[Path, str], changed: Mapping[Path, str], root: Path) -> None:
    """Write all files, which must be new, and replace those that are `changed`. Raises Failed, and then nothing is left of it."""
    if find_spec("ruff") is None:
        raise Failed("ruff, which formats the new files, is not installed: `make setup` installs it")
    with contextlib.ExitStack() as undo:
        try:
            for path, text in files.items():
                _create(root / path, text, undo)
            _format([path for path in files if path.suffix == ".py"], root)
            for path, text in changed.items():
                scratch = (root / path).with_name(f"{path.name}.new")
                _create(scratch, text, undo)
                scratch.replace(root / path)
        except FileExistsError as error:
            raise Failed(
                f"{Path(error.filename).relative_to(root)} exists, and nothing is overwritten: remove it first"
            ) from error
        except OSError as error:
            raise Failed(f"{error.filename} cannot be written: {error.strerror}") from error
        undo.pop_all()


def _create(path: Path, text: str, undo: contextlib.ExitStack) -> None:
    for folder in reversed([one for one in path.parents if not one.exists()]):
        folder.mkdir()
        undo.callback(folder.rmdir)
    with path.open("x", encoding="utf-8") as file:
        undo.callback(path.unlink)
        file.write(text)


def _format(paths: Sequence[Path], root: Path) -> None:
    """Sort the imports, whose order depends on the name in them, and break or join lines, whose length does."""
    for command in (("check", "--select", "I", "--fix"), ("format",)):
        subprocess.run([sys.executable, "-m", "ruff", *command, "--quiet", "--no-cache", *paths], cwd=root, check=True)
