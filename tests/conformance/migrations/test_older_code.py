"""The version before, on a database that a newer one has migrated: it starts and stays ready as long as the revisions since
say that it can, `migrate` leaves the database as it is, and a database without such a record gets one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dbservice import migrations, startup
from dbservice.errors import StartupError

from ...assertions import problem
from ...cli_service import CliService, CommandLine, served_cli_service
from .live_tables import ONE, change_things, connected

WIDER = ONE.replace("20", "30")
WITH_NICK = WIDER.rstrip() + "; nick = Column(String(20), nullable=True)\n"
WITHOUT = 'class Users(Table, name="users"): nick = Column(String(20), nullable=True)\n'
ALL = "0003_third 0002_second 0001_first"


@pytest.fixture
def three(cli_service: CliService) -> CliService:
    """Three revisions of which none breaks older code."""
    for number, tables in enumerate((ONE, WIDER, WITH_NICK)):
        cli_service.tables(tables)
        cli_service.revision(("first", "second", "third")[number])
    return cli_service


def says(cli_service: CliService, name: str, breaks: str) -> None:
    """Let a revision say that it breaks older code, or that it does not, or nothing."""
    (path,) = cli_service.versions.glob(f"*{name}.py")
    text, count = re.subn(r"(?m)^breaks_older_code = .*\n", breaks, path.read_text())
    assert count == 1
    path.write_text(text)


@contextmanager
def code_of(cli_service: CliService, number: int) -> Iterator[None]:
    """The version that has only the first revisions."""
    away = sorted(cli_service.versions.glob("*.py"))[number:]
    for path in away:
        path.rename(path.with_suffix(".newer"))
    yield
    for path in away:
        path.with_suffix(".newer").rename(path)


def checked(cli_service: CliService) -> str | None:
    return startup.checked_revision(cli_service.service, cli_service.backend)


def recorded(cli_service: CliService) -> list[tuple[object, ...]]:
    with connected(cli_service) as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM alembic_version_demo")]


def test_older_code_starts_and_migrates_nothing(three: CliService, run: CommandLine) -> None:
    three.upgrade()
    assert recorded(three) == [("0003_third", ALL)]
    for number in (1, 2):
        with code_of(three, number):
            assert checked(three) == "0003_third"
            assert run("migrate")[:2] == run("migrate", "--to", "head")[:2]
            code, out, err = run("migrate")
            assert (code, err) == (0, "")
            assert out.endswith(
                " is at revision 0003_third, newer than this version, which can run on it: nothing to migrate.\n"
            )
            code, _, err = run("migrate", "--to", "0001_first")
            assert code == 1 and err.endswith(
                "can run on: a newer version can lead it to another revision.\n"
            )
    assert recorded(three) == [("0003_third", ALL)]
    three.migrate_to("0002")  # and back: what the database has been through no more is not recorded
    assert recorded(three) == [("0002_second", "0002_second 0001_first")]
    three.migrate_to("base")
    assert recorded(three) == []


@pytest.mark.engines("sqlite", "postgresql", "mysql")
@pytest.mark.parametrize(
    ("breaks", "oldest"),
    [
        ("breaks_older_code = True\n", "0003_third"),
        ("", "0003_third"),
        ('breaks_older_code = "0002_second"\n', "0002_second"),
    ],
)
def test_a_revision_that_breaks_older_code_says_so(
    three: CliService, run: CommandLine, breaks: str, oldest: str
) -> None:
    says(three, "third", breaks)
    three.upgrade()
    sentence = (
        f"The database is at revision 0003_third, on which only the versions from revision {oldest} on can run, and this"
        " code is of 0001_first: deploy a newer version."
    )
    with code_of(three, 1):
        with pytest.raises(StartupError) as caught:
            checked(three)
        assert str(caught.value) == sentence
        code, out, err = run("migrate")
        assert (code, out) == (1, "") and err.splitlines()[-1].endswith(sentence)
    with code_of(three, 2):
        if oldest == "0002_second":
            assert checked(three) == "0003_third"
        else:
            with pytest.raises(StartupError):
                checked(three)
    says_again = three.versions / "0003_third.py"
    says_again.write_text(says_again.read_text() + "\nbreaks_older_code = False\n")
    assert run("migrate")[0] == 0  # a corrected file is enough
    with code_of(three, 1):
        assert checked(three) == "0003_third"


@pytest.mark.engines("sqlite")
def test_an_unknown_id_is_refused(three: CliService, run: CommandLine) -> None:
    says(three, "third", 'breaks_older_code = "0009"\n')
    code, _, err = run("migrate")
    assert code == 1
    assert (
        "breaks_older_code of the revision 0003_third names an unknown revision, 0009" in err.splitlines()[-1]
    )


@pytest.mark.parametrize("left", ["no column", "of another revision", "empty"])
def test_what_an_earlier_release_has_migrated_is_recorded_by_the_next_migrate(
    three: CliService, run: CommandLine, left: str
) -> None:
    """That release knows one column, and changes no other."""
    three.upgrade()
    change_things(
        three,
        {
            "no column": "ALTER TABLE alembic_version_demo DROP COLUMN compatible",
            "of another revision": "UPDATE alembic_version_demo SET compatible = '0002_second 0001_first'",
            "empty": "UPDATE alembic_version_demo SET compatible = NULL",
        }[left],
    )
    with code_of(three, 2), pytest.raises(StartupError, match="which this code does not know"):
        checked(three)
    assert checked(three) == "0003_third"
    assert run("migrate")[0] == 0
    assert recorded(three) == [("0003_third", ALL)]
    with code_of(three, 2):
        assert checked(three) == "0003_third"


async def test_a_running_service_stays_ready_until_a_revision_breaks_it(cli_service: CliService) -> None:
    async with served_cli_service(cli_service, ONE) as (client, _):
        cli_service.tables(WIDER)
        cli_service.revision("second")
        cli_service.tables(WITHOUT)
        assert "breaks_older_code = True" in cli_service.revision("third")
        cli_service.migrate_to("0002")
        with code_of(cli_service, 1):
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get("/v1/users")).status_code == 200
        cli_service.upgrade()
        with code_of(cli_service, 1):
            body = problem(await client.get("/readyz"), 503)
            assert "only the versions from revision 0003_third on can run" in body["detail"]
            assert (await client.get("/healthz")).status_code == 200
        cli_service.migrate_to("0002")
        with code_of(cli_service, 1):
            assert (await client.get("/readyz")).status_code == 200


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(
    ("after", "breaks"),
    [
        ("class Users(Table, name='users'): email = Column(String(20)); age = Column(Integer())", None),
        ("class Users(Table, name='users'): email = Column(String(99)); age = Column(BigInteger())", False),
        ("class Users(Table, name='users'): email = Column(Text()); age = Column(Numeric(12, 0))", True),
        (
            "class Users(Table, name='users'): mail = Column(String(20), default=''); age = Column(Integer())",
            True,
        ),
        ("class Users(Table, name='users'): email = Column(String(20))", True),
        ("", True),
        (
            "class Users(Table, name='users'): email = Column(String(20), unique=True); age = Column(Integer(), default=1)\n"
            "class Posts(Table, name='posts'): text = Column(Text())",
            False,
        ),
    ],
)
def test_make_revision_knows_what_breaks_older_code(
    cli_service: CliService, after: str, breaks: bool | None
) -> None:
    cli_service.tables(
        "class Users(Table, name='users'): email = Column(String(20)); age = Column(Integer())"
    )
    assert "\nbreaks_older_code = False\n" in cli_service.revision("first")
    cli_service.tables(after)
    found = re.search(r"(?m)^breaks_older_code = (\w+)$", cli_service.revision("second"))
    assert found is None if breaks is None else found and found[1] == str(breaks)


@pytest.mark.engines("sqlite")
def test_versions_of_either_branch_run_after_a_merge_of_both(cli_service: CliService) -> None:
    """Unless one of the branches broke the other's."""
    revision = "revision, down_revision, breaks_older_code = {!r}, {!r}, {!r}\ndef upgrade(): pass\n"
    lineage = {"a": None, "b1": "a", "b2": "a", "c": ("b1", "b2"), "d": "c"}

    def write(**breaks: bool) -> None:
        for each, before in lineage.items():
            text = revision.format(each, before, breaks.get(each, False))
            Path(cli_service.versions, f"{each}.py").write_text(text)

    def runs() -> set[str]:
        return set(str(recorded(cli_service)[0][1]).split())

    write()
    cli_service.upgrade()
    assert runs() == {"a", "b1", "b2", "c", "d"}
    write(b1=True)
    cli_service.upgrade()
    assert runs() == {"b1", "c", "d"}
    assert migrations.head(cli_service.service) == "d"
