"""`benchmarks.peers`: its harness over models that sleep, its arithmetic, and the peers' locks."""

import ast
import json
import sys
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from benchmarks.peers import __main__ as peers
from benchmarks.peers import environments, report, rounds
from benchmarks.peers.services import PEERS, Outcome, Peer, count_lines, post_tensors
from benchmarks.services import running, without_rays
from testing.service import free_port

pytestmark = pytest.mark.torch
RECORDINGS = [b"a" * 1000, b"b" * 2000]
AT_ONCE = 4
ROUND = rounds.Round(
    first_answer_s=8.0,
    lone_s=0.2,
    per_s=9.0,
    per_cpu_s=5.0,
    memory_mib=2048.0,
    own_s=(0.3, 0.6),
    common_s=(0.3, 0.5),
    overload=rounds.Overload(100, 60, 40, 0, 0, 0, "too many", 1.0),
    left_cpu=0.1,
    others_cores=0.0,
)
SLOWER = replace(ROUND, per_cpu_s=4.0, own_s=(0.3, 0.9), overload=rounds.Overload(100, 55, 0, 45, 0, 0, "", 20.0), left_cpu=0.9)


def sleeping(*options: str) -> Peer:
    """The FastAPI peer in this environment, over models that sleep."""
    port = free_port()
    own = {"SLEEP": "0.02", "PYTHONPATH": str(environments.HERE / "models")}
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), *options]
    folder = environments.HERE / "fastapi_app"
    return Peer(
        "fastapi", "FastAPI", "fastapi", lambda files: running(command, without_rays() | own, port, files, "/ready", folder)
    )


@pytest.mark.slow
def test_a_round_counts_what_becomes_of_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LATENCY_S", "OVERLOAD_S", "QUIET_S"):
        monkeypatch.setattr(rounds, name, 1.0)
    monkeypatch.setattr(rounds, "LEAVING", 2)
    monkeypatch.setattr(rounds, "REQUESTS", 8 * AT_ONCE)
    monkeypatch.setattr(rounds, "CALLERS", AT_ONCE)
    steps = list[str]()
    peer = sleeping("--limit-concurrency", str(2 * AT_ONCE))
    per_s, at_rest = rounds.capacity(peer, RECORDINGS, steps.append)
    assert [outcome.text for outcome in at_rest] == ["1000 bytes", "2000 bytes"]
    assert 0 < per_s < 60, "two sleeps of 20 ms, of which one at a time"

    def judge(number: int, outcome: Outcome) -> rounds.Verdict:
        return "wrong" if number and outcome == at_rest[1] else "other words"

    found = rounds.run(peer, RECORDINGS, per_s / 2, judge, steps.append)
    overload = found.overload
    assert overload.sent == overload.answered + overload.refused + overload.lost + overload.wrong
    assert overload.answered == overload.reworded > 0
    assert overload.wrong, "every other answer is said to be wrong"
    assert overload.refused
    assert overload.reason == "Service Unavailable"
    assert overload.normal_again_s < rounds.NOT_NORMAL_S
    assert 0 < found.lone_s < found.first_answer_s
    assert found.per_cpu_s > 0
    assert found.memory_mib > 10
    assert found.common_s[0] <= found.common_s[1]
    assert steps[0] == "starts"
    assert steps[-1] == "clients leave"


def test_a_service_without_an_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "CLIENT_S", 0.2)

    async def post(http: httpx.AsyncClient, recording: bytes) -> Outcome:
        return Outcome(500, error="out of memory")

    with pytest.raises(SystemExit, match="500 out of memory"):
        rounds.capacity(replace(sleeping(), post=post), RECORDINGS, print)


