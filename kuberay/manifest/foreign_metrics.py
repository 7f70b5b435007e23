"""Metrics of other programs that the alerts and dashboards read, each with the program that exports it."""

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
PROCESSING = "ray_serve_replica_processing_queries"
"""Requests in a replica, from the replica itself: the series has the pod and the node that it is on."""
QUEUED = "ray_serve_deployment_queued_queries"
NODE_CPU, NODE_MEMORY_USED, NODE_MEMORY_TOTAL = "ray_node_cpu_utilization", "ray_node_mem_used", "ray_node_mem_total"
ACTIVE_NODES = "autoscaler_active_nodes"
TRITON_ENDED = "ray_nv_inference_request_success_total"
"""Requests that ended, failed and cancelled ones too: of a decoupled model Triton counts no request as a failure."""
TRITON_INFERENCES, TRITON_EXECUTIONS = "ray_nv_inference_count_total", "ray_nv_inference_exec_count_total"
TRITON_QUEUE_US, TRITON_COMPUTE_US = (
    "ray_nv_inference_queue_duration_us_total",
    "ray_nv_inference_compute_infer_duration_us_total",
)
TRITON_PENDING = "ray_nv_inference_pending_request_count"
STEPS, STEPS_SAVED = "ray_sonograph_denoising_steps_total", "ray_sonograph_denoising_steps_saved_total"
"""Counters of the diffusion model's own, among Triton's."""
GPU_USE, GPU_MEMORY_USED, GPU_MEMORY_FREE = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"
"""Percent, and MiB."""
GPU_POWER, GPU_TEMPERATURE, GPU_XID = "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_XID_ERRORS"
"""Watts, degrees Celsius, and the number of the last error."""

SOURCES = {
    "Prometheus": (UP,),
    "Ray Serve": (APPLICATION_STATUS, DEPLOYMENT_STATUS, REPLICA_HEALTHY, PROCESSING, QUEUED),
    "Ray": (NODE_CPU, NODE_MEMORY_USED, NODE_MEMORY_TOTAL),
    "Ray's autoscaler": (PENDING_NODES, ACTIVE_NODES),
    "Triton": (
        TRITON_ENDED,
        TRITON_INFERENCES,
        TRITON_EXECUTIONS,
        TRITON_QUEUE_US,
        TRITON_COMPUTE_US,
        TRITON_PENDING,
    ),
    "the diffusion model": (STEPS, STEPS_SAVED),
    "NVIDIA's DCGM exporter": (GPU_USE, GPU_MEMORY_USED, GPU_MEMORY_FREE, GPU_POWER, GPU_TEMPERATURE, GPU_XID),
    "KubeRay's operator": (UPGRADE_IN_PROGRESS,),
    "kube-state-metrics": (STATEFUL_SET_READY, NAMESPACE_PHASE),
    "the kubelet (cAdvisor)": (CONTAINER_RSS,),
}
