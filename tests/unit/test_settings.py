"""The environment: what is read from it, and the one line that refuses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dbservice import settings as module
from dbservice.backends import backend_for
from dbservice.settings import VARIABLES, Settings, SettingsError, available_cpus

SERVER = {"DB_TYPE": "postgresql", "DB_NAME": "app", "DB_USER": "app-rw", "DB_PASS": "geheim-1"}
HARD = "p@ss/w:rd%1#x é"


def refusal(environ: dict[str, str]) -> str:
    """The message, which is always one line."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    message = str(caught.value)
    assert message and "\n" not in message and message.isprintable()
    return message


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "ca.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


OTHERS = """
    DB_TEST_URL DB_TEST_HOST DB_TEST_NAME DB_BACKUP_DIR DB_ROOT_CERT DB_SCHEMA DB_URL DB_NAMESPACE
    DBHOST
    LOG_FILE db_password
    DB_SERVICE_HOST DB_SERVICE_PORT DB_SERVICE_PORT_PG DB_PORT_5432_TCP DB_PORT_5432_TCP_PROTO
    DB_PORT_5432_TCP_PORT DB_PORT_5432_TCP_ADDR DB_READ_SERVICE_HOST MIGRATE_DB_HOST
    CACHE_TTL CACHE_DIR CACHE_SERVICE_HOST CACHE_PORT_6379_TCP_ADDR
"""

# What is read


def test_defaults() -> None:
    settings = Settings.load(SERVER)
    assert (settings.db_type, settings.db_host, settings.db_port) == ("postgresql", "localhost", "5432")
    assert (settings.db_read_host, settings.db_read_port) == ("localhost", "5432")
    assert (settings.db_max_retries, settings.db_retry_delay, settings.db_ssl_mode) == (5, 5.0, "disable")
    assert (settings.log_level, settings.log_format, settings.host, settings.port) == (
        "info",
        "text",
        "127.0.0.1",
        8000,
    )
    assert settings.db_pool_size == 2 * available_cpus() + 1
    assert Settings.load(SERVER | {"DB_TYPE": "mysql"}).db_port == "3306"


def test_every_variable_is_taken(certificate: Path) -> None:
    given = SERVER | {
        "DB_HOST": "db.example",
        "DB_PORT": "6000",
        "DB_POOL_SIZE": "7",
        "DB_MAX_RETRIES": "0",
        "DB_RETRY_DELAY": "0.5",
        "DB_SSL_MODE": "verify-full",
        "DB_SSL_CA": str(certificate),
        "DB_READ_HOST": "replica",
        "DB_READ_PORT": "6001",
        "MIGRATE_DB_USER": "app-migrate",
        "MIGRATE_DB_PASS": "geheim-2",
        "ADMIN_DB_USER": "admin",
        "ADMIN_DB_PASS": "geheim-4",
        "DB_SINGLE_ACCOUNT": "true",
        "REPLICAS": "3",
        "MIGRATE_LOCK_TIMEOUT": "0.5",
        "CACHE_HOST": "cache",
        "CACHE_PORT": "6380",
        "CACHE_USER": "app-cache",
        "CACHE_PASS": "geheim-3",
        "CACHE_SSL_MODE": "verify-full",
        "CACHE_SSL_CA": str(certificate),
        "ADMIN_CACHE_USER": "root-cache",
        "ADMIN_CACHE_PASS": "geheim-4",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "JSON",
        "HOST": "0.0.0.0",
        "PORT": "80",
        "SHUTDOWN_DELAY": "2.5",
    }
    assert set(given) == set(VARIABLES)
    settings = Settings.load(given)
    for name, value in given.items():
        held = getattr(settings, name.lower())
        held = held.get_secret_value() if name.endswith("_PASS") else str(held)
        held = held.lower() if held == "True" else held
        assert held == (value.lower() if name.startswith("LOG_") else value), name


def test_settings_come_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in SERVER.items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == Settings.load(SERVER)
    monkeypatch.setenv("DB_POOL_SIZE", "77")
    assert Settings.load(SERVER).db_pool_size != 77, "a given mapping is all that counts"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError):
        Settings.load(SERVER).db_host = "elsewhere"


@pytest.mark.parametrize("name", sorted(set(VARIABLES) - set(SERVER)))
def test_an_empty_optional_variable_is_not_set(name: str) -> None:
    assert Settings.load(SERVER | {name: ""}) == Settings.load(SERVER)


