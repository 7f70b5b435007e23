"""Client disconnects in the form that ASGI apps expect: Serve reports them in a second way too."""

from ray.exceptions import RayError
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class DisconnectMiddleware:
    """Middleware that turns Ray's errors of `receive` into `http.disconnect`: the proxy has cancelled the request, or has died.

    Serve's `receive` calls the proxy and raises the error of that call, TaskCancelledError in about one of five disconnects
    (ray/serve/_private/http_util.py, ASGIReceiveProxy, 2.60); the app would take it for a defect of its own.
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
