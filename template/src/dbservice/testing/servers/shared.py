"""One server per engine for several processes: the main process runs it, the others request its address."""

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener

from .process import Failed
from .server import Database, ServerNotFound

Address = tuple[int, str]
"""The port on 127.0.0.1 and the authentication key of the process that runs the servers."""


def share(start: Callable[[str], Database]) -> Address:
    """Listen for requests from other processes: the reply is the administrator's account that `start` returns for an engine.
    Calls of `start` for the same engine are serialized."""
    key = secrets.token_hex(16)
    listener = Listener(("127.0.0.1", 0), authkey=key.encode())
    locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def accept() -> None:
        while True:
            threading.Thread(target=answer, args=[listener.accept()], daemon=True).start()

    def answer(connection: Connection) -> None:
        engine = connection.recv()
        try:
            with locks[engine]:
                connection.send(start(engine))
        except (ServerNotFound, Failed) as error:
            connection.send(error)

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.address[1]), key


def ask(address: Address, engine: str) -> Database:
    """The administrator's account of `engine`, whose server is started if needed. Raises ServerNotFound or Failed."""
    port, key = address
    with Client(("127.0.0.1", port), authkey=key.encode()) as connection:
        connection.send(engine)
        answer = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, Database)
    return answer
