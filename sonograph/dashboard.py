"""The address of Ray's dashboard."""

from urllib.parse import urlsplit

from sonograph.addresses import is_loopback
from sonograph.errors import Failed


def address(given: str | None, named: str | None) -> str:
    """The address to send Ray's token to. `given`: by --dashboard. `named`: by the service.

    Raises Failed for one on another machine that only the service names: whoever has the token can run code.
    """
    url = given or named
    if url is None:
        raise Failed("the service does not know Ray's dashboard: name it, as in --dashboard http://127.0.0.1:8265")
    if not given and not is_loopback(urlsplit(url).hostname or ""):
        raise Failed(
            f"the service names {url} as Ray's dashboard, on another machine: if that is right, add --dashboard {url}; "
            "in Kubernetes use --rayservice, or a port-forward of the head's port 8265"
        )
    return url
