"""The HTTP face: routes, problems, health, metrics. A service's routes import what they need from here."""

from .parameters import Cursor, PageSize, RowId
from .routing import Router

__all__ = ["Cursor", "PageSize", "Router", "RowId"]
