"""The accounts of services that share a Redis: what they may do, straight at the server, and what verification finds."""

import json
import re
from hashlib import sha256

import pytest
import redis

from dbservice import Service
from dbservice.accounts import cache
from dbservice.cli import NO_ACCOUNTS
from dbservice.errors import StartupError
from dbservice.settings import Settings
from dbservice.testing import servers
from dbservice.testing.servers.redis import Redis

from ..cached_services import ANALYTICS, API, CONNECTOR, PASSWORD, provision, settings_of
from ..cli_service import CommandLine

READING = """
    GET {key}|MGET {key} {key2}|EXISTS {key}|TTL {key}|PTTL {key}|EXPIRETIME {key}|TYPE {key}|STRLEN {key}
    GETRANGE {key} 0 1|BITCOUNT {key}|HGET {key} f|HGETALL {key}|HSCAN {key} 0|LRANGE {key} 0 1|LLEN {key}|SMEMBERS {key}
    SSCAN {key} 0|SCARD {key}|ZRANGE {key} 0 1|ZSCORE {key} m|ZSCAN {key} 0|XRANGE {key} - +|XLEN {key}|DUMP {key}
    OBJECT ENCODING {key}|MEMORY USAGE {key}|LCS {key} {key2}|SINTER {key} {key2}|GEOPOS {key} m|PFCOUNT {key}
"""
WRITING = """
    SET {key} 1|SETEX {key} 9 1|SETNX {key} 1|GETSET {key} 1|GETDEL {key}|GETEX {key}|MSET {key} 1 {key2} 2|APPEND {key} x
    DEL {key}|UNLINK {key}|INCR {key}|INCRBY {key} 2|DECR {key}|EXPIRE {key} 9|PERSIST {key}|RENAME {key} {key2}
    COPY {key} {key2}|MOVE {key} 1|HSET {key} f 1|HDEL {key} f|LPUSH {key} 1|RPOP {key}|LMOVE {key} {key2} LEFT LEFT
    SADD {key} 1|SREM {key} 1|SMOVE {key} {key2} m|SUNIONSTORE {key} {key2}|ZADD {key} 1 m|ZREM {key} m|XADD {key} * f 1
    SETRANGE {key} 0 x|SETBIT {key} 1 1|BITOP NOT {key} {key2}|PFADD {key} 1|GEOADD {key} 1 1 m|WATCH {key}
"""
CHANNELS = "PUBLISH {key} x|SUBSCRIBE {key}|SSUBSCRIBE {key}|SPUBLISH {key} x"
CONNECTION = "PING|ECHO x|CLIENT ID|CLIENT SETNAME x|HELLO 2"
TRANSACTION = "MULTI|UNWATCH"
NEVER = """
    FLUSHALL|FLUSHDB|SWAPDB 0 1|SELECT 1|SCAN 0|KEYS *|RANDOMKEY|DBSIZE|CONFIG GET *|CONFIG SET maxmemory 1|CONFIG RESETSTAT
    ACL LIST|ACL WHOAMI|ACL CAT|ACL SETUSER {user} +@all|ACL GETUSER {user}|ACL SAVE|EVAL return(1) 0|EVALSHA x 0
    EVAL_RO return(1) 0|SCRIPT LOAD x|FUNCTION LIST|FCALL f 0|PUBSUB CHANNELS|PUBSUB NUMPAT|CLIENT LIST|CLIENT KILL 1.1.1.1:1
    CLIENT PAUSE 1|CLIENT NO-EVICT ON|CLIENT TRACKING ON BCAST|MONITOR|REPLICAOF NO ONE|SLAVEOF NO ONE|ROLE|SAVE|BGSAVE
    BGREWRITEAOF|LASTSAVE|SHUTDOWN NOSAVE|SLOWLOG GET|LATENCY DOCTOR|MEMORY DOCTOR|MODULE LIST|INFO|TIME
    CLUSTER INFO|FAILOVER|PSYNC ? -1|SORT {key}|SORT_RO {key}|RESTORE {key} 0 x|MIGRATE h 1 {key} 0 1|BLPOP {key} 1
    BRPOP {key} 1|XREAD STREAMS {key} 0|PSUBSCRIBE *|PSUBSCRIBE connector:*|SUBSCRIBE __keyevent@0__:set
    MGET {key} connector:x|RENAME {key} connector:x|COPY connector:x {key}|LMOVE {key} connector:x LEFT LEFT
    SUNIONSTORE {key} connector:x|ZUNIONSTORE {key} 1 connector:x|LCS {key} connector:x|BITOP OR {key} connector:x
    GEOSEARCHSTORE {key} connector:x FROMLONLAT 1 1 BYRADIUS 1 m
"""


