"""Writes requirements.lock: every package that the image contains, with its version and the hashes of its files.

`bootstrap.sh lock` writes it if what it is made from has changed, `bootstrap.sh lock --upgrade` in any case, with the newest
versions of what the service requires and the platform does not pin. With CI set, it writes nothing: a lock file that is
missing or out of date is an error. `python lock.py --check` says the same anywhere; only the standard library is needed."""

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

LOCK = Path("requirements.lock")
CONSTRAINTS = Path("src/dbservice/constraints.txt")
HEADER = """\
# Every package of the image, with the hashes of its files. Written by `make lock`: commit it, do not edit it.
# made from {}
"""


def main(arguments: list[str]) -> int:
    """Run the command; the exit code is 0 if requirements.lock is current at the end. Raises SystemExit with a sentence."""
    current = LOCK.exists() and fingerprint() in LOCK.read_text().partition("\n\n")[0]
    if "--check" in arguments or os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        if not current:
            why = "does not match what it is made from" if LOCK.exists() else "does not exist"
            sys.exit(f"{LOCK} {why}: run `make lock` and commit it.")
    elif not current or "--upgrade" in arguments:
        write(["--upgrade"] if "--upgrade" in arguments else [])
    return 0


def requirement_files() -> list[str]:
    """The files that name what the image needs: those that pyproject.toml reads its dependencies from."""
    tool = tomllib.loads(Path("pyproject.toml").read_text())["tool"]
    files: list[str] = tool["setuptools"]["dynamic"]["dependencies"]["file"]
    return files


def fingerprint() -> str:
    """A hash of what the lock file is made from, comments excepted."""
    seen = hashlib.sha256()
    for path in (*map(Path, requirement_files()), CONSTRAINTS):
        for line in path.read_text().splitlines():
            if wanted := line.partition("#")[0].strip():
                seen.update(f"{wanted}\n".encode())
    return seen.hexdigest()


def write(options: list[str]) -> None:
    """Let uv write it. What it pins already stays as long as it satisfies the requirements."""
    from bootstrap import environment, find_uv  # not needed for --check

    print(f"Writing {LOCK} ...", file=sys.stderr, flush=True)
    new = LOCK.with_suffix(".new")
    if LOCK.exists():
        new.write_text(LOCK.read_text())
    words = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--quiet"]
    words += ["--constraints", str(CONSTRAINTS), "--output-file", str(new), *options, *requirement_files()]
    try:
        done = subprocess.run(
            [find_uv(), "pip", "compile", *words], env=environment(), stdout=subprocess.DEVNULL
        )
        if done.returncode:
            sys.exit(f"{LOCK} cannot be written: see the error above.")
        new.write_text(f"{HEADER.format(fingerprint())}\n{new.read_text()}")
        new.replace(LOCK)
    finally:
        new.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
