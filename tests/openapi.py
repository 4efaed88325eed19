"""Parts of an OpenAPI document."""

import json
from typing import Any

import sqlalchemy as sa

from .sample_service import NOWHERE, metadata, sample_service

TABLES = metadata.sorted_tables


def load_document() -> dict[str, Any]:
    """The document of the sample service, as a client reads it."""
    found: dict[str, Any] = json.loads(json.dumps(sample_service(NOWHERE).app.openapi()))
    return found


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        for part in ["", *schema["$ref"].split("/")[1:]]:
            schema = schema[part] if part else document
    return schema


def body_schema(document: dict[str, Any], table: sa.Table, method: str) -> dict[str, Any]:
    """The schema of a body."""
    path = f"/v1/{table.name}" + ("/{id}" if method == "patch" else "")
    content = document["paths"][path][method]["requestBody"]["content"]
    assert list(content) == ["application/json"]
    return resolved(document, content["application/json"]["schema"])


def answer_schema(document: dict[str, Any], path: str, method: str, status: str) -> dict[str, Any]:
    content = document["paths"][path][method]["responses"][status]["content"]
    assert list(content) == ["application/json"]
    return resolved(document, content["application/json"]["schema"])
