"""Constraints and indexes of several columns, and CHECKs: what `make revision` and `check-migrations` see of them."""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from dbservice import migrations
from dbservice.errors import StartupError

from ...cli_service import CliService
from .live_tables import connected

ROOMS = """
import sqlalchemy as sa

class Rooms(Table, name="rooms"):
    building = Column(Integer())
    number = Column(Integer())
    kind = Column(Enum("small", "large"), default="small")
    __table_args__ = (UniqueConstraint("building", "number"),)
"""
MEETINGS = """
class Meetings(Table, name="meetings"):
    room_id = Column(BigInteger(), ForeignKey("rooms.id"))
    title = Column(String(20))
    host = Column(String(20))
    starts = Column(Integer())
    ends = Column(Integer())
    order = Column(Integer(), nullable=True)
    __table_args__ = ({items})
"""
UNIQUE = (
    'UniqueConstraint("room_id", "starts")',
    'UniqueConstraint("room_id", "ends")',
    'UniqueConstraint("starts", "room_id")',
    'UniqueConstraint("title")',
    'UniqueConstraint("title", "host", name="one_host")',
)
INDEXES = (
    'Index(None, "host", unique=True)',
    'Index(None, "title", "starts", unique=True)',
    'Index(None, "room_id", "title")',
    'Index(None, "room_id", "title", "host")',
    'Index(None, "title", "room_id")',
)
CHECKS = (
    'CheckConstraint("ends > starts", name="order")',
    r"""CheckConstraint("title NOT LIKE '100%' AND host <> 'it''s 5% \\:x (\"' ", name="text")""",
    """CheckConstraint('"order" > 0', name="positive")""",
    'CheckConstraint(sa.column("order") < 100, name="small")',
    'CheckConstraint("ends < 100\\n  OR (\\n starts > 0)", name="lines")',
)
REFERENCES = (
    'ForeignKeyConstraint(["order", "starts"], ["rooms.building", "rooms.number"])',
    'ForeignKeyConstraint(["order", "ends"], ["rooms.building", "rooms.number"], ondelete="CASCADE")',
)
KINDS = {"unique": UNIQUE, "indexes": INDEXES, "checks": CHECKS, "references": REFERENCES}
EVERYTHING = [*UNIQUE, *INDEXES, *CHECKS, *REFERENCES]


def meetings(*items: str) -> str:
    return ROOMS + MEETINGS.format(items="".join(f"{item}, " for item in items))


def created(cli_service: CliService, tables: str) -> None:
    """Make the tables without a revision."""
    metadata = cli_service.tables(tables).tables
    with connected(cli_service) as connection:
        metadata.create_all(connection)
        connection.commit()


def dropped(cli_service: CliService) -> None:
    with connected(cli_service) as connection:
        cli_service.service.tables.drop_all(connection)
        connection.commit()


def shape(cli_service: CliService) -> Any:
    """Everything but the columns that the database has of `meetings` and `rooms`."""
    with connected(cli_service) as connection:
        inspector = sa.inspect(connection)
        return [
            sorted(what(table), key=lambda each: str(each["name"]))
            for table in ("meetings", "rooms")
            for what in (
                inspector.get_unique_constraints,
                inspector.get_indexes,
                inspector.get_foreign_keys,
                inspector.get_check_constraints,
            )
        ]


# --- seen


def test_all_constraints_in_one_table_are_stable(cli_service: CliService) -> None:
    """The revision makes what create_all makes, needs no second one, and goes down and up again."""
    created(cli_service, meetings(*EVERYTHING))
    assert cli_service.differences() == []
    wanted = shape(cli_service)
    dropped(cli_service)
    text = cli_service.revision("first")
    assert cli_service.revision("nothing") == ""
    cli_service.upgrade()
    assert cli_service.differences() == [] and shape(cli_service) == wanted
    cli_service.migrate_to("base")
    cli_service.upgrade()
    assert shape(cli_service) == wanted
    assert "schema=" not in text


def test_missing_and_additional_constraints_are_reported(cli_service: CliService) -> None:
    """Any one of all of them is missing in the database, or in tables.py."""
    for item in EVERYTHING:
        most = meetings(*(other for other in EVERYTHING if other != item))
        created(cli_service, most)
        cli_service.tables(meetings(*EVERYTHING))
        assert operations(cli_service) == 1, item
        dropped(cli_service)
    created(cli_service, meetings(*EVERYTHING))
    for item in EVERYTHING:
        cli_service.tables(meetings(*(other for other in EVERYTHING if other != item)))
        assert operations(cli_service) == 1, item


def operations(cli_service: CliService) -> int:
    """How many `check-migrations` reports."""
    return len([line for line in cli_service.differences() if re.match(r"\s*batch_op\.", line)])


