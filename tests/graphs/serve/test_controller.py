"""The versions of deployments, by which Serve restarts replicas, in two controllers whose sets have another order."""

import json
import os
import subprocess
import sys

import pytest

from testing.service import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from ray.serve._private import application_state
from deployments.candidate import CandidateSettings, app
from graphs.serve.controller import restart_what_changed

def version(code, settings):
    bound = app(CandidateSettings(model="whisper", settings=settings))._bound_deployment
    config = bound._deployment_config
    config.version = code
    info = application_state.deploy_args_to_deployment_info(
        "whisper", config.to_proto_bytes(), bound._replica_config.to_proto_bytes(), "01", "sonograph"
    )
    assert info.version == info.deployment_config.version
    return info.version

restart_what_changed()
settings = {"model": "base.en", "max_batch": 2, "padding": "adaptive", "stall_s": 9.0}
print(json.dumps([version(code, {**settings, **more}) for code, more in (("a", {}), ("b", {}), ("b", {"max_batch": 3}))]))
"""


def versions(seed: str) -> list[str]:
    env = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_a_deployments_version_follows_its_own_settings_alone() -> None:
    one, other = versions("1"), versions("2")
    assert one == other, "a deployment that nobody changed would restart"
    same, with_other_args_of_the_application, with_another_setting = one
    assert same == with_other_args_of_the_application
    assert same != with_another_setting
