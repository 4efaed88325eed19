"""Watches a service from a process of its own: memory, descriptors, and how long /healthz takes over a new connection.

Prints one JSON object when its standard input is closed. It imports little and never waits for the probes, which keep
their own interpreter busy."""

import json
import os
import select
import socket
import sys
import time
from pathlib import Path

INTERVAL = 0.05
TIMEOUT = 15.0
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def main(port: int, pid: int) -> None:
    before, latencies, failures = _sample(pid), [], []
    memory, descriptors = before
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], INTERVAL)[0]:
        now = _sample(pid)
        memory, descriptors = max(memory, now[0]), max(descriptors, now[1])
        started = time.perf_counter()
        try:
            answer = _ask(port)
        except OSError as error:
            answer = f"{type(error).__name__}: {error}"
        latencies.append(time.perf_counter() - started)
        if not answer.startswith("HTTP/1.1 200"):
            failures.append(answer[:100])
    found = {
        "memory_before": before[0],
        "memory": memory,
        "descriptors": descriptors,
        "latencies": latencies,
        "failures": failures,
    }
    print(json.dumps(found), flush=True)


def _ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(REQUEST)
        return client.recv(4096).decode("latin-1")


def _sample(pid: int) -> tuple[float, int]:
    """Megabytes of memory and the number of descriptors; zeros when the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / (1 << 20), len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0.0, 0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
