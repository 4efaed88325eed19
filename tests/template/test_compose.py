"""`deploy/compose.yaml`: valid for every answer, with each secret only where it is needed; and its order, acted out with real
servers and processes where there is no Docker."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import redis
import yaml

from dbservice.testing import servers
from dbservice.testing.plugin import find_server

from ..faults import wait_until
from ..programs import needed_program
from .conftest import ROOT, Stamp

Compose = dict[str, Any]

SHARED = {"events": {"columns": {"id": "bigint", "kind": "string(40)"}}}
ANSWERS: dict[str, dict[str, Any]] = {
    "postgresql": {},
    "mysql": {"database": "mysql", "cache": "valkey"},
    "mariadb": {"database": "mariadb", "cache": "redis"},
    "sqlite": {"database": "sqlite"},
    "sqlite and a cache": {"database": "sqlite", "cache": "redis"},
    "no tables": {"tables": {}, "shared": SHARED, "cache": "redis"},
}
HEALTHCHECK = ROOT / "template/src/dbservice/healthcheck.py"


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)
def test_it_is_valid_and_gives_each_container_its_own_secrets(stamp: Stamp, answers: dict[str, Any]) -> None:
    compose = loaded(stamp(answers))
    schema = json.loads((ROOT / "tests/schemas/compose-spec.json").read_text())
    jsonschema_rs.validator_for(schema).validate(compose)
    services, secrets = compose["services"], compose.get("secrets", {})
    for name, service in services.items():
        read = {
            value.removeprefix("/run/secrets/")
            for value in (*service.get("environment", {}).values(), *service.get("command", []))
            if str(value).startswith("/run/secrets/")
        }
        assert read == set(service.get("secrets", [])) <= secrets.keys()
        assert set(service.get("depends_on", {})) <= services.keys()
        assert set(service.get("networks", [])) <= compose["networks"].keys()
        assert {each.partition(":")[0] for each in service.get("volumes", [])} <= compose["volumes"].keys()
        assert service.get("ports", []) == (["127.0.0.1:8000:8000"] if name == "service" else [])
        assert "public" not in service.get("networks", []) or name == "service"
    assert {each for service in services.values() for each in service.get("secrets", [])} == secrets.keys()
    assert not {"admin_db_pass", "migrate_db_pass", "users.acl"} & set(services["service"].get("secrets", []))
    assert services.get("migrate", {}).get("secrets", []) in ([], ["migrate_db_pass"])
    for service in services.values():
        if service["image"].startswith("service:"):
            assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_the_passwords_are_random_and_stay(stamp: Stamp) -> None:
    folder = stamp({"cache": "redis"})
    assert (
        "Wrote new passwords into var/compose/: admin_db_pass, cache_pass, db_pass, migrate_db_pass"
        in run(folder, "compose_secrets")
    )
    files = {each.name: each.read_text() for each in (folder / "var/compose").iterdir()}
    assert len(set(files.values())) == len(files) == 5 and min(map(len, files.values())) >= 32
    hashed = hashlib.sha256(files["cache_pass"].encode()).hexdigest()
    assert files["users.acl"].startswith(
        f"user default off\nuser service-cache reset on #{hashed} ~service:* "
    )
    assert (folder / "var/compose").stat().st_mode & 0o777 == 0o700  # nobody else gets to the files,
    assert (folder / "var/compose/db_pass").stat().st_mode & 0o777 == 0o444  # which containers can read
    assert run(folder, "compose_secrets") == ""
    assert files == {each.name: each.read_text() for each in (folder / "var/compose").iterdir()}
    assert "var/" in (folder / ".gitignore").read_text().split()


def test_a_service_without_compose_says_so(stamp: Stamp) -> None:
    folder = stamp({"deploy": ["kubernetes"]})
    assert not (folder / "deploy/compose.yaml").exists()
    with pytest.raises(AssertionError, match="add compose to the answer `deploy`"):
        run(folder, "compose_secrets")


@pytest.mark.engines("mariadb")
def test_its_order_with_real_processes(
    private_database: servers.Database, stamp: Stamp, pytestconfig: pytest.Config
) -> None:
    engine = private_database.engine
    server = find_server(engine, pytestconfig)
    name = f"compose-{engine}"
    with_cache = engine == "mariadb"
    folder = stamp({"service_name": name, "database": engine, "cache": "redis" if with_cache else "none"})
    (folder / "var/compose").mkdir(parents=True)
    (folder / "var/compose/admin_db_pass").write_text(server.password)
    run(folder, "compose_secrets")
    here = {
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_NAME": private_database.name,
        "ADMIN_DB_USER": server.user,
        "HOST": "127.0.0.1",
        "PORT": str(servers.free_port()),
        "CACHE_HOST": "127.0.0.1",
        "CACHE_PORT": str(servers.free_port()),
        "SHUTDOWN_DELAY": "2",
    }
    services = loaded(folder)["services"]
    done: list[str] = ["database"]
    with ExitStack() as stack:
        while len(done) < len(services):
            each = next(
                name
                for name in services
                if name not in done and {*services[name].get("depends_on", ())} <= {*done}
            )
            if each == "cache":
                stack.enter_context(cache(folder, services[each], here))
            elif each == "service":
                process = stack.enter_context(container(folder, services[each], here))
            else:
                with container(folder, services[each], here) as once:
                    assert once.wait(60) == 0
            done.append(each)
        assert done == ["database", "grants", "migrate", *["cache"] * with_cache, "service"]
        url = f"http://127.0.0.1:{here['PORT']}"
        wait_until(lambda: process.poll() is not None or healthy(here)[0] == 0)
        assert healthy(here)[0] == 0 and httpx.post(f"{url}/v1/notes", json={"title": "a"}).status_code == 201
        if with_cache:
            account = f"{name}-cache", (folder / "var/compose/cache_pass").read_text()
            with redis.Redis(
                port=int(here["CACHE_PORT"]), username=account[0], password=account[1]
            ) as client:
                assert client.set(f"{name}:a", "b")
        for each in ("grants", "migrate"):  # the second `make up`
            with container(folder, services[each], here) as once:
                assert once.wait(60) == 0
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: healthy(here)[0] == 1)
        assert "503" in healthy(here)[1]
        assert process.wait(30) == 0


def loaded(folder: Path) -> Compose:
    """The file as compose understands it, with nothing set in the shell."""
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", (folder / "deploy/compose.yaml").read_text())
    assert "$" not in text
    compose: Compose = yaml.safe_load(text)
    return compose


def run(folder: Path, command: str) -> str:
    """What a command of `bootstrap.sh` says; asserts that it succeeds."""
    done = subprocess.run(
        ["sh", "scripts/bootstrap.sh", command], cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


@contextmanager
def container(folder: Path, service: Compose, here: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """The process of a container of the image: with its environment, of which `here` replaces what it must."""
    secrets = f"{folder}/var/compose/"
    own = {key: str(value).replace("/run/secrets/", secrets) for key, value in service["environment"].items()}
    own |= {key: value for key, value in here.items() if key in own or key in ("DB_PORT", "HOST", "PORT")}
    if "CACHE_HOST" in own:
        own["CACHE_PORT"] = here["CACHE_PORT"]
    path = os.pathsep.join((str(folder / "src"), str(ROOT / "template/src")))
    more = {"PYTHONPATH": path, "SHUTDOWN_DELAY": here["SHUTDOWN_DELAY"], "DB_MAX_RETRIES": "0"}
    (package,) = (each.parent.name for each in folder.glob("src/*/service.py"))
    process = subprocess.Popen(
        [sys.executable, "-m", package, *service.get("command", ["serve"])],
        env={**environment(), **own, **more},
        cwd=folder,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def cache(folder: Path, service: Compose, here: Mapping[str, str]) -> Iterator[None]:
    """The cache, with its command, until it is healthy as its health check says."""
    program, client = (needed_program(each, "redis-server") for each in ("redis-server", "redis-cli"))
    command = [
        str(each).replace("/run/secrets/", f"{folder}/var/compose/") for each in service["command"][1:]
    ]
    process = subprocess.Popen([program, "--port", here["CACHE_PORT"], *command], stdout=subprocess.DEVNULL)
    try:
        kind, check = service["healthcheck"]["test"]
        check = check.replace("redis-cli", f"{client} -p {here['CACHE_PORT']}")
        assert kind == "CMD-SHELL"
        wait_until(lambda: subprocess.run(["sh", "-c", check], capture_output=True).returncode == 0)
        yield
    finally:
        process.terminate()
        process.wait()


def healthy(here: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of the image's health check, and what it says."""
    done = subprocess.run(
        [sys.executable, "-I", HEALTHCHECK], env={**environment(), **here}, capture_output=True, text=True
    )
    return done.returncode, done.stdout
