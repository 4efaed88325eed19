"""Attacks a service stamped from the working tree, on each engine, and prints a table of what became of it.

Exit status 1 if something is wrong."""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import report
import service
from probes import PROBES
from report import Result

from dbservice.testing import servers

ENGINES = ("sqlite", "postgresql", "mariadb", "mysql")


def main() -> int:
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the clients are in this process
    results: list[Result] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        stamped = service.stamp(Path(folder))
        print(report.HEAD, file=sys.stderr)
        for engine in options.engines.split(","):
            with service.target(engine, stamped, options.short) as target:
                for name, (items, probe) in PROBES.items():
                    if options.only and name not in options.only.split(","):
                        continue
                    result = Result(name, items, engine)
                    began = time.monotonic()
                    try:
                        probe(target, result)
                    except Exception as error:
                        if options.debug:
                            raise
                        result.fail(f"the probe broke off: {type(error).__name__}: {error}"[:3000])
                    result.seconds = time.monotonic() - began
                    results.append(result)
                    print(report.line(result), file=sys.stderr, flush=True)
    report.table(results)
    print(f"{time.monotonic() - started:.0f} seconds.")
    return 0 if all(result.passed for result in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="attack/attack", description=__doc__)
    parser.add_argument("--engines", default=",".join(ENGINES), help="by default all: %(default)s")
    parser.add_argument("--only", default="", metavar="PROBES", help=f"of {', '.join(PROBES)}")
    parser.add_argument("--short", action="store_true", help="less of everything, and small limits")
    parser.add_argument(
        "--debug", action="store_true", help="stop at an error of a probe, with its traceback"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (service.Failed, servers.ServerNotFound, servers.Failed) as error:
        print(f"attack: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
