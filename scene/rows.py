"""Rows: what an account of which only some rows of a table are declared makes of the others, straight at the server."""

import io
import tempfile
from contextlib import closing
from typing import Any, NamedTuple

import psycopg2
import pymysql

from dbservice.accounts.declared import Declared, insert_view, row_view

from .matrix import DENIED, Login, outcome_of

SECRET = "the other service's secret"
"""The token of each row that is not the account's: no answer shows it."""


class Rows(NamedTuple):
    """The rows of `platform_integrations` that the attempts are about: those of twitch are declared."""

    mine: int
    """The id of a declared one."""
    other: int
    """The id of one of discord."""
    declared: int
    """How many are declared."""


class RowAttempt(NamedTuple):
    """Statements of an account, and what came of the last one: a number of rows, or that it is denied."""

    account: str
    statements: str
    expected: tuple[int | str, ...]
    found: int | str
    shows_secret: bool = False

    @property
    def as_declared(self) -> bool:
        return self.found in self.expected and not self.shows_secret

    def __str__(self) -> str:
        shown = ", and shows another service's secret" if self.shows_secret else ""
        wanted = " or ".join(map(str, self.expected))
        return f"{self.account}: {self.statements}: {self.found}{shown}, and not {wanted}"


def run(login: Login, own: Declared, owner: str, rows: Rows) -> list[RowAttempt]:
    """Try to reach rows that are not declared; `owner` is an account that sees all. All rows stay as they are."""
    before = _all_rows(login)
    postgresql = login.database.type == "postgresql"
    results = []
    with (
        tempfile.NamedTemporaryFile("w", suffix=".tsv") as file,
        closing(_connected(login, own.runtime)) as connection,
    ):
        for platform, key in (("twitch", rows.other), ("discord", r"\N")):
            file.write(f"{key}\t{platform}\tx\t1\t2020-01-01 00:00:00\t2020-01-01 00:00:00\n")
        file.flush()
        table = "platform_integrations"
        names = {
            "table": table,
            "rows": table if postgresql else row_view(table, own.package),
            "inserts": table if postgresql else insert_view(table, own.package),
            "columns": "platform, channel, enabled, created_at, updated_at",
            "values": "'x', true, '2020-01-01 00:00:00', '2020-01-01 00:00:00'",
            "seen": "(@seen := CONCAT(COALESCE(@seen, ''), token))",
            "policy": own.runtime,
            "file": file.name,
            **rows._asdict(),
        }
        for line in (_BOTH + (_POSTGRESQL if postgresql else _MYSQL)).split("\n"):
            if not line:
                continue
            words, _, statements = line.partition("  ")
            expected = tuple(
                rows.declared if each == "all" else int(each) if each.isdigit() else DENIED
                for each in words.split("/")
            )
            results.append(_try(connection, own.runtime, statements.strip().format(**names), expected))
    with closing(_connected(login, owner)) as connection:
        found = _try(connection, owner, "SELECT id FROM platform_integrations", (len(before),))
        results.append(found)
    if _all_rows(login) != before:
        results.append(RowAttempt(own.runtime, "all of these", ("no change",), "a change of rows"))
    return results


# what comes of it, and the statements: `all` is the number of declared rows, `no` that it is denied

