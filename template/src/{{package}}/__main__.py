"""The commands of the service: `python -m <package> --help`."""

from dbservice.cli import main

from .service import service

if __name__ == "__main__":
    raise SystemExit(main(service))
