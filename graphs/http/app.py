"""The ASGI app of the HTTP edge: middleware and routers, all built from one `Services`."""

import asyncio
import importlib.metadata
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from graphs.http import problems
from graphs.http.middleware.browsers import BrowserMiddleware
from graphs.http.middleware.disconnect import DisconnectMiddleware
from graphs.http.middleware.expect import ExpectMiddleware
from graphs.http.middleware.normalize import NormalizeMiddleware
from graphs.http.routes import docs, graph, guide, health, page, rollouts, traces
from graphs.http.routes.openai import audio, images, models
from graphs.http.schemas import examples, openapi
from graphs.http.services import Services


class App(FastAPI):
    """FastAPI, with recorded answers as the examples of its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        return dict(examples.fill(super().openapi()))


def create_app(services: Services) -> FastAPI:
    version = importlib.metadata.version("sonograph")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        # Asked for the first time while Serve applies a new configuration, it would name no model of the service.
        await services.readiness.states()
        watching = asyncio.create_task(services.readiness.watch())
        if services.rollouts is not None:
            await services.rollouts.start()
        yield
        watching.cancel()
        if services.rollouts is not None:
            await services.rollouts.stop()
        await asyncio.to_thread(services.traces.close)

    app = App(
        title="Sonograph", summary="Speech in, picture out.", version=version, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_middleware(DisconnectMiddleware)
    if services.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=services.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=openapi.headers_of(services.graphs),
        )
    app.add_middleware(NormalizeMiddleware)
    app.add_middleware(BrowserMiddleware, settings=services.settings)
    app.add_middleware(ExpectMiddleware)
    problems.install(app)
    for resource in (
        graph,
        health,
        audio,
        images,
        models,
        rollouts,
        traces,
        page,
        docs,
        guide,
    ):  # a request is compared with one route after the other
        app.include_router(resource.router(services))
    return app
