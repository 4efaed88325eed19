"""Creates `.venv` on a machine with only python3: finds or downloads `uv`, which installs the packages.

`bootstrap.sh venv ARGUMENTS` creates .venv with `uv pip install ARGUMENTS` if its inputs have changed;
`bootstrap.sh copier ARGUMENTS` runs Copier; both use this Python interpreter and download no other.
`bootstrap.sh lock`, `sbom`, `image` and `compose_secrets` run the module of that name.
"""

import hashlib
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from html.parser import HTMLParser
from http.client import HTTPException
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn
from urllib.parse import urljoin

UV = "0.13.8"
UV_OLDEST = (0, 7)  # the first with `pip install --group`
COPIER = "9.19.1"
VENV = Path(".venv")
STAMP = VENV / "installed"
PYPI = "https://pypi.org/simple"
COMMANDS = ("lock", "sbom", "image", "compose_secrets")


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "copier":
        sys.exit(
            subprocess.run(
                [find_uv(), "tool", "run", f"copier@{COPIER}", *arguments], env=environment()
            ).returncode
        )
    if command in COMMANDS:
        sys.exit(import_module(command).main(arguments))
    wanted = fingerprint(arguments)
    if not (VENV / "bin/python").exists() or not STAMP.exists() or STAMP.read_text() != wanted:
        install(arguments)
        STAMP.write_text(wanted)


def fingerprint(arguments: list[str]) -> str:
    """A hash of the inputs of .venv: Python version, folder, arguments, requirement files."""
    seen = hashlib.sha256(repr((sys.version, str(Path.cwd()), arguments)).encode())
    named = [Path(word) for word in arguments if Path(word).is_file()]
    for path in sorted(
        {Path("pyproject.toml"), *named, *Path().glob("*.txt"), *Path().glob("src/dbservice/*.txt")}
    ):
        seen.update(path.read_bytes())
    return seen.hexdigest()


def install(arguments: list[str]) -> None:
    uv = find_uv()
    print(f"Making .venv with Python {platform.python_version()} ...", file=sys.stderr, flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    for words in (
        ["venv", "--quiet", "--python", sys.executable, str(VENV)],
        ["pip", "install", "--quiet", "--python", str(VENV / "bin/python"), *arguments],
    ):
        done = subprocess.run([uv, *words], env=environment(), stderr=subprocess.PIPE, text=True)
        if done.returncode:
            if "error sending request" in done.stderr:
                unreachable(re.findall(r"(?:cause|Caused by): (.*)", done.stderr)[-1:])
            sys.exit(f"{done.stderr}The packages cannot be installed: see the error above.")


def find_uv() -> str:
    """The path of uv: the one on PATH if it is new enough, else the cached one, else a new download."""
    found = shutil.which("uv")
    if found:
        answer = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        version = re.match(r"uv (\d+)\.(\d+)", answer)
        if version and tuple(map(int, version.groups())) >= UV_OLDEST:
            return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dbservice"
    kept = cache / f"uv-{UV}"
    if not kept.exists():
        print(f"Downloading uv {UV} ...", file=sys.stderr, flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            wheel = fetch_by_pip(Path(folder)) or fetch(Path(folder))
            with zipfile.ZipFile(wheel) as archive:
                program = Path(archive.extract(f"uv-{UV}.data/scripts/uv", folder))
            program.chmod(0o755)
            program.replace(kept)  # atomic, also with parallel downloads
    return str(kept)


def fetch_by_pip(folder: Path) -> Path | None:
    """Download uv by pip, which uses the machine's index, proxy and certificates; None if that fails."""
    if not find_spec("pip"):
        return None
    words = ["--no-deps", "--only-binary=:all:", "--retries=1", "--dest", str(folder), f"uv=={UV}"]
    subprocess.run([sys.executable, "-m", "pip", "download", *words], capture_output=True)
    return next(folder.glob("*.whl"), None)


def fetch(folder: Path) -> Path:
    """Download uv without pip. Exits with a message on failure."""
    page = (told_index() or PYPI).rstrip("/") + "/uv/"
    try:
        with urllib.request.urlopen(page, timeout=60) as answer:
            links = Links(answer.url, answer.read().decode())
        for address, digest in links.found:
            name = address.rpartition("/")[2]
            if name.startswith(f"uv-{UV}-") and runs_here(name):
                with urllib.request.urlopen(address, timeout=60) as answer:
                    content = answer.read()
                if hashlib.sha256(content).hexdigest() != digest:
                    sys.exit(f"{address} does not match the sha256 of its index: do not trust it.")
                wheel = folder / name
                wheel.write_bytes(content)
                return wheel
    except (OSError, ValueError, HTTPException) as error:
        unreachable([str(error)])
    sys.exit(f"{without_password(page)} has no uv {UV} for this machine: install uv 0.7 or newer on PATH.")


class Links(HTMLParser):
    """The files of a package index: URL and sha256 of each."""

    def __init__(self, page: str, html: str) -> None:
        super().__init__()
        self.page = page
        self.found: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address, _, fragment = urljoin(self.page, dict(attrs).get("href") or "").partition("#")
        if tag == "a" and fragment.startswith("sha256="):
            self.found.append((address, fragment.removeprefix("sha256=")))


def runs_here(wheel: str) -> bool:
    if not wheel.endswith(".whl"):
        return False
    tags = wheel.removesuffix(".whl").split("-")[-1].split(".")
    if sys.platform == "darwin":
        system = "macosx"
    else:
        system = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    return any(tag.startswith(system) and tag.endswith(f"_{platform.machine()}") for tag in tags)


def told_index() -> str | None:
    """The package index that is configured for uv or pip, or None."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    if find_spec("pip"):
        words = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        return subprocess.run(words, capture_output=True, text=True).stdout.strip() or None
    return None


def environment() -> dict[str, str]:
    """The environment of uv: this Python only, pip's index unless uv has its own, the system's certificates."""
    ours = {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    told = told_index()
    if told:
        ours["UV_DEFAULT_INDEX"] = told
    paths = ssl.get_default_verify_paths()
    trusted = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}  # the new and the old name of one setting
    return (trusted if paths.cafile or paths.capath or sys.platform == "darwin" else {}) | os.environ | ours


def unreachable(why: list[str]) -> NoReturn:
    page = without_password(told_index() or PYPI)
    sys.exit(
        f"cannot connect to {page} ({' '.join(why)}): check the network, or set UV_DEFAULT_INDEX to a mirror."
    )


def without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)


if __name__ == "__main__":
    main()
