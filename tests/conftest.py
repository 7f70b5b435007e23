"""Options of the suite, and the real service that all tests of a run share."""

import ast
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing import jaeger as jaegers
from testing.collector import Collector, over_http
from testing.jaeger import Jaeger
from testing.service import Service, sonograph

# A script's `make test &` starts this process with SIGINT ignored. The tests' processes would inherit that and ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


logging.getLogger("httpx").setLevel(logging.WARNING)  # Ray sets the root's level to INFO when it reads a logging configuration
for variable in [name for name in os.environ if name.startswith("OTEL_")]:
    del os.environ[variable]  # `sonograph serve` and `render` would read a developer's own

SLOW = ("triton", "serve", "browser", "slow", "torch", "kubernetes")
"""Markers of the tests that run in `make test` alone, not in `make check`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help=f"leave out tests marked {', '.join(SLOW)}, as `make check` does")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore, with --quick, a module whose own `pytestmark` is one of SLOW, since importing torch alone takes seconds."""
    if not config.getoption("--quick") or collection_path.suffix != ".py":
        return None
    for node in ast.parse(collection_path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            return any(f"pytest.mark.{name}" in ast.unparse(node.value) for name in SLOW) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if _slow(item)])
        items[:] = [item for item in items if not _slow(item)]
        assert "torch" not in sys.modules, "a test module loads torch: mark it, pytestmark = pytest.mark.torch"


def _slow(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in SLOW)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Receive the shared service's traces."""
    with over_http() as collector:
        yield collector


@pytest.fixture(scope="module")
def jaeger(collector: Collector) -> Iterator[Jaeger]:
    """Pass on to Jaeger, a real collector, the very bytes that a service sends to the small one."""
    with jaegers.running() as jaeger:
        collector.next_url = jaeger.url
        yield jaeger
        collector.next_url = ""


@pytest.fixture(params=["collector", "jaeger"])
def receiver(request: pytest.FixtureRequest) -> Collector | Jaeger:
    """Receive the service's traces: the small collector, and a real one that gets the same."""
    found: Collector | Jaeger = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    """Run the service as `make serve` does, with a shorter deadline, with images that take longer than it, and with metrics at most a
    second old (a model's are collected at its health check)."""
    settings = {"http": {"deadline_s": 30, "trusted_hosts": ["sonograph.test"]}, "diffusion": {"max_side_px": 512}}
    settings["tracing"] = {"endpoint": collector.url}
    health_checks = {name: {"health_check_period_s": 1} for name in ("whisper", "diffusion")}
    with sonograph(tmp_path_factory.mktemp("service"), health_checks, **settings) as service:
        yield service
