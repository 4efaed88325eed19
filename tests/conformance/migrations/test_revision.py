"""What `make revision` writes, says and refuses."""

import re
from typing import Any

import pytest

from dbservice import migrations
from dbservice.errors import StartupError

from ...cli_service import CliService
from .live_tables import BEFORE, NOTES, ONE, POSTS, fill, make_check_is_content, names, rows, the_checks_hold


@pytest.mark.engines("sqlite")
def test_a_revision_is_right_without_ruff(cli_service: CliService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cli_service.tables(BEFORE)
    assert "op.create_table('users'" in cli_service.revision(again=True)
    cli_service.upgrade()
    assert cli_service.differences() == []


@pytest.mark.engines("sqlite")
def test_revisions_are_numbered_and_named_by_their_message(cli_service: CliService) -> None:
    messages = {
        'say "hi"\n\\ and é': "0001_say_hi_and_e",
        "": "0002",
        "日本": "0003",
        "x" * 99: "0004_" + "x" * 27,
    }
    for number, (message, revision) in enumerate(messages.items()):
        cli_service.tables(ONE + ONE.replace("users", f"users{number}"))
        assert cli_service.revision(message)
        assert (cli_service.versions / f"{revision}.py").is_file()
    cli_service.upgrade()
    assert migrations.current(cli_service.service, cli_service.backend) == "0004_" + "x" * 27
    cli_service.migrate_to("0002")
    assert migrations.current(cli_service.service, cli_service.backend) == "0002"
    cli_service.migrate_to("0003")
    cli_service.migrate_to("head")
    assert migrations.current(cli_service.service, cli_service.backend) == migrations.head(
        cli_service.service
    )


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            ")\n",
            "); phone = Column(String(9), nullable=False)\n",
            r"^users\.phone is required and has no default: .* one revision later\.$",
        ),
        (
            "email",
            "mail",
            r"^users\.mail is required and has no default: .* If it is users\.email renamed, ",
        ),
    ],
    ids=["new", "renamed"],
)
def test_a_required_column_without_a_default_is_refused(
    cli_service: CliService, before: str, after: str, sentence: str
) -> None:
    cli_service.tables(ONE)
    cli_service.revision()
    cli_service.tables(ONE.replace(before, after))
    with pytest.raises(StartupError, match=sentence):
        cli_service.revision()
    assert len(list(cli_service.versions.glob("*.py"))) == 1


@pytest.mark.engines("sqlite")
def test_what_a_revision_drops_is_named(cli_service: CliService, caplog: pytest.LogCaptureFixture) -> None:
    cli_service.tables(BEFORE + NOTES.replace("post", "user"))
    cli_service.revision("first")
    caplog.clear()
    cli_service.tables(
        BEFORE.replace("email = Column(String(20), nullable=False", "mail = Column(String(30), nullable=True")
        .replace("nick = Column(", "nickname = Column(")
        .replace("    big = Column(Numeric(18, 2), nullable=True)\n", "")
    )
    text = cli_service.revision("second", again=True)
    said = [
        "drops the table notes with all its rows",
        "drops users.email with its data",
        "drops users.big with its data",
        "drops users.nick with its data; if it was renamed to nickname, write batch_op.alter_column('nick',"
        " new_column_name='nickname') in place of the two lines",
    ]
    for sentence in said:
        assert sum(sentence in message for message in caplog.messages) == 1, caplog.messages
        assert sentence in " ".join(text.split("import")[0].split())
    make_check_is_content(cli_service)


RENAMED = {
    "plain": ("nick = Column(String(20), nullable=True)", "nickname = Column(String(20), nullable=True)"),
    "with its type": (
        "nick = Column(String(20), nullable=True)",
        "nickname = Column(String(20), nullable=True)",
    ),
    "with a default": ("about = Column(", "story = Column("),
    "unique": (
        "email = Column(String(20), nullable=False, unique",
        "mail = Column(String(20), nullable=True, unique",
        "mail = Column(String(20), nullable=False, unique",
    ),
    "an enum": ("order = Column(", "group = Column("),
    "indexed": (
        "title = Column(String(20), nullable=False",
        "head = Column(String(20), nullable=True",
        "head = Column(String(20), nullable=False",
    ),
}


