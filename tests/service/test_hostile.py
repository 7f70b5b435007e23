"""Hostile and damaged recordings sent to the real service: each costs itself an answer, and no one else anything."""

import asyncio
import concurrent.futures
import os
import pickle
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from ray.serve.generated import serve_pb2, serve_pb2_grpc

from testing import hostile, media, speech
from testing.service import ROOT, Service

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
TRIALS = ROOT.parent / "shared" / "trials"
"""Recordings made from the samples after troubles that people reported in public; not part of the repository."""
REFUSALS = {413: {"audio_too_long"}, 422: {"audio_empty", "audio_undecodable", "no_speech"}}


def decoders(service: Service) -> list[psutil.Process]:
    """The decoding processes of the ingress: the template and its workers."""
    return service.replica("ingress").children(recursive=True)


def peak_mib(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


@pytest.mark.parametrize("kind", [kind for kind in hostile.KINDS if kind != "video tracks"])
def test_a_hostile_recording_is_refused_and_takes_nothing_of_the_ingress(service: Service, kind: str) -> None:
    ingress = service.replica("ingress")
    before_mib = peak_mib(ingress)
    recording = hostile.KINDS[kind]()
    answer = service.post(recording)
    assert answer.json()["code"] in REFUSALS[answer.status_code]
    assert peak_mib(ingress) < before_mib + 20 + 5 * len(recording) / 2**20
    assert service.replica("ingress") == ingress
    assert "cat" in service.draw(CAT)["transcript"].lower()


def test_an_honest_recording_beside_six_hostile_ones_waits_for_those_before_it_and_probes_wait_for_none(service: Service) -> None:
    recording = hostile.flac_of_names(80_000)
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        hostile_ones = [executor.submit(service.post, recording) for _ in range(6)]
        service.wait_until(lambda: service.client.get("/healthz").json()["requests"] >= 6, "six requests")
        honest = executor.submit(service.draw, CAT)
        for _ in range(20):
            assert service.client.get("/readyz", timeout=3).status_code == 200
            assert service.client.get("/healthz", timeout=3).status_code == 200
            assert service.client.get("/graph", timeout=5).status_code in (200, 404, 405)
        assert "cat" in honest.result(120)["transcript"].lower()
        assert {answer.result(120).json()["code"] for answer in hostile_ones} == {"audio_undecodable"}


def test_a_deadline_ends_the_decoding_and_its_place_is_held_until_then(service: Service) -> None:
    answer = service.post(hostile.flac_of_names(80_000), timeout_ms="700")
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert service.client.get("/healthz").json()["requests"] == 0
    assert all(process.cpu_percent(0.3) < 20 for process in decoders(service))


async def test_a_client_that_leaves_ends_the_decoding(service: Service) -> None:
    """The CPU of the processes stands still, long before the bound of 2 s has been used."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        for _ in range(3):
            request = asyncio.create_task(client.post("/graph", files={"file": hostile.flac_of_names(80_000)}))
            await asyncio.sleep(0.5)
            request.cancel()
            await asyncio.wait({request})
    await asyncio.to_thread(service.wait_until, lambda: service.client.get("/healthz").json()["requests"] == 0, "no request")
    assert all(process.cpu_percent(0.3) < 20 for process in decoders(service))
    assert "cat" in service.draw(CAT)["transcript"].lower()


def test_what_was_left_out_is_told_in_a_header_and_in_the_json(service: Service) -> None:
    whole = media.encode(media.decode(CAT, 60), "adts", "aac")
    first = (whole[3] & 3) << 11 | whole[4] << 3 | whole[5] >> 5
    damaged = whole[:7] + b"\xaa" * (first - 7) + whole[first:]
    told = "packets that could not be decoded and were left out: 1"
    answer = service.post(damaged)
    assert answer.headers["x-decode-warnings"] == told
    assert answer.json()["decode_warnings"] == [told]
    assert service.post(damaged, accept="image/png").headers["x-decode-warnings"] == told
    with service.events(damaged) as events:
        assert next(event for event in events if event["type"] == "done")["decode_warnings"] == [told]
    transcription = service.client.post("/v1/audio/transcriptions", files={"file": damaged})
    assert transcription.headers["x-decode-warnings"] == told
    assert transcription.json()["decode_warnings"] == [told]
    assert "x-decode-warnings" not in service.post(CAT).headers


@pytest.mark.skipif(not TRIALS.is_dir(), reason="the trial recordings are not on this machine")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mp3-stereo-then-mono.mp3", ["storm", "ice cream"]),
        ("mp3-joined-id3-in-the-middle.mp3", ["storm", "ice cream"]),
        ("aac-first-packet-damaged.aac", ["storm", "ice cream"]),
        ("wav-holding-mp3-with-id3.wav", ["ice cream"]),
        ("antiphase-stereo.flac", ["lighthouse"]),
        ("wav-9-channels.wav", ["old"]),
        ("two-tracks-first-is-silent.mp4", ["lighthouse"]),
        ("sixty-seconds.webm", []),
    ],
)
def test_trial_recordings_are_heard(service: Service, name: str, words: list[str]) -> None:
    answer = service.client.post("/v1/audio/transcriptions", files={"file": (TRIALS / name).read_bytes()})
    assert answer.status_code == 200, answer.text
    assert [word for word in words if word not in answer.json()["text"].lower()] == []


class Making:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("name", ["ingress", "whisper", "diffusion"])
def test_a_replicas_grpc_port_unpickles_nothing_without_rays_token(service: Service, name: str, tmp_path: Path) -> None:
    listening = [one for one in service.replica(name).net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert listening, "the handles call replicas by gRPC (graphs/ray.env)"

    def made(folder: Path, metadata: tuple[tuple[str, str], ...]) -> set[grpc.StatusCode]:
        codes = set()
        request = serve_pb2.ASGIRequest(pickled_request_metadata=pickle.dumps(Making(folder)))
        for port in {one.laddr.port for one in listening}:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = serve_pb2_grpc.ASGIServiceStub(channel).HandleRequestWithRejection
                with pytest.raises(grpc.RpcError) as raised:
                    call(request, metadata=metadata, timeout=20)
            codes.add(raised.value.code())
        return codes

    strangers, ours = tmp_path / "strangers", tmp_path / "ours"
    assert grpc.StatusCode.UNAUTHENTICATED in made(strangers, (("authorization", "Bearer 0"),))
    assert grpc.StatusCode.UNAUTHENTICATED in made(strangers, ())
    assert not strangers.exists()
    token = Path("~/.ray/auth_token").expanduser().read_text().strip()
    made(ours, (("authorization", f"Bearer {token}"),))
    assert ours.exists(), "with the token it is the port that takes calls"
