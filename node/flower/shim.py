"""The Flower ClientApp: passes a message's bytes to the node's daemon and the daemon's answer back.

It knows no role, holds no key and imports neither torch nor a database, so that a message stays light. The daemon
listens on a Unix socket that only the node's user can open; the address comes from the executor's environment.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Client
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

SOCKET_VARIABLE = "CONCORDAT_DAEMON"
RECORD, FIELD, ERROR = "concordat", "envelope", "error"

app = ClientApp()


def call(socket: Path, request: bytes) -> bytes:
    """Send one request to the daemon and return its reply: a status byte and the content."""
    with Client(str(socket), "AF_UNIX") as connection:
        connection.send_bytes(request)
        return connection.recv_bytes()


def envelope_of(message: Message) -> bytes:
    """Return the signed envelope that a Flower message carries.

    Raises:
        KeyError: it carries none.
        TypeError: what it carries is not bytes.
    """
    found = message.content.config_records[RECORD][FIELD]
    if not isinstance(found, bytes):
        raise TypeError("an envelope is bytes")
    return found


def _pass_on(message: Message, _: Context) -> Message:
    try:
        record = ConfigRecord({FIELD: call(Path(os.environ[SOCKET_VARIABLE]), b"F" + envelope_of(message))})
    except (OSError, EOFError):
        # The daemon is restarting; the coordinator sends again.
        record = ConfigRecord({ERROR: "DAEMON_UNAVAILABLE"})
    except (KeyError, TypeError):
        record = ConfigRecord({ERROR: "MESSAGE_MALFORMED"})
    return Message(content=RecordDict({RECORD: record}), reply_to=message)


@app.query("enlist")
def enlist(message: Message, context: Context) -> Message:
    """Ask the institution whether it takes part, and with which keys."""
    return _pass_on(message, context)


@app.query("session")
def session(message: Message, context: Context) -> Message:
    """Open the session in which the parties prepare the training."""
    return _pass_on(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round."""
    return _pass_on(message, context)


@app.query("finish")
def finish(message: Message, context: Context) -> Message:
    """Evaluate, keep the model, erase the job's secrets."""
    return _pass_on(message, context)
