"""Builds the image and prints its size: `bootstrap.sh image NAME:TAG [OPTIONS OF THE BUILDER]`.

The builder is docker, podman or buildah, the first that works here, or the one that BUILDER names."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import lock

BASE = Path("deploy/image/base.Dockerfile")
BUILDERS = {
    "docker": ("docker", "build"),
    "podman": ("podman", "build", "--format", "docker"),  # OCI's own format has no HEALTHCHECK
    "buildah": ("buildah", "build", "--format", "docker"),
}


def main(arguments: list[str]) -> int:
    """Build it. Raises SystemExit with a sentence."""
    name, *options = arguments
    lock.main([])
    builder = find_builder()
    words = [*BUILDERS[builder], "--tag", name]
    for key, value in build_arguments().items():
        words += ["--build-arg", f"{key}={value}"]
    if subprocess.run([*words, *options, "."], env={"DOCKER_BUILDKIT": "1", **os.environ}).returncode:
        sys.exit(f"{name} cannot be built: see the error above.")
    print(f"{name}: {size(builder, name)}")
    return 0


def find_builder() -> str:
    named = os.environ.get("BUILDER", "")
    if named and named not in BUILDERS:
        sys.exit(f"BUILDER is {named!r}: allowed is {', '.join(BUILDERS)}.")
    for each in (named,) if named else BUILDERS:
        # docker is a client, which may have no engine to talk to
        if shutil.which(each) and not subprocess.run([each, "info"], capture_output=True).returncode:
            return each
    sys.exit("No builder of images works here: start Docker, or install podman or buildah.")


def build_arguments() -> dict[str, str]:
    """The build arguments: the base image, and what the labels say."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    found = re.search(r"^FROM\s+(?:--\S+\s+)*(\S+)", BASE.read_text(), re.M) if BASE.exists() else None
    values = {
        "BASE": found[1] if found else "",
        "DESCRIPTION": project.get("description", ""),
        "VERSION": project.get("version", ""),
        "REVISION": git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else ""),
        "CREATED": git("log", "-1", "--format=%cI"),  # of the commit: the same sources give the same image
        "SOURCE": re.sub(r"//[^/@]*@", "//", git("remote", "get-url", "origin")),
    }
    return {key: value for key, value in values.items() if value}


def git(*words: str) -> str:
    """What git prints; nothing outside of a repository."""
    done = subprocess.run(["git", *words], capture_output=True, text=True) if shutil.which("git") else None
    return done.stdout.strip() if done and not done.returncode else ""


def size(builder: str, name: str) -> str:
    if builder == "buildah":
        words = ["buildah", "images", "--format", "{{.Size}}", name]
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()
    words = [builder, "image", "inspect", "--format", "{{.Size}}", name]
    return f"{int(subprocess.run(words, capture_output=True, text=True).stdout) / 1e6:.0f} MB"
