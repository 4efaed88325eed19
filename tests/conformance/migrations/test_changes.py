"""Every change of tables.py becomes a revision that keeps the rows of the tables."""

from typing import Any

import pytest

from ...cli_service import CliService
from .live_tables import (
    BEFORE,
    NOTES,
    POSTS,
    USERS,
    clear,
    fill,
    make_check_is_content,
    rows,
    seen,
    the_checks_hold,
)

CHANGES: dict[str, Any] = {
    "a new column with a default": (
        '    age = Column(',
        '    active = Column(Boolean(), nullable=False, default=True)\n    age = Column(',
    ),
    "a new column with a hard default": (
        '    age = Column(',
        '    key = Column(Text(), nullable=False, default="it\'s \\\\ %s é")\n    age = Column(',
    ),
    "a new column with a default of per cent": (
        '    age = Column(',
        '    rate = Column(String(20), nullable=False, default="100 %s")\n    age = Column(',
    ),
    "a new optional column": (
        '    age = Column(',
        '    limit = Column(JSON(), nullable=True)\n    age = Column(',
    ),
    "a new unique column": (
        '    age = Column(',
        '    token = Column(Uuid(), nullable=True, unique=True)\n    age = Column(',
    ),
    "a new enum column": (
        '    age = Column(',
        '    group = Column(Enum("x", "long value"), nullable=False, default="x")\n    age = Column(',
    ),
    "a new table with names that are too long": (
        "\nclass Posts",
        f'class T(Table, name="{"t" * 40}"): {"b" * 40} = Column(Enum("x", "y"), nullable=False, index=True);'
        f' {"c" * 40} = Column(BigInteger(), ForeignKey("users.id"), nullable=False, unique=True)\n\nclass Posts',
    ),
    "a new column that refers to itself": (
        '    age = Column(',
        '    boss_id = Column(BigInteger(), ForeignKey("users.id"), nullable=True, index=True)\n    age = Column(',
    ),
    "a new table": ("\nclass Posts", NOTES.replace("post", "user") + "\nclass Posts"),
    "a new table that an old one refers to": (
        '    title = Column(',
        '    topic_id = Column(BigInteger(), ForeignKey("topics.id"), nullable=True, index=True)\n    title = Column(',
        'class Topics(Table, name="topics"): name = Column(String(20), nullable=False)\n',
    ),
    "a dropped column": ('    age = Column(Integer(), nullable=True)\n', ""),
    "a dropped unique column": ('    email = Column(String(20), nullable=False, unique=True)\n', ""),
    "a dropped indexed column": ('    title = Column(String(20), nullable=False, index=True)\n', ""),
    "a dropped enum column": ('    order = Column(Enum("a", "b"), nullable=False, default="a")\n', ""),
    "a dropped foreign key column": (
        '    user_id = Column(BigInteger(), ForeignKey("users.id"), nullable=False, index=True)\n',
        "",
    ),
    "a dropped table": (POSTS, ""),
    "two dropped tables": (BEFORE, 'class Other(Table, name="other"): x = Column(Integer(), nullable=True)\n'),
    "a dropped table that another refers to": (
        USERS + POSTS + "    user_id2 = Column(Integer(), nullable=True)\n",
        POSTS.replace(
            'user_id = Column(BigInteger(), ForeignKey("users.id"), nullable=False, index=True)',
            'user_id2 = Column(Integer(), nullable=True)',
        ),
    ),
    "a new index": ('nick = Column(String(20), nullable=True)', 'nick = Column(String(20), nullable=True, index=True)'),
    "a dropped index": (
        'title = Column(String(20), nullable=False, index=True)',
        'title = Column(String(20), nullable=False)',
    ),
    "a new unique key": ('nick = Column(String(20), nullable=True)', 'nick = Column(String(20), nullable=True, unique=True)'),
    "a dropped unique key": (
        'email = Column(String(20), nullable=False, unique=True)',
        'email = Column(String(20), nullable=False)',
    ),
    "a longer string": ('email = Column(String(20)', 'email = Column(String(300)'),
    "a shorter string": ('email = Column(String(20)', 'email = Column(String(15)'),
    "a text instead of a string": ('nick = Column(String(20)', 'nick = Column(Text()'),
    "a column that becomes optional": ('email = Column(String(20), nullable=False', 'email = Column(String(20), nullable=True'),
    "a column with a default that becomes optional": (
        'about = Column(Text(), nullable=False',
        'about = Column(Text(), nullable=True',
    ),
    "a new enum value": ('Enum("a", "b"), ', 'Enum("a", "b", "c"), '),
    "a new, longer enum value": ('Enum("a", "b"), ', 'Enum("a", "b", "quite long"), '),
    "an enum instead of a string": (
        'order = Column(Enum("a", "b"), nullable=False, default="a")',
        'order = Column(String(10), nullable=False, default="a")',
    ),
    "another default": ('nullable=False, default="a"', 'nullable=False, default="b"'),
    "a dropped default": ('nullable=False, default="1.5"', "nullable=False"),
    "a new default": ('nick = Column(String(20), nullable=True)', 'nick = Column(String(20), nullable=True, default="it\'s %")'),
    "another json default": ('default={"a": [1.5, None, "x\'"]}', 'default={"a": [True]}'),
    "more digits after the point": ("Numeric(12, 2)", "Numeric(14, 4)"),
    "more digits than SQLite has numbers for": ("Numeric(18, 2)", "Numeric(30, 2)"),
    "a bigint instead of an integer": ('age = Column(Integer()', 'age = Column(BigInteger()'),
    "a decimal instead of an integer": ('age = Column(Integer()', 'age = Column(Numeric(20, 3)'),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_becomes_a_revision_that_keeps_the_rows(cli_service: CliService, name: str) -> None:
    old, new, *more = CHANGES[name]
    before = old if old.startswith(USERS) else BEFORE
    after = "".join(more) + before.replace(old, new)
    assert before != after
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    original = seen(cli_service)

    cli_service.tables(after)
    # a table that is not in tables.py any more may be anybody's; servers write a default in their own words
    if name != "a dropped table" and (cli_service.database.type == "sqlite" or not name.endswith("default")):
        assert cli_service.differences() != []
    text = cli_service.revision(name)
    assert text and not [word for word in ("VARCHAR", "sa.text", "sa.String", "schema=") if word in text]
    cli_service.upgrade()
    assert cli_service.differences() == [] and cli_service.revision("nothing") == ""
    for table, found in seen(cli_service).items():
        for new_row, old_row in zip(found, original.get(table, []), strict=table in original):
            both = new_row.keys() & old_row.keys()
            assert {key: new_row[key] for key in both} == {key: old_row[key] for key in both}
            default_of = {
                c.name: c.info.get("default") for c in cli_service.service.tables.tables[table].columns
            }
            for key in new_row.keys() - old_row.keys():
                assert new_row[key] == default_of[key]
    the_checks_hold(cli_service)
    if cli_service.database.type == "sqlite":
        make_check_is_content(cli_service)

    if "dropped" in name:  # what is gone does not come back, and a required column cannot be empty
        clear(cli_service)
    cli_service.migrate_to("0001")
    cli_service.tables(before)
    assert cli_service.differences() == []
    if "dropped" not in name:
        assert seen(cli_service) == original
    the_checks_hold(cli_service)


SAME_KINDS = [("String(20)", "Text()"), ("Text()", "String(30)"), ("Integer()", "BigInteger()"), ("BigInteger()", "Integer()"),
    ("Integer()", "Numeric(12, 2)"), ("Numeric(12, 2)", "Numeric(24, 3)"), ("String(20)", 'Enum("example 0", "example 1", "example 2")')]  # fmt: skip


@pytest.mark.parametrize("types", SAME_KINDS, ids=" to ".join)
def test_a_column_of_the_same_kind_keeps_its_values(cli_service: CliService, types: tuple[str, str]) -> None:
    cli_service.tables(f'class A(Table, name="a"): b = Column({types[0]}, nullable=False)')
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    before = seen(cli_service)
    cli_service.tables(f'class A(Table, name="a"): b = Column({types[1]}, nullable=False)')
    cli_service.revision()
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert seen(cli_service) == before
    cli_service.migrate_to("0001_first")


BECOMES_REQUIRED = {
    "a string": ('nick = Column(String(20), nullable=True', 'nick = Column(String(20), nullable=False, default="it\'s %s \\\\\\\\ é"'),
    "a number": ('age = Column(Integer(), nullable=True', 'age = Column(Integer(), nullable=False, default=7'),
    "a longer string": ('nick = Column(String(20), nullable=True', 'nick = Column(String(40), nullable=False, default="' + "x" * 30 + '"'),
    "json": ('settings = Column(JSON(), nullable=True', 'settings = Column(JSON(), nullable=False'),
    "an awkward name": ('big = Column(Numeric(18, 2), nullable=True', 'big = Column(Numeric(20, 4), nullable=False, default="1.2345"'),
    "an enum with a new value": ('order = Column(Enum("a", "b"), nullable=True', 'order = Column(Enum("a", "b", "c"), nullable=False'),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES_REQUIRED)
def test_a_column_that_becomes_required_is_filled_with_its_default(
    cli_service: CliService, name: str
) -> None:
    old, new = BECOMES_REQUIRED[name]
    before, after = BEFORE, BEFORE
    if name == "an enum with a new value":
        before = BEFORE.replace(
            'Enum("a", "b"), nullable=False, default="a"', 'Enum("a", "b"), nullable=True'
        )
        after = before
        new += ', default="c"'
    after = after.replace(old, new)
    assert after != before
    cli_service.tables(before)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service, 4)
    original = rows(cli_service, "users")
    column = old.split(" = ")[0]
    assert None in [row[column] for row in original]
    cli_service.tables(after)
    cli_service.revision("second")
    make_check_is_content(cli_service)
    cli_service.upgrade()
    assert cli_service.differences() == []
    default = cli_service.service.tables.tables["users"].c[column].info["default"]
    for new_row, old_row in zip(rows(cli_service, "users"), original, strict=True):
        assert new_row == {**old_row, column: default if old_row[column] is None else old_row[column]}
    the_checks_hold(cli_service)
    if name in ("a string", "a number", "json"):  # what is in there now fits into what was
        cli_service.migrate_to("0001_first")
        cli_service.tables(before)
        assert cli_service.differences() == []


def test_a_column_that_becomes_required_again_on_the_way_back_is_filled(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.tables(
        BEFORE.replace("about = Column(Text(), nullable=False", "about = Column(Text(), nullable=True")
    )
    cli_service.revision("second")
    cli_service.upgrade()
    fill(cli_service)
    cli_service.migrate_to("0001_first")
    assert [row["about"] for row in rows(cli_service, "users")][1] == "it's \\ é"
