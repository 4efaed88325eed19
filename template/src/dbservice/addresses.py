"""The addresses of servers, as DB_HOST and DB_PORT name them: one, or several with commas between them."""

import ipaddress
import re
from typing import NamedTuple

from pydantic_core import PydanticCustomError


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def addresses(hosts: str, ports: str) -> tuple[Address, ...]:
    """The addresses of checked hosts, which have one port or as many as they are; none for no host."""
    if not hosts:
        return ()
    names, numbers = hosts.split(","), [int(each) for each in str(ports).split(",")]
    return tuple(map(Address, names, numbers if len(numbers) > 1 else numbers * len(names)))


def check_host(value: str) -> str:
    """A host's name or address, in one form. Raises ValueError."""
    try:
        return value if re.fullmatch(r"[\w.-]+", value) else str(ipaddress.IPv6Address(value))
    except ValueError:  # its message contains the value, which may be a URL with a password
        raise ValueError("it is neither") from None


def check_hosts(value: str) -> str:
    """The same for one or several. Raises ValueError."""
    return ",".join(check_host(each.strip(" ")) for each in value.split(","))


def check_ports(value: str) -> str:
    """One or several ports; none for a database without a server. Raises PydanticCustomError."""
    ports = [each.strip(" ") for each in value.split(",")] if value else []
    if not all(re.fullmatch("[0-9]{1,5}", each) and 1 <= int(each) <= 65535 for each in ports):
        raise PydanticCustomError("port", "")
    return ",".join(str(int(each)) for each in ports)
