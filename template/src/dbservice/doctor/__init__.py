"""`doctor`: one page about what a service needs to work: for each thing whether it is there, and if not, what to do."""

from .command import run

__all__ = ["run"]
