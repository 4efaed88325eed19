"""Table classes: the tables they make, the names of their constraints, what is refused and with which sentence."""

import types
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from dbservice import UNSET, Create, Patch, Row, Service, public_columns, schema
from dbservice.schema import (
    BareTable,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    SharedTable,
    Timestamps,
    UniqueConstraint,
    constraint_name,
)
from dbservice.schema.columns import ColumnDescriptor
from dbservice.types import JSON, BigInteger, Boolean, Enum, Float, Integer, String, Text, Timestamp, Uuid

from ..sample_service import made


class Base(schema.Table, metadata=sa.MetaData()): ...


class Users(Base, name="users"):
    email = Column(String(255), unique=True)
    nick = Column(String(40), nullable=True, index=True)
    password = Column(String(255), nullable=True, secret=True)
    balance = Column(Integer(), default=0)
    active = Column(Boolean(), default=False)
    kind = Column(Enum("a", "b"), default="a")
    class_ = Column(String(3), name="class")
    boss_id = Column(BigInteger(), ForeignKey("users.id"), nullable=True, index=True)

    __table_args__ = (
        UniqueConstraint("nick", "boss_id"),
        UniqueConstraint("nick", "class"),
        Index(None, "boss_id", "nick"),
        CheckConstraint("balance >= 0", name="balance"),
    )


class UserRoles(BareTable, name="user_roles", metadata=Base.__metadata__):
    user_id = Column(BigInteger(), ForeignKey("users.id"), primary_key=True)
    role = Column(String(20), primary_key=True)
    note = Column(Text(), nullable=True)


class Tokens(Timestamps, BareTable, name="tokens", metadata=Base.__metadata__):
    id = Column(Uuid(), primary_key=True, default_factory=uuid.uuid4)
    text = Column(String(9), nullable=True)


def columns(table: type[schema.Declared]) -> list[str]:
    return [column.name for column in table.__table__.columns]


# --- the tables


def test_a_table_has_its_columns_between_the_managed_ones() -> None:
    own = ["email", "nick", "password", "balance", "active", "kind", "class", "boss_id"]
    assert columns(Users) == ["id", *own, "created_at", "updated_at"]
    assert list(Users.__columns__)[7] == "class_" and Users.class_ is Users.__table__.c["class"]
    required = {column.name for column in Users.__table__.columns if not column.nullable}
    assert required == {*columns(Users)} - {"nick", "password", "boss_id"}


def test_what_a_create_fills_in_is_the_servers_default_too() -> None:
    defaults = {column.name for column in Users.__table__.columns if column.server_default is not None}
    assert defaults == {"id", "balance", "active", "kind"}
    assert {name: Users.__table__.c[name].info["default"] for name in defaults - {"id"}} == {
        "balance": 0,
        "active": False,
        "kind": "a",
    }


def test_a_bare_table_has_only_its_declared_columns() -> None:
    assert columns(UserRoles) == ["user_id", "role", "note"]
    assert columns(Tokens) == ["id", "text", "created_at", "updated_at"]
    assert [column.name for column in UserRoles.__table__.primary_key] == ["user_id", "role"]


def test_a_base_gives_each_table_columns_of_its_own() -> None:
    class Named(Identity, metadata=sa.MetaData()):
        name = Column(String(20))
        parent = Column(BigInteger(), ForeignKey("one.id"), nullable=True)

    class One(Named, name="one"):
        __table_args__ = (UniqueConstraint("name"),)

    class Two(Named, name="two"):
        more = Column(Integer())

    assert columns(One) == ["id", "name", "parent"] and columns(Two) == ["id", "name", "parent", "more"]
    assert One.name is not Two.name and One.name.type is not Two.name.type
    assert isinstance(One.name.type, String) and isinstance(Two.name.type, String)
    assert One.name.type.indexed and not Two.name.type.indexed
    assert all(
        each.parent.references(One.id) for each in (*One.__table__.foreign_keys, *Two.__table__.foreign_keys)
    )
    with pytest.raises(AttributeError, match="Named has no table"):
        _ = Named.name


def test_a_metadata_belongs_to_a_base_and_its_subclasses() -> None:
    assert Users.__table__.metadata is Base.__metadata__ is not schema.Table.__metadata__
    assert {"users", "user_roles", "tokens"} == Base.__metadata__.tables.keys()
    assert not schema.Table.__metadata__.tables


