"""`sonograph status`: each replica with its model, state and node."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sonograph import options
from sonograph.addresses import URL
from sonograph.errors import Failed, fail
from sonograph.keys import api_key
from sonograph.terminal import printable

HEAD = ("STAGE", "MODEL", "REPLICA", "STATE", "NODE")
UNKNOWN = 2
"""Exit status where the service does not tell."""
FAILED = ("ABSENT", "UNHEALTHY", "DEPLOY_FAILED")
"""Statuses of a deployment that does not run, whatever its replicas."""


def status(
    url: options.Url = URL,
    key_file: options.KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")] = False,
) -> None:
    """Show which replica of which model runs on which node.

    Exits with 0 where everything runs, with 1 where something does not, and with 2 where the service does not tell.
    """
    from sonograph.service import Service  # loads httpx

    try:
        with Service(url, api_key(key_file)) as service:
            found = service.topology()
    except Failed as error:
        fail("status", error, UNKNOWN)
    missing = faults(found)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join((*table(found), *missing)))
    if missing:
        raise typer.Exit(1)


def table(topology: dict[str, Any]) -> list[str]:
    """Lines of aligned columns, one for each replica. `topology`: the answer of `GET /graph`."""
    rows = [HEAD, *((name, *row) for name, deployment in deployments(topology) for row in _rows(deployment))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def faults(topology: dict[str, Any]) -> list[str]:
    """A sentence on each part of the application that does not run."""
    found = []
    if topology["status"] != "RUNNING":
        found.append(printable(f"The application {topology['application']} is {topology['status']}."))
    for name, deployment in deployments(topology):
        running = sum(replica["state"] == "RUNNING" for replica in deployment["replicas"])
        if running < deployment["target_replicas"] or deployment["status"] in FAILED:
            counted = f"{name} is {deployment['status']}: {running} of {deployment['target_replicas']} replicas run"
            lacking = f"no node has {', '.join(deployment['unsatisfiable'])}" if deployment["unsatisfiable"] else ""
            found.append(printable("; ".join(filter(None, (counted, lacking, deployment["message"])))))
    return found


def deployments(topology: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each stage's deployment by the stage's name, and its rollout's candidate; an aborted one while it has replicas."""
    for stage in topology["stages"]:
        yield stage["stage"], stage
        if rollout := stage["rollout"]:
            candidate = rollout["candidate"]
            if candidate["replicas"] or rollout["rollout"]["status"] != "aborted":
                yield f"{stage['stage']}-candidate", candidate


def _rows(deployment: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    model = deployment.get("model")
    for replica in deployment["replicas"] or [{"id": None, "state": deployment["status"], "host": None, "address": None}]:
        node = f"{replica['host']} ({replica['address']})" if replica["host"] else replica.get("node")
        yield tuple(printable(str(cell or "-")) for cell in (model, replica["id"], replica["state"], node))