@pytest.mark.parametrize("name", SERVER)
@pytest.mark.parametrize("empty", [True, False])
def test_a_required_variable_is_named(name: str, empty: bool) -> None:
    environ = SERVER | {name: ""} if empty else {key: SERVER[key] for key in SERVER if key != name}
    assert refusal(environ).startswith(f"{name} is not set or is empty: allowed is ")


def test_all_errors_are_reported_in_one_line() -> None:
    message = refusal({"DB_PORT": "x", "LOG_LEVEL": "loud", "DB_PASS_FILE": "/nowhere"})
    parts = [part.split(" ")[0] for part in message.split("; ")]
    assert parts == ["DB_TYPE", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASS_FILE", "LOG_LEVEL"]


WRONG = [
    ("DB_TYPE", "oracle", "postgresql, mysql or sqlite"),
    ("DB_TYPE", "postgres", "for postgres write postgresql"),
    ("DB_TYPE", "mariadb", "for mariadb write mysql"),
    ("DB_TYPE", "Galera", "for Galera write mysql"),
    ("DB_HOST", "db:5432", "a host's name or address, without a port"),
    ("DB_HOST", "db\n", "a host's name or address"),
    ("DB_HOST", "a b", "a host's name or address"),
    ("DB_HOST", "[::1]", "a host's name or address"),
    ("DB_HOST", "/var/run/postgresql", "a host's name or address"),
    ("DB_READ_HOST", "a/b", "a host's name or address"),
    ("DB_NAME", "a\x01b", "it has a control character"),
    ("DB_USER", "a\nb", "it has a control character"),
    ("DB_USER", "a\udcff", "the account's name"),
    *(
        (name, value, "a whole number from 1 to 65535")
        for name in ("DB_PORT", "DB_READ_PORT", "CACHE_PORT", "PORT")
        for value in ("0", "65536", "-1", "5432x", "54.5", "9" * 5000)
    ),
    ("DB_POOL_SIZE", "1", "a whole number from 2 to 1000"),
    ("DB_POOL_SIZE", "1001", "a whole number from 2 to 1000"),
    ("DB_POOL_SIZE", "auto", "a whole number from 2 to 1000"),
    ("DB_MAX_RETRIES", "-1", "a whole number, 0 or more"),
    ("DB_MAX_RETRIES", "1.5", "a whole number, 0 or more"),
    ("DB_RETRY_DELAY", "-0.1", "seconds from 0 to 3600"),
    ("DB_RETRY_DELAY", "nan", "seconds from 0 to 3600"),
    ("DB_RETRY_DELAY", "inf", "seconds from 0 to 3600"),
    ("DB_RETRY_DELAY", "5s", "seconds from 0 to 3600"),
    ("MIGRATE_LOCK_TIMEOUT", "-1", "seconds from 0 to 86400"),
    ("MIGRATE_LOCK_TIMEOUT", "1m", "seconds from 0 to 86400"),
    ("DB_SSL_MODE", "on", "disable, require or verify-full"),
    ("DB_SSL_MODE", "verify-ca", "for verify-ca write verify-full"),
    ("LOG_LEVEL", "loud", "debug, info, warning or error"),
    ("LOG_LEVEL", "warn", "for warn write warning"),
    ("LOG_FORMAT", "xml", "text or json"),
    ("MIGRATE_DB_USER", "a\tb", "printable text"),
    ("HOST", "0.0.0.0:80", "a host's name or address, without a port"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    message = refusal(SERVER | {name: value})
    assert message.startswith(f"{name} holds {value[:100]!r}: allowed is ") and allowed in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "host", ["db", "db-1.prod.svc.cluster.local", "10.0.0.1", "::1", "fe80::1%eth0", "büro", "my_db"]
)
def test_host_names_and_addresses_are_accepted(host: str) -> None:
    assert Settings.load(SERVER | {"DB_HOST": host}).db_host == host


# Secrets


def any_password() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(any_password())
@hypothesis_settings(deadline=None)
def test_a_password_holds_any_character(password: str) -> None:
    settings = Settings.load(SERVER | {"DB_PASS": password})
    assert settings.db_pass.get_secret_value() == password
    assert repr(settings) == repr(Settings.load(SERVER)), "what is shown depends on the password"


@given(
    any_password().filter(lambda password: not password.endswith(("\r", "\n"))),
    st.sampled_from(["", "\n", "\r\n"]),
)
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_password_file_holds_any_character(tmp_path: Path, password: str, end: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes((password + end).encode())
    environ = {name: value for name, value in SERVER.items() if name != "DB_PASS"} | {
        "DB_PASS_FILE": str(path)
    }
    assert Settings.load(environ).db_pass.get_secret_value() == password


@pytest.mark.parametrize("written", [f"{HARD}\n\n", f" {HARD} ", "\ufeffx", "a\r\nb"])
def test_only_one_newline_is_taken_off_a_file(tmp_path: Path, written: str) -> None:
    (tmp_path / "secret").write_bytes((written + "\n").encode())
    settings = Settings.load(SERVER | {"DB_PASS": "", "DB_PASS_FILE": str(tmp_path / "secret")})
    assert settings.db_pass.get_secret_value() == written


@pytest.mark.parametrize("name", ["DB_PASS", "MIGRATE_DB_PASS", "CACHE_PASS"])
def test_every_secret_has_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(HARD)
    environ = (
        SERVER
        | {"MIGRATE_DB_USER": "m", "MIGRATE_DB_PASS": "x"}
        | {name: "", f"{name}_FILE": str(tmp_path / "secret")}
    )
    assert getattr(Settings.load(environ), name.lower()).get_secret_value() == HARD
    assert (
        refusal(environ | {name: "geheim-4"})
        == f"{name} and {name}_FILE are both set: allowed is one of the two"
    )


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"geheim\0", "holds a NUL"),
        (b"geheim\xff", "is not in UTF-8"),
    ],
)
def test_a_wrong_secret_file_is_refused(tmp_path: Path, content: bytes, wrong: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    message = refusal(SERVER | {"DB_PASS": "", "DB_PASS_FILE": str(path)})
    assert (
        message.startswith("DB_PASS_FILE ") and wrong in message and "allowed is a readable file" in message
    )
    assert "geheim" not in message and ";" not in message


def test_a_secret_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in [(tmp_path / "nowhere", "No such file"), (tmp_path, "Is a directory")]:
        message = refusal(SERVER | {"DB_PASS": "", "DB_PASS_FILE": str(path)})
        assert message.startswith(f"DB_PASS_FILE names '{path}', {why}")


def test_a_password_pasted_where_its_file_belongs_is_not_shown() -> None:
    assert "geheim" not in refusal(SERVER | {"DB_PASS": "", "DB_PASS_FILE": "geheim-5"})


def test_no_secret_is_ever_shown() -> None:
    settings = Settings.load(
        SERVER | {"MIGRATE_DB_USER": "m", "MIGRATE_DB_PASS": "geheim-2", "CACHE_PASS": "geheim-3"}
    )
    for each in (settings, settings.for_migration()):
        shown = f"{each!r} {each} {each.model_dump()} {each.model_dump(mode='json')} {each.model_dump_json()}"
        assert "geheim" not in shown + each.target + str(dict(each))


@pytest.mark.parametrize(
    "wrong",
    [
        {"DB_PASS_FILE": "/geheim"},
        {"DB_PORT": "x"},
        {"DB_HOST": "postgresql://app:geheim-6@db/app"},
        {"DB_HOST": "app:geheim-6@db"},
        {"DB_NAME": "postgresql://app:geheim-6@db/app"},
        {"DB_NAME": "postgresql://db/app?password=geheim-6"},
        {"DB_PORT": "tcp://app:geheim-6@db"},
        {"DB_PASS": "geheim-6\udcff"},
        {"MIGRATE_DB_PASS": "geheim-6"},
        {"DB_PASS": "", "DB_PASSWORD": "geheim-6"},
    ],
)
def test_no_message_and_no_traceback_shows_a_secret(wrong: dict[str, str]) -> None:
    import traceback

    try:
        Settings.load(SERVER | wrong)
    except SettingsError as error:
        shown = "".join(traceback.format_exception(error))
        assert "geheim" not in shown.replace("'/geheim'", "")
        assert error.__cause__ is None and error.__context__ is None
    else:
        pytest.fail("taken")


def test_pydantics_own_message_shows_no_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"DB_PASS": 1, "DB_PORT": "geheim"})
    assert "geheim" not in str(caught.value)