def test_a_statement_takes_a_class_where_it_takes_a_table() -> None:
    joined = (
        sa.select(*public_columns(Users)).select_from(Users).join(UserRoles, UserRoles.user_id == Users.id)
    )
    table = Users.__table__
    plain = sa.select(*[column for column in table.columns if column.name != "password"]).select_from(table)
    assert str(joined) == str(plain.join(UserRoles.__table__, UserRoles.user_id == Users.id))
    assert str(sa.select(Users)) == str(sa.select(table))


def test_a_key_of_the_clients_is_on_rows_and_creates_and_on_no_patch() -> None:
    class RolesCreate(UserRoles, Create): ...

    class RolesPatch(UserRoles, Patch): ...

    class RolesRow(UserRoles, Row): ...

    assert RolesCreate.model_fields.keys() == set(RolesRow.columns()) == {"user_id", "role", "note"}
    assert RolesPatch.model_fields.keys() == {"note"}
    assert RolesPatch.model_validate({}).note is UNSET


def test_what_a_factory_made_is_what_is_written() -> None:
    class TokenCreate(Tokens, Create): ...

    one, two = TokenCreate.model_validate({}), TokenCreate.model_validate({"text": "x"})
    assert one.changes() == {"id": one.id} and two.changes() == {"id": two.id, "text": "x"}
    assert one.id != two.id and isinstance(one.id, uuid.UUID)
    given = uuid.UUID(int=7)
    assert TokenCreate.model_validate({"id": str(given)}).changes() == {"id": given}


def test_what_code_sets_on_a_body_is_written() -> None:
    class UserPatch(Users, Patch): ...

    patch = UserPatch.model_validate({"nick": None})
    assert patch.password is UNSET and patch.changes() == {"nick": None}
    patch.password = "hashed"
    assert patch.changes() == {"nick": None, "password": "hashed"}


# --- names of constraints


def names(table: sa.Table) -> set[str]:
    every: list[Any] = [*table.constraints, *table.indexes]
    return {each.name for each in every}


def test_every_constraint_has_a_name_of_its_own() -> None:
    assert names(Users.__table__) == {
        "pk_users",
        "uq_users_email",
        "ix_users_nick",
        "ix_users_boss_id",
        "fk_users_boss_id",
        "ck_users_kind",
        "ck_users_balance",
        constraint_name("uq", "users", ["nick", "boss_id"]),
        constraint_name("uq", "users", ["nick", "class"]),
        constraint_name("ix", "users", ["boss_id", "nick"]),
    }
    assert constraint_name("uq", "users", ["nick", "boss_id"]) == "uq_users_nick_boss_id_0565d4"
    assert names(UserRoles.__table__) == {"pk_user_roles", "fk_user_roles_user_id"}


@pytest.mark.parametrize("columns", [["x" * 50], ["a" * 30, "b" * 30], ["a" * 30, "b" * 31], ["x" * 51]])
def test_a_long_name_is_shortened_and_stays_unique(columns: list[str]) -> None:
    name = constraint_name("ix", "the_table", columns)
    assert len(name) == 60 and name.startswith("ix_the_table_") and name[-7] == "_"
    assert name != constraint_name("ix", "the_table", [*columns[:-1], f"{columns[-1]}x"])
    assert name != constraint_name("ix", "the_tablf", columns)


def test_names_are_the_same_on_every_engine() -> None:
    class Long(schema.Table, name="l" * 40, metadata=sa.MetaData()):
        vars().update({f"{letter * 40}": Column(Integer(), unique=True, index=True) for letter in "ab"})
        vars()["e" * 40] = Column(Enum("x"))
        parent_of_the_row_with_a_long_name = Column(BigInteger(), ForeignKey(f"{'l' * 40}.id"), index=True)
        __table_args__ = (Index(None, "a" * 40, "b" * 40), UniqueConstraint("b" * 40, "a" * 40))

    table = Long.__table__
    assert (
        len(names(table)) == len(table.constraints) + len(table.indexes) and max(map(len, names(table))) == 60
    )
    modules: list[Any] = [postgresql, mysql, sqlite]
    for dialect in (module.dialect() for module in modules):
        written = str(CreateTable(table).compile(dialect=dialect))
        written += "".join(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes)
        missing = {name for name in names(table) if name not in written}
        # SQLite's AUTOINCREMENT leaves no place for that one
        assert missing == ({f"pk_{'l' * 40}"} if dialect.name == "sqlite" else set())


def table(name: str = "t", /, *args: Any, base: type = schema.Table, **body: Any) -> Any:
    """The class `T`, with these columns and table arguments, in a MetaData of its own."""
    own: Any = type("Own", (base,), {}, metadata=sa.MetaData())
    return type("T", (own,), {"__table_args__": args, **body} if args else body, name=name)


