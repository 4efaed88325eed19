"""The manifests of each environment: rendered by kubectl, as the scripts render them, and judged by others' tools."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import copier
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from dbservice.limits import Limits
from dbservice.settings import Settings

from ..programs import kubectl, uv
from .conftest import ROOT, Stamp

CHECKOV = "checkov==3.3.30"
WAIVED = {
    "CKV_K8S_15": "pulling again at each start would let no pod start while the registry is away; the image has a digest",
}
VERSIONS = ("1.31.0", "1.37.0")
"""The oldest and the newest Kubernetes that the manifests are for."""
ENVIRONMENTS = ("development", "staging", "production")
IMAGE = f"registry.example.org:5000/team/orders@sha256:{'0' * 64}"
ANSWERS: dict[str, dict[str, Any]] = {
    "default": {},
    "mysql": {"database": "mysql", "cache": "valkey"},
    "reads": {**yaml.safe_load((ROOT / "tests/answers/analytics.yml").read_text()), "database": "mariadb"},
    "sqlite": {"database": "sqlite", "cache": "redis"},
}

Documents = list[dict[str, Any]]


@pytest.fixture(scope="module")
def services(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A service for each set of answers."""
    folder = tmp_path_factory.mktemp("services")
    for name, answers in ANSWERS.items():
        data = {**answers, "service_name": "orders"}
        copier.run_copy(str(template), folder / name, data=data, defaults=True, quiet=True)
    return {name: folder / name for name in ANSWERS}


@pytest.fixture(scope="module")
def rendered(services: dict[str, Path]) -> dict[tuple[str, str, str], Documents]:
    """What the scripts would apply, by answers, environment and `service` or `migrate`."""
    found = {}
    environ = {**os.environ, "KUBECTL": kubectl(), "IMAGE": IMAGE}
    for name, service in services.items():
        for environment in ENVIRONMENTS:
            for script in ("migrate", "deploy"):
                command = ["sh", f"scripts/{script}.sh", environment, "--dry-run"]
                done = subprocess.run(command, cwd=service, env=environ, capture_output=True, text=True)
                assert done.returncode == 0, done.stdout + done.stderr
            for what in ("service", "migrate"):
                file = service / "var/deploy" / environment / what / "manifests.yaml"
                if file.exists():
                    found[name, environment, what] = [*yaml.safe_load_all(file.read_text())]
    return found


def of_kind(documents: Documents, kind: str) -> Documents:
    return [each for each in documents if each["kind"] == kind]


def pods(documents: Documents) -> Iterator[dict[str, Any]]:
    """The pods of a Deployment or a Job."""
    for each in documents:
        if each["kind"] in ("Deployment", "Job"):
            yield each["spec"]["template"]["spec"]


def variables(documents: Documents, container: dict[str, Any]) -> dict[str, str]:
    """The environment of a container."""
    names = [each["configMapRef"]["name"] for each in container["envFrom"]]
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(documents, "ConfigMap")}
    (settings,) = (maps[name] for name in names)
    return {**settings, **{each["name"]: each["value"] for each in container["env"]}}


def test_each_environment_is_complete(rendered: dict[tuple[str, str, str], Documents]) -> None:
    common = {"ServiceAccount", "ConfigMap", "NetworkPolicy"}
    for (name, environment, what), documents in rendered.items():
        kinds = {each["kind"] for each in documents}
        if what == "migrate":
            assert kinds == {*common, "Job"}
        else:
            more = "PersistentVolumeClaim" if name == "sqlite" else "HorizontalPodAutoscaler"
            assert kinds - {"PodDisruptionBudget"} == {*common, "Deployment", "Service", more}
            assert ("PodDisruptionBudget" in kinds) == (name != "sqlite")
        assert {each["metadata"]["namespace"] for each in documents} == {environment}
    migrates = {name for name, _, what in rendered if what == "migrate"}
    assert migrates == {"default", "mysql"}  # one owns no tables, and SQLite's file is used by one pod


def test_they_follow_the_schemas_of_kubernetes(rendered: dict[tuple[str, str, str], Documents]) -> None:
    for (_, environment, _), documents in rendered.items():
        for document in documents:
            for version in VERSIONS if environment == "production" else VERSIONS[-1:]:
                kubernetes_validate.validate(document, version, strict=True)


