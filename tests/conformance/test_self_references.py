"""Rows that reference rows of their own table are deleted alike on every engine: what counts is what is left when the
statement is done. InnoDB looks at each row as it goes."""

import httpx
import pytest

from dbservice import DAL, Conflict
from dbservice.service import Running
from dbservice.testing import make

from ..assertions import problem
from ..sample_service import items, users


def family(db: DAL, *parents: int | None) -> list[int]:
    """Items, each with the parent at this place of the list; their ids."""
    user = db[users].insert(email="owner")
    ids = [int(db[items].insert(user_id=user)) for _ in parents]
    for row_id, parent in zip(ids, parents, strict=True):
        if parent is not None:
            db(db[items].id == row_id).update(parent_id=ids[parent])
    return ids


def left(db: DAL) -> list[int]:
    return [row.id for row in db(db[items].id > 0).select(db[items].id, orderby=db[items].id)]


async def test_a_row_that_references_itself_is_deleted(client: httpx.AsyncClient) -> None:
    row = await make(client, items)
    path = f"/v1/items/{row['id']}"
    assert (await client.patch(path, json={"parent_id": row["id"]})).status_code == 200
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_a_row_that_another_references_is_kept(client: httpx.AsyncClient) -> None:
    row = await make(client, items)
    path = f"/v1/items/{row['id']}"
    row = (await client.patch(path, json={"parent_id": row["id"]})).json()
    child = await make(client, items, user_id=row["user_id"], parent_id=row["id"])
    assert "still referenced" in problem(await client.delete(path), 409)["detail"]
    assert (await client.get(path)).json() == row
    assert (await client.get(f"/v1/items/{child['id']}")).json() == child


@pytest.mark.parametrize(
    "parents",
    [(0,), (None, 0, 1), (1, 2, None), (1, 0), (2, 0, 1, 3)],
    ids=["itself", "chain", "chain, last one first", "two, each other", "ring and one more"],
)
async def test_rows_that_reference_each_other_are_deleted_together(
    running: Running, parents: tuple[int | None, ...]
) -> None:
    def delete_all(db: DAL) -> int:
        family(db, *parents)
        other = db[users].insert(email="other")
        kept = int(db[items].insert(user_id=other))
        deleted = int(db(db[items].id < kept).delete())
        assert left(db) == [kept]
        return deleted

    assert await running.writes.run(delete_all) == len(parents)


async def test_rows_are_deleted_by_what_they_reference(running: Running) -> None:
    """By a condition on the reference itself."""

    def delete_children(db: DAL) -> bool:
        root, _, _, other = family(db, 0, 0, 1, None)
        # the root itself, and its child, whose own child is in the way
        with pytest.raises(Conflict), db.savepoint():
            db(db[items].parent_id == root).delete()
        assert len(left(db)) == 4
        assert db((db[items].parent_id == root) | (db[items].parent_id != other)).delete() == 3
        return left(db) == [other]

    assert await running.writes.run(delete_children)


async def test_a_conflict_of_a_delete_ends_the_unit_as_any_other(running: Running) -> None:
    def swallow(db: DAL) -> None:
        root, _ = family(db, 0, 0)
        with pytest.raises(Conflict):
            db[items].delete_row(root)

    with pytest.raises(RuntimeError, match="nothing was stored"):
        await running.writes.run(swallow)
    assert await running.writes.run(left) == []