async def test_tensors_are_sent_and_read_by_kserves_protocol() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        length = int(request.headers["inference-header-content-length"])
        (given,) = json.loads(request.content[:length])["inputs"]
        assert request.content[length:] == (4).to_bytes(4, "little") + b"RIFF"
        assert given["parameters"] == {"binary_data_size": 8}
        values = {"TEXT": "an äpfel".encode(), "IMAGE": b"\x89PNG"}
        outputs = [{"name": name, "parameters": {"binary_data_size": 4 + len(value)}} for name, value in values.items()]
        head = json.dumps({"outputs": outputs}).encode()
        content = b"".join(len(value).to_bytes(4, "little") + value for value in values.values())
        return httpx.Response(200, headers={"Inference-Header-Content-Length": str(len(head))}, content=head + content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://triton") as http:
        assert await post_tensors(http, b"RIFF") == Outcome(200, "an äpfel", b"\x89PNG")


def test_every_service_is_first_as_often_as_another() -> None:
    orders = [[peer.name for peer in peers.rotated(PEERS, number)] for number in range(2 * len(PEERS))]
    assert all(sorted(order) == sorted(peer.name for peer in PEERS) for order in orders)
    firsts = [order[0] for order in orders]
    assert {firsts.count(peer.name) for peer in PEERS} == {2}


def test_the_best_of_a_row_is_marked_and_what_is_behind_is_named() -> None:
    found = {"sonograph": [asdict(ROUND)] * 3, "litserve": [asdict(SLOWER)] * 3}
    marked = {name: [peer.name for peer, _, best in report.cells(found, name) if best] for name in report.COLUMNS}
    assert marked["per_cpu_s"] == marked["own_p95"] == marked["normal"] == ["sonograph"]
    assert marked["refused"] == [], "to refuse is not worse than to lose"
    assert marked["lone"] == ["sonograph", "litserve"]
    assert report.behind(found) == []
    assert report.behind({"sonograph": [asdict(SLOWER)], "litserve": [asdict(ROUND)]})[0] == "answers a CPU-second"
    assert "| answers a CPU-second | **5.00 (5.00 to 5.00)** | 4.00 (4.00 to 4.00) |" in report.markdown(found)
    assert report.ratio(found, "per_cpu_s", "litserve") == (1.25, 1.25, 1.25)


def test_the_documentation_has_the_tables_of_the_stored_results() -> None:
    if not peers.RESULTS.is_file():
        pytest.skip("nothing has been measured yet")
    page = peers.PAGE.read_text(encoding="utf-8")
    _, _, rest = page.partition(report.BEGIN)
    assert rest.partition(report.END)[0].strip() == report.markdown(peers.Results(peers.RESULTS, anew=False).rounds).strip()


def test_the_tables_go_between_the_pages_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write(page, {"sonograph": [asdict(ROUND)]})
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert text.count("| answers a CPU-second |") == 1
    report.write(page, {})
    assert page.read_text() == f"before\n{report.BEGIN}\n{report.END}\nafter\n"


def png(value: int, side: int = 8) -> bytes:
    file = BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def test_a_picture_is_compared_by_its_values() -> None:
    assert peers.difference(png(10), png(13)) == 3
    assert peers.difference(png(10), png(10, 16)) == peers.difference(png(10), b"no picture") == 255


@pytest.mark.parametrize(
    ("text", "value", "verdict"),
    [
        ("a  red apple", 11, "same"),
        ("a red apple", 90, "wrong"),
        ("a red apples", 90, "other words"),
        ("a blue boat", 90, "wrong"),
        ("", 10, "wrong"),
    ],
)
def test_an_answer_is_wrong_that_has_a_whole_other_text_or_another_picture_of_the_same_words(
    text: str, value: int, verdict: str
) -> None:
    assert peers.verdict(Outcome(200, "a red apple", png(10)), Outcome(200, text, png(value))) == verdict


def test_an_answer_without_a_picture_is_wrong_whatever_its_words() -> None:
    assert peers.verdict(Outcome(200, "a red apple", png(10)), Outcome(200, "a red apples", b"")) == "wrong"


def test_results_are_kept_after_each_round_and_a_further_run_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "BUILT", tmp_path)
    results = peers.Results(tmp_path / "peers.json", anew=False)
    results.rested(PEERS[1], 3.0, [Outcome(200, "one", b"1"), Outcome(200, "two", b"2")])
    results.add(PEERS[1], ROUND)
    results.skip(PEERS[2], "no wheel for this machine")
    again = peers.Results(tmp_path / "peers.json", anew=False)
    assert again.rounds == {"fastapi": [json.loads(json.dumps(asdict(ROUND)))]}
    assert [one.image for one in peers.at_rest(PEERS[1], again.at_rest["fastapi"]["texts"])] == [b"1", b"2"]
    assert peers.Results(tmp_path / "peers.json", anew=True).rounds == {}


@pytest.mark.parametrize("peer", PEERS[1:], ids=lambda peer: peer.name)
def test_a_peer_has_its_code_and_a_lock_with_hashes(peer: Peer) -> None:
    lock = (environments.HERE / peer.folder / "requirements.lock").read_text()
    pinned: Any = [line for line in lock.splitlines() if line and line[0].isalpha()]
    assert all("==" in line and line.endswith("\\") for line in pinned)
    assert lock.count("--hash=sha256:") >= len(pinned)
    assert peer.version
    assert peer.lines > 10
    for name in peer.code:
        if name.endswith(".py"):
            ast.parse((environments.HERE / peer.folder / name).read_text())


def test_a_lock_that_cannot_be_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "BUILT", tmp_path)
    monkeypatch.setattr(environments, "UV", tmp_path / "no-uv")
    with pytest.raises(environments.CannotBeInstalled, match="no-uv"):
        environments.prepare("litserve_app")


def test_lines_are_counted_without_comments_and_the_first_docstring() -> None:
    assert count_lines('"""Doc."""\n\n# note\nimport os\n\n\ndef f():\n    return 1\n') == 3
