"""The alert rules and the dashboard that a service is stamped with: promtool reads them, and the metrics they name exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbservice.settings import Settings
from dbservice.testing import make

from ..programs import needed_program
from ..sample_service import client_of, create_tables, started, users
from .dashboard import text

HERE = Path(__file__).parent
FILES = HERE.parents[1] / "template/deploy/observability"
VARIABLES = {"$__rate_interval": "5m", "$service": "orders", "$instance": ".*"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A database, for a service that sends traces to nobody."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    settings = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": str(tmp_path / "x.db")})
    create_tables(settings)
    return settings


def promtool(*words: str | Path) -> None:
    """Run promtool, and expect that it finds nothing."""
    done = subprocess.run([needed_program("promtool", "prometheus"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def queries() -> list[str]:
    """Every query of the dashboard, with values for its variables."""
    panels = json.loads(text())["panels"]
    found: list[str] = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    for name, value in VARIABLES.items():
        found = [each.replace(name, value) for each in found]
    assert found and not any("$" in each for each in found)
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_the_alerts_are_raised_when_they_should_be(tmp_path: Path) -> None:
    shutil.copy(FILES / "alerts.yaml", tmp_path)
    shutil.copy(HERE / "alerts.test.yaml", tmp_path)
    promtool("check", "rules", tmp_path / "alerts.yaml")
    promtool("test", "rules", tmp_path / "alerts.test.yaml")


def test_the_dashboard_is_what_its_script_makes(tmp_path: Path) -> None:
    assert (FILES / "dashboard.json").read_text() == text(), "run python -m tests.observability.dashboard"
    recorded = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "queries.yaml")
    panels = json.loads(text())["panels"]
    taken = [
        (x, y)
        for place in (each["gridPos"] for each in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken)) and max(x for x, _ in taken) == 23


async def test_what_the_rules_and_the_dashboard_name_is_in_the_metrics(settings: Settings) -> None:
    async with started(settings, traces=0.1) as running, client_of(running) as client:
        await make(client, users)
        scraped = (await client.get("/metrics")).text
    series: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", scraped, re.M):
        series.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for expression in [*(rule["expr"] for rule in rules()), *queries()]:
        bare = re.sub(r'"[^"]*"', '""', expression)
        named = set(
            re.findall(
                r"\b(?:db|http|process|python|trace|service|dbservice)_\w+", bare.replace("service:", "")
            )
        )
        named -= {each.partition(":")[2].partition(":")[0] for each in recorded}
        assert named <= series.keys(), expression
        assert set(re.findall(r"\b(service:\w+:\w+)", bare)) <= recorded
        labels = {label for name in named for label in series[name]} | {"job", "instance"}
        used = {
            label
            for group in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", bare)
            for label in group.split(", ")
            if label
        } | set(re.findall(r'[{,]\s*(\w+)[!=]~?=?""', bare))
        assert used - labels <= (
            {"service"} if recorded & set(re.findall(r"service:\w+:\w+", bare)) else set()
        ), expression
