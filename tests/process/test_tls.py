"""DB_SSL_MODE in all three libraries: encrypted or refused, and the password sent only to a trusted server."""

import asyncio
import datetime as dt
import ipaddress
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dbservice.backends import Backend, backend_for
from dbservice.reads import ReadPool
from dbservice.settings import Settings
from dbservice.testing import plugin, servers

from ..faults import slow, until
from ..sample_service import order, sample_database, started

TLS_PLEASE = struct.pack(">II", 8, 80877103)  # how PostgreSQL is asked for TLS


async def by_databases(engine: Backend, sql: str) -> Any:
    pool = ReadPool(engine)
    try:
        await pool.start()
        return (await pool.fetch_raw(sql))[0][0]
    finally:
        await pool.stop()


async def by_the_driver_of_pydal(engine: Backend, sql: str) -> Any:
    def ask() -> Any:
        connection = engine.connect(statement_timeout=60)
        cursor = connection.cursor()
        cursor.execute(sql)
        answer = cursor.fetchone()[0]
        connection.close()
        return answer

    return await asyncio.to_thread(ask)


async def by_sqlalchemy(engine: Backend, sql: str) -> Any:
    def ask() -> Any:
        with engine.migrations.engine().connect() as connection:
            return connection.execute(sa.text(sql)).scalar()

    return await asyncio.to_thread(ask)


Library = Callable[[Backend, str], Any]
libraries = pytest.mark.parametrize("library", [by_databases, by_the_driver_of_pydal, by_sqlalchemy])


def trusting(settings: Settings, mode: str, ca: Path | None = None, host: str | None = None) -> Backend:
    changed: dict[str, Any] = {"db_ssl_mode": mode, "db_ssl_ca": ca}
    if host:
        changed |= {"db_host": host, "db_read_host": host}
    return backend_for(settings.model_copy(update=changed))


async def assert_refused(engine: Backend, library: Library, *words: str) -> None:
    with pytest.raises(Exception) as raised:
        await library(engine, "SELECT 1")
    said = engine.explain(raised.value)
    assert "\n" not in said
    assert any(word in said.lower() for word in words), said


# --- a server without TLS


class Plain:
    """What greets like a server that has no TLS, and remembers what it is told: nothing may reach it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(5)
            try:
                if self._kind == "postgresql":
                    self.heard += client.recv(8)
                    client.sendall(b"N")
                else:
                    client.sendall(_greeting())
                self.heard += client.recv(1000)
            except OSError:
                pass
            client.close()


def _greeting() -> bytes:
    """MySQL's first packet, which asks for the password in plain text."""
    capabilities = 0x00_0F_F7_DF & ~0x800  # 0x800 would be TLS
    body = b"\x0a8.0.31\0" + struct.pack("<I", 7) + b"a" * 8 + b"\0"
    body += struct.pack("<HBHH", capabilities & 0xFFFF, 45, 2, capabilities >> 16)
    body += struct.pack("<B10x", 21) + b"b" * 12 + b"\0" + b"mysql_clear_password\0"
    return struct.pack("<I", len(body))[:3] + b"\0" + body


@libraries
@pytest.mark.parametrize("mode", ["require", "verify-full"])
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_server_without_tls_gets_no_password(kind: str, mode: str, library: Library) -> None:
    with Plain(kind) as plain:
        environ = {"DB_TYPE": kind, "DB_HOST": "127.0.0.1", "DB_PORT": str(plain.port), "DB_NAME": "d"}
        settings = Settings.load({**environ, "DB_USER": "somebody", "DB_PASS": "hush-hush"})
        await assert_refused(trusting(settings, mode), library, "ssl", "tls")
        assert plain.heard in (b"", TLS_PLEASE)


# --- a server with TLS


class Secured:
    """A database on a server whose certificate is for 127.0.0.1 and nothing else, and the file of its CA."""

    def __init__(self, settings: Settings, ca: Path, version: str, before: "TlsBefore | None" = None) -> None:
        self.settings, self.ca, self._before = settings, ca, before
        self.version = version

    async def encrypts(self, engine: Backend, library: Library) -> bool:
        """Whether this library's connection is encrypted; it works, or this raises."""
        if self._before is not None:
            self._before.encrypted.clear()
            assert await library(engine, "SELECT 7") == 7
            assert len(set(self._before.encrypted)) == 1
            return self._before.encrypted[0]
        schema = "information_schema" if "MariaDB" in self.version else "performance_schema"
        sql = f"SELECT LENGTH(variable_value) FROM {schema}.session_status WHERE variable_name = 'Ssl_cipher'"
        return bool(await library(engine, sql))