def test_checkov_has_nothing_to_say(rendered: dict[tuple[str, str, str], Documents], tmp_path: Path) -> None:
    for (name, environment, what), documents in rendered.items():
        if environment == "production":
            (tmp_path / f"{name}-{what}.yaml").write_text(yaml.safe_dump_all(documents))
    command = [uv(), "tool", "run", "--quiet", "--python", sys.executable, "--from", CHECKOV, "checkov"]
    options = [
        "--directory",
        str(tmp_path),
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--skip-download",
    ]
    done = subprocess.run(
        [*command, *options, "--skip-check", ",".join(WAIVED)], capture_output=True, text=True
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    said = json.loads(done.stdout)
    failed = [
        (each["check_id"], each["check_name"], each["resource"]) for each in said["results"]["failed_checks"]
    ]
    assert not failed and said["summary"]["passed"] > 300


def test_the_service_cannot_read_the_secret_of_migrations(
    rendered: dict[tuple[str, str, str], Documents],
) -> None:
    for (name, _, what), documents in rendered.items():
        (pod,) = pods(documents)
        assert pod["automountServiceAccountToken"] is False
        secrets = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
        assert secrets == (["orders-migrate"] if what == "migrate" else ["orders"])
        assert pod["serviceAccountName"] == ("orders-migrate" if what == "migrate" else "orders")
        text = yaml.safe_dump(documents)
        assert "secretKeyRef" not in text and not of_kind(documents, "Secret")
        assert ("MIGRATE_DB" in text) == (what == "migrate"), name


def test_their_settings_are_accepted(rendered: dict[tuple[str, str, str], Documents], tmp_path: Path) -> None:
    """By the code that reads them, with passwords in the files that are mounted."""
    (tmp_path / "password").write_text("secret")
    for (name, _, what), documents in rendered.items():
        (pod,) = pods(documents)
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            environ = variables(documents, container)
            mounted = [each["mountPath"] for each in container["volumeMounts"]]
            for variable in (each for each in environ if each.endswith("_FILE")):
                folder, _, file = environ[variable].rpartition("/")
                assert folder in mounted and file == variable.removesuffix("_FILE")
                environ[variable] = str(tmp_path / "password")
            if name == "sqlite":
                assert environ["DB_NAME"] == "/data/orders.db" and "/data" in mounted
                environ["DB_NAME"] = str(tmp_path / "orders.db")
            if what == "migrate":
                environ["DB_PASS"] = "-"
            settings = Settings.load(environ)
            assert {"db_pool_size", "log_format"} <= settings.model_fields_set
            assert container["image"] == IMAGE


def test_a_pod_has_time_to_start_and_to_stop(rendered: dict[tuple[str, str, str], Documents]) -> None:
    limits = Limits()
    for (_, _, what), documents in rendered.items():
        if what == "migrate":
            continue
        (pod,) = pods(documents)
        (container,) = pod["containers"]
        delay = float(variables(documents, container)["SHUTDOWN_DELAY"])
        assert pod["terminationGracePeriodSeconds"] > delay + limits.drain + 2
        paths = {
            each: container[f"{each}Probe"]["httpGet"]["path"]
            for each in ("startup", "liveness", "readiness")
        }
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
        assert container["readinessProbe"]["timeoutSeconds"] > limits.connect
        startup = container["startupProbe"]
        defaults = Settings.model_fields
        retries, pause = defaults["db_max_retries"].default, defaults["db_retry_delay"].default
        assert (
            startup["periodSeconds"] * startup["failureThreshold"]
            > (retries + 1) * (pause + 3 * limits.connect) - 1
        )
        (deployment,) = of_kind(documents, "Deployment")
        assert (
            deployment["spec"]["progressDeadlineSeconds"]
            > startup["periodSeconds"] * startup["failureThreshold"]
        )


def test_the_autoscaler_keeps_to_the_connection_limit(
    rendered: dict[tuple[str, str, str], Documents],
) -> None:
    """Its maximum is REPLICAS, which the account's connection limit is made for; the Deployment has no number of its own."""
    for (name, environment, what), documents in rendered.items():
        if what == "migrate":
            continue
        (deployment,) = of_kind(documents, "Deployment")
        if name == "sqlite":
            assert deployment["spec"]["replicas"] == 1 and deployment["spec"]["strategy"] == {
                "type": "Recreate"
            }
            continue
        (scaler,) = of_kind(documents, "HorizontalPodAutoscaler")
        (settings,) = of_kind(documents, "ConfigMap")
        assert scaler["spec"]["maxReplicas"] == int(settings["data"]["REPLICAS"])
        assert (
            scaler["spec"]["maxReplicas"]
            >= scaler["spec"]["minReplicas"]
            >= (1 if environment == "development" else 2)
        )
        assert "replicas" not in deployment["spec"]
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_environments_are_written_once(stamp: Stamp) -> None:
    service = stamp()
    own = service / "deploy/environments/production/common/settings.env"
    platforms = service / "deploy/k8s/base/deployment.yaml"
    kept = own.read_text() + "DB_MAX_RETRIES=1\n"
    for each in (own, platforms):
        each.write_text(kept)
    stamp(overwrite=True)
    assert own.read_text() == kept != platforms.read_text()


def test_without_kubernetes_there_are_no_manifests(stamp: Stamp) -> None:
    service = stamp({"deploy": ["compose"]})
    assert not (service / "deploy/k8s").exists() and not (service / "deploy/environments").exists()
    done = subprocess.run(
        ["sh", "scripts/migrate.sh", "production"], cwd=service, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        1,
        "migrate.sh: there is no environment production: there is local.\n",
    )