def commands(*texts: str) -> list[str]:
    return [each.strip() for text in texts for each in re.split(r"[|\n]", text) if each.strip()]


def allows(server: Redis, user: str, command: str) -> bool:
    """Whether the server runs the command for this account, whatever it answers."""
    with server.connect(user, PASSWORD) as client:
        try:
            client.execute_command(*command.split())
        except redis.exceptions.NoPermissionError:
            return False
        except redis.exceptions.ResponseError:  # of a value that is not there, or of another type
            pass
    return True


@pytest.fixture
def server(cache_server: Redis) -> Redis:
    provision(cache_server)
    return cache_server


@pytest.mark.parametrize("service", [API, CONNECTOR, ANALYTICS], ids=lambda each: each.name)
def test_an_account_runs_what_it_should_and_nothing_else(server: Redis, service: Service) -> None:
    writes = service is not ANALYTICS
    matrix = dict.fromkeys(commands(READING, CONNECTION), True)
    matrix |= dict.fromkeys(commands(WRITING, CHANNELS, TRANSACTION), writes)
    matrix |= dict.fromkeys(
        commands(NEVER if service is not CONNECTOR else NEVER.replace("connector:", "api:")), False
    )
    user = f"{service.name}-cache"
    own = {"key": f"{service.name}:{{a}}", "key2": f"{service.name}:{{a}}2", "user": user}
    found = {each: allows(server, user, each.format(**own)) for each in matrix}
    print(f"{user}: {len(found)} commands tried, {sum(found.values())} allowed")
    assert len(found) > 120 and found == matrix


@pytest.mark.parametrize("service", [API, ANALYTICS], ids=lambda each: each.name)
@pytest.mark.parametrize("name", ["connector:x", "api-two:x", "apis", "api", "API:x", "xapi:x", "{api:}x"])
def test_the_names_of_others_are_unreachable(server: Redis, service: Service, name: str) -> None:
    server.command("SET", name, "theirs")
    names = {"key": name, "key2": f"{name}2"}
    tried = commands(READING, WRITING, CHANNELS)
    allowed = [each for each in tried if allows(server, f"{service.name}-cache", each.format(**names))]
    assert not allowed and server.command("GET", name) == b"theirs"


def test_only_the_password_of_the_account_is_accepted(server: Redis) -> None:
    for user, password in [
        ("api-cache", "wrong"),
        ("api-cache", ""),
        ("default", PASSWORD),
        ("nobody", PASSWORD),
    ]:
        with server.connect(user, password) as client, pytest.raises(redis.exceptions.AuthenticationError):
            client.ping()


