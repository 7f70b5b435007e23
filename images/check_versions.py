"""`python images/check_versions.py` ends the build of an image whose Python loads another version of a package than requirements.lock has.

NVIDIA's image brings packages of its own, in folders that PYTHONPATH names, and Python looks there first. Pods exchange pickled arrays,
and an array of numpy 2 cannot be read by numpy 1.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy

LOCK = Path(__file__).parents[1] / "requirements.lock"


def differences() -> list[str]:
    """One sentence for each package that Python loads in another version than the locked one."""
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))
    loaded: dict[str, tuple[str, str]] = {}
    for package in distributions():  # in the order of sys.path: an import takes the first
        name = re.sub(r"[-_.]+", "-", package.name).lower()
        loaded.setdefault(name, (package.version, str(package.locate_file(""))))
    loaded["numpy"] = (numpy.__version__, str(numpy.__file__))  # even where a folder has the code without its metadata
    return [
        f"{name} is {version} in {place}, and requirements.lock has {locked[name]}"
        for name, (version, place) in sorted(loaded.items())
        if version != locked.get(name, version)
    ]


if __name__ == "__main__":
    if found := differences():
        raise SystemExit("\n".join([*found, f"Python looks in {sys.path}: the Dockerfile has to empty PYTHONPATH."]))
