"""What an account effectively holds on a PostgreSQL server, however it came by it."""

from collections.abc import Iterator
from typing import Any

from ...accounts.declared import VERBS, Declared
from ...accounts.facts import Fact
from .session import identifier

SETTINGS = {"idle_in_transaction_session_timeout": "60s"}
"""Settings of all accounts of a service, which apply to sessions that do not choose other ones."""
RUNTIME_SETTINGS = {"statement_timeout": "60s"}
"""More of the run-time account. The service's own sessions have `Limits.statement`, 10 seconds unless it is changed; this is the
last resort for any other one, somebody's psql for example, and long enough not to disturb an investigation."""
LOG_SETTINGS = {
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
}
"""What keeps values, and so secrets, of all accounts of a service out of the server's log (decision 18). To set them needs a
superuser, or SET on these parameters."""
ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolcreatedb": "CREATEDB",
    "rolcreaterole": "CREATEROLE",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
    "rolinherit": "INHERIT",
}
_SYSTEM = "('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'"


def settings_of(declared: Declared, account: str) -> dict[str, str]:
    """The settings that an account is declared to have."""
    return {**SETTINGS, **(RUNTIME_SETTINGS if account == declared.runtime else {}), **LOG_SETTINGS}


def not_settable(cursor: Any) -> list[str]:
    """Those of LOG_SETTINGS that the session's account may not set."""
    cursor.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE NOT has_parameter_privilege(name, 'SET')",
        [[*LOG_SETTINGS]],
    )
    return [row[0] for row in cursor.fetchall()]


def held_attributes(cursor: Any, declared: Declared, account: str) -> Iterator[Fact]:
    cursor.execute(
        f"SELECT rolcanlogin, rolconnlimit, {', '.join(ATTRIBUTES)} FROM pg_roles WHERE rolname = %s",
        [account],
    )
    row = cursor.fetchone()
    if row is None:
        return
    role = identifier(account)
    login, limit, *attributes = row
    if login:
        yield Fact(account, "LOGIN", statements=(f"ALTER ROLE {role} NOLOGIN",))
    yield Fact(account, f"CONNECTION LIMIT {limit}")
    for has, name in zip(attributes, ATTRIBUTES.values(), strict=True):
        if has:
            yield Fact(account, name, statements=(f"ALTER ROLE {role} NO{name}",))
    wanted, ignored = settings_of(declared, account), not_settable(cursor)
    # whoever cannot set them takes them for what is declared, and `grants --apply` says so
    yield from (Fact(account, f"SET {name} = {wanted[name]}") for name in ignored)
    for database, name, value in held_settings(cursor, account):
        where = f" IN DATABASE {identifier(database)}" if database else ""
        if database or name not in ignored:
            yield Fact(
                account,
                f"SET {name} = {value}",
                via=f"in database {database}" if database else "",
                # the statement of the declared one replaces it
                statements=(f"ALTER ROLE {role}{where} RESET {name}",)
                if database or name not in wanted
                else (),
            )


def held_settings(cursor: Any, account: str) -> list[tuple[str, str, str]]:
    """Database, or an empty string for all, name and value of the settings of an account."""
    cursor.execute(
        "SELECT coalesce(datname, ''), unnest(setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole"
        " LEFT JOIN pg_database d ON d.oid = setdatabase WHERE rolname = %s",
        [account],
    )
    return [(database, *setting.split("=", 1)) for database, setting in cursor.fetchall()]


def held_memberships(cursor: Any, account: str) -> Iterator[Fact]:
    # who creates roles without being a superuser has the ADMIN OPTION of each, which makes it a member whenever it wants
    cursor.execute(
        "SELECT DISTINCT g.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid"
        " JOIN pg_roles m ON m.oid = a.member WHERE %(account)s IN (g.rolname, m.rolname)"
        " AND NOT (g.rolname = %(account)s AND m.rolcreaterole AND EXISTS"
        " (SELECT FROM pg_auth_members b WHERE b.roleid = g.oid AND b.member = m.oid AND b.admin_option))"
        " ORDER BY 1, 2",
        {"account": account},
    )
    for group, member in cursor.fetchall():
        revoke = (f"REVOKE {identifier(group)} FROM {identifier(member)}",)
        text = f"member of role {group}" if member == account else f"role {member} is a member of it"
        yield Fact(account, text, statements=revoke)


