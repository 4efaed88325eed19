"""PyDAL over the tables of `tables.py`: never typed twice, never migrating, every value checked on its way.

PyDAL by itself alters values (booleans, microseconds, time zones, strict mode), writes some of them into SQL unquoted and
refuses common names. Here every column has a type of its own, whose literal comes from the backend; every connection is
set up by the backend; a table or column is looked up by its SQLAlchemy object, so no name is refused:

    db[Users].insert(email="a@b.example")            # plain PyDAL
    db(db[Users].email == "a@b.example").select()
"""

from .dal import DAL

__all__ = ["DAL"]