def test_duplicate_names_are_refused() -> None:
    nick: Any = {"nick": Column(String(9), index=True), "b": Column(Integer())}
    with pytest.raises(
        ValueError, match=r"^T: the index on t\(nick\) and the index on t\(nick\) are both named ix_t_nick; "
    ):
        table("t", Index(None, "nick"), **nick)
    with pytest.raises(ValueError, match="both named ix_t_nick_b_"):
        table("t", Index(None, "nick", "b"), Index(None, "nick", "b"), **nick)
    assert "ix_other" in names(table("t", Index("ix_other", "nick"), **nick).__table__)

    class Own(schema.Table, metadata=sa.MetaData()): ...

    class A(Own, name="a"):
        b_c = Column(Integer(), unique=True)

    with pytest.raises(
        ValueError,
        match=r"^AB: the UniqueConstraint on a\(b_c\) and the UniqueConstraint on a_b\(c\) are both",
    ):

        class AB(Own, name="a_b"):
            c = Column(Integer(), unique=True)

    assert Own.__metadata__.tables.keys() == {"a"}  # what is refused leaves nothing behind
    with pytest.raises(ValueError, match=r"PostgreSQL's sequence of a\.id and the table a_id_seq are both"):

        class Seq(Own, name="a_id_seq"): ...


# --- what is refused

