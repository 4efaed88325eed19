"""The image's HEALTHCHECK: exit code 0 if /readyz of the service in this container is 200, else 1.

It is run as a file (`python -I healthcheck.py`) every few seconds, so it imports nothing but a little of the standard
library; as a module it would import the whole platform."""

import http.client
import os
import sys

TIMEOUT = 5.0
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def main() -> int:
    """Ask, print the answer, which the container's engine keeps, and return the exit code."""
    host, port = os.environ.get("HOST", ""), os.environ.get("PORT") or "8000"
    host = _ANY.get(host, host)
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.status, answer.read().decode())
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{host}, port {port}: {error}")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
