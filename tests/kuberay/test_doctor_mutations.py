"""Each pin, resource, version, time and arg of every rendered manifest is removed, then altered: the doctor has to object.

Survivors are listed, each with the reason why it is no fault.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from kuberay.profiles import PROFILES, Profile
from testing.manifests import Manifests

type Path = tuple[str | int, ...]

WATCHED = re.compile(
    r"""config/applications/0/(
            args/\w+/\w+
          | deployments/\d/(max_surge_percent|graceful_shutdown_timeout_s)
          | deployments/\d/ray_actor_options/(num_cpus|num_gpus|resources(/\w+)?|label_selector(/\w+)?)
        )
      | config/http_options/request_timeout_s
      | service/spec/(rayClusterDeletionDelaySeconds|excludeHeadPodFromServeSvc)
      | service/spec/rayClusterConfig/rayVersion
      | service/spec/rayClusterConfig/headGroupSpec/resources(/\w+)?
      | service/spec/rayClusterConfig/workerGroupSpecs/\d/(resources|labels)(/\w+)?
      | service/spec/rayClusterConfig/workerGroupSpecs/\d/(maxReplicas|groupName)
      | .*/containers/0/(image|resources/(requests|limits)/[^/]+(/gpu|/mig.*)?|lifecycle)
      | .*/terminationGracePeriodSeconds
    """,
    re.VERBOSE,
)
SURVIVORS = {
    r"removed config/applications/0/args/http/deadline_s": "its default is the same",
    r"altered config/applications/0/args/http/deadline_s to 12$": "every wait then outlasts it by more",
    r"removed config/applications/0/args/audio/decode_workers": "its default is the number of the ingress's CPUs",
    r"(removed|altered) config/applications/0/args/logging/output": "Ray's file has each line all the same",
    r"removed config/applications/0/args/whisper/model": "its default is what the Job fetches",
    r"removed config/applications/0/args/(whisper|diffusion)/device": "`auto` takes the GPU too",
    r"(removed|altered) config/applications/0/args/diffusion/(steps|guidance_scale|max_side_px)": "any value in its range is a choice",
    r"removed config/applications/0/deployments/\d/max_surge_percent": "Serve's default, 0, needs fewer pods",
    r"altered config/applications/0/deployments/\d/max_surge_percent to 5$": "it needs no further pods",
    r"altered config/applications/0/deployments/\d/ray_actor_options/num_gpus to 0": "the shares of a GPU are a choice",
    r"removed config/applications/0/deployments/\d/ray_actor_options/num_cpus": "the code's default is the same",
    r"altered service/spec/rayClusterDeletionDelaySeconds": "longer by more",
    r"altered .*/headGroupSpec/.*/requests/cpu to 100m": "a head has no replica whose CPUs the doctor could count",
    r"altered .*/terminationGracePeriodSeconds": "longer by more",
    r"altered .*/workerGroupSpecs/\d/maxReplicas": "space for more pods",
    r"removed .*/workerGroupSpecs/\d/resources/GPU": "Ray knows nvidia.com/gpu by its name; parts of a GPU are found",
    r"altered .*/workerGroupSpecs/\d/resources/(ingress|whisper|diffusion)": "its CPUs hold a second replica back",
}
"""Patterns of mutants that may survive, and why."""


def mutants(profile: Profile) -> Iterator[tuple[str, Manifests]]:
    whole = Manifests(profile)
    for root in ("config", "service"):
        for path, value in walk(getattr(whole, root), (root,)):
            name = "/".join(map(str, path))
            if not WATCHED.fullmatch(name):
                continue
            yield f"removed {name}", changed(whole, path, None)
            for other in altered(value):
                yield f"altered {name} to {other}", changed(whole, path, other)


def walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key), item
        yield from walk(item, (*path, key))


def changed(whole: Manifests, path: Path, value: Any) -> Manifests:
    manifests = copy.deepcopy(whole)
    place: Any = getattr(manifests, str(path[0]))
    for key in path[1:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return manifests


def altered(value: Any) -> Iterator[Any]:
    """Other values of the same kind: ten times as much and a tenth, another version, another word. None for a list or mapping."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (type(value)(value * factor) for factor in (10, 0.1) if type(value)(value * factor) != value)
    elif isinstance(value, str) and re.search(r"\d\.\d+\.\d+", value):
        for version in re.finditer(r"\d\.\d+\.(\d+)", value):
            yield value[: version.start(1)] + "99" + value[version.end(1) :]
    elif isinstance(value, str) and (number := re.match(r"\d+", value)):
        for other in {int(number[0]) * 10 or 1, int(number[0]) // 10} - {int(number[0])}:
            yield f"{other}{value[number.end() :]}"
    elif isinstance(value, str):
        yield f"{value}x"


@pytest.fixture(scope="module")
def survivors() -> list[str]:
    return [name for profile in PROFILES.values() for name, mutant in mutants(profile) if not mutant.findings()]


@pytest.mark.slow
def test_the_doctor_objects_to_every_mutant_but_those_that_are_listed(survivors: list[str]) -> None:
    assert [name for name in survivors if not any(re.match(pattern, name) for pattern in SURVIVORS)] == []


@pytest.mark.slow
def test_no_mutant_is_listed_that_does_not_survive(survivors: list[str]) -> None:
    assert [pattern for pattern in SURVIVORS if not any(re.match(pattern, name) for name in survivors)] == []
