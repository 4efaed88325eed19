"""JSON bodies with many values: how many there may be, and that they are read as others are."""

import httpx

from dbservice import Limits

from ..assertions import problem

MOST = Limits().body_values


async def test_the_number_of_values_is_limited(client: httpx.AsyncClient) -> None:
    async def post(value: str) -> httpx.Response:
        headers = {"content-type": "application/json"}
        return await client.post("/v1/values", content=f'{{"json": {value}}}'.encode(), headers=headers)

    assert (await post("[" + "1," * (MOST - 4) + "1]")).status_code == 201
    body = problem(await post("[" + "1," * MOST + "1]"), 422)
    assert body["detail"] == f"body has more than {MOST} values."
    # commas in a string are no values, however it ends
    assert (await post('"' + ",[{" * MOST + '"')).status_code == 201
    assert (await post(r'"' + r"\"," * MOST + '"')).status_code == 201
    for end in ("", "\\", '\\"'):
        assert "is not JSON" in problem(await post('"' + r"\"," * MOST + end), 422)["detail"]


async def test_errors_of_many_values_are_as_of_few(client: httpx.AsyncClient) -> None:
    few = problem(await client.post("/v1/values", json={"integer": "x", "no": 1}), 422)
    many = {"integer": "x", "no": 1, "json": [0] * 5000}
    assert problem(await client.post("/v1/values", json=many), 422) == few
    nested = {"integer": "x", "no": 1, "json": [{"a": 1}] * 5000}
    assert problem(await client.post("/v1/values", json=nested), 422) == few
    unknown = {f"field {number}": 0 for number in range(5000)}
    assert len(problem(await client.post("/v1/values", json=unknown), 422)["errors"]) == 20
    many = {"integer": 1, "json": [0] * 5000, "binary": "AAAA"}
    answer = await client.post("/v1/values", json=many)
    assert answer.status_code == 201 and many.items() <= answer.json().items()
