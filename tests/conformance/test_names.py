"""Every reserved word of an engine can be the name of a column."""

import re
from contextlib import closing
from pathlib import Path

import msgspec
import sqlalchemy as sa

from dbservice import DAL, Row, query
from dbservice.backends import backend_for
from dbservice.schema import Column, Table
from dbservice.service import Service
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.types import Integer

from ..sample_service import attribute

_SQLITE = """abort action add after all alter always analyze and as asc attach autoincrement before begin between by
    cascade case cast check collate column commit conflict constraint create cross current current_date current_time
    current_timestamp database default deferrable deferred delete desc detach distinct do drop each else end escape
    except exclude exclusive exists explain fail filter first following for foreign from full generated glob group groups
    having if ignore immediate in index indexed initially inner insert instead intersect into is isnull join key last left
    like limit match materialized natural no not nothing notnull null nulls of offset on or order others outer over
    partition plan pragma preceding primary query raise range recursive references regexp reindex release rename replace
    restrict returning right rollback row rows savepoint select set table temp temporary then ties to transaction trigger
    unbounded union unique update using vacuum values view virtual when where window with without"""
"""https://sqlite.org/lang_keywords.html"""


async def test_every_reserved_word_of_an_engine_works_as_a_column(
    database: servers.Database, owner_settings: Settings, tmp_path: Path
) -> None:
    words = kept_words(database)
    assert len(words) > 100
    metadata = sa.MetaData()

    class Words(Table, name="table", metadata=metadata):
        vars().update({attribute(word): Column(Integer(), nullable=True, name=word) for word in words})

    table = Words.__table__

    class TableRow(Words, Row):
        """A row of it."""

    one = query(TableRow, sa.select(table).where(table.c[words[0]] == sa.bindparam("first")))
    numbers = {word: number for number, word in enumerate(words)}

    def change(db: DAL, row_id: int) -> None:
        assert (
            db[table].update_row(row_id, {word: number + 1 for word, number in numbers.items()}) is not None
        )

    owner = backend_for(owner_settings).migrations.engine()
    metadata.create_all(owner)
    try:
        async with Service("names", metadata, root=tmp_path).running(owner_settings) as running:
            added = await running.writes.run(lambda db: db[table].insert_row(numbers))
            await running.writes.run(change, added["id"])
            row = await running.reads.one(one, first=1)
        found = dict(zip(TableRow.columns(), msgspec.structs.astuple(row), strict=True))
        assert {word: found[word] for word in words} == {word: n + 1 for word, n in numbers.items()}
    finally:
        metadata.drop_all(owner)
        owner.dispose()


def kept_words(database: servers.Database) -> list[str]:
    """The words that the server itself says it knows; of SQLite, those that its documentation names."""
    if database.type == "sqlite":
        return _SQLITE.split()
    with closing(database.connect()) as connection:
        cursor = connection.cursor()
        if database.type == "postgresql":
            cursor.execute("SELECT word FROM pg_get_keywords()")
        else:
            cursor.execute("SELECT word FROM information_schema.keywords")
        words = {word.lower() for (word,) in cursor.fetchall()}
    return sorted(word for word in words - {"id"} if re.fullmatch("[a-z_]+", word))
