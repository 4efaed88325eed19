"""The four services: stamped from their answers, run as their commands are run."""

import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import httpx

from dbservice import Service
from dbservice.accounts import commands
from dbservice.accounts.declared import Declared
from dbservice.settings import Settings
from dbservice.testing import servers

ROOT = Path(__file__).parents[1]
NAMES = ("twitch-trigger", "analytics", "backend-api", "connector")
"""In an order in which the readers come before the owners: grants may be applied in any."""


@dataclass
class StampedService:
    """One of them, with the passwords of its accounts."""

    name: str
    folder: Path
    database: servers.Database
    server: servers.Server
    port: int = field(default_factory=servers.free_port)
    passwords: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        sys.path.append(str(self.folder / "src"))
        self.service: Service = import_module(f"{self.package}.service").service
        # the accounts follow from the declaration, for which any account does
        settings = Settings.load({**self.database.environ(), "DB_POOL_SIZE": "4"})
        declared = commands.declared(self.service, self.service.backend(settings))
        self.runtime, self.migrate = declared.runtime, declared.migrate
        self.passwords = {name: secrets.token_urlsafe(12) for name in declared.accounts}

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    @property
    def settings(self) -> Settings:
        return Settings.load(self.environ(administrator=True))

    @property
    def declared(self) -> Declared:
        return commands.declared(self.service, self.service.backend(self.settings))

    def environ(self, *, administrator: bool = False) -> dict[str, str]:
        """The environment of its commands, that of the administrator only where it is needed."""
        values = {
            **self.database.environ(),
            "DB_USER": self.runtime,
            "DB_PASS": self.passwords[self.runtime],
            "DB_SINGLE_ACCOUNT": "false",
            "DB_POOL_SIZE": "4",
            "DB_MAX_RETRIES": "0",
            "SHUTDOWN_DELAY": "0",
        }
        if administrator:
            values |= {"ADMIN_DB_USER": self.server.user, "ADMIN_DB_PASS": self.server.password}
            if self.migrate:
                values |= {"MIGRATE_DB_USER": self.migrate, "MIGRATE_DB_PASS": self.passwords[self.migrate]}
        return values

    def command(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m <package> ...` with the administrator's account in the environment."""
        values = self.environ(administrator=True) | environ
        return subprocess.run(
            self._command_line(*arguments), env=self._whole(values), capture_output=True, text=True
        )

    def start(self) -> None:
        """Serve, with the run-time account only."""
        self.process = subprocess.Popen(
            self._command_line("serve", "--port", str(self.port)), env=self._whole(self.environ())
        )

    def ready(self) -> bool:
        """Whether it answers /readyz with 200."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)

    def _command_line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", self.package, *arguments]

    def _whole(self, values: dict[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, **values, "PYTHONPATH": str(self.folder / "src"), "LOG_LEVEL": "warning"}


def stamp(folder: Path, engine: str) -> dict[str, Path]:
    """The services' folders, by name."""
    shutil.rmtree(folder, ignore_errors=True)
    found = {}
    for name in NAMES:
        answers = ROOT / "tests/answers" / f"{name.replace('-', '_')}.yml"
        found[name] = folder / name
        arguments = ["copy", "--quiet", "--defaults", "--vcs-ref", "HEAD", "--data-file", str(answers)]
        arguments += ["--data", f"database={engine}", str(ROOT), str(found[name])]
        subprocess.run([sys.executable, "-m", "copier", *arguments], check=True)
    return found


def provision(services: list[StampedService]) -> list[str]:
    """Grants, migrations, and grants again for the tables that the first ones missed; what the commands print."""
    lines = []
    for arguments in (["grants", "--apply"], ["migrate"], ["grants", "--apply"]):
        for each in services:
            if arguments == ["migrate"] and not each.migrate:
                continue
            done = each.command(*arguments)
            lines += [f"$ {each.name}: {' '.join(arguments)}", *done.stdout.splitlines()]
            if done.returncode:
                raise SystemExit("\n".join([*lines, done.stdout, done.stderr]))
    return lines