DRIFT = {
    "ACL SETUSER api-cache +flushall": "undeclared api-cache: runs FLUSHALL",
    "ACL SETUSER api-cache +@admin": "undeclared api-cache: runs CONFIG SET",
    "ACL SETUSER api-cache allcommands": "undeclared api-cache: runs EVAL",
    "ACL SETUSER api-cache +client|kill": "undeclared api-cache: runs CLIENT KILL",
    "ACL SETUSER api-cache +client": "undeclared api-cache: runs CLIENT TRACKING",
    "ACL SETUSER api-cache +select|1": "undeclared api-cache: runs SELECT 1",
    "ACL SETUSER api-cache -get": "missing    api-cache: runs GET",
    "ACL SETUSER api-cache -@pubsub": "missing    api-cache: runs PUBLISH",
    "ACL SETUSER api-cache nocommands": "missing    api-cache: runs SET",
    "ACL SETUSER api-cache allkeys": "undeclared api-cache: reads and writes keys *",
    "ACL SETUSER api-cache ~connector:*": "undeclared api-cache: reads and writes keys connector:*",
    "ACL SETUSER api-cache %W~x": "undeclared api-cache: writes keys x",
    "ACL SETUSER analytics-cache ~analytics:*": "undeclared analytics-cache: reads and writes keys analytics:*",
    "ACL SETUSER analytics-cache +set": "undeclared analytics-cache: runs SET",
    "ACL SETUSER analytics-cache &analytics:*": "undeclared analytics-cache: uses channels analytics:*",
    "ACL SETUSER api-cache resetkeys": "missing    api-cache: reads and writes keys api:*",
    "ACL SETUSER api-cache allchannels": "undeclared api-cache: uses channels *",
    "ACL SETUSER api-cache resetchannels": "missing    api-cache: uses channels api:*",
    "ACL SETUSER api-cache (~* +@all)": "undeclared api-cache: selector (+@all ~*)",
    "ACL SETUSER api-cache off": "missing    api-cache: is on",
    "ACL SETUSER api-cache nopass": "undeclared api-cache: needs no password",
    "ACL SETUSER api-cache >another": "undeclared api-cache: has another password than CACHE_PASS",
    "ACL SETUSER api-cache resetpass": "missing    api-cache: has the password of CACHE_PASS",
    "ACL DELUSER api-cache": "missing    api-cache: exists",
}


@pytest.mark.parametrize("change", DRIFT)
def test_a_change_by_hand_is_found_and_mended(server: Redis, change: str) -> None:
    service = ANALYTICS if "analytics" in change else API
    settings = settings_of(server, service, admin=True)
    assert cache.verify(service, settings).lines() == []
    words = re.findall(r"\(.*?\)|\S+", change)
    server.command(*words)
    assert DRIFT[change] in cache.verify(service, settings).lines()
    assert cache.apply(service, settings)
    assert cache.verify(service, settings).lines() == cache.apply(service, settings) == []
    assert allows(server, f"{service.name}-cache", f"GET {service.name}:x")


def test_what_cannot_be_seen_is_said(server: Redis) -> None:
    found = cache.verify(API, settings_of(server, API))
    assert not found and found.lines() == [
        "not seen   api-cache: only an administrator sees it, ADMIN_CACHE_USER"
    ]
    assert cache.verify(API, settings_of(server, API, CACHE_HOST="")).lines() == []
    wrong = settings_of(server, API, ADMIN_CACHE_USER="admin", ADMIN_CACHE_PASS="wrong")
    with pytest.raises(StartupError, match="as admin"):
        cache.verify(API, wrong)
    own = settings_of(server, API, ADMIN_CACHE_USER="api-cache", ADMIN_CACHE_PASS=PASSWORD)
    with pytest.raises(StartupError, match="api-cache"):
        cache.verify(API, own)
    server.command("ACL", "SETUSER", "default", "on", "nopass")
    try:
        found = cache.verify(API, settings_of(server, API, admin=True))
    finally:
        server.command("ACL", "SETUSER", "default", "reset")
    assert not found and len(found.notes) == 1 and "`default` needs no password" in found.lines()[0]


