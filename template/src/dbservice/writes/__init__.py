"""The write path: units of work on worker threads (`pool`), and PyDAL for the tables (`pydal`)."""

from .pool import WritePool
from .pydal import DAL

__all__ = ["DAL", "WritePool"]
