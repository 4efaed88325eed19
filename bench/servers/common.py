"""Shared by the hand-written servers: the database (libpq's variables), the pool size, the statements."""

import os

HOST = os.environ.get("PGHOST", "127.0.0.1")
PORT = int(os.environ.get("PGPORT", "5432"))
USER = os.environ.get("PGUSER", "postgres")
PASSWORD = os.environ.get("PGPASSWORD", "")
DBNAME = os.environ.get("PGDATABASE", "bench")
POOL = 10

_AUTH = f"{USER}:{PASSWORD}@" if PASSWORD else f"{USER}@"


def url(scheme: str) -> str:
    return f"{scheme}://{_AUTH}{HOST}:{PORT}/{DBNAME}"


PG_KW = dict(host=HOST, port=PORT, user=USER, password=PASSWORD or None, database=DBNAME)

COLS = "id, sku, name, price, active, created_at"
SQL_GET = f"SELECT {COLS} FROM items WHERE id = $1"
SQL_LIST = f"SELECT {COLS} FROM items WHERE id > $1 ORDER BY id LIMIT $2"
SQL_POST = f"INSERT INTO items (sku, name, price, active) VALUES ($1, $2, $3, $4) RETURNING {COLS}"
