"""The question whether a candidate's replica fits on a node now: Serve gives no reason for one that waits."""

from collections.abc import Iterable
from typing import Any


def lacking(
    options: dict[str, Any], nodes: Iterable[dict[str, Any]], actors: Iterable[dict[str, Any]], application: str = ""
) -> str:
    """One sentence on the resources that no node has free; empty where the replica fits.

    `options`: its `ray_actor_options`. `nodes`, `actors`: the rows of Ray's state API. Actors of `application` do not count.
    """
    wanted = {
        "CPU": options.get("num_cpus", 1),
        "GPU": options.get("num_gpus", 0),
        "memory": options.get("memory", 0),
        **(options.get("resources") or {}),
    }
    wanted = {name: amount for name, amount in wanted.items() if amount}
    labels = options.get("label_selector") or {}
    able = [node for node in nodes if node["state"] == "ALIVE" and _has_labels(node, labels)]
    if not able:
        return f"a candidate needs a node with the labels {_listed(labels)}, and there is none"
    free = _free(able, [one for one in actors if not str(one["class_name"]).startswith(f"ServeReplica:{application}:")])
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in free.values()):
        return ""
    most = {name: max(node.get(name, 0) for node in free.values()) for name in wanted}
    short = [name for name, amount in wanted.items() if most[name] < amount]
    needed = f"a candidate needs {' and '.join(f'{amount:g} {name}' for name, amount in wanted.items())}"
    if not short:
        return f"{needed} on one node, and no node has all of it free"
    return f"{needed}, and no node has more than {' and '.join(f'{most[name]:g} {name}' for name in short)} free"


def _free(nodes: Iterable[dict[str, Any]], actors: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    free = {node["node_id"]: dict(node["resources_total"]) for node in nodes}
    for actor in actors:
        if on_node := free.get(actor.get("node_id") or ""):
            for name, amount in (actor.get("required_resources") or {}).items():
                on_node[name] = round(on_node.get(name, 0) - amount, 4)
    return free


def _has_labels(node: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether the node has them. A selector with an operator, such as `!in(a, b)`, is left to Ray."""
    return all(node.get("labels", {}).get(name) == value for name, value in labels.items() if not value.startswith(("!", "in(")))


def _listed(labels: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in labels.items()) or "of any kind"
