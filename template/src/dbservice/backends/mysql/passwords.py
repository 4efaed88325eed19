"""Passwords as MySQL and MariaDB store them, computed here: the statement that sets one holds no password, so that no log,
binary log or process list can show it. (MariaDB writes `IDENTIFIED BY 'password'` to its general log as it is.)"""

import hashlib
import secrets

from .dialect import mariadb_only, mysql_only

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000

# Both servers have such a value for accounts nobody logs in to: it has the form of a hash and is the hash of nothing.
_NO_SHA2 = "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED"
NO_PASSWORD_MYSQL = f"IDENTIFIED WITH caching_sha2_password AS '{_NO_SHA2}'"
NO_PASSWORD_MARIADB = "IDENTIFIED VIA mysql_native_password USING 'invalid'"
NO_PASSWORD = f"{mysql_only(NO_PASSWORD_MYSQL)} {mariadb_only(NO_PASSWORD_MARIADB)}"
"""The clause of CREATE USER and ALTER USER under which the account accepts no password at all: that of each server, and for both."""


def identified(password: str, *, mariadb: bool) -> str:
    """The clause of ALTER USER that sets the password."""
    if mariadb:
        return f"IDENTIFIED VIA mysql_native_password USING '{native_hash(password)}'"
    return f"IDENTIFIED WITH caching_sha2_password AS '{caching_sha2_hash(password)}'"


def native_hash(password: str) -> str:
    """The hash of the plugin mysql_native_password."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


def caching_sha2_hash(password: str, salt: str | None = None) -> str:
    """The hash of the plugin caching_sha2_password, with a random salt of 20 characters unless it is given."""
    salt = salt or "".join(secrets.choice(_ALPHABET) for _ in range(20))
    return f"$A${_ROUNDS // 1000:03X}${salt}{_sha256_crypt(password.encode(), salt.encode())}"


def _sha256_crypt(password: bytes, salt: bytes) -> str:
    """The last part of SHA-256-crypt, https://akkadia.org/drepper/SHA-crypt.txt, whose names of the digests are kept."""
    b = hashlib.sha256(password + salt + password).digest()
    a = password + salt + _repeated(b, len(password))
    bits = len(password)
    while bits:
        a += b if bits & 1 else password
        bits >>= 1
    digest = hashlib.sha256(a).digest()
    p = _repeated(hashlib.sha256(password * len(password)).digest(), len(password))
    s = _repeated(hashlib.sha256(salt * (16 + digest[0])).digest(), len(salt))
    for i in range(_ROUNDS):
        text = p if i & 1 else digest
        if i % 3:
            text += s
        if i % 7:
            text += p
        digest = hashlib.sha256(text + (digest if i & 1 else p)).digest()
    letters = ""
    for i in range(10):
        first, second, third = (i * 21 + 10 * k for k in range(3))
        letters += _letters((digest[first % 30], digest[second % 30], digest[third % 30]), 4)
    return letters + _letters((0, digest[31], digest[30]), 3)


def _repeated(digest: bytes, length: int) -> bytes:
    return (digest * (length // len(digest) + 1))[:length]


def _letters(octets: tuple[int, int, int], count: int) -> str:
    value = int.from_bytes(bytes(octets), "big")
    return "".join(_ALPHABET[value >> 6 * i & 63] for i in range(count))
