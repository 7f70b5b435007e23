"""Clients' errors in the real service: no traceback in any of Serve's logs."""

import pytest

from testing.client_errors import CLIENT_ERRORS
from testing.service import Service

pytestmark = pytest.mark.serve


def test_no_error_of_a_client_leaves_a_traceback_in_a_log(service: Service) -> None:
    before = service.serve_logs()

    def logged() -> str:
        return "".join(text.removeprefix(before.get(name, "")) for name, text in service.serve_logs().items())

    port = int(service.url.rsplit(":", 1)[1])
    assert {error.name: error.send(port) for error in CLIENT_ERRORS} == {error.name: error.status for error in CLIENT_ERRORS}
    left = len([error for error in CLIENT_ERRORS if error.leaves_in_body])
    # Whether the ingress has begun when the proxy cancels is left open: the proxy's access line is certain.
    service.wait_until(lambda: logged().count(" 499 ") >= left, "each client that left in its body has the proxy's line")
    for sign in ("Traceback", "ERROR", "Request failed", "Unhandled"):
        assert sign not in logged()
    assert service.client.get("/readyz").status_code == 200
