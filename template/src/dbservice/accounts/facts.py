"""What is declared and what a server holds, in one form, so that the two can be compared as sets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple


@dataclass(frozen=True)
class Fact:
    """One thing that an account may do or is, for example `SELECT on table users`."""

    account: str
    text: str
    via: str = ""
    """How the account came by it: empty where it was granted itself, else for example `through PUBLIC`."""
    statements: tuple[str, ...] = field(default=(), compare=False)
    """SQL that an administrator runs: of what is declared, to grant it; of what is held, to revoke it. Empty if no
    statement can."""
    advice: str = field(default="", compare=False)
    """What a person must do where no statement can."""

    def __str__(self) -> str:
        return f"{self.account}: {self.text}" + (f", {self.via}" if self.via else "")


class Differences(NamedTuple):
    """How a server differs from what is declared."""

    missing: list[Fact]
    """Declared and not held."""
    surplus: list[Fact]
    """Held and not declared."""
    unseen: Mapping[str, str] = MappingProxyType({})
    """The accounts that the server tells this connection nothing about, and the variable that names an account which sees
    them."""
    notes: Sequence[str] = ()
    """Sentences about what is no difference, and lets others do what only the account should."""

    def lines(self) -> list[str]:
        """One line for each difference, and for each account of which nothing is known."""
        return [
            *(f"missing    {each}" for each in self.missing),
            *(f"undeclared {each}" for each in self.surplus),
            *(
                f"not seen   {each}: only an administrator sees it, {who}"
                for each, who in self.unseen.items()
            ),
            *(f"note       {each}" for each in self.notes),
        ]

    def with_those(self, other: "Differences") -> "Differences":
        """These, and those of another server."""
        return Differences(
            self.missing + other.missing,
            self.surplus + other.surplus,
            {**self.unseen, **other.unseen},
            [*self.notes, *other.notes],
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.surplus)


def compare(declared: Iterable[Fact], held: Iterable[Fact]) -> Differences:
    """The differences, in the order of their facts."""
    wanted, found = dict.fromkeys(declared), dict.fromkeys(held)
    return Differences(
        [each for each in wanted if each not in found], [each for each in found if each not in wanted]
    )
