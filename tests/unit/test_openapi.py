"""The OpenAPI document: it says what the API takes, answers and refuses, and the API does what it says."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import schemathesis

from dbservice.schema import MANAGED_COLUMNS, is_secret, public_columns
from dbservice.types import INT32, INT64

from ..openapi import TABLES, answer_schema, body_schema, resolved
from ..sample_service import users, values


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


# --- what it says


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "sample", "description": "Every type of column.", "version": "1"}
    schema = schemathesis.openapi.from_dict(document)
    loaded: list[Any] = list(schema.get_all_operations())
    assert len({each.ok().label for each in loaded}) == len(loaded) == 3 + 5 * len(TABLES)
    schema.validate()
    text = json.dumps(document)
    assert "HTTPValidationError" not in text and "ValidationError" not in text
    for path in document["paths"]:
        assert path in ("/healthz", "/readyz", "/metrics") or path.startswith("/v1/")


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for reference in re.findall(r'"(#/[^"]+)"', text):
        assert "object" in resolved(document, {"$ref": reference})["type"]
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


STATUSES = {
    "get": {"200", "422", "503"},
    "post": {"201", "408", "409", "413", "422", "503"},
    "get {id}": {"200", "404", "422", "503"},
    "patch {id}": {"200", "404", "408", "409", "413", "422", "503"},
    "delete {id}": {"204", "404", "409", "422", "503"},
}


def test_every_operation_names_what_may_happen(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        responses = operation["responses"]
        if path.startswith("/v1/"):
            assert set(responses) == STATUSES[method + (" {id}" if "{id}" in path else "")], path
        for status, response in responses.items():
            assert response["description"]
            if status >= "400":
                assert response["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                }
            if status == "503":
                assert response["headers"]["Retry-After"]["schema"] == {"type": "integer"}
            if status == "204":
                assert "content" not in response
            if status == "201":
                assert response["headers"]["Location"]["schema"] == {"type": "string"}
    assert set(document["paths"]["/readyz"]["get"]["responses"]) == {"200", "503"}
    assert set(document["paths"]["/healthz"]["get"]["responses"]) == {"200"}


def test_a_problem_is_as_rfc_9457_says(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]
    assert problem["required"] == ["type", "title", "status", "detail"]
    assert problem["properties"]["errors"]["items"]["required"] == ["field", "message"]


def test_a_page_has_limits(document: dict[str, Any]) -> None:
    for table in TABLES:
        found = {
            parameter["name"]: (parameter["in"], parameter["required"], parameter["schema"])
            for parameter in document["paths"][f"/v1/{table.name}"]["get"]["parameters"]
        }
        assert {name: (place, required) for name, (place, required, _) in found.items()} == {
            "limit": ("query", False),
            "after": ("query", False),
        }
        limit, after = found["limit"][2], found["after"][2]
        assert (limit["type"], limit["minimum"], limit["maximum"], limit["default"]) == (
            "integer",
            1,
            200,
            50,
        )
        assert (after["type"], after["minimum"], after["maximum"], after["default"]) == (
            "integer",
            0,
            INT64,
            0,
        )
        page = answer_schema(document, f"/v1/{table.name}", "get", "200")
        assert page["required"] == ["items", "next"] and page["properties"]["items"]["type"] == "array"
        row = resolved(document, page["properties"]["items"]["items"])
        assert row == answer_schema(document, f"/v1/{table.name}", "post", "201")
        for method in ("get", "patch", "delete"):
            (parameter,) = document["paths"][f"/v1/{table.name}/{{id}}"][method]["parameters"]
            schema = parameter["schema"]
            assert (parameter["name"], parameter["in"], schema["minimum"], schema["maximum"]) == (
                "id",
                "path",
                1,
                INT64,
            )


def test_every_column_has_its_name(document: dict[str, Any]) -> None:
    for table in TABLES:
        written = [column.name for column in table.columns if column.name not in MANAGED_COLUMNS]
        create, patch = body_schema(document, table, "post"), body_schema(document, table, "patch")
        assert list(create["properties"]) == list(patch["properties"]) == written
        assert create["additionalProperties"] is patch["additionalProperties"] is False
        required = [
            c.name for c in table.columns if c.name in written and not c.nullable and "default" not in c.info
        ]
        assert create.get("required", []) == required and "required" not in patch
        for path, method, status in (
            (f"/v1/{table.name}", "post", "201"),
            (f"/v1/{table.name}/{{id}}", "get", "200"),
            (f"/v1/{table.name}/{{id}}", "patch", "200"),
        ):
            row = answer_schema(document, path, method, status)
            assert (
                list(row["properties"])
                == row["required"]
                == [column.name for column in public_columns(table)]
            )
            for column in public_columns(table):
                assert (
                    {"type": "null"} in row["properties"][column.name].get("anyOf", [])
                ) == column.nullable


LIMITS: dict[str, dict[str, Any]] = {
    "string": {"type": "string", "maxLength": 40},
    "text": {"type": "string"},
    "integer": {"type": "integer", "minimum": -INT32 - 1, "maximum": INT32},
    "bigint": {"type": "integer", "minimum": -INT64 - 1, "maximum": INT64},
    "boolean": {"type": "boolean"},
    "float": {"type": "number"},
    "date": {"type": "string", "format": "date"},
    "timestamp": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "enum": {"type": "string", "enum": ["a", "b", "long value"]},
}


def test_types_and_limits_are_named(document: dict[str, Any]) -> None:
    create = body_schema(document, values, "post")["properties"]
    row = answer_schema(document, "/v1/values", "post", "201")["properties"]
    for name, expected in LIMITS.items():
        for schema in (create[name], row[name]):
            found, null = schema["anyOf"]
            assert expected.items() <= found.items() and null == {"type": "null"}, name
            for limit in ("minimum", "maximum"):
                assert isinstance(found.get(limit, 0), int)
    json_schema = create["json"]["anyOf"][0] | {"components": document["components"]}
    plain, number = create["decimal"]["anyOf"][0]["anyOf"]
    for schema, right, wrong in (
        (number, (0, -1.5, 0.29, 9999999999.99), (1.234, 1e10, -12345678901, 0.001)),
        (create["whole_decimal"]["anyOf"][0]["anyOf"][1], (0, -1.0, 10**18 - 1), (0.5, 10**18)),
        (
            create["binary"]["anyOf"][0],
            ("", "AA==", "AAA=", "AAAA"),
            ("A", "AB==", "AAB=", "AA=", "AA-_", "AAAA\n"),
        ),
        (create["text"]["anyOf"][0], ("", "a\nb\n", "é😀"), ("\0", "a\0b")),
        (json_schema, ([{"a": [None, 1.5, ""]}], "x"), (None, "\0", [{"a": ["\0"]}], {"b": {"\0": 1}})),
        (plain, ("0", "-1.5", "9999999999.99"), ("1.234", "12345678901", "1e5", "x", "+1", "NaN", "")),
        (row["decimal"]["anyOf"][0], ("0.00", "-9999999999.99"), ("1", "1.5", "1e5")),
        (create["time"]["anyOf"][0], ("00:00:00", "23:59:59.999999"), ("24:00:00", "1:00", "00:00:00Z")),
    ):
        assert all(jsonschema_rs.is_valid(schema, value) for value in right)
        assert not any(jsonschema_rs.is_valid(schema, value) for value in wrong)


def test_defaults_are_named(document: dict[str, Any]) -> None:
    create, patch = (body_schema(document, users, method)["properties"] for method in ("post", "patch"))
    for column in users.columns:
        if column.name not in MANAGED_COLUMNS and column.default is not None:
            assert create[column.name]["default"] == column.default.arg  # type: ignore[attr-defined]
        elif column.name in create:
            assert "default" not in create[column.name]
    assert not any("default" in each for each in patch.values())


def test_secrets_are_write_only(document: dict[str, Any]) -> None:
    for table in TABLES:
        for method in ("post", "patch"):
            for name, schema in body_schema(document, table, method)["properties"].items():
                assert schema.get("writeOnly", False) == is_secret(table.columns[name])
    row = answer_schema(document, "/v1/users", "post", "201")
    assert "password" not in row["properties"]


def test_examples_are_valid(document: dict[str, Any]) -> None:
    for table in TABLES:
        for name, schema in body_schema(document, table, "post")["properties"].items():
            for shape in schema.get("anyOf", [schema]):
                for value in shape.get("examples", ()):
                    whole = schema | {"components": document["components"]}
                    assert jsonschema_rs.is_valid(whole, value), (table.name, name)
