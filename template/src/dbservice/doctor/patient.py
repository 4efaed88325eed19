"""The service that is looked at, and what one check leaves to the next."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .. import migrations, startup
from ..accounts.declared import DeclaringService
from ..backends import Backend
from ..settings import Settings

T = TypeVar("T")


class ServiceToCheck(DeclaringService, migrations.Owner, Protocol):
    """What the checks must know of a service."""

    def backend(self, settings: Settings) -> Backend:
        """The backend for these settings."""
        ...


@dataclass
class Patient:
    """A service with its settings."""

    service: ServiceToCheck
    settings: Settings
    has_runtime: bool
    """Whether these are the settings of the run-time account, and not those of a container that only migrates."""
    connected: bool = field(default=False)
    """Whether a check has connected to the server, so that the next ones may ask it."""
    refusal: Exception | None = field(default=None)
    """Why it has not."""
    unreachable: str = field(default="")
    """Why no account can, in a few words."""
    nameless: set[str] = field(default_factory=set)
    """The variables of whose hosts none has an address."""

    def __post_init__(self) -> None:
        # one attempt: somebody waits for the page
        self.settings = self.settings.model_copy(update={"db_max_retries": 0})

    @property
    def backend(self) -> Backend:
        return self.service.backend(self.settings)

    def ask(self, work: Callable[[Any], T]) -> T:
        """What `work` answers for a cursor of a new connection. Raises the driver's exceptions."""
        return startup.with_connection(self.backend, lambda connection: work(connection.cursor()))
