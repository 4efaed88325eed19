"""A description that needs quoting and defaults that are empty: in every file, on every engine, through the API."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import copier
import httpx
import pytest

from dbservice.testing.plugin import fresh_database

from .conftest import ROOT
from .test_stamping import is_clean


@pytest.fixture(scope="module")
def quoted_service(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole service, platform included, whose description needs quoting and whose defaults are empty."""
    folder = tmp_path_factory.mktemp("whole")
    whole, service = folder / "template", folder / "service"
    shutil.copytree(template, whole)
    ignore = shutil.ignore_patterns(".*_cache", "__pycache__")
    shutil.copytree(ROOT / "template/src/dbservice", whole / "template/src/dbservice", ignore=ignore)
    answers = {"service_name": "a", "description": QUOTED, "tables": {"notes": EMPTY}}
    copier.run_copy(str(whole), service, data=answers, defaults=True, quiet=True)
    return service


QUOTED = """It's "quoted": C:\\new, {{ service_name }} {0} %s 100%, 漢字"""
EMPTY = {
    "title": "string(200)",
    "mark": "string(4) =",
    "body": "text =",
    "other": "string(4) optional =",
    "code": "string(4) unique =",
}


def test_a_service_with_a_quoted_description_and_empty_defaults_is_clean(quoted_service: Path) -> None:
    is_clean(quoted_service)


@pytest.mark.parametrize("engine", ["mysql"])
def test_an_empty_default_is_the_empty_string(
    quoted_service: Path, engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    service = tmp_path / "service"
    shutil.copytree(quoted_service, service)
    empty = {"mark": "", "body": "", "other": "", "code": ""}
    with fresh_database(engine, tmp_path, request.config) as database:
        environ = {
            **os.environ,
            **database.environ(),
            "PYTHONPATH": str(service / "src"),
            "SHUTDOWN_DELAY": "0",
        }
        command = [sys.executable, "-m", "a"]
        for words in (["migrate"], ["check-migrations"], ["revision", "-m", "nothing"]):
            done = subprocess.run(
                [*command, *words], cwd=service, env=environ, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert [path.name for path in service.glob("migrations/versions/*.py")] == ["0001_create_tables.py"]

        with closing(database.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(
                "INSERT INTO notes (title, created_at, updated_at) "
                "VALUES ('by hand', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
            )
            cursor.execute(f"SELECT {', '.join(empty)} FROM notes")
            assert cursor.fetchall() in ([("",) * 4], ((("",) * 4),))
            cursor.execute("DELETE FROM notes")
            connection.commit()

        with served(command, service, environ) as client:
            document = client.get("/openapi.json").json()
            assert document["info"]["description"] == QUOTED
            created = client.post("/v1/notes", json={"title": "by the API"})
            assert created.status_code == 201
            assert empty.items() <= created.json().items()
            assert client.get("/v1/notes").json()["items"] == [created.json()]
            assert client.post("/v1/notes", json={"title": "code is unique"}).status_code == 409


@contextmanager
def served(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator[httpx.Client]:
    """A client of the service while `serve` runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen([*command, "serve", "--port", port], cwd=folder, env=environ)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while True:
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None, "the service ended"
            yield client
    finally:
        process.terminate()
        process.wait(30)
