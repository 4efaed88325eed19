"""What a unique or foreign key refuses is 409, and nothing is stored."""

import httpx
import pytest

from dbservice import DAL, Conflict
from dbservice.service import Running
from dbservice.testing import make

from ..assertions import SECRET, problem
from ..sample_service import add_users, client_of, items, stored_emails, users


async def test_a_unique_key_is_409(client: httpx.AsyncClient) -> None:
    one, two = await make(client, users), await make(client, users)
    for answer in (
        await client.post("/v1/users", json={"email": one["email"], "password": SECRET}),
        await client.patch(f"/v1/users/{two['id']}", json={"email": one["email"], "password": SECRET}),
    ):
        body = problem(answer, 409)
        assert "email" in body["detail"] and one["email"] not in answer.text and SECRET not in answer.text
    assert (await client.get(f"/v1/users/{two['id']}")).json() == two


async def test_a_foreign_key_is_409(client: httpx.AsyncClient) -> None:
    row = await make(client, items)
    problem(await client.post("/v1/items", json={"user_id": row["user_id"] + 1000}), 409)
    problem(await client.patch(f"/v1/items/{row['id']}", json={"user_id": row["user_id"] + 1000}), 409)
    problem(await client.patch(f"/v1/items/{row['id']}", json={"parent_id": row["id"] + 1000}), 409)
    problem(await client.delete(f"/v1/users/{row['user_id']}"), 409)
    assert (await client.get(f"/v1/users/{row['user_id']}")).status_code == 200
    child = await make(client, items, user_id=row["user_id"], parent_id=row["id"])
    problem(await client.delete(f"/v1/items/{row['id']}"), 409)
    for each in (child, row):
        assert (await client.delete(f"/v1/items/{each['id']}")).status_code == 204
    assert (await client.delete(f"/v1/users/{row['user_id']}")).status_code == 204


async def test_a_conflict_repeats_nothing_that_was_sent(client: httpx.AsyncClient) -> None:
    body = {"email": f"x for key '{SECRET}' y"}
    assert (await client.post("/v1/users", json=body)).status_code == 201
    answer = await client.post("/v1/users", json=body)
    problem(answer, 409)
    assert SECRET not in answer.text


async def test_a_second_row_with_a_unique_value_is_a_conflict(running: Running) -> None:
    async with client_of(running) as client:
        body = {"email": "hush@secret.example", "password": "hush"}
        assert (await client.post("/v1/users", json=body)).status_code == 201
        response = await client.post("/v1/users", json=body)
    assert response.status_code == 409
    detail = response.json()["detail"]
    assert "uq_users_email" in detail or (running.backend.name == "sqlite" and "(email)" in detail)
    assert "hush" not in response.text


async def test_a_foreign_key_to_no_row_is_a_conflict(running: Running) -> None:
    async with client_of(running) as client:
        response = await client.post("/v1/items", json={"user_id": 987654321, "key": "hush"})
        assert response.status_code == 409
        assert "fk_items_user_id" in response.json()["detail"] or running.backend.name == "sqlite"
        assert "987654321" not in response.text and "hush" not in response.text
        user = (await client.post("/v1/users", json={"email": "a"})).json()
        assert (await client.post("/v1/items", json={"user_id": user["id"]})).status_code == 201
        response = await client.delete(f"/v1/users/{user['id']}")
        assert response.status_code == 409
        assert (await client.get(f"/v1/users/{user['id']}")).status_code == 200


async def test_a_conflict_leaves_the_connection_usable(running: Running) -> None:
    await running.writes.run(add_users, "a")
    for _ in range(10):
        with pytest.raises(Conflict):
            await running.writes.run(add_users, "b", "a")
    await running.writes.run(add_users, "c")
    assert stored_emails(running.backend.settings) == ["a", "c"]


async def test_a_unit_that_ends_in_a_conflict_stores_nothing(running: Running) -> None:
    def replace(db: DAL) -> None:
        user = db[users].insert(email="owner")
        for n in range(3):
            db[items].insert(user_id=user, key=str(n))
        db(db[items].user_id == user).delete()
        db[items].insert(user_id=user + 1000)

    with pytest.raises(Conflict):
        await running.writes.run(replace)
    assert stored_emails(running.backend.settings) == []
