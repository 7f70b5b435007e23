"""Places of Serve's config: a running Serve, over Ray's dashboard, or a RayService, by kubectl."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any, Protocol

import typer
import yaml
from rich.console import Console

from kuberay import kubectl
from kuberay.profiles import NAME
from sonograph.dashboard import Dashboard
from sonograph.errors import Failed
from sonograph.rollouts import fit, serve_config

FAILED = "DEPLOY_FAILED"


class Target(Protocol):
    def config(self) -> dict[str, Any]:
        """Serve's whole config."""

    def apply(self, config: dict[str, Any]) -> None:
        """Make this Serve's whole config."""

    def status(self, application: str) -> tuple[str, str]:
        """Serve's status of an application, such as RUNNING, and a sentence on it; ABSENT where there is none."""

    def lacking(self, options: dict[str, Any], application: str) -> str:
        """One sentence on the resources that a replica with these options would wait for; empty where it fits."""


class RunningServe:
    """Serve, by its REST API. It changes at once, and no file is changed with it."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def config(self) -> dict[str, Any]:
        return serve_config.running(self._dashboard.details())

    def apply(self, config: dict[str, Any]) -> None:
        self._dashboard.deploy(config)

    def status(self, application: str) -> tuple[str, str]:
        return _status(self._dashboard.details()["applications"], application)

    def lacking(self, options: dict[str, Any], application: str) -> str:
        return fit.lacking(options, self._dashboard.nodes(), self._dashboard.actors(), application)


class RayService:
    """A RayService, by kubectl: KubeRay gives its serveConfigV2 to Serve. Its autoscaler adds nodes, so that nothing is refused."""

    def __init__(self, name: str, namespace: str | None = None, context: str | None = None) -> None:
        """`namespace`: None for sonograph. `context`: None for kubectl's current one."""
        self._name = name
        self.options = ["--namespace", namespace or NAME, *(["--context", context] if context else [])]

    def config(self) -> dict[str, Any]:
        return _serve_config(self._read(), self._name)

    def apply(self, config: dict[str, Any]) -> None:
        arguments = ["patch", "rayservice", self._name, *self.options, "--type", "merge", "--patch-file", "/dev/stdin"]
        _kubectl(arguments, patch(config))

    def status(self, application: str) -> tuple[str, str]:
        found = self._read()
        status = found.get("status") or {}
        if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
            return "DEPLOYING", "KubeRay has not read the change yet"
        return _status((status.get("activeServiceStatus") or {}).get("applicationStatuses") or {}, application)

    def lacking(self, options: dict[str, Any], application: str) -> str:
        return ""

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(_kubectl(["get", "rayservice", self._name, *self.options, "--output", "json"])))


class Manifest:
    """A RayService whose change is printed, and left to whoever applies it: the command ends there, and goes on when repeated."""

    def __init__(self, source: str, namespace: str | None = None, context: str | None = None) -> None:
        """`source`: a manifest's path, or the name of a RayService in the cluster."""
        self._source = source
        self._cluster = None if Path(source).is_file() else RayService(source, namespace, context)
        self._name, own = (source, None) if self._cluster else _names(Path(source))
        self._options = (self._cluster or RayService(self._name, namespace or own, context)).options

    def config(self) -> dict[str, Any]:
        if self._cluster:
            return self._cluster.config()
        return _serve_config(_rayservice(Path(self._source)), self._source)

    def apply(self, config: dict[str, Any]) -> None:
        """Print the patch on standard output, and how to apply it on standard error. Ends the command."""
        sys.stdout.write(patch(config))
        Console(stderr=True, highlight=False).print(
            "This patch changes serveConfigV2 alone, so KubeRay keeps the cluster. Save it as patch.yaml, apply it by\n"
            f"  kubectl patch rayservice {self._name} {shlex.join(self._options)} --type merge --patch-file patch.yaml\n"
            f"{'' if self._cluster else f'and write it into {self._source}, '}and repeat the command, which then goes on.",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit

    def status(self, application: str) -> tuple[str, str]:
        return self._cluster.status(application) if self._cluster else ("UNKNOWN", "")

    def lacking(self, options: dict[str, Any], application: str) -> str:
        return ""


def patch(config: dict[str, Any]) -> str:
    """A merge patch of a RayService, in YAML."""
    text = yaml.safe_dump(config, sort_keys=False)
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    return f"spec:\n  serveConfigV2: |\n{indented}"


def _status(applications: dict[str, Any], name: str) -> tuple[str, str]:
    found = applications.get(name)
    if found is None:
        return "ABSENT", ""
    messages = [one.get("message") or "" for one in (found.get("deployments") or {}).values()]
    causes = [message for message in messages if message] or [found.get("message") or ""]
    return found["status"], "; ".join(line.strip() for cause in causes for line in cause.strip().splitlines()[-1:])


def _names(path: Path) -> tuple[str, str | None]:
    metadata = _rayservice(path)["metadata"]
    return metadata["name"], metadata.get("namespace")


def _rayservice(path: Path) -> dict[str, Any]:
    try:
        found = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if (one or {}).get("kind") == "RayService"]
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise Failed(f"cannot read {path}: {error}") from error
    if len(found) != 1:
        raise Failed(f"{path} has {len(found)} RayServices, and needs one")
    return dict(found[0])


def _serve_config(rayservice: dict[str, Any], name: str) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(rayservice["spec"]["serveConfigV2"]))
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise Failed(f"{name} has no serveConfigV2 that can be read: {error}") from error


def _kubectl(arguments: list[str], content: str = "") -> str:
    try:
        return kubectl.run(*arguments, content=content)
    except kubectl.KubectlFailed as error:
        raise Failed(str(error)) from error
