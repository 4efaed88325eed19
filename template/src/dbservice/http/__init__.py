"""The HTTP face: routes, problems, health, metrics. A service's routes import what they need from here."""

from .routing import After, Limit, Router, RowId

__all__ = ["After", "Limit", "Router", "RowId"]