def test_a_password_of_a_process_that_is_not_utf8() -> None:
    code = (
        "from dbservice.settings import *\ntry: Settings.load()\nexcept SettingsError as error: print(error)"
    )
    environ: dict[bytes, bytes] = {name.encode(): value.encode() for name, value in SERVER.items()}
    environ |= {b"DB_PASS": b"geheim\xff", b"PYTHONPATH": os.pathsep.join(sys.path).encode()}
    printed = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
    assert printed.stdout.startswith(b"DB_PASS is not in UTF-8") and b"geheim" not in printed.stdout


# SQLite


def test_sqlite_needs_a_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "app 1%#.db"})
    assert settings.db_name == str(tmp_path / "app 1%#.db")
    assert (settings.db_host, settings.db_port, settings.db_user) == ("", "", "")
    assert settings.target == f"sqlite:///{tmp_path}/app 1%#.db"
    assert settings.for_migration() is settings


def test_sqlite_ignores_variables_of_a_server(tmp_path: Path) -> None:
    plain = {"DB_TYPE": "SQLite", "DB_NAME": str(tmp_path / "app.db")}
    server = {"DB_HOST": "a b", "DB_PORT": "tcp://10.0.0.1:5432", "DB_USER": "x", "DB_PASS_FILE": "/nowhere"}
    server |= {"DB_SSL_MODE": "on", "DB_SSL_CA": "/nowhere", "DB_READ_HOST": "/", "DB_READ_PORT": "x"}
    server |= {"MIGRATE_DB_USER": "m", "DB_PASSWORD": "x", "DB_SSLMODE": "x"}
    assert Settings.load(plain | server) == Settings.load(plain)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (":memory:", "each connection"),
        ("file:x?mode=memory", "each connection"),
        ("sqlite:///x.db", "it is a URL"),
        (".", "it is a folder"),
        ("/nowhere/app.db", "its folder does not exist"),
    ],
)
def test_a_wrong_sqlite_file_is_refused(name: str, why: str) -> None:
    message = refusal({"DB_TYPE": "sqlite", "DB_NAME": name})
    assert message.startswith("DB_NAME holds ") and why in message


