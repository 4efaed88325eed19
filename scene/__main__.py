"""Stamp the four services, start one server, provision, migrate and run them; print who can do what, and verify it."""

import argparse
import sys
import time

from dbservice.testing import servers

from . import matrix
from .services import ROOT, StampedService, provision, stamp


def main() -> int:
    parser = argparse.ArgumentParser(prog="make scene ARGS=...", description=__doc__)
    parser.add_argument("engine", nargs="?", default="postgresql", choices=sorted(servers.ENGINES))
    engine = parser.parse_args().engine
    folders = stamp(ROOT / "build/scene", engine)
    with servers.own(engine) as server:
        database = server.create_database("app_db")
        services = [StampedService(name, folder, database, server) for name, folder in folders.items()]
        print("\n".join(provision(services)))
        try:
            return _show(services, server, database)
        finally:
            for each in services:
                each.stop()


def _show(services: list[StampedService], server: servers.Server, database: servers.Database) -> int:
    for each in services:
        each.start()
    deadline = time.monotonic() + 60
    while not all(each.ready() for each in services):
        if time.monotonic() > deadline or any(each.process and each.process.poll() for each in services):
            print("not ready: " + ", ".join(each.name for each in services if not each.ready()))
            return 1
        time.sleep(0.1)
    print("\nall four services are ready\n")
    passwords = {name: password for each in services for name, password in each.passwords.items()}
    results = matrix.run(server, database, [each.declared for each in services], passwords)
    print(matrix.page(results))
    code = 1 if matrix.wrong(results) else 0
    for each in services:
        done = each.command("verify-access")
        print(f"\n$ {each.name}: verify-access\n{done.stdout}{done.stderr}", end="")
        code = code or done.returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
