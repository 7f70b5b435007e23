"""OpenAI's API."""

from fastapi import APIRouter, Depends

from graphs.http.schemas.openapi import KEY


def openai_router() -> APIRouter:
    """An empty router below `/v1`. Each route has its whole path, which the access log writes."""
    return APIRouter(prefix="/v1", tags=["OpenAI's API"], dependencies=[Depends(KEY)])
