"""Readiness from what Serve's controller knows, asked for beside the requests and not in their way."""

import asyncio
import threading

import pytest
from ray.serve._private.common import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatusOverview,
    ServeInstanceDetails,
    ServeStatus,
)

from deployments.errors import ModelUnavailable
from graphs.core.readiness import FRESH_S, ModelState, Readiness
from graphs.serve.status import from_details
from testing.fakes import deployment_status, serve_status

TRACEBACK = """The deployment failed to start 3 times in a row: Traceback (most recent call last):
  File "deployment.py", line 50, in __init__
deployments.errors.ModelUnavailable: whisper did not start: no such checkpoint
"""


class Controller:
    """Answers with `status`, and counts how often it is asked."""

    def __init__(self, status: ServeStatus | Exception) -> None:
        self.status = status
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> ServeStatus:
        self.asked += 1
        assert self.may_answer.wait(10)
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


SOON_S = 0.1


def readiness(controller: Controller, fresh_s: float = FRESH_S) -> Readiness:
    return Readiness("sonograph", ("whisper",), controller, fresh_s)


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (deployment_status(), ModelState("ready", replicas=1)),
        (deployment_status("UPDATING", RUNNING=1, STARTING=1), ModelState("ready", replicas=1)),
        (deployment_status("UNHEALTHY", "a replica died", RUNNING=3), ModelState("ready", replicas=3)),
        (deployment_status("UPDATING", RECOVERING=2, STARTING=1), ModelState("ready", replicas=2)),
        (deployment_status("UPDATING", UPDATING=1, PENDING_MIGRATION=1), ModelState("ready", replicas=2)),
        (deployment_status("UPDATING", STARTING=1), ModelState("starting")),
        (deployment_status("HEALTHY", RUNNING=0, STOPPING=1), ModelState("starting")),
        (deployment_status("UPDATING", "waits for a CPU\n", STARTING=1), ModelState("starting", "waits for a CPU")),
        (deployment_status("UNHEALTHY", STARTING=1), ModelState("failing")),
        (
            deployment_status("DEPLOY_FAILED", TRACEBACK, STOPPED=1),
            ModelState("failing", "deployments.errors.ModelUnavailable: whisper did not start: no such checkpoint"),
        ),
    ],
)
async def test_a_model_is_ready_while_one_replica_runs(known: DeploymentStatusOverview, state: ModelState) -> None:
    assert await readiness(Controller(serve_status(whisper=known))).states() == {"whisper": state}


@pytest.mark.parametrize("status", [ServeStatus(), serve_status(diffusion=deployment_status())])
async def test_a_model_that_serve_does_not_know_is_absent(status: ServeStatus) -> None:
    states = await readiness(Controller(status)).states()
    assert states == {"whisper": ModelState("absent", "Serve has no deployment of this name")}


async def test_a_controller_that_does_not_answer_is_a_reason() -> None:
    states = await readiness(Controller(ConnectionError("no route"))).states()
    assert states["whisper"].phase == "absent"
    assert "no route" in states["whisper"].reason


async def test_models_serve_on_while_the_controller_does_not_answer() -> None:
    controller = Controller(serve_status(whisper=deployment_status(RUNNING=2)))
    asked = readiness(controller, SOON_S)
    await asked.states()
    controller.status = ConnectionError("no route")
    await asyncio.sleep(SOON_S)
    assert (await asked.states())["whisper"].phase == "absent"
    asked.require("whisper")
    assert asked.replicas("whisper") == 2
    controller.status = serve_status(whisper=deployment_status())
    await asyncio.sleep(SOON_S)
    assert (await asked.states())["whisper"].ready


async def test_many_questions_at_once_are_one_to_the_controller() -> None:
    controller = Controller(serve_status(whisper=deployment_status()))
    asked = readiness(controller)
    await asyncio.gather(*(asked.states() for _ in range(50)))
    for _ in range(50):
        asked.require("whisper")
    assert controller.asked == 1


async def test_a_call_asks_anew_when_what_is_known_is_a_second_old() -> None:
    controller = Controller(serve_status(whisper=deployment_status()))
    asked = readiness(controller, SOON_S)
    await asked.states()
    await asyncio.sleep(SOON_S)
    asked.require("whisper")
    for _ in range(3000):  # in the background
        if controller.asked > 1:
            break
        await asyncio.sleep(0.01)
    assert controller.asked == 2