# TLS


def test_a_ca_is_for_verification(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(certificate.parent)
    environ = SERVER | {"DB_SSL_CA": "ca.pem"}
    assert Settings.load(environ | {"DB_SSL_MODE": "Verify-Full"}).db_ssl_ca == certificate
    assert Settings.load(SERVER | {"DB_SSL_MODE": "verify-full"}).db_ssl_ca is None, "the system's store"
    for mode in ("disable", "require"):
        assert f"with DB_SSL_MODE={mode} nothing would be verified" in refusal(
            environ | {"DB_SSL_MODE": mode}
        )


@pytest.mark.parametrize(
    ("content", "why"), [(None, "it cannot be read: No such file"), ("no PEM", "it contains no certificate")]
)
def test_a_wrong_ca_file_is_refused(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    for place in ("DB", "CACHE"):
        message = refusal(SERVER | {f"{place}_SSL_MODE": "verify-full", f"{place}_SSL_CA": str(path)})
        assert message.startswith(f"{place}_SSL_CA holds '{path}': allowed is a PEM file") and why in message


# Misspelt, and put there by others


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("DB_PASSWORD", "DB_PASS"),
        ("DB_PASSWORD_FILE", "DB_PASS"),
        ("DB_PASSWD", "DB_PASS"),
        ("DB_USERNAME", "DB_USER"),
        ("DB_USER_FILE", "DB_USER"),
        ("DB_HOSTNAME", "DB_HOST"),
        ("DB_DATABASE", "DB_NAME"),
        ("DB_ENGINE", "DB_TYPE"),
        ("DB_PROT", "DB_PORT"),
        ("DB_POOLSIZE", "DB_POOL_SIZE"),
        ("DB_POOL", "DB_POOL_SIZE"),
        ("DB_SSLMODE", "DB_SSL_MODE"),
        ("DB_MAX_RETRY", "DB_MAX_RETRIES"),
        ("DB_READ_HOSTS", "DB_READ_HOST"),
        ("MIGRATE_DB_PASSWORD", "MIGRATE_DB_PASS"),
        ("MIGRATE_LOCK_TIMOUT", "MIGRATE_LOCK_TIMEOUT"),
        ("CACHE_HOSTNAME", "CACHE_HOST"),
    ],
)
def test_a_misspelt_variable_is_refused(written: str, meant: str) -> None:
    without = {name: value for name, value in SERVER.items() if name != meant}
    assert refusal(without | {written: "geheim"}) == f"{written} is not read: did you mean {meant}?"
    if meant in SERVER:
        assert Settings.load(SERVER | {written: "geheim"}), "another program's: ours is there"


@pytest.mark.parametrize("name", OTHERS.split())
def test_variables_of_other_programs_are_no_misspelling(name: str) -> None:
    assert Settings.load(SERVER | {name: "x"}) == Settings.load(SERVER)


def test_a_misspelt_variable_that_is_empty_is_ignored() -> None:
    assert Settings.load(SERVER | {"DB_POOLSIZE": ""}) == Settings.load(SERVER)