@pytest.mark.engines("sqlite")
def test_verify_access_and_grants_apply_see_to_the_cache(run: CommandLine, server: Redis) -> None:
    """Also of a service in SQLite, which has no other accounts."""
    server.command("ACL", "DELUSER", "demo-cache")
    own, admin = server.environ("demo-cache", PASSWORD), server.admin_environ()
    said = "not seen   demo-cache: only an administrator sees it, ADMIN_CACHE_USER"
    code, out, err = run("verify-access", **own)
    assert (code, out.splitlines(), err) == (0, [NO_ACCOUNTS, said], "")
    code, out, _ = run("verify-access", "--json", **own)
    assert (code, json.loads(out)["not seen"]) == (0, ["demo-cache"])
    code, out, _ = run("verify-access", "--json", **own, **admin)
    missing = [{"account": "demo-cache", "what": "exists", "via": ""}]
    assert (code, json.loads(out)["missing"]) == (1, missing)

    code, out, _ = run("grants", "--apply", **{**own, **admin, "CACHE_PASS": ""})
    assert code == 1 and "NOT DONE   demo-cache: set CACHE_PASS" in out
    assert run("grants", "--apply", **own, **admin)[:2] == (0, f"{NO_ACCOUNTS}\ncreated    demo-cache\n")
    nothing = dict.fromkeys(("DB_TYPE", "DB_NAME"), "")
    assert run("grants", "--cache", "--apply", **nothing, **own, **admin)[:2] == (0, "nothing to change\n")
    code, out, _ = run("verify-access", **own, **admin)
    equal = "The accounts hold what is declared, and nothing else."
    assert (code, out.splitlines()) == (0, [NO_ACCOUNTS, equal])

    code, _, err = run("grants", "--cache", "--apply", **own)
    assert code == 1 and "ADMIN_CACHE_USER" in err
    for wrong in ({"ADMIN_CACHE_PASS": "wrong"}, {"CACHE_PORT": "1"}, {"CACHE_PORT": "x"}):
        code, _, err = run("verify-access", **{**own, **admin, **wrong})
        assert code == 2 and err.startswith("demo: ")


def test_what_a_server_would_forget_is_said(server: Redis) -> None:
    """It cannot save its accounts: what is applied is gone with the next start."""
    server.command("ACL", "SETUSER", "half", "on", ">secret", "+acl", "-acl|save")
    server.command("ACL", "DELUSER", "api-cache")
    settings = settings_of(server, API, ADMIN_CACHE_USER="half", ADMIN_CACHE_PASS="secret")
    created, later = cache.apply(API, settings)
    server.command("ACL", "DELUSER", "half")
    assert created == "created    api-cache" and later.startswith("LATER      api-cache: the cache forgets")


@pytest.mark.engines("sqlite")
def test_grants_prints_the_rule_with_the_hash_of_the_password(run: CommandLine, server: Redis) -> None:
    """Without any setting of a database."""
    hashed = sha256(PASSWORD.encode()).hexdigest()
    nothing = dict.fromkeys(("DB_TYPE", "DB_NAME"), "")
    code, out, err = run("grants", "--cache", **nothing, CACHE_PASS=PASSWORD)
    assert (code, err) == (0, "") and PASSWORD not in out
    assert out.startswith(f"ACL SETUSER demo-cache reset on #{hashed} %R~demo:* resetchannels -@all +@read ")
    server.script(out)
    assert allows(server, "demo-cache", "GET demo:x") and not allows(server, "demo-cache", "SET demo:x 1")

    code, out, err = run("grants", "--cache", **nothing)
    assert code == 0 and f"#{cache.HASH_PLACEHOLDER} " in out and "CACHE_PASS is not set" in err
    code, out, _ = run("grants", "--cache", **nothing, CACHE_PASS=PASSWORD, CACHE_USER="another")
    assert code == 0 and f"#{cache.HASH_PLACEHOLDER} " in out


@pytest.mark.parametrize("service", [API, ANALYTICS], ids=lambda each: each.name)
def test_a_server_starts_with_the_acl_file_once_it_has_a_hash(service: Service) -> None:
    line = cache.acl_file(service)
    nobody = Settings.load({"DB_TYPE": "sqlite", "DB_NAME": "/tmp/no-database"})
    assert cache.script(service, nobody) == line.replace("user ", "ACL SETUSER ", 1)
    with Redis(
        more_accounts=line.replace(cache.HASH_PLACEHOLDER, sha256(PASSWORD.encode()).hexdigest())
    ) as server:
        assert cache.verify(service, settings_of(server, service, admin=True)).lines() == []
    with pytest.raises(servers.Failed, match="hash must be exactly 64 characters"):
        Redis(more_accounts=line).start()
