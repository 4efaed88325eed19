"""Writes the dashboard of stamped services: `python -m tests.observability.dashboard > template/deploy/observability/dashboard.json`.

Nobody edits the JSON; a test compares it with what this makes."""

import json
from collections.abc import Sequence
from typing import Any

JOIN = '* on (job, instance) group_left () dbservice_info{service="$service", instance=~"$instance"}'
"""Restricts series to the chosen service: only dbservice_info knows its name."""
WIDTH, HEIGHT = 8, 8
"""Of a panel; the whole is 24 wide."""


def rate(metric: str) -> str:
    """The rate of a counter of the chosen service."""
    return f"rate({metric}[$__rate_interval]) {JOIN}"


def total(metric: str, *by: str) -> str:
    """The rates of all its series together, by labels."""
    return f"sum by ({', '.join(by)}) ({rate(metric)})"


def quantile(share: float, metric: str, *by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {total(f'{metric}_bucket', 'le', *by)})"


REQUESTS, FAILED = "http_requests_total", 'http_requests_total{status=~"5.."}'
SECONDS, DATABASE = "http_request_duration_seconds", "db_operation_duration_seconds"
ROWS: list[tuple[str, list[tuple[str, str, str, list[tuple[str, str]]]]]] = [
    (
        "Requests",
        [
            ("Requests by status", "reqps", "", [(total(REQUESTS, "status"), "{{status}}")]),
            (
                "Failed requests",
                "percentunit",
                "Statuses of 500 and more.",
                [(f"({total(FAILED)} or vector(0)) / {total(REQUESTS)}", "failed")],
            ),
            (
                "Duration of requests",
                "s",
                "",
                [(quantile(share, SECONDS), f"{share:.0%}") for share in (0.5, 0.95, 0.99)],
            ),
            (
                "Requests by route",
                "reqps",
                "",
                [(total(REQUESTS, "method", "route"), "{{method}} {{route}}")],
            ),
            (
                "Slow routes",
                "s",
                "The duration that one request in a hundred exceeds.",
                [(quantile(0.99, SECONDS, "method", "route"), "{{method}} {{route}}")],
            ),
            (
                "In flight",
                "short",
                "Beyond Limits.requests, requests are answered with 503.",
                [
                    (f"http_requests_in_flight {JOIN}", "requests {{instance}}"),
                    (f"http_connections {JOIN}", "connections {{instance}}"),
                ],
            ),
        ],
    ),
    (
        "Database",
        [
            (
                "Up and ready",
                "bool_yes_no",
                "Whether the database can be used, and whether /readyz is 200.",
                [(f"db_up {JOIN}", "database {{instance}}"), (f"service_ready {JOIN}", "ready {{instance}}")],
            ),
            (
                "Duration of reads and writes",
                "s",
                "The wait for a connection included.",
                [
                    (quantile(share, DATABASE, "operation"), f"{{{{operation}}}} {share:.0%}")
                    for share in (0.5, 0.99)
                ],
            ),
            ("Reads and writes", "ops", "", [(total(f"{DATABASE}_count", "operation"), "{{operation}}")]),
            (
                "Use of the pools",
                "percentunit",
                "",
                [(f"db_pool_in_use {JOIN} / db_pool_size", "{{pool}} {{instance}}")],
            ),
            (
                "Waiting for a connection",
                "short",
                "Reads, and units of work in the queue.",
                [(f"db_pool_waiting {JOIN}", "{{pool}} {{instance}}")],
            ),
            (
                "Refused, repeated, unknown",
                "ops",
                "Answers with 503, attempts that were run again, and writes that may have been stored.",
                [
                    (total("db_refused_total", "operation", "reason"), "refused: {{operation}}, {{reason}}"),
                    (total("db_retries_total", "operation", "reason"), "repeated: {{operation}}, {{reason}}"),
                    (total("db_outcome_unknown_total", "reason"), "unknown: {{reason}}"),
                ],
            ),
        ],
    ),
    (
        "Process",
        [
            ("CPU", "percentunit", "Of one core.", [(rate("process_cpu_seconds_total"), "{{instance}}")]),
            ("Memory", "bytes", "", [(f"process_resident_memory_bytes {JOIN}", "{{instance}}")]),
            (
                "File descriptors",
                "percentunit",
                "",
                [(f"process_open_fds {JOIN} / process_max_fds", "{{instance}}")],
            ),
            (
                "Garbage collections",
                "ops",
                "By generation.",
                [(total("python_gc_collections_total", "generation"), "{{generation}}")],
            ),
            (
                "Spans of traces",
                "ops",
                "Only with OTEL_*.",
                [(total("trace_spans_total", "outcome"), "{{outcome}}")],
            ),
            (
                "Instances by version and revision",
                "short",
                "",
                [
                    ('count by (version) (dbservice_info{service="$service"})', "version {{version}}"),
                    (f"count by (revision) (db_schema_info {JOIN})", "revision {{revision}}"),
                ],
            ),
        ],
    ),
]
"""Each row of the dashboard: its title, and the title, unit, description and queries of each panel."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, members in ROWS:
        panels.append(_placed("row", title, top, 0, 24, 1, collapsed=False, panels=[]))
        top += 1
        for number, member in enumerate(members):
            panels.append(_panel(*member, top + number // 3 * HEIGHT, number % 3 * WIDTH))
        top += -(-len(members) // 3) * HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "title": "Services with a database",
        "uid": "dbservice",
        "description": "Of db-service-template: deploy/observability/dashboard.json.",
        "tags": ["dbservice"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(
    title: str, unit: str, description: str, queries: Sequence[tuple[str, str]], top: int, left: int
) -> dict[str, Any]:
    targets = [
        {
            "refId": "ABCDEF"[number],
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": legend,
            "range": True,
        }
        for number, (query, legend) in enumerate(queries)
    ]
    return _placed(
        "timeseries",
        title,
        top,
        left,
        WIDTH,
        HEIGHT,
        description=description,
        datasource=SOURCE,
        fieldConfig={
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 5, "showPoints": "never"}},
            "overrides": [],
        },
        options={"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        targets=targets,
    )


def _placed(
    kind: str, title: str, top: int, left: int, width: int, height: int, **rest: Any
) -> dict[str, Any]:
    return {"type": kind, "title": title, "gridPos": {"x": left, "y": top, "w": width, "h": height}, **rest}


def _variables() -> list[dict[str, Any]]:
    def query(name: str, label: str, text: str, *, several: bool) -> dict[str, Any]:
        return {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": SOURCE,
            "query": {"query": text, "refId": name},
            "definition": text,
            "refresh": 2,
            "sort": 1,
            "multi": several,
            "includeAll": several,
            **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {}),
        }

    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Data source",
            "query": "prometheus",
            "refresh": 1,
        },
        query("service", "Service", "label_values(dbservice_info, service)", several=False),
        query(
            "instance", "Instance", 'label_values(dbservice_info{service="$service"}, instance)', several=True
        ),
    ]


def text() -> str:
    """The content of the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
