"""A client that leaves, as an ASGI app expects to be told: Serve tells it in a second way too."""

from ray.exceptions import RayError
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Leaving:
    """Where Serve's proxy has cancelled the request, or died, nobody listens any more: that is a disconnect.

    Serve's `receive` asks the proxy and raises what Ray says of that call, TaskCancelledError in about one of five leavers
    (ray/serve/_private/http_util.py, ASGIReceiveProxy, 2.60); the app would call it a defect of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def message() -> Message:
            try:
                return await receive()
            except RayError:
                return {"type": "http.disconnect"}

        await self._app(scope, message if scope["type"] == "http" else receive, send)
