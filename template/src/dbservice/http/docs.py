"""`/openapi.json`, and `/docs`: Swagger UI, served from a package and from nowhere else; its pages run no script of anybody
else."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    # seconds for hundreds of tables: in a thread, and once
    state = request.app.state
    if getattr(state, "openapi_body", None) is None:
        state.openapi_body = await asyncio.to_thread(lambda: JSONResponse(request.app.openapi()).body)
    return Response(state.openapi_body, media_type="application/json")


@router.get("/docs")
async def docs() -> Response:
    return Response(_PAGE, media_type="text/html", headers=_HEADERS)


@router.get("/docs/{name}")
async def docs_file(name: str) -> Response:
    if name == "start.js":
        return Response(_SCRIPT, media_type="text/javascript", headers=_HEADERS)
    if name not in _FILES:
        raise HTTPException(404)
    return FileResponse(_folder() / name, media_type=_FILES[name], headers=_HEADERS | _CACHED)


_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
"""What is used of the package `fastapi-swagger`, and its types."""

# Swagger UI has images in its style sheet
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_CACHED = {"Cache-Control": "max-age=3600"}

# paths are relative: a proxy may put the service under a path of its own
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="docs"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_SCRIPT = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", deepLinking: true});\n'


def _folder() -> Path:
    found = find_spec("fastapi_swagger")  # its code is not imported
    assert found is not None and found.submodule_search_locations, (
        "fastapi-swagger is missing: install requirements.txt"
    )
    return Path(found.submodule_search_locations[0]) / "resources"