wrong: Any = Column  # what mypy would refuse already
REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    (
        "a reserved attribute",
        lambda: table(json=Column(JSON())),
        r'^T\.json: this attribute name is reserved; write json_ = Column\(\.\.\., name="json"\)$',
    ),
    ("a keyword", lambda: made("T", type("Own", (Base,), {"class": Column(Integer())}), name="t"), r"^T\.class: this attribute name is reserved; "),
    ("of our own", lambda: table(changes=Column(Integer())), r"^T\.changes: this attribute name is reserved; "),
    ("a private attribute", lambda: table(_a=Column(Integer())), r"^T\._a: write an attribute name that begins"),
    ("capitals", lambda: table(Email=Column(Integer())), r"^T\.Email: write the column's name in a to z"),
    ("capitals in name=", lambda: table(email=Column(Integer(), name="E")), r"^T\.email: write the column's name"),
    ("one name twice", lambda: table(a=Column(Integer()), b=Column(Integer(), name="a")), r"^T\.b: another attribute has the column a"),
    ("the table's name", lambda: table("Users"), r"^T: write the table's name in a to z"),
    ("SQLAlchemy's type", lambda: table(a=wrong(sa.Integer())), r"^T\.a: use a type of dbservice\.types, not Integer\(\)"),
    ("a type's class", lambda: table(a=wrong(Integer)), r"^T\.a: use a type of dbservice\.types"),
    ("a default of another type", lambda: table(a=Column(Integer(), default="x")), r"^T\.a: the default must be a whole number"),
    ("a default that is a callable", lambda: table(a=Column(Uuid(), default=uuid.uuid4)), r"^T\.a: write a value as default, or a callable"),
    (
        "two defaults",
        lambda: table(a=Column(Integer(), default=1, default_factory=lambda: 1)),
        r"^T\.a: write a value as default, or a callable as default_factory",
    ),
    ("a managed column", lambda: table(id=Column(Integer())), r"^T\.id: a base has this column already; leave it out"),
    ("no key", lambda: table(base=BareTable, a=Column(Integer())), r"^T: write primary_key=True on the columns of its key"),
    (
        "a secret key",
        lambda: table(base=BareTable, a=wrong(Integer(), primary_key=True, secret=True)),
        r"^T\.a: a column of the primary key is neither nullable nor secret",
    ),
    ("a CHECK without a name", lambda: table("t", CheckConstraint("a > 0"), a=Column(Integer())), r"^t: write a name for the CheckConstraint"),
    ("a text that is unique", lambda: table(a=Column(Text(), unique=True)), r"^T: not every engine can have a, Text\(\), in an index"),
    ("a long string that is indexed", lambda: table(a=Column(String(701), index=True)), r"^T: not every engine can have a, String\(701\)"),
    ("a name that is too long", lambda: table("t", Index("i" * 61, "a"), a=Column(Integer())), r"^T: the name i+ has 61 characters; write at most 60"),
    ("a table twice", lambda: made("X", Base, name="users"), r"^X: there is a table users already"),
    ("a table of a table", lambda: made("X", Users, name="x"), r"^X: Users has a table of its own; put shared columns"),
    ("a table class without a name", lambda: made("X", Users), r"^X: users is a table already; inherit from Row, Create or Patch"),
    ("a base with constraints", lambda: type("X", (Base,), {"__table_args__": (Index(None, "a"),)}), r"^X: __table_args__ belong to a class with a table"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "sentence"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_invalid_declarations_are_refused(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_row_or_body_has_one_table() -> None:
    with pytest.raises(TypeError, match="X: name one table, not Users and Tokens"):
        made("X", Users, Tokens, Row)
    with pytest.raises(TypeError, match="X: Base has no table"):
        made("X", Base, Create)


# --- tables of others


class Events(SharedTable, name="events", access="read-write", rows={"kind": "x"}, metadata=sa.MetaData()):
    id = Column(BigInteger(), primary_key=True)
    kind = Column(String(20))
    token = Column(String(20), nullable=True, secret=True)


def test_a_shared_table_has_what_it_lists_and_belongs_to_no_migration() -> None:
    class EventRow(Events, Row): ...

    assert columns(Events) == ["id", "kind", "token"] and EventRow.columns() == ("id", "kind")
    assert (Events.__access__.mode, Events.__access__.rows) == ("read-write", {"kind": "x"})
    assert not issubclass(Events, BareTable) and Events.__table__.metadata is not Base.__metadata__
    assert not SharedTable.__metadata__.tables


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"access": "write"}, r'X: write access="read" or access="read-write", not \'write\''),
        ({"rows": {"b": 1}}, "X: rows names b, which is not among its columns"),
        ({"rows": {"a": "one"}}, "X: rows: a must be a whole number"),
        ({"rows": {"b": "x"}, "b": Column(String(9), secret=True)}, "X: rows: b is secret or managed"),
        ({"rows": {"b": 1.5}, "b": Column(Float())}, r"X: rows: b is Float\(\), which cannot select rows"),
        ({"b": Column(Timestamp(), managed=True)}, r"X\.b: managed are a whole number id"),
        ({"id": Column(String(9), managed=True)}, r"X\.id: managed are a whole number id"),
    ],
)
def test_access_that_means_nothing_is_refused(options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        columns = {name: each for name, each in options.items() if isinstance(each, ColumnDescriptor)}
        options = {name: each for name, each in options.items() if name not in columns}
        type(
            "X",
            (SharedTable,),
            {"a": Column(Integer()), **columns},
            name="x",
            metadata=sa.MetaData(),
            **options,
        )


# --- the tables of a service


def module(tmp_path: Path, **content: Any) -> ModuleType:
    module = ModuleType("tables")
    module.__file__ = str(tmp_path / "src/my_svc/tables.py")
    vars(module).update(content)
    return module


def test_a_service_finds_its_tables_and_its_folder_by_their_module(tmp_path: Path) -> None:
    service = Service(
        "s", module(tmp_path, Base=Base, Users=Users, Events=Events, UserRow=made("UserRow", Users, Row))
    )
    assert service.tables is Base.__metadata__ and service.migrations == tmp_path / "migrations"
    nothing = Service("s", module(tmp_path, Table=schema.Table, Events=Events))
    assert not nothing.tables.tables and nothing.migrations == tmp_path / "migrations"
    other = Service("s", module(tmp_path, Users=Users), root=tmp_path / "other")
    assert other.migrations == tmp_path / "other/migrations"


def test_services_in_one_process_have_tables_of_their_own() -> None:
    def users(package: str, name: str) -> sa.MetaData:
        content = {"__module__": f"{package}.tables", "email": Column(String(20))}
        made: Any = types.new_class(
            "Users", (schema.Table,), {"name": name}, lambda body: body.update(content)
        )
        return made.__metadata__  # type: ignore[no-any-return]

    one, same, two = users("one", "users"), users("one", "posts"), users("two", "users")
    assert one is same is not two
    assert (set(one.tables), set(two.tables)) == ({"users", "posts"}, {"users"})


def test_a_service_needs_a_root_that_has_no_default(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tables of tables are in 2 MetaDatas: give them one base"):
        Service("s", module(tmp_path, Users=Users, T=table("t", a=Column(Integer()))))
    with pytest.raises(ValueError, match="Pass root=, the folder that contains migrations/"):
        Service("s", Base.__metadata__)
    assert not Service("s", sa.MetaData()).migrations.is_dir()
    assert Service("s", Base.__metadata__, root=tmp_path).migrations == tmp_path / "migrations"
