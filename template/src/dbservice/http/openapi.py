"""The OpenAPI document: problems instead of FastAPI's own errors, exact limits, the models of rows."""

import functools
import types
import typing
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler, create_model
from pydantic_core import core_schema

from ..schema import Page, Row
from ..schema.rows import register_row_schemas
from ..types import INT64
from ..types.structured import JSON_VALUE
from ..types.text import WITHOUT_NUL
from .encoding import to_builtins
from .locations import Location
from .problems import DETAILS


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of these statuses, each of which DETAILS has."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        status: {"description": DETAILS[status], "content": content}
        | ({"headers": retry} if status == 503 else {})
        for status in statuses
    }


def document_problems(schema: dict[str, Any]) -> None:
    """Replace the error format that FastAPI documents by that of problems."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def document_locations(schema: dict[str, Any], locations: list[Location]) -> None:
    """Name the header `Location` in the answers that have it."""
    header = {"schema": {"type": "string"}, "description": "The path of the new row."}
    for each in locations:
        operation = schema["paths"].get(each.path, {}).get("post", {})
        if "201" in operation.get("responses", {}):
            operation["responses"]["201"].setdefault("headers", {}).setdefault("Location", header)


def document_json_values(schema: dict[str, Any]) -> None:
    """Say what the parts of JSON columns may be, in a schema that refers to itself."""
    if _refer_to_json_values(schema):
        schema["components"]["schemas"]["JSONValue"] = _JSON_VALUE


def restore_integer_limits(schema: Any) -> None:
    """Make the limits of integers whole numbers again: FastAPI keeps them as floats, which 2**63 - 1 is not."""
    if isinstance(schema, dict):
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if schema.get("type") == "integer" and isinstance(limit := schema.get(key), float):
                schema[key] = min(int(limit), INT64)
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            restore_integer_limits(each)


def response_model(answer: Any) -> Any:
    """The pydantic model that documents an endpoint which answers a row, a list of rows or a page, or None; None for any
    other."""
    if (some := _optional(answer)) is not None:
        optional: Any = response_model(some)
        return None if optional is None else optional | None
    kind, row = typing.get_origin(answer), next(iter(typing.get_args(answer)), answer)
    if not (isinstance(row, type) and issubclass(row, Row)):
        return None
    if kind is Page:
        return _page_model(row)
    model: Any = _row_model(row)
    return {None: model, list: list[model]}.get(kind)


def row_type(answer: Any) -> type[Row] | None:
    """The row that an endpoint answers; None where it answers something else, or several."""
    some = _optional(answer) or answer
    return some if isinstance(some, type) and issubclass(some, Row) else None


def row_core_schema(row: type[Row]) -> core_schema.CoreSchema:
    """How pydantic treats a row in a model: it stays as it is, and its JSON is that of a route that answers it."""
    written = core_schema.plain_serializer_function_ser_schema(to_builtins, when_used="json")
    documented: Any = _row_model(row).__pydantic_core_schema__
    documented = documented.get("schema") if documented["type"] == "definitions" else documented
    # under the name of the row's model, so that the document has one schema for both
    reference = documented.get("ref") or documented.get("schema_ref")
    return core_schema.is_instance_schema(row, ref=reference, serialization=written)


def row_json_schema(row: type[Row], handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """The JSON Schema of a row in a model: the one of a route that answers it."""
    return handler(_row_model(row).__pydantic_core_schema__)


def _refer_to_json_values(schema: Any) -> bool:
    found = False
    if isinstance(schema, dict):
        if found := schema.pop(JSON_VALUE, False):
            schema.update(_PARTS)
        schema = list(schema.values())
    if isinstance(schema, list):
        for each in schema:
            found = _refer_to_json_values(each) or found
    return found


def _optional(answer: Any) -> Any:
    """X of X | None; None of what else there is."""
    if typing.get_origin(answer) not in (typing.Union, types.UnionType):
        return None
    some = [each for each in typing.get_args(answer) if each is not type(None)]
    return some[0] if len(some) == 1 else None


@functools.cache
def _row_model(row: type[Row]) -> type[BaseModel]:
    return row.openapi_model()


@functools.cache
def _page_model(row: type[Row]) -> type[BaseModel]:
    items: Any = list[_row_model(row)]  # type: ignore[misc]
    fields: dict[str, Any] = {"items": (items, ...), "next": (int | None, ...)}
    return create_model(f"{row.__name__}Page", __doc__=Page.__doc__, **fields)


_ANY_JSON = {"$ref": "#/components/schemas/JSONValue"}
_PARTS = {
    "items": _ANY_JSON,
    "propertyNames": {"pattern": WITHOUT_NUL},
    "additionalProperties": _ANY_JSON,
    "pattern": WITHOUT_NUL,
}
_JSON_VALUE = {
    "title": "JSONValue",
    "description": "Any JSON, up to 64 levels: whole numbers of 64 bits, other numbers as doubles hold them.",
    "type": ["object", "array", "string", "number", "boolean", "null"],
    **_PARTS,
}

_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457: `detail` says what was wrong; `errors`, where there are any, says where.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


register_row_schemas(row_core_schema, row_json_schema)
