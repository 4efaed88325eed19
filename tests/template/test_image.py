"""The image, built by buildah (which needs no daemon) and run as the engine of a container would run it.

No registry is needed: what the Dockerfile names as its base image is a Debian that debootstrap makes."""

import json
import os
import runpy
import shutil
import signal
import subprocess
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
from ..programs import needed_program, needed_root
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
exec setpriv --no-new-privs --bounding-set=-all chroot --userspec="$user" "$root" sh -c 'cd "$0"; exec "$@"' "$workdir" "$@"
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
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image of the default service."""
    for program in ("buildah", "debootstrap"):
        needed_program(program, program)
    needed_root()
    folder = tmp_path_factory.mktemp("image")
    (folder / "storage.conf").write_text(STORAGE.format(folder / "storage"))
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "MAKEFLAGS")}
    environ = {
        **kept,
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
        "STORAGE_DRIVER": "vfs",
    }
    import_base(folder, environ)
    service = folder / "service"
    template = folder / "template"
    ignore = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "build", "bench", "var")
    shutil.copytree(ROOT, template, ignore=ignore)
    answers = {"service_name": "image-test", "python": "3.11", "description": 'Says "$HOME" and \\'}
    copier.run_copy(str(template), service, data=answers, defaults=True, quiet=True)
    (service / ".env").write_text("DB_PASS=never-in-an-image\n")
    (service / "deploy/image/setup.sh").write_text("echo by setup.sh > /etc/own\n")
    (folder / "pip.conf").write_text(f"# never-in-an-image\n[global]\n{pip_settings()}")
    secret = f"--secret id=pip,src={folder / 'pip.conf'}"
    command = [
        "make",
        "--no-print-directory",
        "image",
        "IMAGE=image-test:1",
        "BUILDER=buildah",
        f"ARGS={secret}",
    ]
    done = subprocess.run(command, cwd=service, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    try:
        yield Image(folder, environ, "image-test:1", done.stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_it_is_small_and_has_no_installer_no_compiler_and_no_secret(image: Image) -> None:
    assert "localhost/image-test:1" in image.said or "image-test:1: " in image.said
    print(image.said.splitlines()[-1])
    found = {path.name for path in image.root.rglob("*") if path.is_file() or path.is_symlink()}
    assert {"python3", "uvicorn"} <= found
    assert not found & {
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
        ".env",
    }
    assert not [*image.root.glob("app/.venv/lib/*/site-packages/pip*"), *image.root.glob("app/src/*/testing")]
    assert (image.root / "etc/own").read_text() == "by setup.sh\n"
    everything = subprocess.run(
        ["grep", "-rlI", "never-in-an-image", image.root, image.folder / "storage/graph"],
        capture_output=True,
        text=True,
    )
    assert everything.returncode == 1 and "never-in-an-image" not in image.history, everything.stdout


def test_its_configuration(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001" and config["WorkingDir"] == "/app"
    assert config["Entrypoint"] == ["python", "-m", "image_test"] and config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["StopSignal"] in ("SIGTERM", "15") and "8000/tcp" in config["ExposedPorts"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["title"] == "image-test" and labels["description"] == 'Says "$HOME" and \\'
    assert labels["base.name"] == BASE and labels["version"] == "0.1.0"


def test_all_its_commands_work_as_its_user_on_a_read_only_root(
    image: Image, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    server = find_server("postgresql", pytestconfig)
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


def import_base(folder: Path, environ: Mapping[str, str]) -> None:
    """A Debian with Python and pip in the place of the base image."""

    def buildah(*words: str) -> str:
        done = subprocess.run(["buildah", *words], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates,python3", "bookworm", str(root)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
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


def pip_settings() -> str:
    """What pip must know here to reach the package index."""
    index = BOOTSTRAP["told_index"]()
    lines = [f"cert = {CERTIFICATES}"] * CERTIFICATES.exists() + [f"index-url = {index}"] * bool(index)
    return "\n".join(lines)
