"""The compared services: this one and what a user would pick instead, each started as its own documentation starts it."""

import json
import os
import shutil
import sysconfig
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import httpx

from benchmarks.graph import FASTER
from benchmarks.peers import environments
from benchmarks.services import running, sonograph, without_rays
from graphs.http.settings import HttpSettings
from testing.service import Service, free_port

BOUND = HttpSettings().max_concurrent_requests
"""Of requests in the service, for each one that has a setting for it."""
REFUSALS = {429, 503, 504}
"""Statuses of a request that was not served for want of a place, or of time in the queue."""


@dataclass(frozen=True)
class Outcome:
    """A client's answer: `status` is NO_ANSWER without one; `text` and `image` are those of an answer 200; `error` of any other."""

    status: int
    text: str = ""
    image: bytes = b""
    error: str = ""

    @property
    def refused(self) -> bool:
        return self.status in REFUSALS


type Post = Callable[[httpx.AsyncClient, bytes], Awaitable[Outcome]]
type Start = Callable[[Path], AbstractContextManager[Service]]


async def post_form(http: httpx.AsyncClient, recording: bytes) -> Outcome:
    """Send a recording as a form, and return the picture, with the words from its header."""
    answer = await http.post("/graph", files={"file": recording}, headers={"Accept": "image/png"})
    if answer.status_code != 200:
        return Outcome(answer.status_code, error=answer.text)
    return Outcome(200, unquote(answer.headers.get("x-transcript", "")), answer.content)


async def post_tensors(http: httpx.AsyncClient, recording: bytes) -> Outcome:
    """Send a recording by KServe's protocol, version 2, with the tensors' binary extension, as Triton's clients do."""
    element = len(recording).to_bytes(4, "little") + recording
    binary = {"binary_data": True}
    call = {
        "inputs": [{"name": "RECORDING", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}],
        "outputs": [{"name": name, "parameters": binary} for name in ("TEXT", "IMAGE")],
    }
    head = json.dumps(call).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    answer = await http.post("/v2/models/graph/infer", content=head + element, headers=headers)
    if answer.status_code != 200:
        return Outcome(answer.status_code, error=answer.text)
    length = int(answer.headers["inference-header-content-length"])
    tensors = {}
    at = length
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        tensors[output["name"]] = answer.content[at + 4 : at + size]
        at += size
    return Outcome(200, tensors["TEXT"].decode(), tensors["IMAGE"])


@dataclass(frozen=True)
class Peer:
    """`folder`: of its code and lock, empty for this service. `code`: the files that a user writes, models.py aside."""

    name: str
    title: str
    package: str
    start: Start
    folder: str = ""
    post: Post = post_form
    code: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()
    """Abilities that the graph lacks in it as written: `batch` over requests, a `deadline` that a client sets, `events` of progress,
    `cancel` of what a model computes when its client leaves, a `refusal` where it is full."""

    @property
    def version(self) -> str:
        return environments.version(self.folder, self.package) if self.folder else ""

    @property
    def lines(self) -> int:
        """Lines of its code that are neither empty, nor comments, nor docstrings of modules."""
        return sum(count_lines((environments.HERE / self.folder / name).read_text()) for name in self.code)


def count_lines(code: str) -> int:
    lines = [line.strip() for line in code.splitlines()]
    return len([line for line in lines if line and not line.startswith(("#", '"""'))])


def peer_start(name: str, command: Callable[[Path, int, Path], list[str]], ready: str, **variables: str) -> Start:
    """Return how a peer starts. `command`: of its folder of programs, its port, and a folder for its files."""

    def start(folder: Path) -> AbstractContextManager[Service]:
        programs = environments.prepare(name)
        port = free_port()
        plain = without_rays()
        path = f"{programs}:{plain['PATH']}"
        own = environments.weights() | {"PATH": path, "BOUND": str(BOUND), "OMP_NUM_THREADS": "1"}
        slept = {key: os.environ[key] for key in ("SLEEP",) if key in os.environ}
        given = plain | own | slept | variables | {"PORT": str(port), "HOME": str(folder)}
        return running(command(programs, port, folder), given, port, folder, ready, environments.HERE / name)

    return start


def _serve_config(folder: Path, port: int) -> Path:
    application = {"name": "graph", "route_prefix": "/", "import_path": "app:app"}
    path = folder / "serve.yaml"
    path.write_text(json.dumps({"http_options": {"port": port}, "applications": [application]}))
    return path


def _triton(programs: Path, port: int, folder: Path) -> list[str]:
    """NVIDIA's package keeps the program, its libraries and the Python backend's stubs apart; they are laid out as in its image."""
    (packages,) = (programs.parent / "lib").glob("python3*/site-packages")
    server = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    stub = shutil.copy(server / "python_backend_stubs" / "3.12" / "triton_python_backend_stub", backend)
    Path(stub).chmod(0o755)
    return [
        *("/usr/bin/env", f"LD_LIBRARY_PATH={packages / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"),
        *(str(server / "bin" / "tritonserver"), "--model-repository", "repository", "--backend-directory", str(backend.parent)),
        *("--http-address", "127.0.0.1", "--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false"),
    ]


PEERS = (
    Peer("sonograph", "this service", "", lambda folder: sonograph(folder, FASTER)),
    Peer(
        "fastapi",
        "FastAPI",
        "fastapi",
        peer_start(
            "fastapi_app",
            lambda programs, port, _: [
                *(str(programs / "uvicorn"), "app:app", "--port", str(port)),
                *("--workers", "2", "--limit-concurrency", str(BOUND // 2 + 1), "--log-level", "warning"),
            ],
            "/ready",
        ),
        "fastapi_app",
        code=("app.py",),
        cannot=("batch", "deadline", "cancel", "events"),
    ),
    Peer(
        "litserve",
        "LitServe",
        "litserve",
        peer_start("litserve_app", lambda programs, *_: [str(programs / "python"), "server.py"], "/health", WORKERS="2"),
        "litserve_app",
        code=("server.py",),
        cannot=("deadline", "cancel", "events"),
    ),
    Peer(
        "bentoml",
        "BentoML",
        "bentoml",
        peer_start(
            "bentoml_app",
            lambda programs, port, _: [str(programs / "bentoml"), "serve", "service:Graph", "--port", str(port)],
            "/livez",
            BENTOML_DO_NOT_TRACK="True",
        ),
        "bentoml_app",
        code=("service.py",),
        cannot=("deadline", "cancel", "events"),
    ),
    Peer(
        "serve_batch",
        "Ray Serve, @serve.batch",
        "ray",
        peer_start(
            "serve_batch",
            lambda programs, port, folder: [
                str(programs / "serve"),
                "run",
                "--address",
                "local",
                str(_serve_config(folder, port)),
            ],
            "/ready",
        ),
        "serve_batch",
        code=("app.py",),
        cannot=("cancel", "events"),
    ),
    Peer(
        "triton_ensemble",
        "Triton ensemble",
        "nvidia-pytriton",
        peer_start("triton_ensemble", _triton, "/v2/health/ready"),
        "triton_ensemble",
        post_tensors,
        code=(
            "repository/whisper/1/model.py",
            "repository/whisper/config.pbtxt",
            "repository/diffusion/1/model.py",
            "repository/diffusion/config.pbtxt",
            "repository/graph/config.pbtxt",
        ),
        cannot=("cancel", "events"),
    ),
)
