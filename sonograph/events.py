"""The events of a running service's answer to a recording."""

import json
from collections.abc import Generator
from typing import Any

from sonograph.errors import Failed

CONNECT_S = 10.0
SILENCE_S = 60.0
"""Longest wait for the service's next byte: a healthy stream has one every 15 s."""


def events(url: str, audio: bytes, form: dict[str, str], key: str | None = None) -> Generator[dict[str, Any]]:
    """The service's events up to `done`. `key`: an API key. Raises Failed for every failure, the event `error` too."""
    import httpx  # here, since `sonograph --help` does not need it
    import httpx_sse

    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    local = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}  # never through a proxy
    try:
        with (
            httpx.Client(timeout=timeout, mounts=local, headers=headers) as client,
            httpx_sse.connect_sse(client, "POST", f"{url.rstrip('/')}/graph", files={"file": audio}, data=form) as source,
        ):
            _check(source.response, url)
            for event in source.iter_sse():
                if not event.data:  # of a comment
                    continue
                data = json.loads(event.data)
                if data["type"] == "error":
                    raise Failed(_sentence(data["problem"]))
                yield data
                if data["type"] == "done":
                    return
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Failed(f"nothing answers at {url}: `sonograph serve` starts a service on this machine") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Failed(f"{url} is not the address of a service, as http://127.0.0.1:8000 is") from error
    except httpx.TimeoutException as error:
        raise Failed(f"{url} has been silent for {SILENCE_S:.0f} s: its ingress hangs, or the network is cut") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(f"{url} sent an event that cannot be read") from error
    except httpx.HTTPError as error:
        raise Failed(f"{url} ended the connection in the middle, so its ingress died: ask again") from error
    raise Failed(f"{url} ended its events in the middle, so its ingress died: ask again")


def _check(response: Any, url: str) -> None:
    """Raise Failed unless this is a stream of events."""
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    if kind == "application/problem+json":
        response.read()
        raise Failed(_sentence(response.json()))
    if response.status_code != 200 or kind != "text/event-stream":
        raise Failed(f"{url}/graph answers {response.status_code} {kind}, which is not Sonograph's events: is this its address?")


def _sentence(problem: dict[str, Any]) -> str:
    return f"{problem['detail']} ({problem['code']})"
