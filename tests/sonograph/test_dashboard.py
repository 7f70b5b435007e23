"""Ray's dashboard over HTTP, as far as it refuses."""

import httpx
import pytest

from sonograph.dashboard import Dashboard, DashboardError


def answering(status: int, text: str = "") -> Dashboard:
    return Dashboard("http://ray.example:8265/", "token", httpx.MockTransport(lambda request: httpx.Response(status, text=text)))


@pytest.mark.parametrize(
    ("status", "text", "sentence"),
    [
        (401, "Unauthorized: Missing authentication token", "takes only its cluster's token, which the head has: Unauthorized"),
        (403, "Forbidden", "takes only its cluster's token"),
        (400, "ValidationError: applications", r"refuses \(400\): ValidationError: applications"),
    ],
)
def test_a_refusal_gives_the_dashboards_own_text(status: int, text: str, sentence: str) -> None:
    with answering(status, text) as dashboard, pytest.raises(DashboardError, match=sentence):
        dashboard.deploy({})


def test_a_dashboard_that_is_away_is_named() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    dashboard = Dashboard("http://ray.example:8265", None, httpx.MockTransport(away))
    with dashboard, pytest.raises(DashboardError, match=r"does not answer at http://ray\.example:8265: refused"):
        dashboard.details()


def test_the_token_goes_with_each_request() -> None:
    def app(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer token"
        return httpx.Response(200, json={"applications": {}})

    with Dashboard("http://ray.example:8265", "token", httpx.MockTransport(app)) as dashboard:
        assert dashboard.details() == {"applications": {}}
