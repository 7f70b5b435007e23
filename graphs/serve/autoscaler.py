"""Ray's own parser of a RayCluster, which its autoscaler uses in a cluster. It is private to Ray 2.60; each call imports it."""

from decimal import Decimal
from typing import Any


def available_node_types(spec: dict[str, Any]) -> dict[str, Any]:
    """Return node types by group, from a RayCluster's `spec`. Raises Ray's own error for a spec that it cannot parse."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _generate_available_node_types_from_ray_cr_spec

    return dict(_generate_available_node_types_from_ray_cr_spec(spec))


def autoscaling_config(ray_cluster: dict[str, Any]) -> dict[str, Any]:
    """Return the autoscaler's whole configuration, from a RayCluster with `metadata` and `spec`. Raises the same error."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    return dict(_derive_autoscaling_config_from_ray_cr(ray_cluster))


def parse_quantity(quantity: str | int | float) -> Decimal:
    """Return a Kubernetes quantity as a number. Raises ValueError."""
    from ray.autoscaler._private.kuberay.utils import parse_quantity

    return Decimal(parse_quantity(quantity))
