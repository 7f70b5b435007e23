"""Checkouts: copies of the repository, which a test changes and runs a service of."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from testing.service import ROOT, Service, config, free_port, running

EXAMPLES = ROOT / "docs" / "examples"
PACKAGES = ("deployments", "docs/examples", "graphs", "images", "kuberay", "sonograph", "testing", "pyproject.toml")
"""The files that a service needs, and those that its manifests are made of."""
LARGE_BYTES = 1 << 20


def checkout(folder: Path, *examples: str, paths: tuple[str, ...] = PACKAGES) -> Path:
    """Copy these paths into `folder`, all without any, with links to large files, and apply the examples."""
    command = ["git", "ls-files", "-co", "--exclude-standard", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).stat().st_size > LARGE_BYTES:
            (folder / name).symlink_to(ROOT / name)
        else:
            shutil.copy(ROOT / name, folder / name)
    for example in examples:
        subprocess.run(["git", "apply", str(EXAMPLES / f"{example}.patch")], cwd=folder, check=True)
    return folder


@contextlib.contextmanager
def serving(folder: Path, checkout: Path, cpus: Mapping[str, float], **settings: Any) -> Iterator[Service]:
    """Run a service of the checkout, with its files in `folder`. `cpus`: those that each model's replica declares."""
    port = free_port()
    content = yaml.safe_load(config(port, **settings))
    models = [{"name": name, "ray_actor_options": {"num_cpus": cpu}} for name, cpu in cpus.items()]
    content["applications"][0]["deployments"] = [{"name": "ingress"}, *models]
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "serve", "--config", str(folder / "config.yaml"), "--port", str(port)]
    with running(folder, command, port, checkout) as service:
        yield service
