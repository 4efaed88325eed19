"""Four services of the database guide on one server: `make scene`."""