@pytest.mark.parametrize("name", RENAMED)
def test_the_advice_for_a_renamed_column_works(
    cli_service: CliService, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision("first")
    cli_service.upgrade()
    fill(cli_service)
    old_name, new_name = (part.split(" = ")[0] for part in RENAMED[name][:2])
    table = "posts" if name == "indexed" else "users"
    before = rows(cli_service, table)
    cli_service.tables(BEFORE.replace(RENAMED[name][0], RENAMED[name][1]))
    text = cli_service.revision("second", again=True)
    advice = re.search(r"write (batch_op\.alter_column\(.*\)) in place", "\n".join(caplog.messages))
    assert advice
    head, _, rest = text.partition("def upgrade")
    up, _, down = rest.partition("def downgrade")
    lines = iter(up.splitlines())
    kept = []
    for line in lines:  # without the lines that add and drop, however they are broken
        if re.search(r"batch_op\.(add|drop)_column\(", line):
            while line.count("(") > line.count(")"):
                line += next(lines)
            if "add_column" in line:
                typed = ", existing_type=types.String(20)" if name == "with its type" else ""
                kept.append(f"        {advice[1][:-1]}{typed})")
            continue
        kept.append(line)
    up = "\n".join(kept)
    (cli_service.versions / "0002_second.py").write_text(f"{head}def upgrade{up}\n\n\ndef downgrade{down}")
    cli_service.upgrade()
    cli_service.tables(BEFORE.replace(RENAMED[name][0], RENAMED[name][-1]))
    assert cli_service.differences() == []
    the_checks_hold(cli_service)
    after = rows(cli_service, table)
    assert [row[new_name] for row in after] == [row[old_name] for row in before]


OTHER_KINDS = [("String(20)", "Integer()"), ("Integer()", "String(20)"), ("Timestamp()", "Date()"), ("Numeric(12, 2)", "Integer()"),
    ("Numeric(12, 2)", "Numeric(12, 1)"), ("Text()", "JSON()"), ("Boolean()", "Integer()"), ("Uuid()", "String(40)"), ("Integer()", "Float()")]  # fmt: skip


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("types", OTHER_KINDS, ids=" to ".join)
def test_a_column_of_another_kind_is_refused(cli_service: CliService, types: tuple[str, str]) -> None:
    cli_service.tables(f'class A(Table, name="a"): b = Column({types[0]}, nullable=True)')
    cli_service.revision()
    cli_service.tables(f'class A(Table, name="a"): b = Column({types[1]}, nullable=True)')
    with pytest.raises(StartupError) as caught:
        cli_service.revision()
    assert str(caught.value) == (
        f"a.b is {types[0]} and cannot become {types[1]}: add a column of another name, fill it, and drop a.b one revision later."
    )
    assert len(list(cli_service.versions.glob("*.py"))) == 1


@pytest.mark.engines("sqlite")
@pytest.mark.filterwarnings("error")
def test_tables_that_refer_to_each_other_are_refused(cli_service: CliService) -> None:
    cli_service.tables(BEFORE)
    cli_service.revision()
    cli_service.upgrade()
    cli_service.tables(
        BEFORE.replace(
            "age = Column(",
            'post_id = Column(BigInteger(), ForeignKey("posts.id"), nullable=True, index=True); age = Column(',
        )
    )
    sentence = (
        "The foreign keys of posts and users are circular, so that no table can be created first: make one of them a plain "
        "BigInteger() column without a ForeignKey."
    )
    with pytest.raises(StartupError) as caught:
        cli_service.revision()
    assert str(caught.value) == sentence


@pytest.mark.engines("sqlite")
def test_a_foreign_key_to_nothing_is_refused(cli_service: CliService) -> None:
    cli_service.tables(POSTS)
    with pytest.raises(StartupError) as caught:
        cli_service.revision()
    assert str(caught.value) == "posts.user_id refers to users.id, which neither tables.py nor access.py has."


ARGUMENTS = """
class Users(Table, name="users"):
    nick = Column(String(20), nullable=True)
    team = Column(Integer(), index=True)
    balance = Column(Numeric(12, 2), default="0")
    kind = Column(Enum("a", "b"))
    class_ = Column(String(3), name="class")
    __table_args__ = (
        UniqueConstraint("nick", "team"), UniqueConstraint("nick", "class"), Index(None, "team", "nick"),
        CheckConstraint("balance >= 0", name="balance"), CheckConstraint("nick <> 'x'", name="nick"),
    )

class Roles(BareTable, name="roles", metadata=Table.__metadata__):
    user_id = Column(BigInteger(), ForeignKey("users.id"), primary_key=True)
    role = Column(String(20), primary_key=True)

class Tokens(Timestamps, BareTable, name="tokens", metadata=Table.__metadata__):
    id = Column(Uuid(), primary_key=True)
"""


def test_every_constraint_is_in_the_first_revision_and_is_no_difference(cli_service: CliService) -> None:
    table = cli_service.tables(ARGUMENTS).tables.tables["users"]
    text = cli_service.revision("first")
    every: list[Any] = [*table.constraints, *table.indexes]
    assert not [each.name for each in every if f'"{each.name}"' not in text]
    assert not re.search(r"\bclass_\b", text)  # what Python calls a column is no business of the database
    make_check_is_content(cli_service)
    cli_service.upgrade()
    assert cli_service.differences() == []
    assert cli_service.revision("second") == ""
    cli_service.migrate_to("base")
    assert names(cli_service) == {"alembic_version_demo"}