_BOTH = """
all   SELECT id FROM {rows}
all   SELECT id FROM {rows} FOR UPDATE
0     SELECT id FROM {rows} WHERE platform = 'discord' OR platform <> 'twitch'
0     SELECT * FROM {rows} WHERE id = {other}
0     SELECT 1 FROM (SELECT 1 AS one) AS o WHERE EXISTS (SELECT 1 FROM {rows} WHERE id = {other})
0     SELECT a.id FROM {rows} a JOIN {rows} b ON b.id = {other}
0     SELECT b.token FROM {rows} a LEFT JOIN {rows} b ON b.id = {other} WHERE b.id IS NOT NULL
0     SELECT id FROM {rows} GROUP BY id HAVING MAX(platform) = 'discord'
0     UPDATE {rows} SET token = 'mine' WHERE platform = 'discord'
0     UPDATE {rows} SET token = 'mine', platform = 'twitch' WHERE id = {other}
0     DELETE FROM {rows} WHERE id = {other} OR platform = 'discord'
0     DELETE FROM {rows} WHERE platform <> 'twitch'
no    UPDATE {rows} SET platform = 'discord'
no    UPDATE {rows} SET platform = 'discord' WHERE id = {mine}
no    UPDATE {rows} SET platform = 'Twitch' WHERE id = {mine}
no    UPDATE {rows} SET platform = 'twitch ' WHERE id = {mine}
no    INSERT INTO {inserts} ({columns}) VALUES ('discord', {values})
no    INSERT INTO {inserts} ({columns}) VALUES ('twitch', {values}), ('discord', {values})
no    INSERT INTO {inserts} ({columns}) SELECT 'discord', {values}
1     INSERT INTO {inserts} ({columns}) VALUES ('twitch', {values})
1     UPDATE {rows} SET token = 'mine' WHERE id = {mine}
all   DELETE FROM {rows}
"""
_POSTGRESQL = """
all   PREPARE s AS SELECT id FROM {table}; EXECUTE s
0     PREPARE d(bigint) AS DELETE FROM {table} WHERE id = $1; EXECUTE d({other})
no    PREPARE i(text) AS INSERT INTO {table} ({columns}) VALUES ($1, {values}); EXECUTE i('discord')
all   DECLARE c CURSOR FOR SELECT id FROM {table}; FETCH ALL FROM c
all   COPY {table} (id, platform, token) TO STDOUT
no    COPY {table} ({columns}) FROM STDIN
no    SET LOCAL row_security = off; SELECT id FROM {table}
all   SELECT id FROM {table} WHERE 1 / (CASE platform WHEN 'discord' THEN 0 ELSE 1 END) = 1
all   SELECT id FROM {table} WHERE CASE platform WHEN 'twitch' THEN 1 ELSE token::integer END = 1
all   UPDATE {table} SET token = token WHERE 1 / (CASE platform WHEN 'discord' THEN 0 ELSE 1 END) = 1
0     SELECT 1 FROM pg_stats WHERE tablename = '{table}'
no    INSERT INTO {table} ({columns}) VALUES ('discord', {values}) RETURNING id
no    UPDATE {table} SET platform = 'discord' WHERE id = {mine} RETURNING id
0     UPDATE {table} SET enabled = false WHERE id = {other} RETURNING *
0     DELETE FROM {table} WHERE id = {other} RETURNING *
0     DELETE FROM {table} USING (VALUES ({other})) v(id) WHERE {table}.id = v.id RETURNING token
0     WITH gone AS (DELETE FROM {table} WHERE id = {other} RETURNING *) SELECT * FROM gone
no    INSERT INTO {table} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON CONFLICT (id) DO UPDATE SET platform = 'twitch'
no    INSERT INTO {table} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON CONFLICT (id) DO UPDATE SET token = 'x' RETURNING *
0     INSERT INTO {table} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON CONFLICT (id) DO NOTHING
0     MERGE INTO {table} t USING (VALUES ({other})) AS v(id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET platform = 'twitch'
0     MERGE INTO {table} t USING (VALUES ({other})) AS v(id) ON t.id = v.id WHEN MATCHED THEN DELETE
no    MERGE INTO {table} t USING (VALUES ({mine})) AS v(id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET platform = 'discord'
no    MERGE INTO {table} t USING (VALUES (0)) AS v(id) ON t.id = v.id WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ('discord', {values})
no    ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY
no    DROP POLICY "{policy}" ON {table}
"""
_MYSQL = """
all   PREPARE s FROM 'SELECT id FROM {rows}'; EXECUTE s
0     PREPARE s FROM 'DELETE FROM {rows} WHERE id = ?'; SET @id = {other}; EXECUTE s USING @id
no    PREPARE s FROM "INSERT INTO {inserts} ({columns}) SELECT ?, {values}"; SET @p = 'discord'; EXECUTE s USING @p
1     SELECT id FROM {rows} WHERE {seen} IS NULL; SELECT @seen
1     SELECT id FROM {rows} WHERE id = {other} AND {seen} IS NULL; SELECT @seen
1     SELECT a.id FROM {rows} a LEFT JOIN {rows} b ON b.id = {other} AND (@seen := b.token) = ''; SELECT @seen
all   SELECT id FROM {rows} WHERE JSON_EXTRACT(IF(platform = 'discord', 'x', '1'), '$') = 1
all   SELECT id FROM {rows} WHERE id = {mine} OR (SELECT IF(platform = 'discord', (SELECT 1 UNION SELECT 2), 1)) = 1
0     UPDATE {rows} a JOIN {rows} b ON b.id = {other} SET a.token = b.token
0     DELETE a FROM {rows} a JOIN {rows} b ON b.id = {other}
0/no  UPDATE IGNORE {rows} SET platform = 'discord'
0/no  INSERT IGNORE INTO {inserts} ({columns}) VALUES ('discord', {values})
0     INSERT IGNORE INTO {inserts} (id, {columns}) VALUES ({other}, 'twitch', {values})
no    INSERT INTO {rows} ({columns}) VALUES ('twitch', {values})
no    INSERT INTO {inserts} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON DUPLICATE KEY UPDATE platform = 'twitch'
no    INSERT INTO {inserts} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON DUPLICATE KEY UPDATE token = {seen}
no    INSERT INTO {rows} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON DUPLICATE KEY UPDATE platform = 'twitch'
no    INSERT INTO {table} (id, {columns}) VALUES ({other}, 'twitch', {values}) ON DUPLICATE KEY UPDATE platform = 'twitch'
no    REPLACE INTO {inserts} (id, {columns}) VALUES ({other}, 'twitch', {values})
no    REPLACE INTO {rows} (id, {columns}) VALUES ({other}, 'twitch', {values})
no    REPLACE INTO {table} (id, {columns}) VALUES ({other}, 'twitch', {values})
0/no  LOAD DATA LOCAL INFILE '{file}' IGNORE INTO TABLE {inserts} (id, {columns})
no    LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE {inserts} (id, {columns})
no    LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE {rows} (id, {columns})
no    LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE {table} (id, {columns})
no    SELECT id FROM {inserts}
no    UPDATE {inserts} SET token = 'x' WHERE 1 = 0
no    DELETE FROM {inserts} WHERE 1 = 0
no    SELECT id FROM {table}
no    INSERT INTO {table} ({columns}) VALUES ('twitch', {values})
no    UPDATE {table} SET token = 'x' WHERE 1 = 0
no    DELETE FROM {table} WHERE 1 = 0
no    SHOW INDEX FROM {table}
no    SHOW CREATE TABLE {table}
no    HANDLER {table} OPEN
"""
_REFUSED = {1369, "42501", "0A000"}
"""WITH CHECK OPTION; row security; COPY FROM into a table that has it."""


