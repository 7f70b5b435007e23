"""Readiness from the state of Serve's controller, queried in the background so that no request waits for it."""

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
from graphs.core import readiness as readiness_module
from graphs.core.readiness import FRESH_S, ModelState, Readiness
from graphs.serve.status import from_details
from testing.fakes import deployment_status, serve_status

TRACEBACK = """The deployment failed to start 3 times in a row: Traceback (most recent call last):
  File "deployment.py", line 50, in __init__
deployments.errors.ModelUnavailable: whisper did not start: no such checkpoint
"""


class Controller:
    """Controller that answers with `status` and counts its queries."""

    def __init__(self, status: ServeStatus | Exception) -> None:
        self.status = status
        self.queries = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> ServeStatus:
        self.queries += 1
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


async def test_an_unreachable_controller_is_the_reason() -> None:
    states = await readiness(Controller(ConnectionError("no route"))).states()
    assert states["whisper"].phase == "absent"
    assert "no route" in states["whisper"].reason


async def test_models_keep_serving_while_the_controller_does_not_answer() -> None:
    controller = Controller(serve_status(whisper=deployment_status(RUNNING=2)))
    checked = readiness(controller, SOON_S)
    await checked.states()
    controller.status = ConnectionError("no route")
    await asyncio.sleep(SOON_S)
    assert (await checked.states())["whisper"].phase == "absent"
    checked.require("whisper")
    assert checked.replicas("whisper") == 2
    controller.status = serve_status(whisper=deployment_status())
    await asyncio.sleep(SOON_S)
    assert (await checked.states())["whisper"].ready


async def test_many_concurrent_queries_are_one_to_the_controller() -> None:
    controller = Controller(serve_status(whisper=deployment_status()))
    checked = readiness(controller)
    await asyncio.gather(*(checked.states() for _ in range(50)))
    for _ in range(50):
        checked.require("whisper")
    assert controller.queries == 1


async def test_a_call_queries_again_when_the_state_is_stale() -> None:
    controller = Controller(serve_status(whisper=deployment_status()))
    checked = readiness(controller, SOON_S)
    await checked.states()
    await asyncio.sleep(SOON_S)
    checked.require("whisper")
    for _ in range(3000):  # in the background
        if controller.queries > 1:
            break
        await asyncio.sleep(0.01)
    assert controller.queries == 2


async def test_a_call_is_refused_at_once_if_the_model_had_no_replica() -> None:
    checked = readiness(Controller(serve_status(whisper=deployment_status("UPDATING", "fetching weights", STARTING=1))))
    await checked.states()
    with pytest.raises(ModelUnavailable, match="whisper is starting: fetching weights; try again shortly"):
        checked.require("whisper")


async def test_a_watched_model_that_serves_by_now_is_not_refused() -> None:
    """The first call after its start, minutes later, and again after the model was away."""
    controller = Controller(serve_status(whisper=deployment_status("UPDATING", STARTING=1)))
    checked = readiness(controller, SOON_S)
    await checked.states()
    watching = asyncio.create_task(checked.watch())
    for serves in (True, False, True):
        controller.status = serve_status(whisper=deployment_status() if serves else deployment_status("UPDATING", STARTING=1))
        if serves:
            await asyncio.sleep(5 * SOON_S)
            checked.require("whisper")
            await checked.states()
            queries = controller.queries
            await asyncio.sleep(5 * SOON_S)
            assert controller.queries == queries, "a model that serves is not watched"
        else:
            await checked.states()
    watching.cancel()


async def test_a_call_does_not_wait_for_the_controller() -> None:
    controller = Controller(serve_status())
    controller.may_answer.clear()
    checked = readiness(controller)
    checked.require("whisper")
    await asyncio.sleep(0)
    checked.require("whisper")
    controller.may_answer.set()
    await checked.states()
    with pytest.raises(ModelUnavailable, match="whisper is absent"):
        checked.require("whisper")


async def test_a_probe_ends_while_the_controller_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "ANSWER_S", 0.2)
    controller = Controller(serve_status(whisper=deployment_status()))
    controller.may_answer.clear()
    checked = readiness(controller)
    for _ in range(8):
        assert (await checked.states())["whisper"] == ModelState("absent", "Serve's controller has not answered for 0.2 s")
    assert controller.queries == 1
    controller.may_answer.set()
    assert (await checked.states())["whisper"].ready


async def test_a_cancelled_caller_does_not_cancel_the_query_of_the_others() -> None:
    controller = Controller(serve_status(whisper=deployment_status()))
    controller.may_answer.clear()
    checked = readiness(controller)
    cancelled, waiting = asyncio.create_task(checked.states()), asyncio.create_task(checked.states())
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    controller.may_answer.set()
    assert (await waiting)["whisper"].ready
    assert controller.queries == 1


@pytest.mark.parametrize(("meanwhile", "phase"), [(ApplicationStatus.DEPLOYING, "ready"), (ApplicationStatus.RUNNING, "absent")])
async def test_during_an_update_the_previous_state_is_kept(meanwhile: ApplicationStatus, phase: str) -> None:
    """While it builds an update, Serve reports no deployments of the application, though the old replicas serve."""
    controller = Controller(serve_status(whisper=deployment_status()))
    checked = readiness(controller, SOON_S)
    await checked.states()
    controller.status = ServeStatus(applications={"sonograph": ApplicationStatusOverview(meanwhile, "", 0.0, {})})
    await asyncio.sleep(SOON_S)
    assert (await checked.states())["whisper"].phase == phase
    assert controller.queries == 2


@pytest.mark.parametrize(
    "end",
    [
        ServeStatus(),
        ServeStatus(applications={"sonograph": ApplicationStatusOverview(ApplicationStatus.DELETING, "", 0.0, {})}),
    ],
    ids=["gone", "being deleted"],
)
async def test_requests_in_flight_during_serves_shutdown_still_have_their_models(end: ServeStatus) -> None:
    """The models stop after the ingress."""
    controller = Controller(serve_status(whisper=deployment_status()))
    checked = readiness(controller, SOON_S)
    await checked.states()
    controller.status = end
    await asyncio.sleep(SOON_S)
    await checked.states()
    checked.require("whisper")
    assert checked.replicas("whisper") == 1


def test_serves_details_are_converted_as_by_serves_own_status() -> None:
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
