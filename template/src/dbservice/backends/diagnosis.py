"""What `doctor` asks a server about itself, over a connection of any account."""

import datetime as dt
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Connections:
    """How many connections there may be, and are."""

    server: int
    """The most that accounts of services may open on the server together."""
    in_use: int
    promised: int | None = None
    """The sum of the limits of all accounts that have one, those of migrations aside; None where the account may not see those
    of others."""
    accounts: int = 0
    """The number of these accounts."""


class Diagnosis(ABC):
    """The methods run statements over a DB-API cursor in autocommit, and raise the driver's exceptions."""

    @abstractmethod
    def version(self, cursor: Any) -> str:
        """The server's name and version."""

    @abstractmethod
    def encryption(self, cursor: Any) -> str:
        """The version of TLS that the connection uses; empty if it is not encrypted."""

    @abstractmethod
    def clock(self, cursor: Any) -> dt.datetime:
        """The time of the server now, in UTC."""

    @abstractmethod
    def connections(self, cursor: Any) -> Connections:
        """How many connections there may be, and are."""

    def wants_encryption(self, error: Exception) -> bool:
        """Whether the server refused a connection because it is not encrypted."""
        return False
