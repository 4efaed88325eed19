"""migrate.sh, deploy.sh and health-check.sh against a cluster: which commands they run, and what they say when one fails.

There is no cluster here. A script in the place of kubectl renders with the real one and answers the rest as a test has it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import copier
import pytest

from ..programs import kubectl

SCRIPTS = ("migrate", "deploy", "health-check")
CLUSTER = """#!/bin/sh
# The answers of a cluster: files of the folder ANSWERS, named after the first words of the command.
[ "$1" = kustomize ] && exec "$REAL_KUBECTL" "$@"
[ "$*" != "config current-context" ] || { echo "a-cluster"; exit; }
while case $1 in --*) ;; *) false ;; esac; do shift; done
echo "$@" >>"$ANSWERS/asked"
for name in "$1-$2" "$1"; do
    [ ! -f "$ANSWERS/$name" ] || { cat "$ANSWERS/$name"; exit; }
    [ ! -f "$ANSWERS/$name.error" ] || { cat "$ANSWERS/$name.error" >&2; exit 1; }
done
"""


@pytest.fixture(scope="module")
def service(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts") / "orders"
    copier.run_copy(str(template), folder, data={"service_name": "orders"}, defaults=True, quiet=True)
    return folder


class Cluster:
    """A cluster that answers to commands."""

    def __init__(self, service: Path, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.program = folder / "kubectl"
        self.program.write_text(CLUSTER)
        self.program.chmod(0o755)
        self.answer("get-job", "SuccessCriteriaMet Complete ")
        self.answer("get-deployment", "2")

    def answer(self, command: str, text: str) -> None:
        (self.folder / command).write_text(text + "\n" * (text != ""))

    def run(self, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environ = os.environ | {"ANSWERS": str(self.folder), "KUBECTL": str(self.program)}
        environ |= {"REAL_KUBECTL": kubectl(), "MIGRATE_TIMEOUT": "0"}
        command = [f"scripts/{script}.sh", *arguments]
        return subprocess.run(command, cwd=self.service, env=environ, capture_output=True, text=True)

    def asked(self) -> list[str]:
        """The commands that it was sent, by their first two words."""
        file = self.folder / "asked"
        return [" ".join(line.split()[:2]) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def cluster(service: Path, tmp_path: Path) -> Cluster:
    return Cluster(service, tmp_path)


def test_shellcheck_has_nothing_to_say(service: Path) -> None:
    shellcheck, scripts = Path(sys.executable).parent / "shellcheck", (service / "scripts").glob("*.sh")
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=service, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_guides_path(cluster: Cluster) -> None:
    """Each step says what it does before it does it, waits for the end, and names the next step."""
    migrated = cluster.run("migrate", "production")
    assert migrated.returncode == 0, migrated.stderr
    assert re.match(
        r"Migrates the database of orders in production, with the Job orders-migrate-\d{8}-\d{6}\.\n",
        migrated.stdout,
    )
    assert re.search(
        r"context +a-cluster\n +namespace +production\n +image +registry\.example\.com/orders:0\.1\.0\n",
        migrated.stdout,
    )
    assert migrated.stdout.endswith("is up to date. Next: make deploy-production\n")
    deployed = cluster.run("deploy", "production")
    assert deployed.returncode == 0, deployed.stderr
    assert deployed.stdout.endswith("serves in production. Next: scripts/health-check.sh production\n")
    checked = cluster.run("health-check", "production")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.splitlines()[-1].startswith("orders is well in production: 2 ready")
    asked = [each for each in cluster.asked() if each.split()[0] in ("apply", "rollout", "logs")]
    assert asked[0].startswith("apply") and asked[1].startswith("logs")
    assert [each.split()[0] for each in asked[2:]] == ["apply", "rollout", "rollout"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_changes_and_asks_nothing(cluster: Cluster, script: str) -> None:
    done = cluster.run(script, "staging", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"+ {cluster.program} --namespace=staging " in done.stdout
    assert cluster.asked() == []


FAILURES = {
    "no namespace": ("migrate", "get-namespace.error", "Error from server (NotFound)", "the cluster of a-cluster has no namespace production"),
    "no Secret": ("deploy", "get-secret.error", "Error from server (NotFound)", "there is no Secret orders in production, with the keys DB_PASS."),
    "no cluster": ("deploy", "get-namespace.error", "dial tcp: refused", "the cluster of a-cluster cannot be asked: dial tcp: refused"),
    "refused manifests": ("deploy", "apply.error", "quota", "the manifests were not applied"),
    "a failed migration": ("migrate", "get-job", "FailureTarget Failed ", "the migration failed"),
    "a long migration": ("migrate", "get-job", "", "the migration has not ended within 0 seconds. It goes on"),
    "no image": ("migrate", "get-pods", "ImagePullBackOff", "the migration cannot start (ImagePullBackOff)"),
    "a version that does not start": ("deploy", "rollout.error", "timed out", "the new version does not serve: see above. The old one goes on"),
    "an unready service": ("health-check", "rollout.error", "timed out", "orders is not well in production: see above."),
    "a service scaled to 0": ("health-check", "get-deployment", "0", "no pod of orders is ready in production"),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_the_first_failure_stops_it_with_a_reason(cluster: Cluster, failure: str) -> None:
    script, command, text, said = FAILURES[failure]
    cluster.answer("logs", "the last words of a pod")
    if command == "get-pods":
        cluster.answer("get-job", "")
    cluster.answer(command, text)
    done = cluster.run(script, "production")
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith(f"{script}.sh: ")
    if failure.startswith("no "):
        assert ("apply" in str(cluster.asked())) == (failure == "no image")
    if failure in ("a failed migration", "a version that does not start", "an unready service"):
        assert "the last words of a pod" in done.stderr


def test_an_administrator_may_keep_secrets_to_himself(cluster: Cluster) -> None:
    """Who may deploy need not be allowed to read Secrets or namespaces."""
    for each in ("get-secret.error", "get-namespace.error"):
        cluster.answer(each, "Error from server (Forbidden): not allowed")
    assert cluster.run("deploy", "production").returncode == 0


def test_wrong_arguments(cluster: Cluster) -> None:
    for arguments in ((), ("--dry",), ("production", "staging")):
        done = cluster.run("migrate", *arguments)
        assert done.returncode == 2
        assert done.stderr.endswith("environments: local, development, production, staging\n")
    done = cluster.run("deploy", "prod")
    assert (done.returncode, done.stderr) == (
        1,
        "deploy.sh: there is no environment prod: there is local, development, production, staging.\n",
    )
