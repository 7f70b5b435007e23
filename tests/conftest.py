"""What the tests share: one real service for the whole run."""

import signal
from collections.abc import Iterator

import pytest

from testing.service import Service, sonograph

# A script's `make test &` starts this process with SIGINT ignored, and what a test starts would inherit that: no Ctrl-C could end it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """As `make serve` starts it, but for a deadline that a test can wait for, pictures that take longer than it, and metrics
    that are a second old (a model's are taken at its health check)."""
    settings = {"http": {"deadline_s": 30}, "diffusion": {"max_side_px": 512}}
    health_checks = {name: {"health_check_period_s": 1} for name in ("whisper", "diffusion")}
    with sonograph(tmp_path_factory.mktemp("service"), health_checks, **settings) as service:
        yield service
