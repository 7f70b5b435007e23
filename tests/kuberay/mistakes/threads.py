"""Mistakes in the number of threads: more of them at once than the CPUs that are asked for."""

from typing import Any

from kuberay.doctor.finding import WARNING
from testing.manifests import Break, Manifests
from tests.kuberay.mistakes import Mistake
from tests.kuberay.mistakes.pods import limit_range, of_kind, sidecar

FOR_EACH = "a node that is full by what is asked for runs 8 threads on each CPU, and all of them wait"


def variable(group: str, name: str, value: str) -> Break:
    return lambda m: m.container(group)["env"].append({"name": name, "value": value})


def of_runtime(deployment: str, **variables: str) -> Break:
    return lambda m: m.options(deployment).update(runtime_env={"env_vars": variables})


def small_sidecar(**fields: Any) -> Break:
    return lambda m: sidecar(m, resources={"requests": {"cpu": "500m", "memory": "64Mi"}}, **fields)


def job_command(m: Manifests, *words: str) -> None:
    of_kind(m, "Job")["spec"]["template"]["spec"]["containers"][0].update(args=list(words))


def another_app(m: Manifests) -> None:
    """An app that cannot be imported here: what it takes is not known, and what it asks for is."""
    m.application.update(import_path="elsewhere.app:build", args={"model": {"intra_op_threads": 8, "max_threads": 64}})


MISTAKES = [
    Mistake("one CPU and eight threads", "SG313", variable("whisper", "OMP_NUM_THREADS", "8"), FOR_EACH, WARNING),
    Mistake(
        "threads of nested regions",
        "SG313",
        variable("diffusion", "OMP_NUM_THREADS", "4,2"),
        "run 4 threads, and it asks for 2 CPUs (num_cpus)",
        WARNING,
    ),
    Mistake(
        "threads of a deployment's runtime environment",
        "SG313",
        of_runtime("whisper", MKL_NUM_THREADS="8"),
        "MKL_NUM_THREADS lets a replica of whisper run 8 threads",
        WARNING,
    ),
    Mistake(
        "threads of the app's runtime environment",
        "SG313",
        lambda m: m.application.update(runtime_env={"env_vars": {"OPENBLAS_NUM_THREADS": "2"}}),
        "lets a replica of ingress run 2 threads, and it asks for 1 CPU",
        WARNING,
    ),
    Mistake(
        "threads in another app's settings",
        "SG313",
        another_app,
        "intra_op_threads lets a replica of diffusion run 8 threads, and it asks for 2 CPUs",
        WARNING,
        also=("SG203",),
    ),
    Mistake(
        "threads of a sidecar's option",
        "SG313",
        small_sidecar(args=["--io-threads", "4"]),
        "--io-threads lets the container proxy run 4 threads, and it asks for 0.5 CPUs (requests.cpu)",
        WARNING,
    ),
    Mistake(
        "threads of a sidecar in a shell's line",
        "SG313",
        small_sidecar(command=["sh", "-c", "exec serve --num_threads=8"]),
        "--num_threads lets the container proxy run 8 threads",
        WARNING,
    ),
    Mistake(
        "threads of a sidecar that requests nothing",
        "SG313",
        lambda m: sidecar(m, env=[{"name": "GOMAXPROCS", "value": "4"}]),
        "it asks for no CPU (requests.cpu): a node takes any number of them",
        WARNING,
    ),
    Mistake(
        "threads above what a LimitRange requests",
        "SG313",
        lambda m: (sidecar(m, env=[{"name": "GOMAXPROCS", "value": "4"}]), limit_range(m, defaultRequest={"cpu": "2"})),
        "it asks for 2 CPUs",
        WARNING,
        also=("SG443",),
    ),
    Mistake(
        "threads of the Job",
        "SG313",
        lambda m: job_command(m, "fetch", "--threads", "64"),
        "--threads lets the container",
        WARNING,
        also=("SG208", "SG209"),
    ),
    Mistake("threads of the head", "SG313", lambda m: m.add_env("OMP_NUM_THREADS", "8"), "run 8 threads", WARNING),
]
