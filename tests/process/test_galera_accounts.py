"""Accounts on the nodes of a Galera cluster: what is told to one reaches all, and what does not is found and mended where it is."""

from collections.abc import Iterator
from contextlib import closing

import pymysql
import pytest

from dbservice.accounts import commands
from dbservice.testing.servers import Server

from ..conformance.account_scene import SERVICES, TRIGGER, Scene, account_scene
from ..galera import galera_cluster


@pytest.fixture(scope="module")
def nodes(pytestconfig: pytest.Config) -> Iterator[list[Server]]:
    with galera_cluster(pytestconfig) as cluster:
        yield cluster


@pytest.fixture
def scene(nodes: list[Server]) -> Iterator[Scene]:
    with account_scene(nodes[0]) as made:
        made.ready()
        yield made


def addresses(nodes: list[Server]) -> list[tuple[str, int]]:
    return [(each.host, each.port) for each in nodes]


def only_on(node: Server, *statements: str) -> None:
    """What somebody runs on one node, without the others."""
    with closing(node.admin.connect()) as connection, connection.cursor() as cursor:
        for each in ("SET SESSION wsrep_on = OFF", *statements):
            cursor.execute(each)
        connection.commit()


def test_accounts_of_a_cluster(nodes: list[Server], scene: Scene) -> None:
    where = addresses(nodes)
    for service in SERVICES:  # was applied over one node
        assert scene.apply(service, nodes=where) == []
        assert not commands.verify(service, scene.backend(service), service.backend, nodes=where)
    database = scene.database.name
    only_on(
        nodes[1],
        f"GRANT SELECT ON {database}.users TO 'trigger-rw'@'%'",
        "CREATE USER 'trigger-rw'@'localhost'",
    )
    only_on(nodes[1], "ALTER USER 'trigger-migrate'@'%' IDENTIFIED BY 'other'")
    only_on(
        nodes[2], "DROP USER 'trigger-rw'@'%'", f"REVOKE DROP ON {database}.jobs FROM 'trigger-migrate'@'%'"
    )
    # a table of the server, which is not replicated
    nodes[0].query(f"INSERT INTO mysql.db (Host, Db, User, Select_priv) VALUES ('%', '{database}', '', 'Y')")
    nodes[0].query("FLUSH LOCAL PRIVILEGES")
    lines = commands.verify(TRIGGER, scene.backend(TRIGGER), TRIGGER.backend, nodes=where).lines()
    names = [f"on {host}:{port}" for host, port in where]
    for number, named in (
        (1, "undeclared trigger-rw: SELECT on table users"),
        (1, "undeclared trigger-rw: another account 'trigger-rw'@'localhost'"),
        (2, "missing    trigger-rw: exists"),
        (2, "missing    trigger-migrate: DROP on table jobs"),
        (0, "undeclared trigger-rw: SELECT on databases like"),
    ):
        assert [line for line in lines if line.startswith(named) and line.endswith(names[number])], (
            named,
            lines,
        )
    assert len({line for line in lines if line.endswith(names[2])}) == 2
    applied = scene.apply(TRIGGER, nodes=where)
    assert not [line for line in applied if "NOT DONE" in line], applied
    assert f"set        the password of trigger-migrate, {names[1]}" in applied
    assert f"created    trigger-rw, {names[2]}" in applied
    assert scene.apply(TRIGGER, nodes=where) == []
    assert not commands.verify(TRIGGER, scene.backend(TRIGGER), TRIGGER.backend, nodes=where)
    for node in nodes:
        assert node.query("SHOW STATUS LIKE 'wsrep_cluster_size'")[0][1] == "3"
        assert node.query("SHOW STATUS LIKE 'wsrep_local_state_comment'")[0][1] == "Synced"


def test_a_new_password_is_accepted_by_all_nodes(nodes: list[Server], scene: Scene) -> None:
    scene.passwords["trigger-rw"] = "new"
    assert scene.apply(TRIGGER, nodes=addresses(nodes)) == ["set        the password of trigger-rw"]
    for node in nodes:
        pymysql.connect(host=node.host, port=node.port, user="trigger-rw", password="new").close()