def test_variables_of_kubernetes_services_are_recognized() -> None:
    link = "tcp://10.0.0.1:5432"
    message = refusal(SERVER | {"DB_PORT": link})
    assert message == (
        f"DB_PORT holds '{link}': allowed is a whole number from 1 to 65535, or one for each host, with commas "
        'between them (Kubernetes sets it so beside a Service named "db": set DB_PORT in the pod)'
    )
    assert Settings.load(SERVER | {"DB_X_PORT": link}) == Settings.load(SERVER)
    for place in ("DB_READ", "CACHE"):
        assert Settings.load(SERVER | {f"{place}_PORT": link}) == Settings.load(SERVER), "nobody asked for it"
        assert "set " + place in refusal(SERVER | {f"{place}_PORT": link, f"{place}_HOST": "h"})


# What is derived


def test_several_hosts_have_one_port_or_as_many() -> None:
    three = SERVER | {"DB_HOST": "a, b,::1"}
    assert Settings.load(three).target.endswith("@a:5432,b:5432,[::1]:5432/app")
    assert Settings.load(three | {"DB_PORT": "1,2,3"}).addresses == (("a", 1), ("b", 2), ("::1", 3))
    assert "DB_HOST names 3" in refusal(three | {"DB_PORT": "1,2"})
    assert "a host's name" in refusal(SERVER | {"DB_HOST": "a,,b"})
    replica = three | {"DB_PORT": "1,2,3", "DB_READ_HOST": "c"}
    assert "DB_READ_PORT is not set" in refusal(replica)
    assert Settings.load(replica | {"DB_READ_PORT": "4"}).read_addresses == (("c", 4),)


def test_reads_go_to_the_replica() -> None:
    assert Settings.load(SERVER | {"DB_HOST": "a", "DB_PORT": "1"}).db_read_host == "a"
    settings = Settings.load(SERVER | {"DB_HOST": "a", "DB_PORT": "1", "DB_READ_HOST": "b"})
    assert (settings.db_host, settings.db_read_host, settings.db_read_port) == ("a", "b", "1")


@pytest.mark.parametrize(("size", "reads", "writes"), [(2, 1, 1), (3, 2, 1), (5, 3, 2), (1000, 500, 500)])
def test_the_pool_is_divided_between_reads_and_writes(size: int, reads: int, writes: int) -> None:
    settings = Settings.load(SERVER | {"DB_POOL_SIZE": str(size)})
    backend = backend_for(settings)
    assert (backend.readers, backend.writers) == (reads, writes)
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "x", "DB_POOL_SIZE": str(size)})
    backend = backend_for(settings)
    assert (backend.readers, backend.writers) == (size - 1, 1)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 64),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("9900000 100000", 64),
        ("?", 64),
        (None, 64),
    ],
)
def test_the_cpu_limit_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    if limit is not None:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert available_cpus(tmp_path / "cpu.max") == expected


def test_the_largest_machine_has_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cpus", lambda: 768)
    assert Settings.load(SERVER).db_pool_size == 1000


def test_migrations_use_the_account_of_migrate_db_user() -> None:
    settings = Settings.load(SERVER | {"MIGRATE_DB_USER": "app-migrate", "MIGRATE_DB_PASS": "geheim-2"})
    migrating = settings.for_migration()
    assert (migrating.db_user, migrating.db_pass.get_secret_value()) == ("app-migrate", "geheim-2")
    assert settings.db_user == "app-rw" and migrating.db_name == settings.db_name
    for environ, sentence in (
        (SERVER, "MIGRATE_DB_USER is not set"),
        (
            SERVER | {"MIGRATE_DB_USER": "app-rw", "MIGRATE_DB_PASS": "geheim-1"},
            "MIGRATE_DB_USER is 'app-rw', as DB_USER",
        ),
    ):
        with pytest.raises(SettingsError, match=sentence):
            Settings.load(environ).for_migration()
        single = Settings.load(environ | {"DB_SINGLE_ACCOUNT": "true"})
        assert single.for_migration().db_user == "app-rw"


def test_the_account_for_migrations_needs_user_and_password() -> None:
    assert refusal(SERVER | {"MIGRATE_DB_USER": "m"}).startswith("MIGRATE_DB_PASS is not set or is empty")
    message = refusal(SERVER | {"MIGRATE_DB_PASS": "geheim-2"})
    assert message.startswith("MIGRATE_DB_PASS holds a value not shown") and "MIGRATE_DB_USER" in message


@pytest.mark.parametrize(
    ("host", "target"),
    [("db", "postgresql://app-rw@db:5432/app"), ("::1", "postgresql://app-rw@[::1]:5432/app")],
)
def test_the_target_names_the_database_without_a_password(host: str, target: str) -> None:
    assert Settings.load(SERVER | {"DB_HOST": host}).target == target