# every object with an access list: (kind, name as the facts show it, name in SQL, list)
_OBJECTS = f"""
    SELECT 'DATABASE' AS kind, 'database ' || datname AS shown, format('%%I', datname) AS target,
        coalesce(datacl, acldefault('d', datdba)) AS acl, datdba AS owner, datname = current_database() AS here
    FROM pg_database
    UNION ALL SELECT 'SCHEMA', 'schema ' || nspname, format('%%I', nspname),
        coalesce(nspacl, acldefault('n', nspowner)), nspowner, true
    FROM pg_namespace WHERE nspname NOT IN {_SYSTEM}
    UNION ALL SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
        CASE relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' ELSE 'table ' END
            || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname,
        format('%%I.%%I', nspname, relname), coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)),
        relowner, true
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname NOT IN {_SYSTEM}
    UNION ALL SELECT 'COLUMN', 'column ' || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname || '.' || attname,
        format('(%%I) ON %%I.%%I', attname, nspname, relname), attacl, relowner, true
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE attacl IS NOT NULL AND nspname NOT IN {_SYSTEM}
    UNION ALL SELECT 'FUNCTION', 'function ' || nspname || '.' || proname, format('%%I.%%I(%%s)', nspname, proname,
        pg_get_function_identity_arguments(p.oid)), coalesce(proacl, acldefault('f', proowner)), proowner, prosecdef
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname NOT IN {_SYSTEM}
    UNION ALL SELECT 'TABLESPACE', 'tablespace ' || spcname, format('%%I', spcname),
        coalesce(spcacl, acldefault('t', spcowner)), spcowner, true
    FROM pg_tablespace
    UNION ALL SELECT 'FOREIGN SERVER', 'foreign server ' || srvname, format('%%I', srvname),
        coalesce(srvacl, acldefault('S', srvowner)), srvowner, true
    FROM pg_foreign_server
    UNION ALL SELECT 'PARAMETER', 'parameter ' || parname, parname, paracl, 10, true FROM pg_parameter_acl
"""


def held_grants(cursor: Any, account: str, schema: str) -> Iterator[Fact]:
    # a role sees what PUBLIC and every role that it is in, directly or not, may do; that of its owner is told as ownership
    cursor.execute(
        f"""
        WITH RECURSIVE roles(oid) AS (
            SELECT oid FROM pg_roles WHERE rolname = %(account)s
            UNION SELECT roleid FROM pg_auth_members JOIN roles ON member = roles.oid
        ), objects AS ({_OBJECTS})
        SELECT kind, shown, target, privilege_type, is_grantable, coalesce(r.rolname, '')
        FROM objects, aclexplode(acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE (a.grantee IN (SELECT oid FROM roles) OR (a.grantee = 0 AND here)) AND a.grantee <> owner
            -- the service may be installed in another database of the server, too
            AND (here OR kind <> 'DATABASE' OR privilege_type <> 'CONNECT')
        ORDER BY kind, shown, privilege_type
        """,
        {"account": account, "schema": schema},
    )
    for kind, shown, target, verb, grantable, grantee in cursor.fetchall():
        via = "" if grantee == account else f"through role {grantee}" if grantee else "through PUBLIC"
        receiver = identifier(grantee) if grantee else "PUBLIC"
        on = f"{verb} {target}" if kind == "COLUMN" else f"{verb} ON {kind} {target}"
        revoke = f"REVOKE {on} FROM {receiver}"
        if grantee and grantee != account:  # what the role is for is not ours to take away
            yield Fact(account, f"{verb} on {shown}", via, advice=f"leave the role {grantee}")
            continue
        yield Fact(account, f"{verb} on {shown}", via, (revoke,))
        if grantable:
            yield Fact(
                account,
                f"GRANT OPTION of {verb} on {shown}",
                via,
                (revoke.replace("REVOKE ", "REVOKE GRANT OPTION FOR ", 1),),
            )


