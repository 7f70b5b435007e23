"""Serve's config with a candidate, promoted, and without it."""

import copy
from typing import Any

import pytest

from deployments.model_spec import specs
from kuberay import serve_config as of_profiles
from kuberay.profiles import PROFILES
from sonograph.errors import Failed
from sonograph.rollouts import serve_config
from sonograph.rollouts.serve_config import Candidate
from testing.rollout_service import STABLE

CONFIG: dict[str, Any] = {"http_options": {"port": 8000}, "applications": [STABLE]}
NAME = "sonograph-whisper-candidate"


def added(config: dict[str, Any] = CONFIG, **changed: Any) -> dict[str, Any]:
    candidate = Candidate(**{"stage": "whisper", "application": NAME, "changes": {"padding": "adaptive"}, **changed})
    before = copy.deepcopy(config)
    after = serve_config.with_candidate(config, "sonograph", candidate)
    assert config == before, "the given config was changed"
    assert after["applications"][:-1] == config["applications"], "another application was changed"
    return dict(after["applications"][-1])


def test_a_candidate_has_the_stable_models_settings_and_options_with_the_changes() -> None:
    found = added()
    assert found["args"] == {"model": "whisper", "settings": {"model": "tiny.en", "max_batch": 4, "padding": "adaptive"}}
    assert found["route_prefix"] is None
    assert found["import_path"] == "deployments.candidate:app"
    assert found["deployments"] == [{"name": "whisper", "num_replicas": 1, "ray_actor_options": {"num_cpus": 1.0}}]


def test_options_of_the_command_override_the_stable_models() -> None:
    (deployment,) = added(options={"num_cpus": 0.5, "num_gpus": 1}, replicas=2)["deployments"]
    assert deployment["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 1}
    assert deployment["num_replicas"] == 2


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_candidate_lands_on_the_stable_models_worker_group_or_on_its_own(profile: Any) -> None:
    config = of_profiles.cluster(profile)
    stable = next(one for one in config["applications"][0]["deployments"] if one["name"] == "whisper")
    options = stable["ray_actor_options"]
    (same,) = added(config)["deployments"]
    assert same["ray_actor_options"] == options
    assert same["num_replicas"] == 1
    assert "autoscaling_config" not in same
    assert same["graceful_shutdown_timeout_s"] == stable["graceful_shutdown_timeout_s"]
    (own,) = added(config, group="whisper-next")["deployments"]
    assert own["ray_actor_options"]["resources"] == {"whisper-next": 1}
    assert "label_selector" not in own["ray_actor_options"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"changes": {"paddings": "adaptive"}}, "whisper.paddings: there is no such key; did you mean padding?"),
        ({"changes": {"max_batch": 0, "padding": "some"}}, "whisper.max_batch: Input should be greater than or equal to 1"),
        ({"changes": {"precision": "int8"}}, "int8 is computed by faster-whisper alone"),
        ({"stage": "wisper"}, f"there is no stage wisper: the models are {', '.join(specs())}"),
    ],
)
def test_wrong_settings_are_refused_by_name(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failed) as refused:
        added(**changed)
    assert sentence in str(refused.value)


def test_a_service_that_is_not_in_the_cluster_is_refused() -> None:
    with pytest.raises(Failed, match="Serve has no application other, only sonograph"):
        serve_config.with_candidate(CONFIG, "other", Candidate("whisper", NAME, {}))


def test_promotion_changes_the_models_section_and_its_options_alone() -> None:
    candidate = Candidate("whisper", NAME, {"padding": "adaptive"}, {"num_cpus": 2})
    both = serve_config.with_candidate(CONFIG, "sonograph", candidate)
    after = serve_config.promoted(both, "sonograph", "whisper", NAME)
    stable = serve_config.of(after, "sonograph")
    assert stable["args"] == {"whisper": {"model": "tiny.en", "max_batch": 4, "padding": "adaptive"}}
    options = {one["name"]: one.get("ray_actor_options") for one in stable["deployments"]}
    assert options == {"ingress": None, "whisper": {"num_cpus": 2}, "diffusion": {"num_cpus": 1.0}}
    assert serve_config.of(after, NAME) == serve_config.of(both, NAME)
    assert serve_config.promoted(after, "sonograph", "whisper", NAME) == after, "a second promotion changes something"
    assert serve_config.of(both, "sonograph") == STABLE, "the given config was changed"


def test_without_a_candidate_the_config_is_as_before() -> None:
    both = serve_config.with_candidate(CONFIG, "sonograph", Candidate("whisper", NAME, {}))
    assert serve_config.without(both, NAME) == CONFIG


def test_the_running_config_keeps_serves_options_and_no_application_that_is_being_removed() -> None:
    details = {
        "controller_info": {},
        "proxy_location": "EveryNode",
        "http_options": {"port": 8000},
        "grpc_options": {"port": 9000},
        "target_capacity": None,
        "applications": {
            "sonograph": {"status": "RUNNING", "deployed_app_config": STABLE},
            NAME: {"status": "DELETING", "deployed_app_config": None},
        },
    }
    assert serve_config.running(details) == {
        "proxy_location": "EveryNode",
        "http_options": {"port": 8000},
        "grpc_options": {"port": 9000},
        "applications": [STABLE],
    }


def test_an_application_without_a_config_is_refused_since_a_new_config_would_not_have_it() -> None:
    with pytest.raises(Failed, match="the application other was started without a config"):
        serve_config.running({"applications": {"other": {"status": "RUNNING", "deployed_app_config": None}}})
