"""The service under more writes than it can do: how much of its peak it still does.

The units of work take as long as their row's name says, by a trigger. The clients back off for a second after a refusal,
whatever Retry-After says, and go on for ever."""

import asyncio
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from load import OTHER_CORE, Server

POOL_SIZE = 4
"""Of the service: two of them write."""
TRIGGER = """
    CREATE FUNCTION work() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(split_part(NEW.name, ' ', 2)::float8); RETURN NEW; END $$;
    CREATE TRIGGER work BEFORE INSERT ON items FOR EACH ROW WHEN (NEW.name LIKE 'work %') EXECUTE FUNCTION work()
"""
PEAK_CLIENTS = 4
WARM_UP = 2.0
BACK_OFF = 1.0


@dataclass(frozen=True)
class Case:
    """Units of work of one kind; `clients` and seconds of each overload."""

    name: str
    duration: Callable[[], float]
    clients: Sequence[int]
    seconds: float


CASES = (
    Case("0.5 s", lambda: 0.5, (100, 1000), 9),
    Case("5 ms", lambda: 0.005, (1000,), 6),
    Case("5 ms, one in 20 takes 0.5 s", lambda: random.choices((0.005, 0.5), (19, 1))[0], (300,), 10),
)


@dataclass
class Measured:
    """What the clients of one run got: `work` in seconds of stored units a second. `busy` is the server's share of a CPU."""

    work: float = 0.0
    busy: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Result:
    """An overload beside the peak of the same units."""

    case: str
    clients: int
    peak: Measured
    overload: Measured

    @property
    def ratio(self) -> float:
        return self.overload.work / self.peak.work if self.peak.work else 0.0


def measure(server: Server) -> list[Result]:
    """Each case at its peak and at each number of clients; about a minute. The server's database has TRIGGER."""
    results = []
    with _pinned():
        for case in CASES:
            peak = asyncio.run(_run(server, case, PEAK_CLIENTS))
            for clients in case.clients:
                overload = asyncio.run(_run(server, case, clients))
                results.append(Result(case.name, clients, peak, overload))
    return results


async def _run(server: Server, case: Case, clients: int) -> Measured:
    loop, measured = asyncio.get_running_loop(), Measured()
    begin = loop.time() + WARM_UP
    end = begin + case.seconds
    numbers, prefix = itertools.count(), f"{random.getrandbits(40):x}"

    async def client() -> None:
        await asyncio.sleep(random.uniform(0, min(1.0, clients / 50)))
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                try:
                    while True:
                        duration = case.duration()
                        writer.write(_request(server.resource, f"{prefix}-{next(numbers)}", duration))
                        answer = await _answer(reader)
                        if begin <= loop.time() < end:
                            measured.answers[answer] += 1
                            measured.work += duration / case.seconds if answer == "201" else 0.0
                        if answer != "201":
                            await asyncio.sleep(BACK_OFF)
                finally:
                    writer.close()
            measured.answers["connection lost"] += 1
            await asyncio.sleep(BACK_OFF)

    tasks = [asyncio.ensure_future(client()) for _ in range(clients)]
    await asyncio.sleep(WARM_UP)
    cpu = server.cpu()
    await asyncio.sleep(end - loop.time())
    measured.busy = (server.cpu() - cpu) / case.seconds
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(1.0)  # for units of work that still run
    return measured


def _request(path: str, sku: str, duration: float) -> bytes:
    row = {"sku": sku, "name": f"work {duration}", "price": "1.00", "active": True}
    body = json.dumps(row).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader) -> str:
    """The status of an answer, and its title if it is a problem."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = await reader.readexactly(length)
    status = head.split(" ", 2)[1]
    return status if status == "201" else f"{status} {json.loads(body).get('title', '')}".strip()


@contextmanager
def _pinned() -> Iterator[None]:
    """This process beside the server, as wrk is."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, OTHER_CORE or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
