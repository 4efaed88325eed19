"""The service: what it owns, what it may touch, what it answers."""