def _connected(login: Login, account: str) -> Any:
    if login.database.type == "postgresql":
        return login.connect(account)
    login.server.query("SET GLOBAL local_infile = 1")
    return pymysql.connect(
        host=login.database.host,
        port=login.database.port,
        database=login.database.name,
        user=account,
        password=login.passwords[account].encode().decode("latin-1"),
        local_infile=True,
    )


def _try(connection: Any, account: str, statements: str, expected: tuple[int | str, ...]) -> RowAttempt:
    cursor, answers = connection.cursor(), ""
    found: int | str = 0
    try:
        for statement in statements.split("; "):
            if statement.startswith("COPY"):
                data = io.StringIO(
                    "" if "TO STDOUT" in statement else "discord\tx\tt\t2020-01-01\t2020-01-01\n"
                )
                cursor.copy_expert(statement, data)
                answers += data.getvalue()
            else:
                cursor.execute(statement)
                answers += str(cursor.fetchall()) if cursor.description else ""
            found = cursor.rowcount
    except (psycopg2.Error, pymysql.Error) as error:
        answers += str(error)
        code = getattr(error, "pgcode", None) or error.args[0]
        found = DENIED if code in _REFUSED else outcome_of(error)
    finally:
        connection.rollback()
    return RowAttempt(account, statements, expected, found, SECRET in answers)


def _all_rows(login: Login) -> list[tuple[Any, ...]]:
    with closing(login.administrator()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM platform_integrations ORDER BY id")
        return list(cursor.fetchall())
