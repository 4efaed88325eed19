"""The SQL of the database guide, as it stands, on a real server: decision 22 says what replaces it."""

from contextlib import closing

import psycopg2
import pymysql

from dbservice.testing import servers

GUIDE = """
CREATE USER 'backend-api-rw' IDENTIFIED BY '${BACKEND_API_DB_PASS}';
GRANT SELECT, INSERT, UPDATE, DELETE ON app_db.users TO 'backend-api-rw';
ALTER TABLE platform_integrations ENABLE ROW LEVEL SECURITY;
CREATE POLICY twitch_platform_policy ON platform_integrations
  FOR ALL TO 'twitch-trigger'
  USING (platform = 'twitch');
CREATE USER 'migrate-admin' IDENTIFIED BY '${MIGRATE_DB_PASS}';
GRANT ALL ON app_db.* TO 'migrate-admin'
"""
"""One statement of each kind in the guide."""

REFUSED = {
    "postgresql": [
        1,
        2,
        4,
        5,
        6,
    ],  # a name in quotation marks of a string, IDENTIFIED BY, a database as a schema
    "mariadb": [3, 4],  # no row security
    "mysql": [3, 4],
}


def test_the_sql_of_the_guide_runs_on_no_engine(own_server: servers.Server) -> None:
    database = own_server.create_database("app_db")
    refused = []
    # MySQL's owner of one database creates no accounts
    connection = (database if own_server.type == "postgresql" else own_server.admin).connect()
    with closing(connection):
        if own_server.type == "mysql":
            connection.select_db("app_db")
        else:
            connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE platform_integrations (platform VARCHAR(20))")
        cursor.execute("CREATE TABLE users (id BIGINT)")
        for number, statement in enumerate(GUIDE.split(";"), 1):
            try:
                cursor.execute(statement)
            except (psycopg2.Error, pymysql.Error):
                refused.append(number)
    own_server.drop_database(database)
    if own_server.type == "mysql":
        own_server.query("DROP USER 'backend-api-rw', 'migrate-admin'")
    assert refused == REFUSED[own_server.engine]


def test_the_migration_account_of_the_guide_rules_similar_databases(own_server: servers.Server) -> None:
    """`_` is a wildcard in the name of a database: GRANT ALL ON app_db.* is one on appXdb, too."""
    if own_server.type != "mysql":
        return
    own_server.query("CREATE DATABASE appXdb")
    own_server.query("CREATE USER 'migrate-admin' IDENTIFIED BY 'geheim'")
    own_server.query("GRANT ALL ON app_db.* TO 'migrate-admin'")
    account = servers.Database("mysql", "appXdb", own_server.host, own_server.port, "migrate-admin", "geheim")
    with closing(account.connect()) as connection:
        connection.cursor().execute("CREATE TABLE taken (id BIGINT)")
    own_server.query("DROP USER 'migrate-admin'")
    own_server.query("DROP DATABASE appXdb")
