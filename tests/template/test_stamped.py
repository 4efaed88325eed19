"""Stamped services, run as their developers run them: `make check`, `make test`, `make run`, and an API that keeps to
its OpenAPI document."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import copier
import httpx
import pytest
import yaml

from dbservice.testing import servers
from dbservice.testing.plugin import fresh_database

ROOT = Path(__file__).parents[2]
SCENE = ("backend_api", "connector", "analytics", "twitch_trigger")
ANSWERS = ("default", "auth_user", "every_type", *SCENE)
BODIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "auth_user": (
        "auth_user",
        {"email": "a@b.example", "password": "hidden", "confirmed_at": "2024-01-31T13:45:00.000001+05:00"},
        {"email": "a@b.example", "active": True, "confirmed_at": "2024-01-31T08:45:00.000001Z"},
    ),
    "twitch_trigger": (
        "platform_integrations",
        {"channel": "c", "enabled": True, "token": "hidden"},
        {"channel": "c", "enabled": True, "platform": "twitch"},
    ),
}

Stamp = Callable[[str], Path]


@pytest.fixture(scope="module")
def stamp(tmp_path_factory: pytest.TempPathFactory) -> Stamp:
    """Stamps a service from one of the answer files, each once."""
    folder = tmp_path_factory.mktemp("stamped")
    template = folder / "template"
    kept_out = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "build", "bench", "var")
    shutil.copytree(ROOT, template, ignore=kept_out)

    @cache
    def stamp(name: str) -> Path:
        answers = yaml.safe_load((ROOT / f"tests/answers/{name}.yml").read_text()) or {}
        copier.run_copy(str(template), folder / name, data=answers, defaults=True, quiet=True)
        return folder / name

    return stamp


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what is set for the template's own tests."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("DB_TYPE", "DB_NAME", "MAKE", "MFLAGS", "PYTEST", "PYTHON", "VIRTUAL_ENV"))
    }
    return kept | {"LOG_LEVEL": "warning"} | more


def made(folder: Path, *targets: str) -> "subprocess.CompletedProcess[str]":
    """What became of `make`."""
    return subprocess.run(
        ["make", *targets],
        cwd=folder,
        env=environment(MYPY_CACHE_DIR=str(folder.parent / "mypy_cache")),  # the platform is the same in each
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def make(folder: Path, *targets: str) -> str:
    """What `make` says; asserts that it succeeds."""
    done = made(folder, *targets)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[str]:
    """The URL of the service that `make run` serves; at the end it has stopped cleanly on SIGTERM."""
    port = str(servers.free_port())
    command = ["make", "--no-print-directory", "run"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment(PORT=port, **settings), start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, "make run ended"
            assert time.monotonic() < deadline, "the service did not get ready"
            time.sleep(0.05)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.mark.parametrize("name", ["every_type", "twitch_trigger"])
def test_it_is_clean_as_stamped(stamp: Stamp, name: str) -> None:
    make(stamp(name), "check")


def test_make_check_finds_a_misspelt_column(stamp: Stamp) -> None:
    (route,) = stamp("default").glob("src/*/routes/notes.py")
    written = route.read_text()
    lines = len(written.splitlines())
    try:
        route.write_text(written + "\n\ndef loud(row: NotesRow) -> str:\n    return row.titel.upper()\n")
        done = made(stamp("default"), "check")
    finally:
        route.write_text(written)
    assert done.returncode != 0
    assert f'routes/notes.py:{lines + 4}: error: "NotesRow" has no attribute "titel"' in done.stdout


def test_the_guides_deployment_path_on_this_machine(stamp: Stamp) -> None:
    """Migrations first, then the code, then the check; code without its schema does not start."""
    folder = stamp("default")
    port, file = str(servers.free_port()), str(folder / "var/local-path.db")
    process = folder / f"var/local-{port}.pid"

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        environ = environment(PORT=port, DB_TYPE="sqlite", DB_NAME=file, DEPLOY_TIMEOUT="60")
        return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)

    try:
        unhealthy = run("scripts/health-check.sh", "local")
        assert unhealthy.returncode == 1 and "/healthz of http://127.0.0.1" in unhealthy.stderr
        dry = run("make", "deploy-local", "ARGS=--dry-run")
        assert dry.returncode == 0 and "serve" in dry.stdout and not process.exists()
        early = run("make", "deploy-local")
        assert early.returncode and "run `make migrate` first" in early.stderr and not process.exists()
        for command in (
            ["scripts/migrate.sh", "local"],
            ["make", "deploy-local"],
            ["scripts/health-check.sh", "local"],
        ):
            done = run(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        assert '"status": "ready"' in done.stdout.replace('":"', '": "')
        first = process.read_text()
        again = run("make", "deploy-local")
        assert again.returncode == 0 and process.read_text() != first, again.stdout + again.stderr
    finally:
        if process.exists():
            os.kill(int(process.read_text()), signal.SIGTERM)


def test_make_grants_writes_the_file_that_a_test_compares(stamp: Stamp) -> None:
    folder = stamp("default")
    (tables,) = folder.glob("src/*/tables.py")
    written, file = tables.read_text(), folder / "deploy/sql/accounts.sql"
    stamped = file.read_text()
    try:
        tables.write_text(written + '\n\nclass More(Table, name="more"):\n    title = Column(String(20))\n')
        failed = made(folder, "test", "ARGS=-k accounts_file")
        assert failed.returncode and "run `make grants`" in failed.stdout
        assert make(folder, "grants") == file.read_text() != stamped
        assert '"public"."more"' in file.read_text()
        file.write_text(stamped)
        tables.write_text("nothing.of_the_kind\n")
        assert made(folder, "grants").returncode and file.read_text() == stamped
        assert [*file.parent.iterdir()] == [file]
    finally:
        tables.write_text(written)
        file.write_text(stamped)


@pytest.mark.parametrize("name", ["every_type"])
def test_pyright_passes_too(stamp: Stamp, name: str, tmp_path: Path) -> None:
    folder = stamp(name)
    own = [str(each) for each in (folder / "src").iterdir() if each.name != "dbservice" and each.is_dir()]
    settings = {"include": [*own, str(folder / "tests")], "extraPaths": [str(folder / "src")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({**settings, "typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run([*command, "--project", tmp_path], capture_output=True, text=True)
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] > 5 and not said["generalDiagnostics"], done.stdout


@pytest.mark.parametrize("name", ["auth_user", "every_type", "twitch_trigger"])
def test_its_own_tests_pass_on_its_own_engine(stamp: Stamp, name: str) -> None:
    said = make(stamp(name), "test")
    assert " passed" in said
    if os.environ.get("CI"):
        assert "NOT TESTED" not in said


@pytest.mark.parametrize("name", BODIES)
def test_it_serves_what_it_is_sent(stamp: Stamp, name: str) -> None:
    table, body, answer = BODIES[name]
    with served(stamp(name)) as url, httpx.Client(base_url=url) as client:
        created = client.post(f"/v1/{table}", json=body)
        assert created.status_code == 201
        row = client.get(created.headers["location"]).json()
        assert row == created.json()
        assert answer.items() <= row.items()
        assert "hidden" not in row.values()
        assert client.delete(created.headers["location"]).status_code == 204


def test_what_belongs_to_others_is_only_read(stamp: Stamp) -> None:
    with served(stamp("analytics")) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/events").json() == {"items": [], "next": None}
        assert client.post("/v1/events", json={}).status_code == 405
        assert client.delete("/v1/events/1").status_code == 405


def test_most_lines_are_the_same_in_every_service(stamp: Stamp) -> None:
    """The aim is 85 % of the lines of Python."""
    folder = stamp("default")
    plain = {path.relative_to(ROOT / "template") for path in (ROOT / "template").rglob("*.py")}
    lines = {
        path.relative_to(folder): len(path.read_text().splitlines())
        for path in folder.rglob("*.py")
        if ".venv" not in path.parts and "var" not in path.parts
    }
    same = sum(
        count for path, count in lines.items() if path in plain or path.name in ("__init__.py", "__main__.py")
    )
    assert same > 0.85 * sum(lines.values())


@pytest.mark.parametrize("engine", ["postgresql"])
def test_it_keeps_to_its_openapi_document(
    stamp: Stamp, engine: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Schemathesis: no 500, no undocumented status, no answer of another shape."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with (
        fresh_database(engine, tmp_path, pytestconfig) as database,
        served(stamp("every_type"), **database.environ()) as url,
    ):
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
                *("--checks", checks, "--max-examples", "4", "--generation-deterministic", "--no-color"),
            ],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
