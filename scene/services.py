"""The four services: stamped from their answers, and run as their commands are run."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path

import httpx

from dbservice import Service
from dbservice.accounts import commands
from dbservice.accounts.declared import Declared
from dbservice.settings import Settings
from dbservice.testing import servers

ROOT = Path(__file__).parents[1]
NAMES = ("backend-api", "connector", "analytics", "twitch-trigger")


class SceneError(Exception):
    """What ends the scene; the message is a sentence."""


@dataclass
class StampedService:
    """One of them, with the passwords of its accounts."""

    name: str
    folder: Path
    database: servers.Database
    server: servers.Server
    nodes: Sequence[servers.Server] = ()
    """Those of a Galera cluster, of which `server` is the one that the service uses."""
    port: int = field(default_factory=servers.free_port)
    passwords: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        source = str(self.folder / "src")
        if source not in sys.path:
            sys.path.append(source)
        self.service: Service = import_module(f"{self.name.replace('-', '_')}.service").service
        self.passwords = {name: secrets.token_urlsafe(12) for name in self.declared.accounts}

    @cached_property
    def declared(self) -> Declared:
        return commands.declared(self.service, self.service.backend(self.settings))

    @property
    def settings(self) -> Settings:
        """Settings for what follows from the declaration, for which any account does."""
        return Settings.load({**self.database.environ(), "DB_POOL_SIZE": "4"})

    def environ(self, *, administrator: bool = False) -> dict[str, str]:
        """The environment of its commands, with the accounts of the administrator and of migrations only where needed."""
        declared = self.declared
        values = {
            **self.database.environ(),
            "DB_USER": declared.runtime,
            "DB_PASS": self.passwords[declared.runtime],
            "DB_SINGLE_ACCOUNT": "false",
            "DB_POOL_SIZE": "4",
            "DB_MAX_RETRIES": "0",
            "SHUTDOWN_DELAY": "0",
        }
        if administrator:
            values |= {"ADMIN_DB_USER": self.server.user, "ADMIN_DB_PASS": self.server.password}
            if declared.migrate:
                values |= {"MIGRATE_DB_USER": declared.migrate}
                values |= {"MIGRATE_DB_PASS": self.passwords[declared.migrate]}
        return values

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m <package> ...` with all accounts in the environment, and what is about accounts on all nodes."""
        if arguments[0] in ("grants", "verify-access"):
            arguments += tuple(f"--node={each.host}:{each.port}" for each in self.nodes)
        return subprocess.run(
            self._command_line(*arguments),
            env=self._whole(self.environ(administrator=True)),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def start(self) -> None:
        """Serve, with the run-time account only."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self._command_line("serve", "--port", str(self.port)),
                env=self._whole(self.environ()),
                cwd=self.folder,
                stderr=log,
            )

    def ready(self) -> bool:
        """Whether it answers /readyz with 200. Raises SceneError if it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise SceneError(f"serve has ended: {(self.folder / 'log').read_text().strip()}")
        try:
            return self.ask("GET", "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, json: object = None) -> httpx.Response:
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", json=json, timeout=30)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _command_line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", self.name.replace("-", "_"), *arguments]

    def _whole(self, values: dict[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, **values, "PYTHONPATH": str(self.folder / "src"), "LOG_LEVEL": "warning"}


def stamp(folder: Path, engine: str) -> dict[str, Path]:
    """The services' folders, by name. They share the environment that runs this."""
    shutil.rmtree(folder, ignore_errors=True)

    def stamp_one(name: str) -> "subprocess.CompletedProcess[str]":
        answers = ROOT / "tests/answers" / f"{name.replace('-', '_')}.yml"
        arguments = ["copy", "--quiet", "--defaults", "--vcs-ref", "HEAD", "--data-file", str(answers)]
        arguments += ["--data", f"database={engine}", str(ROOT), str(folder / name)]
        command = [sys.executable, "-m", "copier", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    with ThreadPoolExecutor() as threads:
        for name, done in zip(NAMES, threads.map(stamp_one, NAMES), strict=True):
            if done.returncode:
                raise SceneError(f"{name} cannot be stamped: {done.stderr.strip().splitlines()[-1]}")
    return {name: folder / name for name in NAMES}


def at_once(services: Sequence[StampedService], *arguments: str) -> "list[subprocess.CompletedProcess[str]]":
    """Run a command of several services at once."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda each: each.command(*arguments), services))


def all_at_once(services: Sequence[StampedService], *arguments: str) -> list[str]:
    """The same; what each wrote on standard output. Raises SceneError if one fails."""
    done = at_once(services, *arguments)
    for service, each in zip(services, done, strict=True):
        if each.returncode:
            said = (each.stderr or each.stdout).strip().splitlines()
            command = " ".join(arguments)
            raise SceneError(
                f"{service.name}: `{command}` exited with {each.returncode}: {said[-1] if said else ''}"
            )
    return [each.stdout for each in done]
