"""PyDAL for the tables of `tables.py`: its tables are derived from them, it never migrates, every value is checked.

PyDAL by itself alters values (booleans, microseconds, time zones, strict mode), writes some of them into SQL unquoted and
refuses common names. Here every column has a type of its own, whose literals come from the backend; every connection is
set up by the backend; a table is looked up by its class, so that no name is refused:

    db[Users].insert(email="a@b.example")            # plain PyDAL
    db(db[Users].email == "a@b.example").select()
"""

from .dal import DAL

__all__ = ["DAL"]
