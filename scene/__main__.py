"""Stamp the four services, start one server, make their accounts, migrate and run them; print who may do what, and verify it.
The exit status is 1 if anything is not as declared."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import cycle

import psycopg2
import pymysql
from tests.galera import galera_cluster

from dbservice.cli import NO_ACCOUNTS
from dbservice.testing import servers

from . import matrix, page, requests, rows
from .services import ROOT, SceneError, StampedService, all_at_once, at_once, stamp


def main() -> int:
    parser = argparse.ArgumentParser(prog="make scene", usage="make scene [ARGS=ENGINE]", description=__doc__)
    parser.add_argument(
        "engine", nargs="?", default="postgresql", choices=[*sorted(servers.ENGINES), "galera", "sqlite"]
    )
    engine = parser.parse_args().engine
    if engine == "sqlite":
        print(NO_ACCOUNTS)
        return 0
    try:
        return _scene(engine)
    except (SceneError, servers.ServerNotFound, servers.Failed, psycopg2.Error, pymysql.Error) as error:
        print(f"make scene: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _scene(engine: str) -> int:
    started = time.monotonic()
    folders = stamp(ROOT / "build/scene", "mariadb" if engine == "galera" else engine)
    with _nodes(engine) as nodes:
        version = " ".join(nodes[0].version.removeprefix("PostgreSQL ").split()[:1])
        where = f"{len(nodes)} nodes of a cluster" if len(nodes) > 1 else "one server"
        print(f"{len(folders)} services stamped; {where}, {engine} {version}; one database\n", flush=True)
        database = nodes[0].create_database("app_db")
        services = [
            StampedService(name, folder, replace(database, port=node.port), node, nodes[1:] and nodes)
            for (name, folder), node in zip(folders.items(), cycle(nodes), strict=False)
        ]
        try:
            _provision(services)
            _serve(services)
            code = _show(services, nodes[0], database)
        finally:
            for each in services:
                with suppress(ProcessLookupError):
                    each.stop()
    print(f"\n{time.monotonic() - started:.0f} seconds")
    return code


@contextmanager
def _nodes(engine: str) -> Iterator[list[servers.Server]]:
    """The server, or those of a cluster, on which the services are by turns."""
    if engine == "galera":
        with galera_cluster() as nodes:
            yield nodes
    else:
        with servers.own(engine) as server:
            yield [server]


def _provision(services: Sequence[StampedService]) -> None:
    """Accounts before there is any table, migrations, and again for those whose tables others own."""
    owners = [each for each in services if each.declared.migrate]
    readers = [each for each in services if each.declared.shared]
    for chosen, arguments in (
        (services, ("grants", "--apply")),
        (owners, ("migrate",)),
        (readers, ("grants", "--apply")),
    ):
        for service, said in zip(chosen, all_at_once(chosen, *arguments), strict=True):
            print(f"{' '.join(arguments):15} {service.name:15} {_summary(said)}", flush=True)


def _summary(said: str) -> str:
    """What `grants --apply` did, in numbers; the line of `migrate`."""
    lines = said.splitlines()
    if len(lines) == 1:
        return lines[0].partition("app_db ")[2] or lines[0]
    counted: dict[str, int] = {}
    for line in lines:
        word = line.partition(" ")[0]
        counted[word] = counted.get(word, 0) + 1
    names = {"set": "passwords", "LATER": "tables to come"}
    return ", ".join(f"{names.get(word, word)} {number}" for word, number in counted.items())


def _serve(services: Sequence[StampedService]) -> None:
    for each in services:
        each.start()
    deadline = time.monotonic() + 60
    waiting = list(services)
    while waiting := [each for each in waiting if not each.ready()]:
        if time.monotonic() > deadline:
            raise SceneError(
                f"{', '.join(each.name for each in waiting)} did not become ready in 60 seconds."
            )
        time.sleep(0.1)
    print(f"{'serve':15} {len(services)} processes, all ready\n", flush=True)


def _show(services: Sequence[StampedService], server: servers.Server, database: servers.Database) -> int:
    asked, ids = requests.run({each.name: each for each in services})
    passwords = {account: password for each in services for account, password in each.passwords.items()}
    login = matrix.Login(server, database, passwords)
    declared = {each.name: each.declared for each in services}
    results = matrix.run(login, [*declared.values()])
    by_hand = rows.run(login, declared["twitch-trigger"], declared["connector"].runtime, ids)
    lines = page.privileges(results, [*declared.values()], postgresql=server.type == "postgresql")
    lines += ["", *page.denials(results, by_hand), "", *page.verdict(results, by_hand), ""]
    lines += [str(each) for each in asked]
    print("\n".join(lines), flush=True)
    right = not page.wrong(results, by_hand) and all(each.as_declared for each in asked)
    codes = []
    print()
    for each, done in zip(services, at_once(services, "verify-access"), strict=True):
        said = (done.stdout + done.stderr).strip().replace("\n", "\n    ")
        print(f"verify-access   {each.name:15} {done.returncode}  {said}")
        codes.append(done.returncode)
    return 0 if right and not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main())
