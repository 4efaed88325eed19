"""The command line: arguments, output and exit codes; a user error is one line."""

import re
import signal
import socket
import time

import httpx
import pytest

from dbservice import cli, migrations
from dbservice.testing import servers

from ..cli_service import CliService, CommandLine

TABLES = 'class Users(Table, name="users"): email = Column(String(20), nullable=False)\n'
COMMANDS = ("serve", "migrate", "revision", "check-migrations")


@pytest.fixture
def cli_service(cli_service: CliService) -> CliService:
    """The same, with a table."""
    cli_service.tables(TABLES)
    return cli_service


def logged(err: str) -> list[str]:
    """What the log says, without its times."""
    return [re.sub(r"^\S+Z (\w+) +", r"\1 ", line) for line in err.splitlines()]


# --- usage


@pytest.mark.engines("sqlite")
def test_help_names_every_command(cli_service: CliService) -> None:
    code, out, err = cli_service.run("--help")
    assert (code, err) == (0, "") and out.startswith("usage: python -m demo ")
    assert "A demo service." in out and "Settings come from the environment." in out
    for command in COMMANDS:
        assert re.search(rf"^ +{command}\s+\S", out, re.M)


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_and_needs_no_settings_for_it(
    cli_service: CliService, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DB_TYPE", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli.main(cli_service.service, [command, "--help"])
    out, err = capsys.readouterr()
    assert caught.value.code == 0 and err == "" and out.startswith(f"usage: python -m demo {command} ")


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize(
    "arguments",
    [
        *(
            [],
            ["nonsense"],
            ["serve", "8000"],
            ["serve", "--port", "x"],
            ["serve", "--port", "0"],
            ["revision"],
        ),
        *(
            ["serve", "--port", "65536"],
            ["revision", "-m"],
            ["migrate", "head"],
            ["migrate", "--to"],
            ["--version"],
        ),
    ],
)
def test_wrong_usage_exits_with_2(
    cli_service: CliService, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(cli_service.service, arguments)
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    assert err.startswith("usage: python -m demo") and "Traceback" not in err
    if "--port" in arguments:
        assert err.splitlines()[-1].endswith(": write a number from 1 to 65535")


# --- settings and databases that are wrong


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("command", ["serve", "migrate", "check-migrations"])
def test_missing_settings_are_one_line(cli_service: CliService, run: CommandLine, command: str) -> None:
    code, out, err = run(command, DB_TYPE="")
    assert (code, out) == (1, "") and re.fullmatch(r"demo: .+\n", err)
    assert err.startswith("demo: DB_TYPE is not set or is empty: allowed is postgresql, mysql or sqlite; ")


@pytest.mark.parametrize("command", ["serve", "migrate", "check-migrations"])
def test_a_wrong_password_or_database_is_one_line(
    cli_service: CliService, run: CommandLine, command: str
) -> None:
    wrong = {"DB_PASS": "geheim", "DB_NAME": "no_such_database"}
    if cli_service.database.type == "sqlite":
        wrong = {"DB_NAME": "/no/such/folder/x.db"}
    for name, value in wrong.items():
        code, out, err = run(command, **{name: value})
        assert (code, out) == (1, "") and re.fullmatch(r"demo: .+\n", err), err
        assert name in err and "geheim" not in err


@pytest.mark.engines("postgresql", "mariadb", "mysql")
@pytest.mark.parametrize("command", ["serve", "migrate", "check-migrations"])
def test_a_server_that_does_not_answer_is_one_line(
    cli_service: CliService, run: CommandLine, command: str
) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        port = str(bound.getsockname()[1])
        code, out, err = run(command, DB_PORT=port, DB_MAX_RETRIES="1", DB_RETRY_DELAY="0")
    assert (code, out) == (1, "")
    waiting, last = logged(err)
    assert waiting.startswith("warning dbservice.startup: waiting for ") and "1 more attempts" in waiting
    assert re.fullmatch(rf"demo: Cannot use \S+:{port}/\S+ after 2 attempts: .+", last)


# --- migrate, revision, check-migrations


def test_the_commands_take_a_database_from_nothing_to_a_changed_table(
    cli_service: CliService, run: CommandLine
) -> None:
    where = re.escape(cli_service.backend.settings.target)

    code, out, err = run("migrate")
    assert (code, out) == (1, "")
    assert err == 'demo: tables.py has tables but no revision creates them: run `make revision m="..."`.\n'
    code, out, err = run("check-migrations")
    assert code == 1 and out.startswith("op.create_table(") and "op.create_index" not in out
    assert err == 'The database and tables.py differ: write a revision with `make revision m="..."`.\n'

    code, out, err = run("revision", "-m", "create users")
    first = cli_service.versions / "0001_create_users.py"
    assert (code, out, err) == (0, f"Wrote {first}: read it, then `make migrate`.\n", "") and first.is_file()
    code, out, err = run("serve")
    assert (code, out) == (1, "")
    assert err == "demo: The database has no tables of demo yet: run `make migrate` first.\n"

    code, out, err = run("migrate")
    assert code == 0 and re.fullmatch(rf"{where} is at revision 0001_create_users\.\n", out)
    running = "info alembic.runtime.migration: Running upgrade  -> 0001_create_users, create users"
    assert logged(err) == [running]
    code, out, err = run("migrate")  # again: nothing to do, and nothing to say about it
    assert code == 0 and re.fullmatch(rf"{where} is at revision 0001_create_users\.\n", out) and err == ""
    assert run("check-migrations") == (0, "", "")
    assert run("revision", "-m", "nothing") == (
        0,
        "tables.py has no changes: no revision written.\n",
        "",
    )

    cli_service.tables(TABLES.replace("20", "30"))
    code, out, err = run("check-migrations")
    assert code == 1 and "batch_op.alter_column('email'" in out and "String(30)" in out
    assert run("revision", "--message", "longer")[0] == 0
    code, out, err = run("serve")
    assert code == 1 and "is at revision 0001_create_users, this code needs 0002_longer" in err
    assert run("migrate")[0] == 0 and run("check-migrations") == (0, "", "")

    code, out, err = run("migrate", "--to", "0001_create_users")
    assert code == 0 and out.endswith("is at revision 0001_create_users.\n") and "Running downgrade" in err
    assert run("migrate", "--to", "0002")[1].endswith("is at revision 0002_longer.\n")
    code, out, err = run("migrate", "--to", "base")
    assert code == 0 and re.fullmatch(rf"{where} has no tables of demo any more\.\n", out)
    assert migrations.current(cli_service.service, cli_service.backend) is None
    code, out, err = run("migrate", "--to", "nonsense")
    assert (code, out) == (1, "") and re.fullmatch(r"demo: The migration failed: .*nonsense.*\.\n", err)


def test_a_service_without_tables_has_nothing_to_migrate(cli_service: CliService, run: CommandLine) -> None:
    cli_service.tables("")
    assert run("migrate") == (0, "demo owns no tables: nothing to migrate.\n", "")
    assert run("revision", "-m", "x") == (0, "tables.py has no changes: no revision written.\n", "")
    assert run("check-migrations") == (0, "", "")


@pytest.mark.engines("sqlite")
def test_revision_needs_no_database_and_no_settings(cli_service: CliService, run: CommandLine) -> None:
    assert run("revision", "-m", "x", DB_TYPE="", DB_NAME="")[0] == 0


@pytest.mark.engines("postgresql", "mariadb", "mysql")
def test_migrations_run_as_their_own_account(cli_service: CliService, run: CommandLine) -> None:
    run("revision", "-m", "x")
    code, _, err = run("migrate", MIGRATE_DB_USER="nobody", MIGRATE_DB_PASS="geheim")
    assert code == 1 and "nobody" in err and "geheim" not in err
    user, password = cli_service.database.user, cli_service.database.password
    account = {"MIGRATE_DB_USER": user, "MIGRATE_DB_PASS": password}
    assert run("migrate", DB_USER="nobody", DB_PASS="wrong", **account)[0] == 0


# --- serve


@pytest.fixture
def port() -> int:
    return servers.free_port()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["arguments", "environment"])
@pytest.mark.engines("sqlite")
def test_serve_answers_until_it_is_stopped(
    cli_service: CliService, port: int, how: str, end: signal.Signals
) -> None:
    cli_service.revision("first")
    cli_service.upgrade()
    arguments = ["--host", "127.0.0.1", "--port", str(port)] if how == "arguments" else []
    environ = {"PORT": str(port)} if how == "environment" else {"PORT": "1", "HOST": "192.0.2.1"}
    process = cli_service.start("serve", *arguments, **environ)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.get(f"{url}/readyz")
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < deadline, "it does not answer"
                time.sleep(0.05)
        assert answer.json() == {"status": "ready", "revision": "0001_first"}
        assert "server" not in answer.headers
    finally:
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert f"info dbservice.cli: stopping on {end.name}" in logged(err)
    assert sum("stopping on" in line for line in logged(err)) == 1 and "Traceback" not in err


@pytest.mark.engines("sqlite")
def test_a_port_that_is_taken_is_one_line(run: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run("serve", "--port", port) == (
            1,
            "",
            f"demo: Cannot listen on 127.0.0.1, port {port}: address already in use. Change HOST or PORT.\n",
        )
    code, out, err = run("serve", HOST="host.invalid", PORT=port)
    assert (code, out) == (1, "") and re.fullmatch(
        rf"demo: Cannot listen on host.invalid, port {port}: .+\n", err
    )


@pytest.mark.engines("sqlite")
def test_an_interrupt_is_no_traceback(
    cli_service: CliService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "revision", interrupted)
    assert cli.main(cli_service.service, ["revision", "-m", "x"]) == 130
    assert capsys.readouterr().err == ""
