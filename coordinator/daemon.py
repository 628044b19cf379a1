"""The coordinator's daemon: the registry, the public edge, the operators' socket, the queue of jobs.

Wiring only. Run as ``python -m coordinator.daemon COORDINATOR.toml``; ``concordat coordinator run`` starts it
beside the exchange's server and Flower's two processes.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from dbos import DBOS, SetWorkflowID

from coordinator import founding, operator_app, public_app
from coordinator.config import CoordinatorConfig, load
from coordinator.flower import Control
from coordinator.jobs import Jobs
from coordinator.registry import Registry
from coordinator.relay import reload_relay, write_relay
from coordinator.store import ENDED, Store
from node.exchange import Exchange
from node.keystore import write_private
from protocol import document
from protocol.canonical import encode
from protocol.errors import ConcordatError
from protocol.identity import Party
from protocol.mailbox import COORDINATOR, object_name

log = logging.getLogger(__name__)
INBOX = "inbox"
RESEND_SECONDS = 6 * 3600.0
LISTEN_SECONDS = 5.0


class Daemon:
    """The coordinator, alive."""

    def __init__(self, config: CoordinatorConfig) -> None:
        self.config = config
        authority = config.path(founding.AUTHORITY_CERTIFICATE)
        keys = founding.load_keystore(config)
        self.key = keys.identity()
        self.store = Store.open(config.database_url(config.database.url))
        self.control = Control(config.listen.superlink, authority)
        self.exchange = Exchange(
            f"tls://{config.exchange_dial()}", keys.tls_context(authority), config.consortium, COORDINATOR
        )
        self.registry = Registry(
            config,
            self.store,
            founding.load_authority(config),
            founding.load_registry_key(config),
            self.key,
            self._admitted,
        )
        self.registry.found()
        self.jobs = Jobs(
            config.consortium, self.store, self.key, self.registry.directory, self.control, start=start_job
        )
        self._edge_tls = ssl.create_default_context(cafile=str(authority))
        self._ended = threading.Event()
        self._told: dict[str, tuple[bytes, float]] = {}
        self._heard: dict[str, bytes] = {}

    def ended(self) -> bool:
        """Whether the daemon is about to stop."""
        return self._ended.is_set()

    def run(self) -> None:
        """Serve until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: self._ended.set())
        signal.signal(signal.SIGINT, lambda *_: self._ended.set())
        servers = [self._public(), self._operators()]
        for server in servers:
            threading.Thread(target=server.run, daemon=True).start()
        self.exchange.open([], patience=600)
        self.control.await_ready(600, self.ended)
        for row in self.store.list_parties():
            self._make_buckets(row["name"])
        _current[:] = [self]
        DBOS(config=_steps(self.config))
        DBOS.launch()
        threading.Thread(target=self._renew_leases, daemon=True).start()
        log.info("ready")
        write_private(self.config.path("run/ready"), str(os.getpid()).encode())
        seen, listened = -1, 0.0
        try:
            while not self._ended.is_set():
                arrivals = self.exchange.arrivals()
                try:
                    self._speak()
                    if arrivals != seen or time.monotonic() - listened > LISTEN_SECONDS:
                        self._listen()
                        seen, listened = arrivals, time.monotonic()
                except ConcordatError as error:
                    log.warning("%s", error.code)
                self.exchange.await_arrival(arrivals, 0.5)
        finally:
            for server in servers:
                server.should_exit = True
            DBOS.destroy(workflow_completion_timeout_sec=0)
            self.exchange.close()

    # -- servers --------------------------------------------------------------------------------------------

    def _public(self) -> uvicorn.Server:
        host, _, port = self.config.listen.public.rpartition(":")
        app = public_app.create(self.registry, self.config.listen.superlink, self._edge_tls)
        return _Server(
            uvicorn.Config(
                app,
                host=host,
                port=int(port),
                ssl_certfile=str(self.config.path(founding.SERVER_CERTIFICATE)),
                ssl_keyfile=str(self.config.path(founding.SERVER_KEY)),
                log_level="warning",
                access_log=False,
                timeout_keep_alive=75,
            )
        )

    def _operators(self) -> uvicorn.Server:
        socket = self.config.operator_socket()
        socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        socket.unlink(missing_ok=True)
        app = operator_app.create(self.registry, self.jobs, self.store)
        return _Server(uvicorn.Config(app, uds=str(socket), log_level="warning", access_log=False))

    # -- parties --------------------------------------------------------------------------------------------

    def _admitted(self, party: Party) -> None:
        """Open Flower and the exchange to a party that was just admitted."""
        if party.flower_key:
            self.control.register(party.name, party.flower_key)
        write_relay(self.config, self.store)
        reload_relay(self.config)
        self._make_buckets(party.name)

    def _make_buckets(self, name: str) -> None:
        for row in self.store.list_parties():
            if row["name"] != name:
                self.exchange.make_bucket(name, row["name"])
                self.exchange.make_bucket(row["name"], name)
        if name != COORDINATOR:
            self.exchange.listen(name)

    def _speak(self) -> None:
        """Tell each party who is who and what is proposed."""
        statements = encode(self.registry.statements())
        for row in self.store.list_parties():
            if row["name"] != COORDINATOR:
                self._tell(row["name"], "directory", statements)
                self._tell(row["name"], "proposals", encode(self.jobs.open_proposals(row["name"])))

    def _listen(self) -> None:
        """Take what the parties decided."""
        for row in self.store.list_parties():
            name = row["name"]
            if name == COORDINATOR:
                continue
            try:
                decided = self.exchange.poll(name, object_name(INBOX, 0, 0, "approvals", name, COORDINATOR))
            except ConcordatError as error:
                # One party's mailbox must not keep the others waiting.
                log.warning("the mail of %s: %s", name, error.code)
                continue
            if decided is not None and self._heard.get(name) != decided:
                self._heard[name] = decided
                self.jobs.take_decisions(name, decided)

    def _tell(self, name: str, what: str, data: bytes) -> None:
        last, at = self._told.get(f"{name} {what}", (b"", 0.0))
        # Objects on the exchange expire after days; what must stay there is left anew well before.
        if last != data or time.monotonic() - at > RESEND_SECONDS:
            self.exchange.put(name, object_name(INBOX, 0, 0, what, COORDINATOR, name), data)
            self._told[f"{name} {what}"] = (data, time.monotonic())

    def _renew_leases(self) -> None:
        """Tell the parties of running jobs that they go on, and those of ended ones that they don't."""
        while not self._ended.wait(1.0):
            try:
                for row in self.store.list_jobs():
                    over = row["state"] in ENDED
                    if row["state"] == "running" or (over and time.time() - row["finished_at"] < 30):
                        self._renew(row, over and row["state"] != "finished")
            except Exception as error:  # noqa: BLE001 - without leases every running job would end
                log.warning("leases: %s", getattr(error, "code", type(error).__name__))

    def _renew(self, row: dict[str, Any], cancelled: bool) -> None:
        body = {
            "proposal": row["id"],
            "generation": row["generation"],
            "cancelled": cancelled,
            "at": int(time.time()),
        }
        data = encode(document.sign("lease", body, COORDINATOR, self.key))
        for name in self.jobs.proposal(row["id"]).parties:
            self.exchange.announce(f"lease.{name}", data)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the daemon."""

    def install_signal_handlers(self) -> None:
        """Leave signals alone."""


def _steps(config: CoordinatorConfig) -> Any:
    return {
        "name": "concordat-coordinator",
        "system_database_url": config.database_url(config.database.steps_url),
        "application_version": "1",
        "log_level": "WARNING",
        "run_admin_server": False,
        "use_listen_notify": False,
    }


_current: list[Daemon] = []


def start_job(job: str) -> None:
    """Begin to see a job through, once; it is taken up again after a crash."""
    with SetWorkflowID(f"job-{job}"):
        DBOS.start_workflow(see_through, job)


@DBOS.workflow()
def see_through(job: str) -> str:
    """See a job from its proposal to its end."""
    daemon = _current[0]
    jobs, store = daemon.jobs, daemon.store
    row = store.job(job)
    assert row is not None
    deadline = row["submitted_at"] + daemon.config.jobs.approval_seconds
    cause = DBOS.run_step({"name": "approvals"}, jobs.await_approvals, job, deadline, daemon.ended)
    if not cause:
        cause = DBOS.run_step({"name": "leases"}, jobs.await_leases, job, daemon.ended)
    if cause:
        state = "cancelled" if cause == "cancelled" else "rejected"
        store.end_job(job, state, cause)
        store.event(job, "job", state, detail=cause)
        return state
    DBOS.run_step({"name": "run"}, jobs.run, job, daemon.config.jobs.resumes, daemon.ended)
    ended = store.job(job)
    assert ended is not None
    return str(ended["state"])


def main() -> None:
    """Run the daemon of the configuration that is named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        Daemon(load(Path(sys.argv[1]))).run()
    except ConcordatError as error:
        print(str(error), file=sys.stderr)  # noqa: T201 - what an operator must read
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
