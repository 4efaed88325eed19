"""The tables of other services, where no other service creates them: a developer's SQLite file, and the databases of tests."""

import sqlalchemy as sa

from ..backends.interface import Backend
from ..types import Enum
from .environment import Owner, connected


def create_shared_tables(service: Owner, backend: Backend) -> list[str]:
    """Create the tables of `access.py` that do not exist, with the declared columns, and on an engine that has views for
    their rows, these; returns the names of the new tables. Raises StartupError.

    Never where the other services run: they own these tables, and their columns are not all declared here."""
    if not service.shared:
        return []
    with connected(service, backend) as connection:
        backend.migrations.create_schema(connection)
        existing = set(sa.inspect(connection).get_table_names())
        copies = sa.MetaData()
        for shared in service.shared:
            copy = shared.__table__.to_metadata(copies)
            for column in copy.columns:
                if isinstance(column.type, Enum):
                    copy.append_constraint(
                        column.type.check_constraint(column.name, name=f"ck_{copy.name}_{column.name}")
                    )
        copies.create_all(connection, checkfirst=True)
        cursor = connection.connection.cursor()
        for shared in service.shared:
            for statement in backend.migrations.create_row_view(shared.__table__):
                cursor.execute(statement)
        connection.commit()
    return sorted(copies.tables.keys() - existing)
