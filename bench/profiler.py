"""Where a server spends its time under load: py-spy's samples, grouped by library or module."""

import collections
import re
import subprocess
import threading
from pathlib import Path

from load import OTHER_CORE, Server, pinned
from prepare import BUILD, HERE

SECONDS = 8
# the innermost frame that matches one of the patterns names the group
GROUPS = [
    ("dbservice/{}", r"\bdbservice/([\w/]+\.py)"),
    ("asyncpg", r"asyncpg/"),
    ("databases", r"databases/"),
    ("pydal {}", r"pydal/([\w/]+\.py)"),
    ("psycopg2", r"psycopg2/"),
    ("sqlalchemy", r"sqlalchemy/"),
    ("prometheus", r"prometheus_client/"),
    ("threads", r"concurrent/futures|asyncio/futures|call_soon_threadsafe|threading\.py"),
    ("asyncio timeouts", r"asyncio/timeouts|asyncio/locks"),
    ("pydantic", r"pydantic"),
    ("fastapi {}", r"fastapi/([\w/]+\.py)"),
    ("starlette {}", r"starlette/([\w/]+\.py)"),
    ("contextlib", r"contextlib"),
    ("uvicorn", r"uvicorn/"),
    ("json", r"json/"),
    ("event loop", r"asyncio/|uvloop"),
]


def profile(server: Server, operation: str, database_pid: int) -> None:
    """Print the shares of the time of `operation` with 64 clients: by group, by function, with and without its callees."""
    assert server.process
    raw = BUILD / f"profile-{server.name}-{operation}.raw"
    load = threading.Thread(target=server.load, args=(operation, 64, SECONDS + 3, database_pid))
    load.start()
    arguments = [
        "record",
        "-d",
        str(SECONDS),
        "-r",
        "200",
        "--gil",
        "-f",
        "raw",
        "-o",
        str(raw),
        "--pid",
        str(server.process.pid),
    ]
    subprocess.run(pinned(OTHER_CORE, [str(HERE / ".venv/bin/py-spy"), *arguments]), capture_output=True)
    load.join()
    groups: collections.Counter[str] = collections.Counter()
    own: collections.Counter[str] = collections.Counter()
    inclusive: collections.Counter[str] = collections.Counter()
    total = 0
    for line in raw.read_text().splitlines():
        stack, _, text = line.rpartition(" ")
        frames = [
            re.sub(r"\S*/(?:site-packages|src|lib/python[\d.]+)/", "", frame) for frame in stack.split(";")
        ]
        count = int(text)
        total += count
        groups[_group(frames)] += count
        own[_function(frames[-1])] += count
        for function in {_function(frame) for frame in frames}:
            inclusive[function] += count
    print(f"\n## {server.name} {operation}: {total} samples that held the GIL")
    for title, counter, length in (("by group", groups, 22), ("inclusive", inclusive, 60), ("own", own, 25)):
        print(f"-- {title}")
        for name, count in counter.most_common(length):
            print(f"  {count / total:6.1%}  {name}")


def _function(frame: str) -> str:
    return re.sub(r":\d+\)$", ")", frame)


def _group(frames: list[str]) -> str:
    for frame in reversed(frames):
        for name, pattern in GROUPS:
            if found := re.search(pattern, frame):
                return name.format(*found.groups())
    return Path(frames[-1]).name
