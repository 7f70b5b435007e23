"""Decisions of Ray's autoscaler from the manifests, without a process: a replica that waits gets a pod of its own group."""

from typing import Any

import pytest
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingReply, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import NodeState
from ray.core.generated.common_pb2 import LabelSelectorOperator
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

from kuberay import ray_autoscaler, serve_config
from kuberay.images import Images
from kuberay.manifest.rayservice import ray_service
from kuberay.profiles import CPU, PROFILES, Profile
from kuberay.worker_groups import Deployment

PAIRS = [(profile, deployment) for profile in PROFILES.values() for group in profile.groups for deployment in group.deployments]


def requested(profile: Profile, name: str) -> dict[str, Any]:
    """ray_actor_options, as they stand in serveConfigV2."""
    (application,) = serve_config.cluster(profile)["applications"]
    (options,) = (one["ray_actor_options"] for one in application["deployments"] if one["name"] == name)
    return dict(options)


def pods(profile: Profile, **groups: int) -> list[AutoscalerInstance]:
    """The head, and this many pods of each group, with every slot taken."""
    types = ray_autoscaler.node_types(ray_service(profile, Images()))
    running = [ray_autoscaler.HEAD, *(name for name, count in groups.items() for _ in range(count))]
    found = []
    for number, name in enumerate(running):
        kind = NodeKind.HEAD if name == ray_autoscaler.HEAD else NodeKind.WORKER
        instance = Instance(instance_type=name, instance_id=str(number), status=Instance.RAY_RUNNING, node_kind=kind)
        total = {resource: float(amount) for resource, amount in types[name].resources.items()}
        free = dict.fromkeys(total, 0.0)
        node = NodeState(ray_node_type_name=name, node_id=bytes([number]), total_resources=total, available_resources=free)
        node.labels.update(types[name].labels)
        found.append(AutoscalerInstance(im_instance=instance, ray_node=node, cloud_instance_id=str(number)))
    return found


def decide(profile: Profile, running: list[AutoscalerInstance], waiting: int, options: dict[str, Any]) -> SchedulingReply:
    """The decision for `waiting` replicas with these options, as Ray passes them on: resources and labels both."""
    resources = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0), **options.get("resources", {})}
    equal = LabelSelectorOperator.LABEL_OPERATOR_IN
    labels = [(key, equal, [value]) for key, value in options.get("label_selector", {}).items()]
    request = ResourceRequestUtil.make({key: amount for key, amount in resources.items() if amount}, label_selectors=[labels])
    types = AutoscalingConfig(ray_autoscaler.autoscaling_config(ray_service(profile, Images())), skip_content_hash=True)
    return ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types.get_node_type_configs(),
            max_num_nodes=types.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count([request] * waiting),
            current_instances=running,
        )
    )


def launched(reply: SchedulingReply) -> dict[str, int]:
    return {launch.instance_type: launch.count for launch in reply.to_launch}


def test_three_diffusion_replicas_that_wait_start_three_diffusion_pods_and_nothing_else() -> None:
    reply = decide(CPU, pods(CPU, ingress=2, whisper=1), 3, requested(CPU, "diffusion"))
    assert launched(reply) == {"diffusion": 3}
    assert not reply.infeasible_resource_requests
    assert not reply.to_terminate


@pytest.mark.parametrize(("profile", "deployment"), PAIRS, ids=[f"{one.name}-{other.name}" for one, other in PAIRS])
def test_a_replica_that_waits_starts_a_pod_of_its_own_group_in_every_profile(profile: Profile, deployment: Deployment) -> None:
    home = profile.group_of(deployment.name)
    others = {group.name: group.min_pods for group in profile.groups if group.name != home.name}
    least = home.max_pods - 1
    reply = decide(profile, pods(profile, **others, **{home.name: least}), 1, requested(profile, deployment.name))
    assert launched(reply) == {home.name: 1}
    assert not reply.infeasible_resource_requests


def test_no_pod_beyond_a_groups_maximum_is_started() -> None:
    group = CPU.group_of("diffusion")
    running = pods(CPU, ingress=2, whisper=1, diffusion=group.max_pods)
    reply = decide(CPU, running, 1, requested(CPU, "diffusion"))
    assert launched(reply) == {}


@pytest.mark.parametrize("wrong", [{"resources": {"difusion": 1}}, {"label_selector": {"image": "difusion"}}])
def test_a_request_that_no_group_offers_starts_nothing(wrong: dict[str, Any]) -> None:
    running = pods(CPU, ingress=2, whisper=1, diffusion=1)
    reply = decide(CPU, running, 1, {**requested(CPU, "diffusion"), **wrong})
    assert launched(reply) == {}
    assert len(reply.infeasible_resource_requests) == 1


def test_without_its_pins_a_replica_gets_a_pod_of_any_group_with_enough_cpus() -> None:
    unpinned = {"num_cpus": requested(CPU, "whisper")["num_cpus"]}
    reply = decide(CPU, pods(CPU, ingress=2, whisper=1, diffusion=1), 3, unpinned)
    assert launched(reply)
    assert "whisper" not in launched(reply)
