"""`sonograph rollout` as it is typed, over a service and a dashboard on loopback."""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from graphs.rollouts.state import Budgets, Plan
from sonograph.cli import cli
from sonograph.rollouts import commands
from testing.rollout_service import KEY, TOKEN, FakeCluster, running

pytestmark = pytest.mark.slow

type Command = Callable[..., Result]
SET = ("--set", "padding=adaptive")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with running(FakeCluster()) as cluster:
        yield cluster


@pytest.fixture
def command(cluster: FakeCluster, tmp_path: Path) -> Command:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")

    def run(name: str, *arguments: str, key: str = KEY) -> Result:
        of_ray = () if name in ("status", "pause", "resume") else ("--ray-token-file", str(token))
        line = ["rollout", name, *arguments, "--url", cluster.service, *of_ray]
        return CliRunner().invoke(cli, line, env={"SONOGRAPH_KEY": key, "COLUMNS": "200"})

    return run


def test_there_is_an_option_for_every_budget() -> None:
    options = {name for name in inspect.signature(commands.start).parameters if name.startswith("max_")}
    assert options == set(Budgets.model_fields)


def test_a_start_sends_the_plan_and_prints_the_rollout(command: Command, cluster: FakeCluster) -> None:
    plan = ("--steps", "5,50", "--every", "10m", "--min-requests", "30", "--max-p95", "1.2x", "--max-errors", "none")
    result = command("start", "whisper", *SET, *plan, "--max-word-drift", "3%", "--mirror", "10", "--samples", "5")
    assert result.exit_code == 0, result.output
    sent = cluster.asked[-1][1]
    budgets = {"max_p95": 1.2, "max_errors": None, "max_word_drift": 0.03}
    assert sent == {
        "application": "sonograph-whisper-candidate",
        "share": 0,
        "mirror": 10,
        "samples": 5,
        "plan": {"steps": [5, 50], "every_s": 600, "min_requests": 30, "budgets": budgets},
    }
    Plan.model_validate(sent["plan"])
    assert "sonograph-whisper-candidate (ready)" in result.stdout
    assert "5%, 50%, each for 10m" in result.stdout


def test_a_fixed_share_has_no_plan(command: Command, cluster: FakeCluster) -> None:
    assert command("start", "whisper", *SET, "--share", "2.5%").exit_code == 0
    assert cluster.asked[-1][1].items() >= {"share": 2.5, "plan": None}.items()


def test_labelled_recordings_are_transcribed_by_both(command: Command, cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"a")
    (tmp_path / "texts.tsv").write_text("a.wav\ta red apple\n")
    cluster.transcripts = {"whisper=stable": "a rat apple", "whisper=candidate": "a red apple"}
    labels = ("--labelled", str(tmp_path / "texts.tsv"), "--max-word-errors", "1.05x")
    result = command("start", "whisper", *SET, "--steps", "5", *labels)
    assert result.exit_code == 0, result.output
    assert cluster.heard == ["whisper=stable", "whisper=candidate"]
    assert cluster.rollouts["whisper"]["labelled"] == {"recordings": 1, "words": 3, "stable": 1, "candidate": 0}
    assert "33.3% (stable), 0.0% (candidate) of 3 words in 1 recordings" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--share", "5", "--steps", "5"), "--steps changes it: choose one"),
        (("--max-p95", "1.2x"), "belong to a plan: add --steps 5,20,50,100"),
        (("--steps", "5", "--max-word-errors", "1.05x"), "needs recordings with known texts: --labelled texts.tsv"),
        (("--steps", "5", "--max-errors", "3"), "1% is 0.01, and 3 would be 300%"),
        (("--steps", "5", "--every", "0.1s"), "every_s: Input should be greater than or equal to 0.5"),
        (("--steps", "5", "--min-requests", "501"), "min_requests: Input should be less than or equal to 500"),
        (("--set", "paddings=1"), "whisper.paddings: there is no such key; did you mean padding?"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_changes(
    command: Command, cluster: FakeCluster, arguments: tuple[str, ...], sentence: str
) -> None:
    result = command("start", "whisper", *SET, *arguments)
    assert result.exit_code in (1, 2)
    assert sentence in " ".join(result.output.replace("│", " ").split())
    assert cluster.asked == []


def test_drift_of_another_model_gives_a_warning(command: Command) -> None:
    drift = ("--steps", "5", "--max-word-drift", "3%")
    assert "Warning" not in command("start", "whisper", *SET, *drift).output
    result = command("start", "whisper", "--set", "model=base.en", *drift, "--name", "sonograph-whisper-candidate")
    assert "another model gives other results, also a better one: --max-word-drift may abort it" in result.output


def test_rays_token_goes_only_to_a_dashboard_that_the_user_names_or_of_this_machine(
    command: Command, cluster: FakeCluster
) -> None:
    cluster.dashboard, real = "http://192.0.2.7:8265", cluster.dashboard
    result = command("start", "whisper", *SET)
    assert result.exit_code == 1
    assert "the service names http://192.0.2.7:8265 as Ray's dashboard, on another machine" in result.output
    assert command("start", "whisper", *SET, "--dashboard", real).exit_code == 0


def test_a_service_that_does_not_know_the_dashboard_asks_for_it(command: Command, cluster: FakeCluster) -> None:
    cluster.knows_dashboard = False
    assert "name it, as in --dashboard http://127.0.0.1:8265" in command("start", "whisper", *SET).output


def test_the_services_refusal_is_shown(command: Command) -> None:
    result = command("status", key="another")
    assert (result.exit_code, result.output) == (1, "sonograph rollout: this needs an operator's key (forbidden)\n")


def test_a_service_without_rollouts_is_told(cluster: FakeCluster) -> None:
    other = CliRunner().invoke(cli, ["rollout", "status", "--url", f"{cluster.service}/other"])
    assert (other.exit_code, other.output) == (
        1,
        f"sonograph rollout: {cluster.service}/other has no rollouts: it is a service of an older version, or not Sonograph's\n",
    )


def test_status_is_a_sentence_a_table_or_json(command: Command, cluster: FakeCluster) -> None:
    assert "No stage has a rollout" in command("status").stdout
    assert "whisper has no rollout" in command("status", "whisper").output
    command("start", "whisper", *SET)
    assert json.loads(command("status", "--json").stdout) == {"whisper": cluster.view("whisper")}
    assert json.loads(command("status", "whisper", "--json").stdout) == cluster.view("whisper")
    assert "0% of the requests" in command("status").stdout


@pytest.mark.parametrize(("name", "status"), [("pause", "paused"), ("resume", "running")])
def test_pause_and_resume_change_the_status(command: Command, cluster: FakeCluster, name: str, status: str) -> None:
    command("start", "whisper", *SET)
    result = command(name, "whisper")
    assert result.exit_code == 0
    assert cluster.asked[-1] == ("rollout", {"status": status})
    assert status in result.stdout
