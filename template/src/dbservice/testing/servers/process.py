"""Runs a server's program in its own folder, never as root, and at most as long as the tests run.

As root, folder and program are run by an unprivileged user, because PostgreSQL and MySQL do not run as root. A
watchdog process reads from a pipe: when the tests end, even by `kill -9`, the pipe closes, and the watchdog stops
the servers and removes the folders. (PR_SET_PDEATHSIG fires when the *thread* that started it ends.)
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

WATCHDOG = """
import os, shutil, signal, sys, time

signal.signal(signal.SIGINT, signal.SIG_IGN)
ends, folders = {}, set()
for line in sys.stdin:
    word, first, *rest = line.rstrip("\\n").split("\\t")
    if word == "started":
        ends[int(first)] = int(rest[0])
    elif word == "ended":
        ends.pop(int(first), None)
    elif word == "made":
        folders.add(first)
    else:
        folders.discard(first)

def kill(pid, how):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        ends.pop(pid, None)

for pid, how in list(ends.items()):
    kill(pid, how)
deadline = time.monotonic() + 10
while ends and time.monotonic() < deadline:
    time.sleep(0.05)
    for pid in list(ends):
        kill(pid, 0)
for pid in list(ends):
    kill(pid, signal.SIGKILL)
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Failed(RuntimeError):
    """A server's program failed; the message ends with the tail of its log."""


class ServerProcess:
    """A temporary folder, the user it belongs to, and the program that runs in it."""

    def __init__(self, name: str, *, users: Sequence[str], end: signal.Signals) -> None:
        root = os.geteuid() == 0
        # Root's TMPDIR may be inaccessible to other users.
        self.folder = Path(tempfile.mkdtemp(prefix=f"test-{name}-", dir="/tmp" if root else None))
        self.name = name
        self.log = self.folder / "log"
        self._user = _unprivileged(users) if root else None
        self._end = end
        self._process: subprocess.Popen[bytes] | None = None
        _tell("made", self.folder)
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def usable(self, program: Path, root: Path, parts: Sequence[str]) -> Path:
        """The program; or a copy of `parts` of `root`, if its user has no access to it (below /root)."""
        try:
            self.run([program, "--version"])
        except PermissionError:
            copy = self.folder / "program"
            for part in parts:
                shutil.copytree(root / part, copy / part, symlinks=True)
            return copy / program.relative_to(root)
        return program

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a command and wait for it. Raises Failed if it exits with an error."""
        with self.log.open("ab") as log:
            process = self._popen(command, log.fileno())
            try:
                status = process.wait(timeout=120)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if status:
            raise Failed(f"{self.name}: {command[0]} ended with status {status}\n{self.tail()}")

    def start(self, command: Sequence[str | Path]) -> None:
        """Start the server in the background."""
        with self.log.open("ab") as log:
            self._process = self._popen(command, log.fileno())
        _tell("started", self._process.pid, int(self._end))

    def stop(self, hard: bool) -> None:
        """Stop the server and wait for it; with `hard`, by SIGKILL."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL if hard else self._end)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _tell("ended", self._process.pid)
        self._process = None

    def close(self) -> None:
        self.stop(hard=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        _tell("removed", self.folder)

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _popen(self, command: Sequence[str | Path], log: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            # Only PATH is inherited: a PGDATA or MYSQL_HOME must not affect it.
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LC_ALL": "C"},
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            start_new_session=True,  # Ctrl-C must reach only the tests, which stop the server
        )


def _unprivileged(users: Sequence[str]) -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for user in (*users, "nobody"):
        if user in known:
            return known[user]
    raise Failed(
        "the tests run as root, and this machine has no other user to run a server as: add one named `nobody`"
    )


class _Watchdog:
    """The pipe to the watchdog process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHDOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            text=True,
            start_new_session=True,
        )
        atexit.register(self._process.communicate)

    def tell(self, *words: object) -> None:
        assert self._process.stdin
        print(*words, sep="\t", file=self._process.stdin, flush=True)


@cache
def _watchdog(pid: int) -> _Watchdog:
    """One per process: a fork must not use its parent's pipe."""
    return _Watchdog()


def _tell(*words: object) -> None:
    _watchdog(os.getpid()).tell(*words)