def held_ownership(cursor: Any, account: str, schema: str) -> Iterator[Fact]:
    cursor.execute(
        f"""
        SELECT 'database ' || datname, format('DATABASE %%I', datname) FROM pg_database WHERE datdba = %(account)s::regrole
        UNION ALL SELECT 'schema ' || nspname, format('SCHEMA %%I', nspname) FROM pg_namespace WHERE nspowner = %(account)s::regrole
        UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' ELSE 'table ' END
                || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname,
            format(CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END || ' %%I.%%I', nspname, relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relowner = %(account)s::regrole AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname NOT IN {_SYSTEM}
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype IN ('i', 'a'))
        UNION ALL SELECT 'function ' || nspname || '.' || proname,
            format('FUNCTION %%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(p.oid))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE proowner = %(account)s::regrole
        UNION ALL SELECT 'type ' || nspname || '.' || typname, format('TYPE %%I.%%I', nspname, typname)
        FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
        WHERE typowner = %(account)s::regrole AND typrelid = 0 AND typelem = 0
        ORDER BY 1
        """,
        {"account": identifier(account), "schema": schema},
    )
    lost = _lost_by_owner(cursor, account, schema)
    for shown, target in cursor.fetchall():
        if shown in lost:  # where it is declared, its statements give them back
            text = f"OWNER of {shown}, without {lost[shown]}"
            yield Fact(account, text, advice=f"ALTER {target} OWNER TO another account")
            continue
        yield Fact(
            account,
            f"OWNER of {shown}",
            statements=(f"ALTER {target} OWNER TO CURRENT_USER",),
        )


def _lost_by_owner(cursor: Any, account: str, schema: str) -> dict[str, str]:
    """The privileges that were revoked from the account on its own tables, by table."""
    other = cursor.connection.cursor()
    other.execute(
        f"""
        SELECT 'table ' || CASE WHEN nspname = %(schema)s THEN '' ELSE nspname || '.' END || relname, string_agg(verb, ', ' ORDER BY verb)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, unnest(%(verbs)s::text[]) AS verb
        WHERE relowner = %(account)s::regrole AND relkind IN ('r', 'p') AND nspname NOT IN {_SYSTEM} AND relacl IS NOT NULL
            AND NOT EXISTS (SELECT FROM aclexplode(relacl) a WHERE a.grantee = relowner AND privilege_type = verb)
        GROUP BY 1
        """,
        {"account": identifier(account), "schema": schema, "verbs": [*VERBS, "TRUNCATE", "REFERENCES"]},
    )
    return dict(other.fetchall())


def held_default_privileges(cursor: Any, account: str) -> Iterator[Fact]:
    # what PUBLIC may do with new functions and types by default is said of those of the migration account alone, see below
    cursor.execute(
        """
        SELECT d.rolname, coalesce(nspname, ''), CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
            WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END, privilege_type, coalesce(g.rolname, '')
        FROM pg_default_acl JOIN pg_roles d ON d.oid = defaclrole LEFT JOIN pg_namespace n ON n.oid = defaclnamespace,
            aclexplode(defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
        WHERE a.grantee <> defaclrole
            AND (g.rolname = %s OR (a.grantee = 0 AND (defaclobjtype NOT IN ('f', 'T') OR defaclnamespace <> 0)))
        """,
        [account],
    )
    for creator, schema, kind, verb, grantee in cursor.fetchall():
        within = f" IN SCHEMA {identifier(schema)}" if schema else ""
        receiver = identifier(grantee) if grantee else "PUBLIC"
        yield Fact(
            account,
            f"{verb} on new {kind} of role {creator}" + (f" in schema {schema}" if schema else ""),
            "" if grantee else "through PUBLIC",
            (
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(creator)}{within} REVOKE {verb} ON {kind} FROM {receiver}",
            ),
        )


def default_privileges(account: str) -> list[Fact]:
    """PUBLIC may use new functions and types unless their creator's default privileges say otherwise."""
    role = identifier(account)
    return [
        Fact(
            account,
            f"new {kind} are not for PUBLIC",
            statements=(f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} REVOKE ALL ON {kind} FROM PUBLIC",),
        )
        for kind in ("FUNCTIONS", "TYPES")
    ]


def held_of_default_privileges(cursor: Any, account: str) -> list[Fact]:
    """Those of `default_privileges` that hold."""
    cursor.execute(
        """
        SELECT defaclobjtype::text FROM pg_default_acl
        WHERE defaclrole = %s::regrole AND defaclnamespace = 0 AND defaclobjtype IN ('f', 'T')
            AND NOT EXISTS (SELECT FROM aclexplode(defaclacl) a WHERE a.grantee = 0)
        """,
        [identifier(account)],
    )
    held = {row[0] for row in cursor.fetchall()}
    return [fact for fact, kind in zip(default_privileges(account), "fT", strict=True) if kind in held]