@pytest.mark.parametrize("kind", KINDS)
def test_revisions_add_and_drop_constraints(cli_service: CliService, kind: str) -> None:
    cli_service.tables(meetings())
    cli_service.revision("first")
    cli_service.upgrade()
    without = shape(cli_service)
    cli_service.tables(meetings(*KINDS[kind]))
    assert cli_service.revision("second")
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    with_it = shape(cli_service)
    assert with_it != without
    cli_service.migrate_to("0001_first")
    assert shape(cli_service) == without
    cli_service.upgrade()
    assert shape(cli_service) == with_it
    cli_service.tables(meetings())
    assert cli_service.revision("third")
    cli_service.upgrade()
    assert cli_service.differences() == [] and shape(cli_service) == without
    cli_service.migrate_to("0002_second")
    assert shape(cli_service) == with_it


CHANGES = {
    "a unique constraint, its columns": ('UniqueConstraint("title", "host", name="one")', 'UniqueConstraint("title", "starts", name="one")'),
    "a unique constraint, the order of its columns": ('UniqueConstraint("title", "host", name="one")', 'UniqueConstraint("host", "title", name="one")'),
    "an index, the order of its columns": ('Index("one", "title", "host")', 'Index("one", "host", "title")'),
    "an index that becomes unique": ('Index("one", "title", "host")', 'Index("one", "title", "host", unique=True)'),
    "a foreign key, what it does": (
        'ForeignKeyConstraint(["order", "ends"], ["rooms.building", "rooms.number"])',
        'ForeignKeyConstraint(["order", "ends"], ["rooms.building", "rooms.number"], ondelete="CASCADE")',
    ),
    "a foreign key, its name": (
        'ForeignKeyConstraint(["order", "ends"], ["rooms.building", "rooms.number"], name="one")',
        'ForeignKeyConstraint(["order", "ends"], ["rooms.building", "rooms.number"], name="other")',
    ),
    "a CHECK, its name": ('CheckConstraint("ends > starts", name="one")', 'CheckConstraint("ends > starts", name="other")'),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_different_constraints_are_reported(cli_service: CliService, name: str) -> None:
    before, after = CHANGES[name]
    cli_service.tables(meetings(before))
    cli_service.revision("first")
    cli_service.upgrade()
    old = shape(cli_service)
    cli_service.tables(meetings(after))
    assert cli_service.differences() != []
    assert cli_service.revision("second")
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    assert shape(cli_service) != old
    cli_service.migrate_to("0001_first")
    assert shape(cli_service) == old


def test_another_text_of_a_check_becomes_a_revision(cli_service: CliService) -> None:
    """The servers keep a text of their own, so that only the scratch database of `make revision` can tell."""
    cli_service.tables(meetings('CheckConstraint("ends > starts", name="order")'))
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(meetings('CheckConstraint("ENDS  >starts", name="order")'))
    assert cli_service.revision("nothing") == ""
    cli_service.tables(meetings('CheckConstraint("ends >= starts", name="order")'))
    text = cli_service.revision("second")
    assert text.count("drop_constraint") == text.count("create_check_constraint") == 2
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    with connected(cli_service) as connection:
        values = {"building": 1, "number": 1, "kind": "small", **times(cli_service)}
        connection.execute(cli_service.service.tables.tables["rooms"].insert().values(id=1, **values))
        table = cli_service.service.tables.tables["meetings"]
        row = {"room_id": 1, "title": "t", "host": "h", "starts": 5, **times(cli_service)}
        connection.execute(table.insert().values(ends=5, **row))
        with pytest.raises((sa.exc.IntegrityError, sa.exc.OperationalError), match=r"(?i)check|4025"):
            connection.execute(table.insert().values(ends=4, **row))


def times(cli_service: CliService) -> dict[str, Any]:
    column_type: Any = cli_service.service.tables.tables["rooms"].c.created_at.type
    return dict.fromkeys(("created_at", "updated_at"), column_type.from_json("2024-01-31T13:45:00Z"))


def test_check_constraints_are_enforced(cli_service: CliService) -> None:
    cli_service.tables(meetings(*CHECKS))
    cli_service.revision("first")
    cli_service.upgrade()
    tables = cli_service.service.tables.tables
    good = {"room_id": 1, "title": "t", "host": "h", "starts": 1, "ends": 5, "order": 7, **times(cli_service)}
    with connected(cli_service) as connection:
        room = {"id": 1, "building": 1, "number": 1, "kind": "small", **times(cli_service)}
        connection.execute(tables["rooms"].insert().values(**room))
        connection.execute(tables["meetings"].insert().values(**good))
        connection.commit()
        bad: Any
        for bad in (
            {"ends": 1},
            {"title": "100% sure"},
            {"host": "it's 5% :x (\""},
            {"order": 0},
            {"order": 100},
            {"ends": 100, "starts": 0},
        ):
            with pytest.raises((sa.exc.IntegrityError, sa.exc.OperationalError), match=r"(?i)check|4025"):
                connection.execute(tables["meetings"].insert().values(**good | bad))
            connection.rollback()


# --- what stands in the way


@pytest.mark.parametrize("kind", ["index", "unique"])
def test_the_index_of_a_foreign_key_may_be_replaced(cli_service: CliService, kind: str) -> None:
    """MySQL needs an index for each foreign key and refuses to drop the last one."""
    column = 'Column(BigInteger(), ForeignKey("rooms.id"){})'
    states = [
        meetings().replace(column.format(""), column.format(f", {kind}=True")),
        meetings('Index(None, "room_id", "starts")'),
        meetings('UniqueConstraint("room_id", "ends")'),
        meetings(),
        meetings('Index(None, "title", "room_id")').replace(column.format(""), column.format(", index=True")),
    ]
    wanted = []
    for tables in states:
        created(cli_service, tables)
        wanted.append(shape(cli_service))
        dropped(cli_service)
    for number, tables in enumerate(states):
        cli_service.tables(tables)
        assert cli_service.revision(f"state {number}")
        cli_service.upgrade()
        assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
        assert shape(cli_service) == wanted[number]
    for number in reversed(range(len(states))):
        cli_service.migrate_to(f"{number + 1:04}")
        assert shape(cli_service) == wanted[number]
    cli_service.migrate_to("base")


def test_one_of_two_foreign_keys_on_a_column_goes(cli_service: CliService) -> None:
    """On MySQL both use the index that was created for the first one."""
    halls = 'class Halls(Table, name="halls"): size = Column(Integer())\n'
    second = 'ForeignKeyConstraint(["room_id"], ["halls.id"], name="fk_hall")'
    both = halls + meetings(second)
    cli_service.tables(both)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(both.replace('ForeignKey("rooms.id")', ""))
    assert cli_service.revision("second")
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    cli_service.migrate_to("0001")
    cli_service.tables(both)
    assert cli_service.differences() == []


REFERENCE = 'ForeignKeyConstraint(["starts", "host"], ["rooms.number", "rooms.kind"])'


def test_a_referenced_key_is_created_first_and_dropped_last(cli_service: CliService) -> None:
    before = meetings().replace('Column(Enum("small", "large"), default="small")', "Column(String(20))")
    # a table that exists and a new one come to refer to a new key of a table that exists
    visits = f"""
class Visits(Table, name="visits"):
    starts = Column(Integer())
    host = Column(String(20))
    __table_args__ = ({REFERENCE},)
"""
    after = before.replace('"number"),)', '"number"), UniqueConstraint("number", "kind"),)')
    after = after.replace("__table_args__ = ()", f"__table_args__ = ({REFERENCE},)") + visits
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    cli_service.tables(after)
    assert cli_service.revision("second")
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    cli_service.migrate_to("0001")
    cli_service.upgrade()
    # from one key to another: the old key goes after the foreign key, the new one comes before it
    other = after.replace('"number", "kind"', '"kind", "number"')
    other = other.replace(
        REFERENCE, 'ForeignKeyConstraint(["host", "starts"], ["rooms.kind", "rooms.number"])'
    )
    cli_service.tables(other)
    assert cli_service.revision("third")
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    cli_service.tables(before)
    assert cli_service.revision("fourth")
    cli_service.upgrade()
    assert cli_service.differences() == []
    for revision in ("0003", "0002", "0001", "base", "head"):
        cli_service.migrate_to(revision)


# --- refused, because nobody could see a change of it


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ('Index("ix_lower", sa.func.lower(sa.text("title")))', "The index ix_lower of meetings has an expression or an order"),
        ('Index("ix_lower", sa.text("title DESC"))', "The index ix_lower of meetings has an expression or an order"),
        ('UniqueConstraint("title", "host"), UniqueConstraint("host", "title", name="x"), UniqueConstraint("title", "host", name="y")', "meetings has two unique constraints on title, host: remove one"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(cli_service: CliService, item: str, sentence: str) -> None:
    cli_service.tables(meetings(item))
    with pytest.raises(StartupError, match=rf"^{re.escape(sentence)}[^\n]*\.$"):
        cli_service.revision()


def test_another_primary_key_is_reported_and_refused(cli_service: CliService) -> None:
    key = "class Seats(BareTable, name='seats', metadata=Table.__metadata__): a = Column(Integer(), primary_key=True); b = Column(Integer(){})"
    cli_service.tables(key.format(""))
    cli_service.revision("first")
    cli_service.upgrade()
    assert cli_service.differences() == []
    cli_service.tables(key.format(", primary_key=True"))
    assert "the primary key of seats is (a), tables.py has (a, b)" in "\n".join(cli_service.differences())
    with pytest.raises(
        StartupError, match=r"^The primary key of seats is \(a\) and cannot become \(a, b\): [^\n]*\.$"
    ):
        cli_service.revision("second")
    assert migrations.head(cli_service.service) == "0001_first"
