"""The node's daemon: one long-lived process that owns the database, the durable steps, the exchange and the door.

Wiring only. Run as ``python -m node.daemon NODE.toml``; ``concordat node run`` starts it, and Flower's SuperNode where
the role takes part in rounds.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from hashlib import sha256
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from dbos import DBOS

from node import guard
from node.approval import Approvals
from node.config import NodeConfig, load
from node.door import Door
from node.egress import EgressLog
from node.exchange import Exchange
from node.flower.bundle import code_hash
from node.keystore import Keystore
from node.members import Members
from node.processes import TAKES_PART_IN_ROUNDS
from node.role import load_role
from node.session import Leases, Parts
from node.stages import FIELD_CLASS, Stages, serve_with
from node.store import Store, hosts_of
from node.vault import Vault
from protocol import document
from protocol.canonical import digest, encode
from protocol.errors import ConcordatError, ProtocolError, Unavailable
from protocol.mailbox import COORDINATOR, answer_name, object_name, request_name

log = logging.getLogger(__name__)
INBOX = "inbox"
TURN_SECONDS = 1.0
LOOK_SECONDS = 5.0
# Objects on the exchange expire after days; what must stay there is left anew well before.
RESEND_SECONDS = 6 * 3600.0
HEAD_FILE = "egress.head"


class Daemon:
    """One node, alive."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        joined = config.joined()
        name = config.node.name
        keys = Keystore(config.path("keys"), config.passphrase())
        self.key = keys.identity()
        self.store = Store.open(config.database_url(config.database.url))
        self.members = Members(config)
        tls = keys.tls_context(config.path(joined.authority))
        self.exchange = Exchange(f"tls://{joined.exchange}", tls, joined.name, name)
        self.log = EgressLog(self.store, self.key, config.path(HEAD_FILE))
        self.door = Door(self.log, self.exchange)
        self.leases = Leases()
        self.role = load_role(config)
        self.approvals = Approvals(config, self.store, self.key, code_hash())
        self.progress: dict[str, Any] = {"state": "starting"}
        self._vault = Vault(config.path("vault"), keys.storage_key())
        self._ended = threading.Event()
        self._sent, self._sent_at = b"", 0.0
        self._asked = b""
        parts = Parts(
            party=name,
            key=self.key,
            directory=self.members.directory,
            store=self.store,
            vault=self._vault,
            door=self.door,
            exchange=self.exchange,
            leases=self.leases,
            notes=self._note,
        )
        self.stages = Stages(parts, self.role, self.approvals, code_hash())

    # -- life -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: self._ended.set())
        signal.signal(signal.SIGINT, lambda *_: self._ended.set())
        socket = self.config.socket()
        socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        socket.unlink(missing_ok=True)
        host, _, port = self.config.joined().exchange.rpartition(":")
        hosts = hosts_of(self.config.database.url, self.config.database.steps_url)
        guard.close({(host, int(port))}, self._report, {str(socket)}, hosts)
        listener = Listener(str(socket), "AF_UNIX", backlog=16)
        socket.chmod(0o600)
        threading.Thread(target=self._accept, args=(listener,), name="listener", daemon=True).start()
        self.table = self.role.load()
        self.exchange.open([COORDINATOR], patience=600)
        self.exchange.subscribe(f"lease.{self.config.node.name}", self._lease)
        serve_with(self.stages)
        DBOS(config=_steps(self.config))
        DBOS.launch()
        self.progress = {"state": "ready"}
        log.info("ready")
        try:
            self._turns()
        finally:
            DBOS.destroy(workflow_completion_timeout_sec=0)
            self.exchange.close()

    def _turns(self) -> None:
        seen, looked = -1, 0.0
        while not self._ended.is_set():
            arrivals = self.exchange.arrivals()
            try:
                if arrivals != seen or time.monotonic() - looked > LOOK_SECONDS:
                    self._look()
                    seen, looked = arrivals, time.monotonic()
                self._send_decisions()
            except ConcordatError as error:
                log.warning("%s", error.code)
            if not self._ended.is_set():
                self.exchange.await_arrival(arrivals, TURN_SECONDS)

    def _look(self) -> None:
        """Fetch what the coordinator says."""
        name = self.config.node.name
        known = self.exchange.poll(COORDINATOR, object_name(INBOX, 0, 0, "directory", COORDINATOR, name))
        if known is not None and self.members.renew(_list(known)):
            log.info("the directory changed")
        data = self.exchange.poll(COORDINATOR, object_name(INBOX, 0, 0, "proposals", COORDINATOR, name))
        if data is not None:
            proposed = _list(data)
            for signed in proposed:
                if self.approvals.receive(signed, self.members.directory()):
                    log.info("a job was proposed")
            self.stages.forget_ended({digest("proposal", signed["body"]) for signed in proposed})
        if self.config.node.role not in TAKES_PART_IN_ROUNDS:
            self._look_for_requests()

    def _look_for_requests(self) -> None:
        """Take up what the coordinator asks of a node that no Flower message reaches."""
        asked = self.exchange.poll(COORDINATOR, request_name(self.config.node.name))
        mark = sha256(asked or b"").digest()
        if asked and mark != self._asked:
            self._asked = mark
            threading.Thread(target=self._answer, args=(asked,), name="request", daemon=True).start()

    def _answer(self, asked: bytes) -> None:
        name = self.config.node.name
        try:
            data, reply = self.stages.answer(asked)
            self.door.leave(
                COORDINATOR,
                answer_name(reply.job, reply.attempt, reply.generation, reply.sequence, name),
                data,
                purpose=reply.step,
                job=reply.job,
                field_class=FIELD_CLASS.get(reply.step, "answer"),
            )
        except ConcordatError as error:
            log.warning("a request was not answered: %s", error.code)
            # The coordinator asks again; the same bytes are then looked at anew.
            self._asked = b""

    def _send_decisions(self) -> None:
        """Send what this institution decided, when it has changed and now and then."""
        name = self.config.node.name
        decided = encode(self.approvals.outgoing())
        due = time.monotonic() - self._sent_at > RESEND_SECONDS
        if decided != b"[]" and (due or self._sent != decided):
            self.door.leave(
                COORDINATOR,
                object_name(INBOX, 0, 0, "approvals", name, COORDINATOR),
                decided,
                purpose="approvals",
                job="",
                field_class="decision",
            )
            self._sent, self._sent_at = decided, time.monotonic()

    def _lease(self, data: bytes) -> None:
        try:
            body = document.verify(
                json.loads(data), "lease", self.members.directory().keys_by_name, [COORDINATOR]
            )
            if abs(time.time() - body["at"]) < 120:
                self.leases.renew(body["proposal"], body["generation"], body["cancelled"])
        except (ConcordatError, ValueError, KeyError, TypeError):
            self.store.refuse(COORDINATOR, "LEASE_INVALID", "a lease could not be believed")

    # -- the socket -----------------------------------------------------------------------------------------

    def _accept(self, listener: Listener) -> None:
        while not self._ended.is_set():
            try:
                connection = listener.accept()
            except (OSError, EOFError):
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            try:
                request = connection.recv_bytes()
                kind, content = request[:1], request[1:]
                if kind == b"F":
                    self._flower(content, connection)
                elif kind == b"R":
                    report = json.loads(content)
                    self.store.refuse("", report["code"], report["message"])
                    connection.send_bytes(b"ok")
                elif kind == b"S":
                    connection.send_bytes(json.dumps(self.status()).encode())
            except (OSError, EOFError):
                pass
            except ConcordatError as error:
                # The request was no request of the coordinator: whoever sent it gets nothing.
                log.warning("refused: %s", error.code)
            except Exception:
                log.exception("a request failed")

    def _flower(self, content: bytes, connection: Connection) -> None:
        if self.progress.get("state") == "starting":
            return
        data, reply = self.stages.answer(content)
        self.door.release(
            COORDINATOR,
            data,
            connection.send_bytes,
            purpose=f"{reply.step} (Flower)",
            job=reply.job,
            field_class=FIELD_CLASS.get(reply.step, "answer"),
        )

    # -- what operators see ---------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what ``concordat node status`` shows."""
        head = self.log.head()
        return {
            "name": self.config.node.name,
            "role": self.config.node.role,
            "fingerprint": self.key.public.fingerprint,
            "pid": os.getpid(),
            "exchange": self.exchange.connected(),
            "table": getattr(self, "table", None),
            "egress": {"records": head.seq, "head": head.digest},
            "pending": sum(row["state"] == "pending" for row in self.store.list_proposals()),
            **self.progress,
        }

    def _note(self, job: str, step: str, numbers: dict[str, Any]) -> None:
        self.progress = {"state": "working", "job": job, "step": step, "at": time.time(), **numbers}

    def _report(self, what: str) -> None:
        log.error("egress forbidden: %s", what)
        self.store.refuse("", "EGRESS_FORBIDDEN", f"this process tried {what}")


def _list(data: bytes) -> list[dict[str, Any]]:
    """Return a list of documents, before any of them is believed.

    Raises:
        ProtocolError: it is none.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(
        isinstance(signed, dict) and isinstance(signed.get("body"), dict) for signed in found
    ):
        raise ProtocolError("MAIL_MALFORMED", "what the coordinator says can't be read")
    return found


def _steps(config: NodeConfig) -> Any:
    return {
        "name": "concordat-node",
        "system_database_url": config.database_url(config.database.steps_url),
        "application_version": "1",
        "log_level": "WARNING",
        "run_admin_server": False,
        "use_listen_notify": False,
    }


def main() -> None:
    """Run the daemon of the configuration that is named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        Daemon(load(Path(sys.argv[1]))).run()
    except Unavailable as error:
        log.error("%s", error)
        sys.exit(error.exit_code)
    except ConcordatError as error:
        print(str(error), file=sys.stderr)  # noqa: T201 - what an operator must read
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
