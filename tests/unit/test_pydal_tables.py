"""PyDAL and its tables, without a server."""

import gc
import importlib.metadata
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbservice import DAL
from dbservice.backends import backend_for
from dbservice.schema import Column, Table
from dbservice.settings import Settings
from dbservice.types import String
from tests.sample_service import made

PLATFORM = Path(__file__).parents[2] / "template/src/dbservice"


def test_pydal_is_pinned_exactly() -> None:
    (pin,) = re.findall(r"^pydal==(\S+)", (PLATFORM / "requirements.txt").read_text(), re.MULTILINE)
    assert pin == importlib.metadata.version("pydal") == "20260520.0"


def test_names_reserved_by_pydal_work_as_tables(tmp_path: Path) -> None:
    metadata = sa.MetaData()
    words = ["exec", "print", "class", "lambda", "insert", "tables", "executesql", "commit", "t"]
    tables = [made(word, Table, name=word, metadata=metadata) for word in words]
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(tmp_path / "x.db")})
    db = DAL(backend_for(settings), metadata.sorted_tables)
    assert len({id(db[table]) for table in tables}) == len(words)


def test_two_dals_never_mix_their_databases(tmp_path: Path) -> None:
    # PyDAL finds a thread's connection by id(adapter), and a new adapter may get the id of one that is gone
    tables = sa.MetaData()

    class Names(Table, name="names", metadata=tables):
        name = Column(String(9))

    def run(db: DAL, unit: Callable[[DAL], Any]) -> Any:
        db.begin_unit()
        answer = unit(db)
        db.commit_unit()
        return answer

    def insert(name: str, db: DAL) -> None:
        db[Names].insert(name=name)

    gc.freeze()  # what is there already need not be looked through each time
    engines = [
        backend_for(Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(tmp_path / name)})) for name in "ab"
    ]
    with ThreadPoolExecutor(1) as thread:  # one that outlives them all
        for engine, name in zip(engines, "ab", strict=True):
            sync = engine.migrations.engine()
            tables.create_all(sync)
            sync.dispose()
            thread.submit(run, DAL(engine, tables.sorted_tables), partial(insert, name)).result()
        read, asked, chance = "", "", random.Random(7)
        for number in range(200):
            which = chance.randrange(2)
            asked += "ab"[which]
            unit = thread.submit(
                run, DAL(engines[which], tables.sorted_tables), lambda db: db(db[Names].id > 0).select()
            )
            read += unit.result().first().name
            del unit
            if number % 10 == 0:
                gc.collect()
    gc.unfreeze()
    assert read == asked
