"""`/healthz`: the process lives. `/readyz`: it can work: database, node, schema, not draining. `/metrics`: Prometheus metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .encoding import encode
from .openapi import problem_responses
from .problems import problem_response

router = APIRouter(tags=["health"])

PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
"""Paths that are answered under any load."""


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", summary="Can it work?", responses=problem_responses(503))
async def readyz(request: Request) -> Response:
    running = request.app.state.running
    if sentence := await running.not_ready():
        return problem_response(503, sentence, headers={"Retry-After": "1"})
    answer = {"status": "ready", "revision": running.revision}
    if running.degraded:
        answer["degraded"] = running.degraded
    return Response(encode(answer), media_type="application/json")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    running = request.app.state.running
    await running.look()
    return Response(
        generate_latest(running.metrics.registry),
        headers={"content-type": CONTENT_TYPE_LATEST},
    )
