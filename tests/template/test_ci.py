"""The CI files: sound, with few rights, pinned, and with the commands of the Makefile."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Stamp

WORKFLOW, PIPELINE = ".github/workflows/platform.yml", ".gitlab/platform.yml"
FILES = pytest.mark.parametrize(("ci", "path"), [("github", WORKFLOW), ("gitlab", PIPELINE)])
DATABASES = ("sqlite", "postgresql", "mariadb", "mysql")


def tool(name: str, *arguments: str | Path, cwd: Path) -> None:
    """Assert that a checker has nothing to say."""
    command = [Path(sys.executable).parent / name, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def jobs(service: Path, ci: str) -> dict[str, Any]:
    if ci == "github":
        found: dict[str, Any] = yaml.safe_load((service / WORKFLOW).read_text())["jobs"]
        return found
    read = yaml.safe_load((service / PIPELINE).read_text())
    return {name: job for name, job in read.items() if name != "workflow"}


@FILES
def test_ci_runs_what_a_developer_runs(stamp: Stamp, ci: str, path: str) -> None:
    service = stamp({"ci": ci, "python": "3.12"})
    text = (service / path).read_text()
    assert re.search(r"3\.12\b.*make check\b.*3\.12\b.*make test\b.*make image\b", text, re.S)
    targets = {*re.findall(r"^([a-z-]+):", (ROOT / "template/platform.mk").read_text(), re.M)}
    assert {*re.findall(r"- (?:run: )?make ([a-z-]+)", text)} <= targets | {"image"}
    other = stamp({"ci": "none"}, "none")
    assert not [
        each
        for each in other.iterdir()
        if each.name.startswith((".git", "renovate")) and each.name != ".gitignore"
    ]


@FILES
def test_ci_has_the_server_that_the_tests_need(stamp: Stamp, ci: str, path: str) -> None:
    services = {each: stamp({"ci": ci, "database": each, "service_name": "a"}, each) for each in DATABASES}
    said = {each: (service / path).read_text() for each, service in services.items()}
    assert said["sqlite"] == said["postgresql"]  # a wheel brings PostgreSQL
    assert re.search(r"apt-get install -y .*mariadb-server\b.*make test", said["mariadb"], re.S)
    assert "mysql" not in said["mariadb"]
    job = jobs(services["mysql"], ci)["test"]
    (server,) = job["services"].values() if ci == "github" else job["services"]
    assert (server["image"] if ci == "github" else server["name"]).startswith("mysql:8.0.")
    variables = job["env"] if ci == "github" else job["variables"]
    host = "127.0.0.1" if ci == "github" else "mysql"
    assert variables["DB_TEST_URL"] == f"mysql://root:test@{host}:3306/mysql"


def test_checkers_of_workflows_have_nothing_to_say(stamp: Stamp) -> None:
    services = [
        stamp({"ci": "github", "database": each}, each) for each in ("postgresql", "mariadb", "mysql")
    ]
    workflows = [service / WORKFLOW for service in services]
    shellcheck = Path(sys.executable).parent / "shellcheck"
    tool("actionlint", "-shellcheck", shellcheck, *workflows, cwd=services[0])
    tool(
        "zizmor",
        "--offline",
        "--quiet",
        "--persona=pedantic",
        "--config",
        ROOT / "tests/template/zizmor.yml",
        *workflows,
        cwd=services[0],
    )


def test_files_of_ci_follow_their_schemas(stamp: Stamp) -> None:
    github = stamp({"ci": "github", "database": "mysql"}, "github")
    gitlab = [stamp({"ci": "gitlab", "database": each}, each) for each in ("postgresql", "mariadb", "mysql")]
    checked = {
        "vendor.github-workflows": [github / WORKFLOW],
        "vendor.gitlab-ci": [each / file for each in gitlab for file in (PIPELINE, ".gitlab-ci.yml")],
        "vendor.renovate": [each / "renovate.json" for each in (github, gitlab[0])],
    }
    for schema, files in checked.items():
        tool("check-jsonschema", "--builtin-schema", schema, *files, cwd=github)


@FILES
def test_whatever_ci_takes_from_others_is_pinned(stamp: Stamp, ci: str, path: str) -> None:
    service = stamp({"ci": ci, "database": "mysql"})
    if ci == "gitlab":
        assert all(job["timeout"] and job["interruptible"] for job in jobs(service, ci).values())
        return
    text = (service / path).read_text()
    assert [*re.findall(r"uses: (.*)", text)]
    assert not [
        each
        for each in re.findall(r"uses: (.*)", text)
        if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)
    ]
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {} and workflow["concurrency"]
    assert all(job["permissions"] == {"contents": "read"} for job in workflow["jobs"].values())


def test_a_teams_own_jobs_stay(stamp: Stamp) -> None:
    for ci, own, platforms in (
        ("github", ".github/workflows/own.yml", WORKFLOW),
        ("gitlab", ".gitlab-ci.yml", PIPELINE),
    ):
        service = stamp({"ci": ci}, ci)
        for each in (own, platforms, "renovate.json"):
            (service / each).write_text("# ours\n")
        stamp({"ci": ci}, ci, overwrite=True)
        assert [(service / each).read_text() == "# ours\n" for each in (own, platforms, "renovate.json")] == [
            True,
            False,
            True,
        ]
