"""`copier update` replaces the platform and leaves the service's own files alone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from .conftest import run
from .test_quoting import QUOTED


def test_an_update_leaves_the_services_own_files_alone(template: Path, tmp_path: Path) -> None:
    def git(*words: str | Path, cwd: Path) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        subprocess.run(command, cwd=cwd, check=True, capture_output=True)

    source, service = tmp_path / "source", tmp_path / "service"
    shutil.copytree(template, source)
    git("init", cwd=source)
    git("add", "-A", cwd=source)
    git("commit", "-m", "one", cwd=source)
    git("tag", "1.0.0", cwd=source)
    run("copier", "copy", "--defaults", "--data", f"description={QUOTED}", source, service, cwd=tmp_path)
    git("init", cwd=service)
    git("add", "-A", cwd=service)
    git("commit", "-m", "stamped", cwd=service)
    stamped = {
        path: path.read_bytes() for path in service.rglob("*") if path.is_file() and ".git" not in path.parts
    }

    for path in (source / "template").rglob("*"):
        if path.is_file():
            path.write_text(path.read_text() + "# newer\n")
    git("add", "-A", cwd=source)
    git("commit", "-m", "two", cwd=source)
    git("tag", "1.1.0", cwd=source)
    renamed = subprocess.run(
        [sys.executable, "-m", "copier", "update", "--defaults", "--data", "service_name=other"],
        cwd=service,
        capture_output=True,
        text=True,
    )
    assert renamed.returncode == 1
    assert (
        "service_name other: the service's own files use the name service" in renamed.stderr.splitlines()[-1]
    )
    assert "Traceback" not in renamed.stderr
    assert not subprocess.check_output(["git", "status", "--porcelain"], cwd=service)

    said = run(
        "copier", "update", "--defaults", "--skip-answered", "--data", "service_name=service", cwd=service
    )
    for answer in ("tables", "database", "schema", "description"):
        assert re.search(rf"^ +{answer}\b.* (src/service/|pyproject\.toml)", said, re.M)
    assert yaml.safe_load((service / ".copier-answers.yml").read_text())["description"] == QUOTED
    same = {
        str(path.relative_to(service)) for path, content in stamped.items() if path.read_bytes() == content
    }
    own = r"(\.gitignore|Makefile|README\.md|pyproject\.toml|requirements\.txt|migrations/versions/.*|src/service/.*|tests/.*|deploy/(sql|image|environments)/.*|renovate\.json)"
    assert same == {
        name for name in map(lambda path: str(path.relative_to(service)), stamped) if re.fullmatch(own, name)
    }