class TlsBefore:
    """TLS in front of a PostgreSQL that was built without it, or `at_once` in front of another server."""

    def __init__(self, settings: Settings, certificate: Path, key: Path, *, at_once: bool = False) -> None:
        self._target: tuple[str, int] = settings.addresses[0]
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self.encrypted: list[bool] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        serving = (
            asyncio.start_server(self._pass_on_to_server, "127.0.0.1", 0, ssl=self._context)
            if at_once
            else asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            self.encrypted.append(first == TLS_PLEASE)
            if first == TLS_PLEASE:
                writer.write(b"S")
                await writer.start_tls(self._context)
                first = b""
            await self._pass_on_to_server(reader, writer, first)
        writer.close()

    async def _pass_on_to_server(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        server = await asyncio.open_connection(*self._target)
        server[1].write(first)
        await asyncio.gather(_pass_on(reader, server[1]), _pass_on(server[0], writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture(scope="module", params=sorted(servers.ENGINES))
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    ca_key, ca = _authority()
    _write(folder / "ca.pem", ca)
    shared = plugin.find_server(request.param, request.config)  # skips what cannot be had
    if shared.type == "postgresql":
        certificate, key, _ = _certificate(ca_key, ca, folder)
        with sample_database(shared) as settings:
            before = TlsBefore(settings, certificate, key)
            ports = dict.fromkeys(("db_port", "db_read_port"), before.port)
            yield Secured(settings.model_copy(update=ports), folder / "ca.pem", shared.version, before)
            before.close()
        return
    with servers.own(request.param) as server:
        certificate, key, authority = _certificate(ca_key, ca, server.folder)
        server.options = [f"--ssl-ca={authority}", f"--ssl-cert={certificate}", f"--ssl-key={key}"]
        server.restart()
        with sample_database(server) as settings:
            yield Secured(settings, folder / "ca.pem", server.version)


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    builder = _builder(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    return key, builder.sign(key, hashes.SHA256())


def _certificate(ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, folder: Path) -> list[Path]:
    """Certificate, key and CA, in files that the server may read."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = _builder(name, ca.subject, key.public_key()).add_extension(names, critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = builder.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA256())
    files = [folder / name for name in ("tls.crt", "tls.key", "ca.crt")]
    _write(files[0], certificate)
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    files[1].chmod(0o600)
    _write(files[2], ca)
    owner = folder.stat()
    for file in files:
        os.chown(file, owner.st_uid, owner.st_gid)
    return files


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), now - dt.timedelta(1), now + dt.timedelta(9)
    )


def _write(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@libraries
async def test_require_encrypts(secured: Secured, library: Library) -> None:
    assert not await secured.encrypts(trusting(secured.settings, "disable"), library)
    assert await secured.encrypts(trusting(secured.settings, "require"), library)


@libraries
async def test_verify_full_takes_the_right_certificate(secured: Secured, library: Library) -> None:
    assert await secured.encrypts(trusting(secured.settings, "verify-full", secured.ca), library)


@libraries
async def test_verify_full_refuses_another_authority(
    secured: Secured, tmp_path: Path, library: Library
) -> None:
    other = tmp_path / "other.pem"
    _write(other, _authority()[1])
    await assert_refused(
        trusting(secured.settings, "verify-full", other), library, "certificate verify failed"
    )
    await assert_refused(trusting(secured.settings, "verify-full"), library, "certificate verify failed")


@libraries
async def test_verify_full_refuses_another_name(secured: Secured, library: Library) -> None:
    elsewhere = trusting(secured.settings, "verify-full", secured.ca, host="localhost")
    await assert_refused(elsewhere, library, "'localhost'", '"localhost"')


async def test_a_service_runs_over_tls(secured: Secured) -> None:
    settings = secured.settings.model_copy(update={"db_ssl_mode": "verify-full", "db_ssl_ca": secured.ca})
    async with started(settings) as running:
        reads = [asyncio.ensure_future(running.reads.fetch_raw(slow(settings, 0.3))) for _ in range(3)]
        await asyncio.sleep(0.1)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        await until(lambda: running.reads.in_use == 0)
        row_id = await running.writes.run(lambda db: db[order].insert())
        assert row_id and len(await running.reads.fetch_raw("SELECT 1")) == 1
