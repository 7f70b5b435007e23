"""Metrics of other programs that the alerts read, each with the program that exports it."""

UP = "up"
"""1 where the last scrape of a target succeeded, 0 where it failed; no series where there is no target."""
APPLICATION_STATUS = "ray_serve_application_status"
"""By application: 1 DEPLOY_FAILED, 2 UNHEALTHY, 3 NOT_STARTED, 4 DELETING, 5 DEPLOYING, 6 RUNNING."""
DEPLOYMENT_STATUS = "ray_serve_deployment_status"
"""By application and deployment: 1 DEPLOY_FAILED, 2 UNHEALTHY, 3 UPDATING, 4 UPSCALING, 5 DOWNSCALING, 6 HEALTHY."""
REPLICA_HEALTHY = "ray_serve_deployment_replica_healthy"
"""1 for each healthy replica of a deployment, by application; where Ray leaves the label `replica` out, their number."""
PENDING_NODES = "autoscaler_pending_nodes"
"""Pods that the autoscaler has asked Kubernetes for, and that have not joined Ray's cluster, by group (`NodeType`)."""
UPGRADE_IN_PROGRESS = "kuberay_service_condition_upgrade_in_progress"
"""1 for each RayService (`name`), with the label `condition`: whether KubeRay has a second cluster for it."""
STATEFUL_SET_READY = "kube_statefulset_status_replicas_ready"
NAMESPACE_PHASE = "kube_namespace_status_phase"
CONTAINER_RSS = "container_memory_rss"
"""Bytes of a container, without the page cache."""

SOURCES = {
    "Prometheus": (UP,),
    "Ray Serve": (APPLICATION_STATUS, DEPLOYMENT_STATUS, REPLICA_HEALTHY),
    "Ray's autoscaler": (PENDING_NODES,),
    "KubeRay's operator": (UPGRADE_IN_PROGRESS,),
    "kube-state-metrics": (STATEFUL_SET_READY, NAMESPACE_PHASE),
    "the kubelet (cAdvisor)": (CONTAINER_RSS,),
}
