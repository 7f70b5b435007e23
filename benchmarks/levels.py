"""Cost of a request by the level at which it enters: `python -m benchmarks.levels`.

The same recordings go through the engines called directly in one process, through each model's Triton server, through each
deployment's handle, and through a whole POST; in turns, so that a drift of the machine affects all levels alike. CPU is that of all
processes of a level, less their idle cost.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import ray
import yaml
from numpy.typing import NDArray
from ray import serve
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import Idle, circumstances, cpu_s, recordings, spread, tree
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.roles.text_to_image import GenerateRequest
from deployments.time_left import TimeLeft
from deployments.whisper.settings import WhisperSettings
from graphs.audio.decode import decode
from graphs.audio.vad import require_speech
from graphs.ingress import app
from graphs.settings import Settings

SEED = 7
PORT = 8765
Answer = tuple[str, bytes]
"""The transcript and the encoded image."""


def decode_speech(recording: bytes) -> NDArray[np.int16]:
    """The samples of a recording with speech in it, as a worker of the ingress makes them."""
    audio = decode(recording, 60)
    require_speech(audio)
    return audio


def direct(connection: Connection) -> None:
    """Run both engines and the decoder in this process alone."""
    from deployments.diffusion.engine import DiffusionEngine
    from deployments.whisper.engine import WhisperEngine

    settings = DiffusionSettings()
    whisper = WhisperEngine(WhisperSettings().engine_config())
    diffusion = DiffusionEngine(EngineConfig(settings.model))

    def run(recording: bytes) -> Answer:
        text = whisper.transcribe(TranscribeRequest(decode_speech(recording))).text
        metadata = {"prompt": text, "seed": str(SEED), "model": settings.model_name}
        image = diffusion.generate(settings.with_defaults(GenerateRequest(text, seed=SEED)), metadata).image
        return text, image.encoded

    _answer_requests(connection, run)


def triton(connection: Connection) -> None:
    """Run both deployments' classes and their Triton servers in this process and its stubs, without Ray."""
    from deployments.diffusion.deployment import Diffusion
    from deployments.whisper.deployment import Whisper

    async def draw(recording: bytes) -> Answer:
        transcript = await whisper.run(TranscribeRequest(decode_speech(recording)), TimeLeft(60))
        image = await diffusion.run(GenerateRequest(transcript.text, seed=SEED), TimeLeft(60))
        return transcript.text, image.encoded

    warnings.filterwarnings("ignore", "coroutine 'ModelDeployment.__del__'")  # only Serve awaits it
    with asyncio.Runner() as runner:
        whisper, diffusion = Whisper(WhisperSettings()), Diffusion(DiffusionSettings())
        _answer_requests(connection, lambda recording: runner.run(draw(recording)))
        runner.run(whisper.close())
        runner.run(diffusion.close())


def _answer_requests(connection: Connection, run: Callable[[bytes], Answer]) -> None:
    connection.send("ready")
    for recording in iter(connection.recv, None):
        connection.send(run(recording))


def _remote(target: Callable[[Connection], None]) -> tuple[Callable[[bytes], Answer], Any]:
    """Start a level in a process of its own; return a function that sends it a recording."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs,), daemon=False)
    process.start()
    assert ours.recv() == "ready"

    def run(recording: bytes) -> Answer:
        ours.send(recording)
        answer: Answer = ours.recv()
        return answer

    return run, (process, ours)


def _handles() -> Callable[[bytes], Answer]:
    whisper, diffusion = (serve.get_deployment_handle(name, "sonograph") for name in ("whisper", "diffusion"))

    def run(recording: bytes) -> Answer:
        transcript = whisper.run.remote(TranscribeRequest(decode_speech(recording)), TimeLeft(60)).result()
        image = diffusion.run.remote(GenerateRequest(transcript.text, seed=SEED), TimeLeft(60)).result()
        return transcript.text, image.encoded

    return run


def _post(client: httpx.Client) -> Callable[[bytes], Answer]:
    def run(recording: bytes) -> Answer:
        answer = client.post("/graph", files={"file": recording}, data={"seed": str(SEED)})
        answer.raise_for_status()
        return unquote(answer.headers["x-transcript"]), answer.content

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recordings", type=int, default=4)
    arguments = parser.parse_args()
    console = Console(width=120)
    spoken = recordings(arguments.recordings)
    config = yaml.safe_load((Path(__file__).parent.parent / "graphs" / "local.yaml").read_text())
    settings = Settings.model_validate(config["applications"][0]["args"])

    with console.status("Starting every level ..."):
        run_direct, (direct_process, direct_end) = _remote(direct)
        run_triton, (triton_process, triton_end) = _remote(triton)
        ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=max(2, os.cpu_count() or 2))
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(app(settings), name="sonograph")
        client = httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=120)
        others = {direct_process.pid, triton_process.pid}
        ours = [one for one in tree(os.getpid())[1:] if not others & {one.pid, *(parent.pid for parent in one.parents())}]
        me = tree(os.getpid())[:1]
    levels = {
        "engines, directly": (run_direct, tree(direct_process.pid)),
        "through Triton": (run_triton, tree(triton_process.pid)),
        "through the handles": (_handles(), ours + me),
        "the whole POST": (_post(client), ours),
    }
    answers = {name: [run(recording) for recording in spoken] for name, (run, _) in levels.items()}  # warm, and compared
    idle = {name: Idle(processes, 5).cpu_per_s for name, (_, processes) in levels.items()}

    cpu_ms: dict[str, list[float]] = {name: [] for name in levels}
    wall_ms: dict[str, list[float]] = {name: [] for name in levels}
    names = list(levels)
    for number in track(range(arguments.rounds), "Rounds", console=console):
        for name in names if number % 2 == 0 else reversed(names):
            run, processes = levels[name]
            began_s, began_cpu_s = time.perf_counter(), cpu_s(processes)
            for recording in spoken:
                run(recording)
            took_s, used_s = time.perf_counter() - began_s, cpu_s(processes) - began_cpu_s
            wall_ms[name].append(took_s * 1000 / len(spoken))
            cpu_ms[name].append((used_s - idle[name] * took_s) * 1000 / len(spoken))

    table = Table("one request", "CPU-ms: median (range)", "wall ms: median (range)", "idle CPU-ms/s", "same answers")
    for name in names:
        same = "yes" if answers[name] == answers[names[0]] else "NO"
        table.add_row(name, spread(cpu_ms[name]), spread(wall_ms[name]), f"{idle[name] * 1000:.0f}", same)
    console.print(table)
    whole, alone = statistics.median(cpu_ms["the whole POST"]), statistics.median(cpu_ms["engines, directly"])
    pairs = zip(cpu_ms["the whole POST"], cpu_ms["engines, directly"], strict=True)
    ratio = statistics.median(post / bare for post, bare in pairs)
    bound = 1.10 * alone + 30
    verdict = "within" if whole <= bound else "beyond"
    console.print(f"The whole POST costs {ratio:.2f} times the engines alone (median of pairs).")
    console.print(f"That is {whole:.0f} CPU-ms, {verdict} the goal of 1.10 x + 30 = {bound:.0f}.")
    console.print(circumstances())

    for end, process in ((direct_end, direct_process), (triton_end, triton_process)):
        end.send(None)
        process.join(30)
    client.close()
    serve.shutdown()
    ray.shutdown()
    sys.exit(0 if all(answers[name] == answers[names[0]] for name in names) else 1)


if __name__ == "__main__":
    main()
