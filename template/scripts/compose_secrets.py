"""Writes the passwords of compose: a random one into each file of var/compose/ that deploy/compose*.yaml names and that does
not exist yet. users.acl, the accounts of the cache, is made from deploy/redis/users.acl and the password in cache_pass.

Compose mounts these files as they are, owner and mode, into containers of other users: so they are readable for all, in a
folder that only its owner can enter."""

import hashlib
import re
import secrets
import sys
from pathlib import Path

FOLDER = Path("var/compose")
ACCOUNTS = Path("deploy/redis/users.acl")


def main(arguments: list[str]) -> int:
    """Write what is missing. Raises SystemExit with a sentence."""
    named = {
        name
        for path in sorted(Path("deploy").glob("compose*.yaml"))
        for name in re.findall(r"^\s+file:\s*[\"']?\.\./var/compose/([\w.-]+)", path.read_text(), re.M)
    }
    if not named:
        sys.exit(
            'deploy/compose.yaml does not exist: add compose to the answer `deploy` (make update ARGS="--data deploy=...").'
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.chmod(0o700)
    new = sorted(name for name in named - {"users.acl"} if not (FOLDER / name).exists())
    for name in new:
        write(FOLDER / name, secrets.token_urlsafe(24))
    if "users.acl" in named:
        write(FOLDER / "users.acl", accounts())
    if new:
        print(f"Wrote new passwords into {FOLDER}/: {', '.join(new)}")
    return 0


def accounts() -> str:
    """The accounts of the cache: that of the service, and none without a password."""
    hashed = hashlib.sha256((FOLDER / "cache_pass").read_bytes()).hexdigest()
    return f"user default off\n{ACCOUNTS.read_text().replace('${CACHE_PASS_SHA256}', hashed)}"


def write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o444)
    new.replace(path)
