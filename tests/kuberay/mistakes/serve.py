"""Mistakes in the Serve config, in what the app needs of its pods, and in what KubeRay itself refuses."""

from typing import Any

from kuberay.doctor.finding import NOTE, WARNING
from kuberay.profiles import MIG, ONE_GPU, SMALL_GPUS
from testing.manifests import Break, Manifests
from tests.kuberay.mistakes import Mistake

OPTIONS = {"gatewayClassName": "g", "stepSizePercent": 10, "intervalSeconds": 60, "maxSurgePercent": 50}
WEIGHTS = "/opt/sonograph/share/sonograph"


def annotated(**annotations: str) -> Break:
    return lambda m: m.service["metadata"]["annotations"].update(
        {f"ray.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    )


def upgraded(**options: Any) -> Break:
    strategy = {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": {**OPTIONS, **options}}
    return lambda m: m.service["spec"].update(upgradeStrategy=strategy)


def http(**options: Any) -> Break:
    return lambda m: m.config["http_options"].update(options)


def args(section: str, **settings: Any) -> Break:
    return lambda m: m.application["args"].setdefault(section, {}).update(settings)


def deployed(name: str, **fields: Any) -> Break:
    return lambda m: m.deployment(name).update(fields)


def scaled(name: str, **fields: Any) -> Break:
    return lambda m: m.scaling(name).update(fields)


def env(group: str, name: str, value: str) -> Break:
    return lambda m: m.container(group).update(
        env=[*(one for one in m.container(group)["env"] if one["name"] != name), {"name": name, "value": value}]
    )


def hook(*command: str) -> Break:
    return lambda m: m.container("whisper").update(lifecycle={"preStop": {"exec": {"command": list(command)}}})


def drain(line: str) -> Break:
    return hook("sh", "-c", f"exec sonograph drain {line}")


def port(group: str, number: int | None) -> Break:
    """The group's container port `serve` is this one, or absent."""

    def change(m: Manifests) -> None:
        others = [one for one in m.container(group)["ports"] if one["name"] != "serve"]
        m.container(group)["ports"] = others + ([{"name": "serve", "containerPort": number}] if number else [])

    return change


def image(group: str, old: str, new: str) -> Break:
    return lambda m: m.container(group).update(image=m.container(group)["image"].replace(old, new))


def unmounted(group: str) -> Break:
    return lambda m: (m.container(group).pop("volumeMounts"), m.pod(group).pop("volumes"), m.pod(group).pop("initContainers"))


def served(**fields: Any) -> Break:
    return lambda m: m.service["spec"].update(serveService=fields)


def without_a_job(m: Manifests) -> None:
    m.beside = [one for one in m.beside if one["kind"] != "Job"]


MISTAKES = [
    # KubeRay's own refusals
    Mistake(
        "a_time_of_the_start_in_min",
        "SG112",
        annotated(initializing_timeout="45min"),
        "KubeRay refuses 45min",
        cluster="operator: has invalid format: 45min",
    ),
    Mistake("a_time_of_the_start_in_words", "SG112", annotated(initializing_timeout="45 m"), "KubeRay refuses 45 m"),
    Mistake("a_time_of_the_start_in_days", "SG112", annotated(initializing_timeout="1d"), "KubeRay refuses 1d"),
    Mistake(
        "no_time_for_the_start",
        "SG112",
        annotated(initializing_timeout="0"),
        "has to be positive",
        cluster="operator: must be a positive",
    ),
    Mistake(
        "a_negative_time_for_the_start",
        "SG112",
        annotated(initializing_timeout="-45m"),
        "has to be positive",
        cluster="operator: must be a positive duration, got: -45m",
    ),
    Mistake("seconds_meant_as_minutes", "SG112", annotated(initializing_timeout="45"), "is 45 s, in which", WARNING),
    Mistake("a_misspelt_annotation", "SG113", annotated(initialising_timeout="45m"), "did you mean ray.io/init", WARNING),
    Mistake(
        "an_annotation_for_fault_tolerance",
        "SG114",
        annotated(ft_enabled="true"),
        "refuses the annotation ray.io/ft-enabled",
        cluster="operator: ray.io/ft-enabled annotation and GcsFaultToleranceOptions are both set",
    ),
    Mistake(
        "an_annotation_against_fault_tolerance",
        "SG114",
        annotated(ft_enabled="false"),
        "ray.io/ft-enabled",
        cluster="operator: ray.io/ft-enabled annotation and GcsFaultToleranceOptions are both set",
    ),
    Mistake(
        "an_annotation_for_storage",
        "SG114",
        annotated(external_storage_namespace="x"),
        "external-storage-namespace",
        cluster="operator: cannot set `ray.io/external-storage-namespace` annotation",
    ),
    Mistake(
        "redis_with_a_volume",
        "SG114",
        lambda m: m.cluster["gcsFaultToleranceOptions"].update(storage={"size": "1Gi"}),
        "refuses it with Redis",
    ),
    Mistake(
        "redis_password_twice",
        "SG107",
        env("head", "REDIS_PASSWORD", "x"),
        "REDIS_PASSWORD belongs in",
        cluster="operator: cannot set `REDIS_PASSWORD` env var in head Pod",
    ),
    Mistake(
        "redis_password_among_the_parameters",
        "SG107",
        lambda m: m.head["rayStartParams"].update({"redis-password": "x"}),
        "redis-password belongs in",
        cluster="operator: cannot set `redis-password` in rayStartParams",
    ),
    Mistake(
        "a_redis_that_ray_alone_knows",
        "SG107",
        lambda m: (m.cluster.pop("gcsFaultToleranceOptions"), m.add_env("RAY_REDIS_ADDRESS", "r:6379")),
        "RAY_REDIS_ADDRESS belongs in",
        cluster="operator: RAY_REDIS_ADDRESS is set which implicitly enables GCS fault tolerance",
    ),
    Mistake(
        "an_upgrade_without_pause",
        "SG109",
        upgraded(intervalSeconds=0),
        "it is 0, and KubeRay refuses",
        cluster="operator: intervalSeconds must be greater than 0",
    ),
    Mistake(
        "an_upgrade_of_150_percent",
        "SG109",
        upgraded(maxSurgePercent=150),
        "it is 150, and KubeRay takes 0 to 100",
        cluster="operator: maxSurgePercent must be between 0 and 100",
    ),
    Mistake(
        "an_upgrade_of_less_than_nothing",
        "SG109",
        upgraded(maxSurgePercent=-1),
        "it is -1",
        cluster="operator: maxSurgePercent must be between 0 and 100",
    ),
    Mistake("an_upgrade_without_steps", "SG109", upgraded(stepSizePercent=0), "no traffic would ever move"),
    Mistake(
        "an_upgrade_with_steps_back",
        "SG109",
        upgraded(stepSizePercent=-5),
        "it is -5",
        cluster="operator: stepSizePercent must be between 0 and 100",
    ),
    Mistake("steps_above_the_surge", "SG109", upgraded(stepSizePercent=60), "above maxSurgePercent"),
    Mistake(
        "an_upgrade_by_no_gateway",
        "SG109",
        upgraded(gatewayClassName=""),
        "needs gatewayClassName",
        cluster="operator: gatewayClassName is required",
    ),
    Mistake("steps_as_text", "SG011", upgraded(stepSizePercent="50%"), "has to be a whole number"),
    Mistake(
        "an_upgrade_without_autoscaler",
        "SG109",
        lambda m: (upgraded()(m), m.cluster.pop("enableInTreeAutoscaling")),
        "without Ray's autoscaler",
        also=("SG106",),
        cluster="operator: Ray Autoscaler is required",
    ),
    Mistake(
        "options_of_another_upgrade",
        "SG109",
        lambda m: m.service["spec"].update(upgradeStrategy={"type": "NewCluster", "clusterUpgradeOptions": OPTIONS}),
        "alone, and the type is NewCluster",
        WARNING,
    ),
    Mistake(
        "no_groups",
        "SG119",
        lambda m: m.cluster.pop("workerGroupSpecs"),
        "there is no worker group",
        also=("SG302", "SG303", "SG405"),
    ),
    Mistake(
        "groups_without_pods",
        "SG119",
        lambda m: [group.update(minReplicas=0, maxReplicas=0) for group in m.cluster["workerGroupSpecs"]],
        "0 pods at most",
        also=("SG306",),
    ),
    Mistake(
        "a_group_twice",
        "SG115",
        lambda m: m.cluster["workerGroupSpecs"].append(m.group("whisper")),
        "two groups are named whisper",
        also=("SG302", "SG303"),
    ),
    Mistake(
        "a_group_with_the_heads_name",
        "SG115",
        lambda m: m.rename("whisper", "headgroup"),
        "the head's own group",
        also=("SG302", "SG303", "SG312"),
    ),
    Mistake("a_service_suspended", "SG116", lambda m: m.service["spec"].update(suspend=True), "delete every pod"),
    Mistake("a_cluster_suspended", "SG116", lambda m: m.cluster.update(suspend=True), "delete every pod"),
    Mistake(
        "managed_by_nobody",
        "SG117",
        lambda m: m.service["spec"].update(managedBy="me"),
        "and refuses me",
        cluster="kubectl: the managedBy field value must be either",
    ),
    Mistake(
        "managed_by_multikueue",
        "SG117",
        lambda m: m.service["spec"].update(managedBy="kueue.x-k8s.io/multikueue"),
        "leaves it alone",
        WARNING,
    ),
    Mistake(
        "a_threshold_of_old",
        "SG118",
        lambda m: m.service["spec"].update(serviceUnhealthySecondThreshold=300),
        "KubeRay ignores it",
        WARNING,
    ),
    Mistake(
        "workers_to_delete",
        "SG118",
        lambda m: m.group("whisper").update(scaleStrategy={"workersToDelete": ["x"]}),
        "deletes them at each apply",
        WARNING,
    ),
    Mistake(
        "tokens_of_no_version",
        "SG120",
        lambda m: m.cluster.pop("rayVersion"),
        "refuses tokens without it",
        also=("SG501",),
        cluster="operator: RayVersion was not specified",
    ),
    Mistake(
        "tokens_of_an_old_ray",
        "SG120",
        lambda m: m.cluster.update(rayVersion="2.9.3"),
        "since 2.52.0",
        also=("SG501",),
        cluster="operator: minimum Ray version is 2.52.0",
    ),
    Mistake(
        "tokens_of_latest",
        "SG120",
        lambda m: m.cluster.update(rayVersion="latest"),
        "it is no version",
        also=("SG501",),
        cluster="operator: RayVersion format is invalid: latest",
    ),
    Mistake(
        "a_head_without_containers",
        "SG012",
        lambda m: m.head["template"]["spec"].update(containers=[]),
        "at least 1 item",
        cluster="operator: should have at least one container",
    ),
    Mistake("a_number_among_the_parameters", "SG011", lambda m: m.head["rayStartParams"].update({"port": 6379}), "to be a text"),
    Mistake(
        "an_idle_time_of_the_old_autoscaler",
        "SG106",
        lambda m: (m.cluster["autoscalerOptions"].pop("version"), m.group("whisper").update(idleTimeoutSeconds=60)),
        "refuses it with the old autoscaler",
        cluster="operator: autoscaler v2 is not enabled",
    ),
    Mistake(
        "a_negative_idle_time_of_all",
        "SG106",
        lambda m: m.cluster["autoscalerOptions"].update(idleTimeoutSeconds=-1),
        "KubeRay refuses -1",
        cluster="operator: autoscalerOptions.idleTimeoutSeconds must be non-negative",
    ),
    Mistake(
        "no_cpus_for_the_autoscaler",
        "SG121",
        lambda m: (
            m.group("whisper").update(resources={"whisper": "1"}),
            m.requests("whisper").pop("cpu"),
        ),
        "Ray's autoscaler then ends",
        also=("SG402",),
    ),
    Mistake(
        "cpus_in_words",
        "SG122",
        lambda m: (m.group("whisper").pop("resources"), m.group("whisper").update(rayStartParams={"num-cpus": "many"})),
        "can read them",
    ),
    Mistake(
        "a_node_in_thousandths_of_cpus",
        "SG406",
        lambda m: m.service["metadata"]["annotations"].update(
            {"sonograph/nodes": '[{"name": "a", "count": 1, "cpus": "3900m", "memory_gib": 1, "gpus": {}}]'}
        ),
        "3900m is no number of CPUs",
        WARNING,
    ),
    # the config, and the app
    Mistake("no_apps", "SG210", lambda m: m.config.update(applications=[]), "lists no app"),
    Mistake("apps_left_out", "SG201", lambda m: m.config.pop("applications"), "Field required"),
    Mistake(
        "an_app_that_is_a_function_of_python",
        "SG211",
        lambda m: m.application.update(import_path="os:system"),
        "a function of Python",
    ),
    Mistake("an_app_that_is_a_module", "SG211", lambda m: m.application.update(import_path="os:path"), "a module"),
    Mistake(
        "an_app_that_is_a_class",
        "SG211",
        lambda m: m.application.update(import_path="graphs.ingress:Ingress"),
        "a class, Ingress",
    ),
    Mistake("an_import_path_of_one_word", "SG201", lambda m: m.application.update(import_path="app"), "Serve refuses it"),
    Mistake(
        "a_misspelt_import_path", "SG203", lambda m: m.application.update(import_path="graph.voice_to_image:app"), "cannot be"
    ),
    Mistake("a_prefix_without_slash", "SG212", lambda m: m.application.update(route_prefix="api"), "begin with /"),
    Mistake("an_empty_prefix", "SG212", lambda m: m.application.update(route_prefix=""), "begin with /"),
    Mistake("a_prefix_with_braces", "SG212", lambda m: m.application.update(route_prefix="/{name}"), "no braces"),
    Mistake("a_prefix_with_a_slash_behind", "SG212", lambda m: m.application.update(route_prefix="/api/"), "may not end with /"),
    Mistake("no_prefix", "SG212", lambda m: m.application.update(route_prefix=None), "no request over HTTP"),
    Mistake(
        "an_app_below_a_prefix", "SG213", lambda m: m.application.update(route_prefix="/api"), "nothing answers /healthz", WARNING
    ),
    Mistake(
        "two_apps_of_one_name",
        "SG201",
        lambda m: m.config["applications"].append({**m.application, "route_prefix": "/b"}),
        "multiple",
    ),
    Mistake(
        "two_apps_of_one_prefix", "SG201", lambda m: m.config["applications"].append({**m.application, "name": "b"}), "duplicate"
    ),
    Mistake(
        "code_of_a_folder",
        "SG214",
        lambda m: m.application.update(runtime_env={"working_dir": "local:///code"}),
        "has to be in the image of every pod",
        NOTE,
        also=("SG203",),
    ),
    # how requests get in
    Mistake(
        "another_port",
        "SG220",
        http(port=9000),
        "Serve listens on 9000 (http_options.port), and the port serve is 8000",
        also=("SG746",),
    ),
    Mistake("another_container_port", "SG220", port("whisper", 8001), "and the port serve is 8001: the pod would never be ready"),
    Mistake("another_port_of_the_head", "SG220", port("head", 8001), "KubeRay's Service would send requests to a port"),
    Mistake(
        "another_port_and_none_of_a_container",
        "SG220",
        lambda m: (http(port=9000)(m), port("whisper", None)(m)),
        "KubeRay's probe asks 8000 and Serve listens on 9000",
        also=("SG428", "SG746"),
    ),
    Mistake("no_port_for_the_probe", "SG428", port("whisper", None), "the container has no port serve"),
    Mistake(
        "a_probe_of_another_port",
        "SG220",
        lambda m: m.container("whisper").update(readinessProbe={"httpGet": {"path": "/-/healthz", "port": "metrics"}}),
        "it asks 8080, and Serve listens on 8000",
    ),
    Mistake("a_host_of_the_pod_alone", "SG221", http(host="127.0.0.1"), "every client is refused"),
    Mistake("a_host_by_the_name_of_the_pod_alone", "SG221", http(host="localhost"), "every client is refused"),
    Mistake("a_host_of_the_pod_alone_in_ipv6", "SG221", http(host="::1"), "every client is refused"),
    Mistake("a_host_of_one_pod", "SG221", http(host="10.0.0.5"), "the address of one pod"),
    Mistake("a_host_by_name", "SG221", http(host="sonograph.example.org"), "the address of one pod"),
    Mistake(
        "a_proxy_on_the_head_alone", "SG222", lambda m: m.config.update(proxy_location="HeadOnly"), "which the Service leaves out"
    ),
    Mistake("no_proxy", "SG222", lambda m: m.config.update(proxy_location="Disabled"), "no proxy at all"),
    Mistake(
        "all_through_the_head",
        "SG222",
        lambda m: (m.config.update(proxy_location="HeadOnly"), m.service["spec"].pop("excludeHeadPodFromServeSvc")),
        "goes through the head",
        WARNING,
        also=("SG312",),
    ),
    Mistake("a_service_with_another_name", "SG223", served(metadata={"name": "pictures"}), "would be pictures", WARNING),
    Mistake("a_service_with_a_selector", "SG223", served(spec={"selector": {"a": "b"}}), "overwrites it", WARNING),
    Mistake("a_service_on_port_80", "SG223", served(spec={"ports": [{"name": "http", "port": 80}]}), "KubeRay drops it", WARNING),
    Mistake(
        "a_service_on_port_80_of_the_pods", "SG223", served(spec={"ports": [{"name": "serve", "port": 80}]}), "to 80 of the pods"
    ),
    Mistake(
        "a_head_whose_ports_leave_serve_out",
        "SG220",
        port("head", None),
        "KubeRay would then make no Service",
    ),
    Mistake(
        "a_head_without_ports_beside_another_port",
        "SG220",
        lambda m: (
            http(port=9000)(m),
            [port(one, 9000)(m) for one in ("ingress", "whisper", "diffusion")],
            m.container("head").pop("ports"),
        ),
        "would lead to 8000, not to 9000",
        also=("SG428", "SG746"),
    ),
    Mistake("a_service_that_is_a_name", "SG223", served(spec={"type": "ExternalName"}), "has no pods"),
    # scaling
    Mistake(
        "one_request_at_once",
        "SG230",
        deployed("ingress", max_ongoing_requests=1),
        "would take 1 at once",
        WARNING,
        also=("SG231",),
    ),
    Mistake("too_few_at_once_for_a_batch", "SG230", deployed("whisper", max_ongoing_requests=10), "take 10 at once", WARNING),
    Mistake(
        "a_target_that_is_never_reached", "SG231", scaled("whisper", target_ongoing_requests=100), "100 is more than", WARNING
    ),
    Mistake("scaling_that_comes_too_late", "SG231", scaled("whisper", upscale_delay_s=3600), "overloaded for 3600 s", WARNING),
    Mistake("an_ingress_that_sleeps", "SG232", scaled("ingress", min_replicas=0), "the next client gets an error", WARNING),
    Mistake(
        "no_replica_ever",
        "SG201",
        lambda m: (m.deployment("whisper").pop("autoscaling_config"), m.deployment("whisper").update(num_replicas=0)),
        "greater than 0",
    ),
    Mistake("fixed_replicas_that_scale", "SG201", deployed("whisper", num_replicas=2), "Serve refuses it"),
    Mistake("more_at_least_than_at_most_of_serve", "SG201", scaled("whisper", min_replicas=3), "max_replicas (2)"),
    Mistake("more_at_first_than_at_most", "SG201", scaled("whisper", initial_replicas=5), "initial_replicas (5)"),
    Mistake("a_check_that_never_comes", "SG201", deployed("whisper", health_check_period_s=0), "greater than 0"),
    Mistake(
        "a_stop_that_does_not_look", "SG233", deployed("whisper", graceful_shutdown_wait_loop_s=200), "look every 200 s", WARNING
    ),
    Mistake("a_check_that_does_not_wait", "SG234", deployed("whisper", health_check_timeout_s=2), "again and again", WARNING),
    Mistake("a_check_that_comes_late", "SG234", deployed("whisper", health_check_period_s=600), "up to 600 s", WARNING),
    # app and pods
    Mistake("the_image_of_another_model", "SG240", image("whisper", "/whisper:", "/diffusion:"), "is the image of diffusion"),
    Mistake("the_image_of_the_ingress", "SG240", image("diffusion", "/diffusion:", "/ingress:"), "is the image of ingress"),
    Mistake(
        "a_model_on_the_image_of_another", "SG240", image("whisper", "/whisper:", "/diffusion:"), "runs whisper", profile=MIG
    ),
    Mistake("an_ingress_on_the_image_of_a_model", "SG240", image("ingress", "/ingress:", "/whisper:"), "runs ingress"),
    Mistake("cuda_on_a_cpu", "SG241", args("whisper", device="cuda"), "have no GPU: whisper would fail"),
    Mistake("a_gpu_for_nothing", "SG241", args("diffusion", device="cpu"), "would hold and not use", WARNING, SMALL_GPUS),
    Mistake("weights_unmounted", "SG242", unmounted("diffusion"), "diffusion reads", profile=SMALL_GPUS),
    Mistake("weights_of_a_checkpoint_unmounted", "SG242", unmounted("whisper"), "whisper reads", profile=SMALL_GPUS),
    Mistake("weights_of_all_unmounted", "SG242", unmounted("all"), "does not mount there", profile=ONE_GPU),
    Mistake(
        "weights_that_are_nowhere",
        "SG242",
        lambda m: (args("diffusion", model="/models/sd")(m), without_a_job(m)),
        "the image has nothing there",
    ),
    Mistake(
        "a_model_of_the_hub",
        "SG243",
        lambda m: (args("diffusion", model="stabilityai/sd-turbo")(m), without_a_job(m)),
        "is a name of the Hub",
    ),
    Mistake("keys_that_are_not_mounted", "SG244", args("http", api_keys_file="/etc/keys/keys"), "no volume is mounted there"),
    Mistake("keys_in_a_folder_of_the_image", "SG244", args("http", api_keys_file="keys.txt"), "it is no absolute path"),
    Mistake(
        "the_volume_of_the_keys_removed",
        "SG244",
        lambda m: (
            args("http", api_keys_file="/etc/sonograph/keys")(m),
            m.container("ingress").pop("volumeMounts"),
            m.pod("ingress").pop("volumes"),
        ),
        "no volume is mounted there",
    ),
    Mistake(
        "a_variable_of_the_proxy_left_out",
        "SG250",
        lambda m: m.remove_env("whisper", "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"),
        "the group whisper has no RAY_SERVE_HTTP_PROXY",
        WARNING,
    ),
    Mistake(
        "a_variable_of_the_controller_left_out",
        "SG250",
        lambda m: m.remove_env("head", "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH"),
        "the head has no RAY_SERVE_CONTROLLER",
        WARNING,
    ),
    Mistake(
        "no_variables_at_all",
        "SG250",
        lambda m: m.container("ingress").pop("env"),
        "the group ingress has no",
        WARNING,
        also=("SG601",),
    ),
    Mistake("another_value_in_one_group", "SG250", env("diffusion", "RAY_USAGE_STATS_ENABLED", "1"), "and 0 elsewhere", WARNING),
    Mistake(
        "a_variable_of_one_group", "SG250", env("diffusion", "RAY_SERVE_LOG_TO_STDERR", "0"), "the other pods have it", WARNING
    ),
    Mistake("an_address_by_hand", "SG251", env("whisper", "RAY_ADDRESS", "head:6379"), "look for its head at head:6379", WARNING),
    Mistake(
        "minutes_where_ray_wants_seconds",
        "SG252",
        env("head", "RAY_SERVE_SHUTDOWN_TIER_TIMEOUT_S", "2m"),
        "is 2m",
        also=("SG601",),
    ),
    Mistake("no_number_for_the_proxy", "SG252", env("head", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "long"), "is long"),
    Mistake(
        "a_drain_of_ray_in_minutes",
        "SG252",
        env("whisper", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "1m"),
        "is 1m",
        WARNING,
        also=("SG601",),
    ),
    # times
    Mistake(
        "a_drain_of_another_port", "SG603", drain('"$RAY_ADDRESS" --most-s 435 --port 9000'), "it asks the port 9000", WARNING
    ),
    Mistake("a_drain_of_nobody", "SG603", drain("--most-s 435 --port 8000"), "has no address of the head", WARNING),
    Mistake("a_drain_without_a_shell", "SG603", hook("sonograph", "drain", "$RAY_ADDRESS"), "only a shell reads", WARNING),
    Mistake("a_drain_of_one_cluster", "SG603", drain("head:6379"), "one address for every cluster", WARNING),
    Mistake("a_drain_of_another_variable", "SG603", drain("$RAY_HEAD"), "no variable of KubeRay's", WARNING),
    Mistake("a_drain_in_minutes", "SG603", drain("$RAY_ADDRESS --most-s 7m"), "--most-s is 7m", WARNING),
    Mistake("a_drain_with_an_unknown_option", "SG603", drain("$RAY_ADDRESS --timeout 5"), "knows no --timeout", WARNING),
    Mistake(
        "a_drain_in_a_list_that_is_too_short", "SG601", hook("sonograph", "drain", "h:1", "--most-s", "60"), "drains for 60 s"
    ),
    Mistake("no_time_for_a_request", "SG604", lambda m: m.config["http_options"].pop("request_timeout_s"), "forever", WARNING),
    Mistake("a_day_for_a_request", "SG604", http(request_timeout_s=86400), "for 86400 s", WARNING),
    Mistake("connections_that_close_at_once", "SG604", http(keep_alive_timeout_s=1), "1 s after its last request", WARNING),
    # versions
    Mistake(
        "an_image_without_tag",
        "SG506",
        lambda m: m.container("whisper").update(image="registry.example.com/sonograph/whisper"),
        "whatever was pushed last",
        WARNING,
        also=("SG502",),
    ),
    Mistake(
        "two_rays",
        "SG505",
        lambda m: (
            m.container("whisper").update(image="rayproject/ray:2.59.0"),
            m.container("head").update(image="docker.io/rayproject/ray-ml:2.60.0-gpu"),
        ),
        "Ray refuses a node",
        also=("SG502",),
    ),
]
