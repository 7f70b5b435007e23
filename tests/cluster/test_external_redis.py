"""Ray's control store in a Redis with TLS, a user and an authority of its own, as the values name one, tried with a real head."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kuberay.images import Images
from kuberay.manifest.rayservice import ray_service
from kuberay.profiles import CPU
from testing.service import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(name) for name in ("redis-server", "openssl")),
        reason="redis-server or openssl is not on this machine",
    ),
]
USER, PASSWORD = "ray", "correct-horse"


class Redis:
    """A running Redis that takes TLS alone, and whose default user is off."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.certificate, key = folder, free_port(), folder / "ca.crt", folder / "key.pem"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run(words, check=True, capture_output=True)
        users = folder / "users.acl"
        users.write_text(f"user default off\nuser {USER} on >{PASSWORD} ~* &* +@all\n")
        options = {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": self.certificate,
            "tls-key-file": key,
            "tls-ca-cert-file": self.certificate,
            "tls-auth-clients": "no",
            "aclfile": users,
            "save": "",
            "bind": "127.0.0.1",
        }
        command = [
            "timeout",
            "200",
            "redis-server",
            *(str(word) for pair in options.items() for word in (f"--{pair[0]}", pair[1])),
        ]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)

    def stored(self) -> list[str]:
        """Return the keys of what it holds; none where it does not answer."""
        words = ["redis-cli", "-p", str(self.port), "--tls", "--cacert", str(self.certificate), "--user", USER, "keys", "*"]
        ran = subprocess.run(words, env=os.environ | {"REDISCLI_AUTH": PASSWORD}, capture_output=True, text=True, check=False)
        return ran.stdout.split()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    made = Redis(tmp_path)
    yield made
    made.process.terminate()
    made.process.wait(30)


def start(redis: Redis, folder: Path, **variables: str) -> "subprocess.Popen[bytes]":
    """Start the head of a rendered cluster, with the variables and parameters that KubeRay makes of `gcsFaultToleranceOptions`."""
    values = {"address": f"rediss://localhost:{redis.port}", "username": USER, "certificate": True}
    cluster: dict[str, Any] = ray_service(CPU.changed({"redis": values}), Images())["spec"]["rayClusterConfig"]
    options = cluster["gcsFaultToleranceOptions"]
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    env = {one["name"]: one["value"].replace(mount["mountPath"], str(redis.certificate.parent)) for one in container["env"]}
    env |= {"RAY_REDIS_ADDRESS": options["redisAddress"], "RAY_external_storage_namespace": "of-this-cluster", **variables}
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--num-cpus=0", "--include-dashboard=false"]
    command += [f"--port={free_port()}", "--min-worker-port=19000", "--max-worker-port=19100", f"--temp-dir={folder}"]
    command += [f"--redis-username={options['redisUsername']['value']}", f"--redis-password={PASSWORD}"]
    command += ["--include-log-monitor=false"]
    with (redis.folder / "head.txt").open("wb") as output:
        return subprocess.Popen(["timeout", "180", *command], env={**os.environ, **env}, stdout=output, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("trusted", [True, False], ids=["its authority", "another authority"])
def test_the_head_keeps_its_state_in_it(redis: Redis, trusted: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path("/tmp") / f"sgr{os.getpid()}{trusted}"  # short, since Ray puts its sockets below it
    other = {} if trusted else {"RAY_REDIS_CA_CERT": "/etc/ssl/certs/ca-certificates.crt", "RAY_redis_db_connect_retries": "3"}
    head = start(redis, folder, **other)
    try:
        deadline_s = time.monotonic() + 150
        while not redis.stored() and head.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.5)
        printed = (redis.folder / "head.txt").read_text()
        assert any("of-this-cluster" in key for key in redis.stored()) == trusted, printed
        assert (head.poll() is None) == trusted, f"a head that does not trust its Redis does not start: {printed}"
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
