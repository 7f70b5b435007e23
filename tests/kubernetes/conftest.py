"""The cluster that all tests of this folder share: their own, or the one that SONOGRAPH_KUBECONFIG names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes import cluster, machine, record
from tests.kubernetes.installation import CLIENTS, STRANGERS, Installation, namespace, pod
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.small import small as make_small

NODES = SPARE = 6
"""The last node gets no pods, but in the tests of nodes that end."""
CONFIG = "SONOGRAPH_KUBECONFIG"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stale", action="store_true", help="leave out the files of tests/kubernetes that have passed with the present files"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if CONFIG in os.environ:
        for item in items:
            if item.get_closest_marker("own_nodes"):
                item.add_marker(pytest.mark.skip(f"needs the nodes of these tests, not of {CONFIG}"))
    if config.getoption("--stale", default=False):
        current = record.current()
        items[:] = [item for item in items if item.path.name not in current]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("--stale", default=False):
        session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Record what a run of this folder (`make kubernetes`) has passed; nothing of one that was interrupted."""
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if ended and config.args == ["tests/kubernetes"] and not config.option.collectonly and CONFIG not in os.environ:
        record.write(record.passed(terminalreporter.stats))


@pytest.fixture(scope="session")
def kubectl() -> Iterator[Kubectl]:
    """Run a cluster of six nodes, with CoreDNS, KubeRay and enforced network policies."""
    if config := os.environ.get(CONFIG):
        yield Kubectl(["kubectl"], Path(config))
        return
    if reason := machine.lacks():
        pytest.skip(reason)
    with cluster.alone():
        try:
            ready = cluster.up(NODES)
            ready("cordon", f"node{SPARE}")
            yield ready
        finally:
            machine.clear()


@pytest.fixture(scope="session")
def clients(kubectl: Kubectl) -> Iterator[Kubectl]:
    """Run a client in each of two namespaces."""
    kubectl.apply(namespace(CLIENTS, **{"sonograph/clients": ""}), namespace(STRANGERS))
    with pod(kubectl, "client", CLIENTS), pod(kubectl, "client", STRANGERS):
        yield kubectl
    kubectl("delete", "namespace", CLIENTS, STRANGERS)


@pytest.fixture(scope="session")
def small(clients: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Install one ingress and models of known cost, which all tests of changes and losses share."""
    made = make_small(clients, "small", tmp_path_factory.mktemp("small"))
    made.install()
    yield made
    made.remove()