async def test_a_call_is_refused_at_once_where_the_model_was_seen_without_a_replica() -> None:
    asked = readiness(Controller(serve_status(whisper=deployment_status("UPDATING", "fetching weights", STARTING=1))))
    await asked.states()
    with pytest.raises(ModelUnavailable, match="whisper is starting: fetching weights; try again shortly"):
        asked.require("whisper")


async def test_a_call_does_not_wait_for_the_controller() -> None:
    controller = Controller(serve_status())
    controller.may_answer.clear()
    asked = readiness(controller)
    asked.require("whisper")
    await asyncio.sleep(0)
    asked.require("whisper")
    controller.may_answer.set()
    await asked.states()
    with pytest.raises(ModelUnavailable, match="whisper is absent"):
        asked.require("whisper")


async def test_a_caller_that_leaves_does_not_take_the_answer_from_the_others() -> None:
    controller = Controller(serve_status(whisper=deployment_status()))
    controller.may_answer.clear()
    asked = readiness(controller)
    leaving, staying = asyncio.create_task(asked.states()), asyncio.create_task(asked.states())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    controller.may_answer.set()
    assert (await staying)["whisper"].ready
    assert controller.asked == 1


@pytest.mark.parametrize(("meanwhile", "phase"), [(ApplicationStatus.DEPLOYING, "ready"), (ApplicationStatus.RUNNING, "absent")])
async def test_an_update_that_is_being_built_leaves_what_was_known(meanwhile: ApplicationStatus, phase: str) -> None:
    """Serve names no deployments of the application then, while the old replicas serve."""
    controller = Controller(serve_status(whisper=deployment_status()))
    asked = readiness(controller, SOON_S)
    await asked.states()
    controller.status = ServeStatus(applications={"sonograph": ApplicationStatusOverview(meanwhile, "", 0.0, {})})
    await asyncio.sleep(SOON_S)
    assert (await asked.states())["whisper"].phase == phase
    assert controller.asked == 2


@pytest.mark.parametrize(
    "end",
    [
        ServeStatus(),
        ServeStatus(applications={"sonograph": ApplicationStatusOverview(ApplicationStatus.DELETING, "", 0.0, {})}),
    ],
    ids=["gone", "being deleted"],
)
async def test_what_is_in_flight_when_serve_is_shut_down_still_has_its_models(end: ServeStatus) -> None:
    """They end when the ingress has."""
    controller = Controller(serve_status(whisper=deployment_status()))
    asked = readiness(controller, SOON_S)
    await asked.states()
    controller.status = end
    await asyncio.sleep(SOON_S)
    await asked.states()
    asked.require("whisper")
    assert asked.replicas("whisper") == 1


def test_serves_details_are_read_as_serves_own_status_reads_them() -> None:
    replica = {"replica_id": "a", "actor_name": "", "start_time_s": 0.0}
    options = {"name": "whisper"}
    whisper = {
        "name": "whisper",
        "status": DeploymentStatus.UPDATING,
        "status_trigger": DeploymentStatusTrigger.CONFIG_UPDATE_STARTED,
        "message": "waits for a GPU",
        "deployment_config": options,
        "target_num_replicas": 2,
        "required_resources": {},
        "replicas": [
            {**replica, "state": state} for state in (ReplicaState.RUNNING, ReplicaState.RUNNING, ReplicaState.STARTING)
        ],
    }
    application = {
        "name": "sonograph",
        "route_prefix": "/",
        "docs_path": None,
        "status": ApplicationStatus.DEPLOYING,
        "message": "",
        "last_deployed_time_s": 1.5,
        "deployed_app_config": None,
        "source": "declarative",
        "external_scaler_enabled": False,
        "deployments": {"whisper": whisper},
    }
    details = {"applications": {"sonograph": application}, "proxies": {}, "target_capacity": None, "proxy_location": None}
    expected = ServeInstanceDetails(**{**ServeInstanceDetails.get_empty_schema_dict(), **details})._get_status()
    assert from_details(details).applications == expected.applications
