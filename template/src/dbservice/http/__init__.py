"""The HTTP API: routes, problems, health, metrics. The routes of a service import what they need from here."""

from .parameters import Cursor, PageSize, RowId
from .routing import Router

__all__ = ["Cursor", "PageSize", "Router", "RowId"]
