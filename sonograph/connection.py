"""Connections to a service: never through a proxy to this machine, and with httpx's errors as sentences."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx

from sonograph.errors import Failed


def client(key: str | None, transport: httpx.BaseTransport | None = None, **options: Any) -> httpx.Client:
    """A client that sends the API key. `options`: further ones of httpx."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    local = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
    return httpx.Client(headers=headers, transport=transport, mounts=None if transport else local, **options)


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise every error of httpx in this block as Failed."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Failed(f"nothing answers at {url}: `sonograph serve` starts a service on this machine") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Failed(f"{url} is not the address of a service, as http://127.0.0.1:8000 is") from error
    except httpx.TimeoutException as error:
        raise Failed(f"{url} has been silent for too long: its ingress hangs, or the network is cut") from error
    except httpx.HTTPError as error:
        raise Failed(f"{url} ended the connection, so its ingress died: run the command again") from error
