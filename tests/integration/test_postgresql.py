"""Both stores and the durable steps on a PostgreSQL server of their own, addressed as a deployment addresses it.

The server demands SCRAM on its Unix socket and on loopback, and every party has a user and a database of its own; the
password comes from a file that only its owner can read (``passfile``), never from the URL or the environment.
"""

import errno
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import coordinator.config
import coordinator.processes
import coordinator.store
import node.processes
import node.store
from concordat.lab import call
from concordat.supervision import Supervisor
from coordinator import founding
from coordinator.relay import write_relay
from node import enrolment
from node.egress import GENESIS, EgressLog, verify
from node.enrolment import append, equip, initialise
from node.keystore import write_private
from protocol.errors import ProtocolError
from protocol.identity import IdentityKey

PLACES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
PLACES += [Path(found).parent for found in (shutil.which("initdb"),) if found]
BINARIES = next((path for path in PLACES if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(BINARIES is None, reason="PostgreSQL's initdb and pg_ctl are not installed"),
]
PARTIES = ("bank_a", "bank_b", "hub", "office", "neutral")
PASSWORD = "a password of the test"


@dataclass(frozen=True)
class Server:
    """A private server: where its socket lies and where each party's password file is."""

    directory: Path
    port: int

    def url(self, user: str, database: str | None = None) -> str:
        query = f"host={self.directory}&port={self.port}&passfile={self.directory}/{user}.pass"
        return f"postgresql+psycopg://{user}@/{database or user}?{query}"

    def url_by_name(self, user: str) -> str:
        """As a container addresses the container of its database."""
        passfile = f"{self.directory}/{user}.pass"
        return f"postgresql+psycopg://{user}@localhost:{self.port}/{user}?passfile={passfile}"

    def query(self, statement: str, user: str = "bank_a", database: str | None = None) -> list[Any]:
        engine = sa.create_engine(self.url(user, database))
        try:
            with engine.begin() as db:
                found = db.execute(sa.text(statement))
                return list(found) if found.returns_rows else []
        finally:
            engine.dispose()


def _other_user() -> str | None:
    """PostgreSQL refuses to run as root; then it runs as its own user, or as nobody."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert BINARIES is not None
    # Not below pytest's own folder, which only the test's user can enter; short, for the socket's path.
    directory = Path(tempfile.mkdtemp(prefix="cpg-"))
    user = _other_user()
    directory.chmod(0o755)
    if user is not None:
        shutil.chown(directory, user)
    secret = directory / "superuser"
    secret.write_text(PASSWORD)
    if user is not None:
        shutil.chown(secret, user)
    data = directory / "data"

    def run(*command: str) -> None:
        subprocess.run(
            [str(BINARIES / command[0]), *command[1:]],
            check=True,
            user=user,
            cwd=directory,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    port = int(_free_address().rpartition(":")[2])
    options = (
        f"-c listen_addresses=localhost -c port={port} -c unix_socket_directories={directory} -c fsync=off"
    )
    try:
        run("initdb", "-D", str(data), "-U", "admin", "--pwfile", str(secret), "-A", "scram-sha-256", "-N")
        run("pg_ctl", "-D", str(data), "-o", options, "-l", str(directory / "log"), "-w", "start")
        made = Server(directory, port)
        for name in ("admin", *PARTIES):
            write_private(directory / f"{name}.pass", f"*:*:*:{name}:{PASSWORD}\n".encode())
        engine = sa.create_engine(made.url("admin", "postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as db:
            for name in PARTIES:
                db.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"))
                db.execute(sa.text(f"CREATE DATABASE {name} OWNER {name}"))
                db.execute(sa.text(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"))
        engine.dispose()
        yield made
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def bank(server: Server) -> Iterator[node.store.Store]:
    store = node.store.Store.open(server.url("bank_a"))
    yield store
    store.engine.dispose()


@pytest.fixture(scope="module")
def hub(server: Server) -> Iterator[coordinator.store.Store]:
    store = coordinator.store.Store.open(server.url("hub"))
    yield store
    store.engine.dispose()


def test_no_party_reads_anothers_database(server: Server) -> None:
    with pytest.raises(sa.exc.OperationalError, match="permission denied"):
        server.query("SELECT 1", "bank_b", "bank_a")


def test_a_password_file_that_others_can_read_is_not_used(server: Server) -> None:
    path = server.directory / "bank_b.pass"
    path.chmod(0o644)
    try:
        with pytest.raises(sa.exc.OperationalError, match="no password supplied"):
            server.query("SELECT 1", "bank_b")
    finally:
        path.chmod(0o600)
    assert server.query("SELECT 1", "bank_b") == [(1,)]


def test_migrating_twice_changes_nothing_and_makes_what_the_code_expects(
    server: Server, bank: node.store.Store, hub: coordinator.store.Store
) -> None:
    for store, opened, metadata in (
        (bank, node.store.Store.open(server.url("bank_a")), node.store.metadata),
        (hub, coordinator.store.Store.open(server.url("hub")), coordinator.store.metadata),
    ):
        found = sa.inspect(store.engine)
        for table in metadata.tables.values():
            columns = {column["name"]: column for column in found.get_columns(table.name)}
            assert set(columns) == set(table.columns.keys())
            for column in table.columns:
                assert columns[column.name]["nullable"] == column.nullable
                if isinstance(column.type, sa.String) and column.type.length is not None:
                    assert columns[column.name]["type"].length == column.type.length, (table, column)
        opened.engine.dispose()


def test_a_node_keeps_proposals_jobs_guards_and_models(bank: node.store.Store) -> None:
    digest = "ab" * 32
    document = {"body": {"title": "Kredit für 小微企业"}}
    assert bank.add_proposal(digest, document)
    assert not bank.add_proposal(digest, document)
    # An approver's name may have 200 characters (protocol.job.Approval).
    bank.decide(digest, "approved", "Ä" * 200, "because", {"signed": True})
    row = bank.proposal(digest)
    assert row is not None
    assert (row["state"], len(row["decided_by"])) == ("approved", 200)
    assert json.loads(row["document"]) == document
    assert [each["digest"] for each in bank.list_proposals()] == [digest]

    bank.open_job("cd" * 32, digest, {"m": 1})
    bank.open_job("cd" * 32, digest, {"m": 2})
    bank.set_job("cd" * 32, attempt=1, generation=4)
    job = bank.job("cd" * 32)
    assert job is not None
    assert (job["manifest"], job["attempt"], job["generation"]) == ('{"m": 1}', 1, 4)
    assert [each["job"] for each in bank.job_of(digest)] == ["cd" * 32]

    for state in ({"n": 1}, {"n": 2}):
        bank.save_guard("r-" + "cd" * 31, state)
        assert bank.load_guard("r-" + "cd" * 31) == state
    assert bank.load_guard("unknown") is None

    bank.refuse("bank-b", "SIGNATURE_INVALID", "a message could not be believed")
    bank.refuse("bank-c", "ENVELOPE_REPEATED", "again")
    assert [each["peer"] for each in bank.list_refusals()] == ["bank-b", "bank-c"]

    bank.save_model("cd" * 32, "ef" * 32, {"auc": 0.7})
    bank.save_model("cd" * 32, "00" * 32, {"auc": 0.8})
    assert [each["digest"] for each in bank.list_models()] == ["00" * 32]


def test_the_egress_log_holds_and_a_change_in_the_database_is_found(
    server: Server, bank: node.store.Store, tmp_path: Path
) -> None:
    key = IdentityKey.generate()
    log = EgressLog(bank, key, tmp_path / "head")
    for number in range(5):
        log.append(
            peer="coordinator", purpose="train", job="", field_class="masked update", payload=bytes(number)
        )
    # A log that another process opens goes on where this one stands.
    again = EgressLog(bank, key, tmp_path / "head")
    again.append(peer="coordinator", purpose="train", job="", field_class="masked update", payload=b"6")
    assert verify(bank, key.public, {"file": again.head()}).seq == 6
    server.query("UPDATE egress SET record = replace(record, 'masked update', 'nothing') WHERE seq = 3")
    with pytest.raises(ProtocolError, match="record 3"):
        verify(bank, key.public, {})
    server.query("DELETE FROM egress WHERE seq <= 3")
    with pytest.raises(ProtocolError, match="no record 1"):
        verify(bank, key.public, {})
    server.query("DELETE FROM egress")
    with pytest.raises(ProtocolError) as cut:
        verify(bank, key.public, {"file": again.head()})
    assert cut.value.code == "EGRESS_CUT"
    assert verify(bank, key.public, {}).digest == GENESIS


def test_the_coordinator_keeps_parties_jobs_openings_events_and_models(hub: coordinator.store.Store) -> None:
    hub.invite("t1", "bank-a", "bank", False, 2_000_000_000)
    hub.invite("t2", "bank-a", "bank", True, 2_000_000_000)
    assert hub.invitation("t1") is None
    hub.keep_request("t2", {"body": {"name": "bank-a"}})
    pending = hub.pending("bank-a")
    assert pending is not None
    assert pending["admit"] is True
    hub.admit("bank-a", "bank", {"body": {}}, "PEM")
    hub.admit("bank-a", "bank", {"body": {}}, "PEM 2")
    assert [row["certificate"] for row in hub.list_parties()] == ["PEM 2"]

    job = "12" * 32
    assert hub.submit(job, {"body": {"title": "x"}})
    assert not hub.submit(job, {"body": {"title": "x"}})
    hub.set_job(job, state="running", cancel=True, run=str(2**64 - 1))
    row = hub.job(job)
    assert row is not None
    assert (row["cancel"], row["run"]) == (True, str(2**64 - 1))
    hub.approve(job, "bank-a", {}, "reject")
    hub.approve(job, "bank-a", {}, "approve")
    assert hub.approvals(job) == {"bank-a": "approve"}

    total = bytes(range(256)) * 4096
    hub.save_opening(job, "update.1", 0, total)
    hub.save_opening(job, "update.1", 0, b"another")
    assert hub.openings(job) == {("update.1", 0): total}
    hub.event(job, "train", "answered", "bank-a", bytes=7)
    hub.event(job, "train", "opened")
    first, second = hub.events(job)
    assert first["detail"] == {"bytes": 7}
    assert hub.events(job, first["id"]) == [second]

    assert hub.register_model(job, "aa" * 32, {"card": 1}, [{}]) == 1
    assert hub.register_model(job, "bb" * 32, {"card": 2}, [{}]) == 1
    assert hub.register_model("34" * 32, "cc" * 32, {"card": 3}, [{}]) == 2
    assert [each["version"] for each in hub.list_models()] == [2, 1]
    assert hub.end_job(job, "finished", "", {"version": 1})
    assert not hub.end_job(job, "failed", "too late")


def test_counters_and_leases_hold_when_many_ask_at_once(hub: coordinator.store.Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: hub.next("sequence of a new job"), range(64)))
        names = ["bank-a", "bank-b", "bank-c"]
        busy = list(pool.map(lambda number: hub.take_leases(f"job-{number}", names), range(16)))
    assert sorted(given) == list(range(1, 65))
    assert sorted(map(len, busy)) == [0] + [3] * 15
    winner = f"job-{busy.index([])}"
    assert hub.take_leases(winner, names) == []
    hub.end_job(winner, "failed")


STEPS = """
import os, sys
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from node.config import load
from node.daemon import _steps

marks, crash = Path(sys.argv[2]), sys.argv[3] == "crash"


def step(name):
    with marks.open("a") as file:
        file.write(name + "\\n")
    return name


@DBOS.workflow()
def stage(job):
    kept = [DBOS.run_step({"name": "draw and store"}, step, "draw and store")]
    if crash:
        os._exit(9)
    kept.append(DBOS.run_step({"name": "send"}, step, "send"))
    return " then ".join(kept)


DBOS(config=_steps(load(Path(sys.argv[1]))))
DBOS.launch()
if crash:
    with SetWorkflowID("job-0-1"):
        DBOS.start_workflow(stage, "job").get_result()
# The launch takes up what a crash left behind.
print(DBOS.retrieve_workflow("job-0-1").get_result())
DBOS.destroy(workflow_completion_timeout_sec=0)
"""


def test_a_durable_step_is_not_repeated_after_a_crash(server: Server, tmp_path: Path) -> None:
    file = initialise(tmp_path / "n", "bank-b", "bank", "127.0.0.1:7501")
    url = server.url("bank_b")
    append(file, f"[database]\nurl = {json.dumps(url)}\nsteps_url = {json.dumps(url)}")
    script, marks = tmp_path / "steps.py", tmp_path / "marks"
    script.write_text(STEPS)

    def run(mode: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(file), str(marks), mode]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert run("crash").returncode == 9
    assert marks.read_text().split("\n") == ["draw and store", ""]
    ended = run("go on")
    assert ended.stdout.strip().splitlines()[-1:] == ["draw and store then send"], ended.stderr[-2000:]
    assert marks.read_text().split("\n") == ["draw and store", "send", ""]
    # Nodes' tables and steps share a database without meeting: the steps have a schema of their own.
    node.store.Store.open(url).engine.dispose()
    schemas = {
        row[0] for row in server.query("SELECT schema_name FROM information_schema.schemata", "bank_b")
    }
    assert {"public", "dbos"} <= schemas


def test_a_coordinator_with_the_exchange_apart_and_a_node_come_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The containers' wiring on one host: PostgreSQL by URL, the exchange's server on its own, configuration given."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    public, exchange, superlink, runtime = (_free_address() for _ in range(4))
    secret, etc = tmp_path / "passphrase", tmp_path / "etc"
    write_private(secret, b"a passphrase of the test")
    etc.mkdir()

    def database(user: str) -> str:
        url = json.dumps(server.url_by_name(user))
        return f"[database]\nurl = {url}\nsteps_url = {url}\n"

    (etc / "coordinator.toml").write_text(
        f'[coordinator]\nconsortium = "c"\ndata_dir = "{tmp_path}/c"\npassphrase_file = "{secret}"\n'
        f'[listen]\npublic = "{public}"\nexchange = "0.0.0.0:{exchange[10:]}"\nsuperlink = "{superlink}"\n'
        f'public_address = "{public}"\nexchange_address = "{exchange}"\n' + database("office")
    )
    (etc / "node.toml").write_text(
        f'[node]\nname = "neutral"\nrole = "compute"\ndata_dir = "{tmp_path}/n"\npassphrase_file = "{secret}"\n'
        f'[flower]\nruntime = "{runtime}"\n[trust]\naccept_registry = true\n' + database("neutral")
    )
    config = coordinator.config.load(etc / "coordinator.toml")
    founding.found(config)
    store = coordinator.store.Store.open(config.database_url(config.database.url))
    write_relay(config, store)
    store.engine.dispose()
    equip(etc / "node.toml")

    supervisor = Supervisor(tmp_path / "s")
    (tmp_path / "s").mkdir()
    everything = coordinator.processes.processes(config)
    rest = coordinator.processes.processes(config, without=["exchange"])
    groups = {"relay": [each for each in everything if each not in rest], "coordinator": rest}
    supervisor.start(groups)
    try:
        _until(lambda: config.path("run/ready").exists(), supervisor)
        invitation = call(
            config, "POST", "/invitations", {"name": "neutral", "role": "compute", "admit": True}
        )
        with monkeypatch.context() as mounted:

            def read_only(*_: Any) -> None:
                raise OSError(errno.EROFS, "Read-only file system")

            mounted.setattr(enrolment, "append", read_only)
            before = (etc / "node.toml").read_bytes()
            joined = enrolment.enroll(etc / "node.toml", invitation, 30)
        assert (etc / "node.toml").read_bytes() == before
        assert joined.joined().exchange == exchange
        supervisor.add({"neutral": node.processes.processes(joined, etc / "node.toml")}, groups)
        status: dict[str, Any] = {}

        def ready() -> bool:
            try:
                with Client(str(joined.socket()), "AF_UNIX") as connection:
                    connection.send_bytes(b"S")
                    status.update(json.loads(connection.recv_bytes()))
            except (OSError, EOFError):
                return False
            return bool(status["state"] == "ready")

        _until(ready, supervisor)
        # What left at its enrolment stands in its own database, and the reload let it onto the exchange.
        assert status["exchange"] is True
        assert [row[0] for row in server.query("SELECT seq FROM egress", "neutral")] == [1]
        parties = {row[0] for row in server.query("SELECT name FROM parties", "office")}
        assert parties == {"coordinator", "neutral"}
    finally:
        supervisor.shutdown()


def _until(reached: Callable[[], bool], supervisor: Supervisor) -> None:
    deadline = time.monotonic() + 150
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail("\n".join(p.read_text()[-1500:] for p in supervisor.directory.glob("logs/*.log")))
        time.sleep(0.2)
