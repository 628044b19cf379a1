"""What leaves a node: the chained log, the audit hook at run time, and who may call what lets bytes out."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

import node
from node import egress
from node.door import Door
from node.egress import EgressLog, Head, Record, read_head, verify
from node.store import Store
from node.store import egress as table
from protocol.errors import ProtocolError, Unavailable
from protocol.identity import IdentityKey

ROOT = Path(node.__file__).parents[1]
PARTIES = ("bank_node", "data_partner_node", "coordinator", "concordat", "node", "ledger", "protocol")


@pytest.fixture
def key() -> IdentityKey:
    return IdentityKey.generate()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path}/node.db")


@pytest.fixture
def log(store: Store, key: IdentityKey, tmp_path: Path) -> EgressLog:
    made = EgressLog(store, key, tmp_path / "egress.head")
    for number in range(6):
        made.append(
            peer="c", purpose=f"p{number}", job="j", field_class="masked sum", payload=bytes([number])
        )
    return made


def _heads(tmp_path: Path) -> dict[str, Head]:
    head = read_head(tmp_path / "egress.head")
    assert head is not None
    return {"egress.head": head}


def _write(store: Store, seq: int, record: Record, key: IdentityKey | None) -> None:
    """Replace a record; with a key, digest and signature are made to fit."""
    values = {"record": json.dumps(asdict(record), sort_keys=True)}
    if key is not None:
        digest = record.digest()
        signature = key.sign(egress.DOMAIN, bytes.fromhex(digest)).hex()
        values |= {"digest": digest, "signature": signature}
    with store.engine.begin() as db:
        db.execute(table.update().where(table.c.seq == seq).values(**values))


def _record(store: Store, seq: int) -> Record:
    with store.engine.connect() as db:
        text = db.execute(sa.select(table.c.record).where(table.c.seq == seq)).scalar()
    return Record(**json.loads(text))


class TestLog:
    def test_an_untouched_log_verifies(
        self, log: EgressLog, store: Store, key: IdentityKey, tmp_path: Path
    ) -> None:
        assert verify(store, key.public, _heads(tmp_path)) == log.head()
        assert log.head().seq == 6

    @pytest.mark.parametrize(
        "change",
        [
            {"bytes": 999},
            {"peer": "somebody"},
            {"field_class": "digest"},
            {"payload": "0" * 64},
            {"at": 0},
            {"job": ""},
            {"purpose": ""},
        ],
    )
    def test_an_altered_record_is_found(
        self, log: EgressLog, store: Store, key: IdentityKey, tmp_path: Path, change: dict[str, object]
    ) -> None:
        changed = replace(_record(store, 3), **change)  # type: ignore[arg-type]
        _write(store, 3, changed, None)
        with pytest.raises(ProtocolError, match="EGRESS_ALTERED"):
            verify(store, key.public, {})
        # With a digest that fits, and another key's signature.
        _write(store, 3, changed, IdentityKey.generate())
        with pytest.raises(ProtocolError, match="EGRESS_ALTERED"):
            verify(store, key.public, {})
        # Even signed by the node's own key the chain behind it breaks.
        _write(store, 3, changed, key)
        with pytest.raises(ProtocolError, match="EGRESS_BROKEN"):
            verify(store, key.public, {})

    def test_the_last_record_rewritten_by_the_node_itself_is_found_by_a_head_seen_elsewhere(
        self, log: EgressLog, store: Store, key: IdentityKey, tmp_path: Path
    ) -> None:
        _write(store, 6, replace(_record(store, 6), bytes=0), key)
        verify(store, key.public, {})
        with pytest.raises(ProtocolError, match="EGRESS_CUT"):
            verify(store, key.public, _heads(tmp_path))

    @pytest.mark.parametrize("gone", [1, 3, 5])
    def test_a_dropped_record_is_found(
        self, log: EgressLog, store: Store, key: IdentityKey, gone: int
    ) -> None:
        with store.engine.begin() as db:
            db.execute(table.delete().where(table.c.seq == gone))
        with pytest.raises(ProtocolError, match="EGRESS_GAP"):
            verify(store, key.public, {})

    def test_a_dropped_record_is_found_even_if_the_rest_moves_up(
        self, log: EgressLog, store: Store, key: IdentityKey
    ) -> None:
        with store.engine.begin() as db:
            db.execute(table.delete().where(table.c.seq == 3))
            for seq in (4, 5, 6):
                db.execute(table.update().where(table.c.seq == seq).values(seq=seq - 1))
        with pytest.raises(ProtocolError, match="EGRESS_GAP"):
            verify(store, key.public, {})

    def test_reordered_records_are_found(self, log: EgressLog, store: Store, key: IdentityKey) -> None:
        with store.engine.begin() as db:
            for old, new in ((2, 99), (3, 2), (99, 3)):
                db.execute(table.update().where(table.c.seq == old).values(seq=new))
        with pytest.raises(ProtocolError, match="EGRESS_GAP"):
            verify(store, key.public, {})

    @pytest.mark.parametrize("left", [0, 4, 5])
    def test_a_log_cut_off_at_its_end_is_found(
        self, log: EgressLog, store: Store, key: IdentityKey, tmp_path: Path, left: int
    ) -> None:
        with store.engine.begin() as db:
            db.execute(table.delete().where(table.c.seq > left))
        with pytest.raises(ProtocolError, match="EGRESS_CUT"):
            verify(store, key.public, _heads(tmp_path))

    def test_another_nodes_log_is_not_this_ones(self, log: EgressLog, store: Store) -> None:
        with pytest.raises(ProtocolError, match="EGRESS_ALTERED"):
            verify(store, IdentityKey.generate().public, {})

    def test_the_record_stands_before_the_bytes_go(self, log: EgressLog) -> None:
        seen: list[int] = []
        door = Door(log, None)
        door.release("c", b"x", lambda _: seen.append(log.head().seq), purpose="p", job="j", field_class="f")
        assert seen == [7]

        def fails(_: bytes) -> None:
            raise Unavailable("X", "gone")

        with pytest.raises(Unavailable):
            door.release("c", b"x", fails, purpose="p", job="j", field_class="f")
        assert log.head().seq == 8

    def test_a_log_that_cant_be_written_keeps_the_bytes_in(self, log: EgressLog, store: Store) -> None:
        with store.engine.begin() as db:
            db.execute(sa.text("DROP TABLE egress"))
        sent: list[bytes] = []
        with pytest.raises(sa.exc.OperationalError):
            Door(log, None).release("c", b"x", sent.append, purpose="p", job="j", field_class="f")
        assert sent == []


ATTEMPTS = {
    "urllib": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/', timeout=1)",
    "http.client": "import http.client; http.client.HTTPConnection('127.0.0.1', 9, timeout=1).request('GET', '/')",
    "httpx": "import httpx; httpx.get('http://127.0.0.1:9/')",
    "socket": "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
    "connect_ex": "import socket; socket.socket().connect_ex(('127.0.0.1', 9))",
    "another port of the allowed host": "import socket; socket.socket().connect(('127.0.0.1', 10))",
    "IPv6": "import socket; socket.socket(socket.AF_INET6).connect(('::1', 9))",
    "datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "sendmsg": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('127.0.0.1', 9))",
    "listen": "import socket; socket.socket().bind(('127.0.0.1', 0))",
    "Unix socket": "import socket; socket.socket(socket.AF_UNIX).connect('/tmp/other.sock')",
    "abstract Unix socket": "import socket; socket.socket(socket.AF_UNIX).connect(b'\\0other')",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', 9))",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "os.system": "import os; os.system('true')",
    "os.popen": "import os; os.popen('true')",
    "os.posix_spawn": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "os.fork": "import os; os._exit(0) if os.fork() == 0 else None",
    "os.execv": "import os; os.execv('/bin/true', ['true'])",
    "multiprocessing": "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()",
    "name lookup": "import socket; socket.getaddrinfo('secret.example.org', 80)",
    "reverse lookup": "import socket; socket.gethostbyname('secret.example.org')",
    "curl by ctypes": "import ctypes; ctypes.CDLL(None).system(b'true')",
}
# What the hook can't see is said in its documentation; this list must not grow.
BLIND = {"curl by ctypes"}


class TestAuditHook:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls) -> dict[str, list[str]]:
        """Try everything in one process whose hook is closed; tells each attempt's error and report."""
        program = textwrap.dedent(
            """
            import json, sys, http.client, urllib.request, httpx, asyncio, subprocess, multiprocessing, ctypes
            from node import guard
            attempts, reports, found = json.load(sys.stdin), [], {}
            guard.close({("127.0.0.1", 8)}, reports.append, {"/tmp/own.sock"})
            for name, code in attempts.items():
                reports.clear()
                try:
                    exec(code)
                    error = "none"
                except BaseException as failed:
                    error = repr(failed)
                found[name] = [error, " ".join(reports)]
            print(json.dumps(found))
            """
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            input=json.dumps(ATTEMPTS),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        result: dict[str, list[str]] = json.loads(done.stdout)
        return result

    @pytest.mark.parametrize("name", sorted(set(ATTEMPTS) - BLIND))
    def test_every_other_way_out_is_refused_and_reported(
        self, found: dict[str, list[str]], name: str
    ) -> None:
        error, report = found[name]
        assert "EGRESS_FORBIDDEN" in error or "EgressForbidden" in error, error
        assert report
        assert "secret" not in report

    @pytest.mark.parametrize("name", sorted(BLIND))
    def test_what_it_cant_see(self, found: dict[str, list[str]], name: str) -> None:
        assert found[name] == ["none", ""]

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_the_exchange_and_the_own_socket_stay_open(self, host: str) -> None:
        """By number and by name; the event then names the number that the name stands for."""
        program = textwrap.dedent(
            f"""
            import asyncio, socket
            from node import guard
            guard.close({{("{host}", 9)}}, print, {{"/tmp/cc-none.sock"}})
            async def dial():
                await asyncio.open_connection("{host}", 9)
            def unix():
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect("/tmp/cc-none.sock")
            for act in (lambda: asyncio.run(dial()), lambda: socket.create_connection(("{host}", 9), 1), unix):
                try:
                    act()
                except OSError as error:
                    print(type(error).__name__)
            try:
                socket.create_connection(("{host}", 10), 1)
            except RuntimeError as error:
                print(type(error).__name__)
            """
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
        )
        *answers, report, refused = done.stdout.splitlines()
        assert answers[-1] == "FileNotFoundError"
        assert set(answers[:2]) <= {"ConnectionRefusedError", "OSError"}
        assert report.startswith("socket.connect")
        assert refused == "EgressForbidden"


def _sources() -> list[Path]:
    return [
        path
        for name in PARTIES
        for path in sorted((ROOT / name).rglob("*.py"))
        if "node_modules" not in str(path)
    ]


class TestWhoLetsBytesOut:
    """The rules at rest, beside the audit hook at run time. A module's path stands for the module."""

    def _callers(self, method: str, receiver: str) -> set[str]:
        found = set()
        for path in _sources():
            for called in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(called, ast.Call)
                    and isinstance(called.func, ast.Attribute)
                    and called.func.attr == method
                    and receiver in ast.unparse(called.func.value).lower()
                ):
                    found.add(path.relative_to(ROOT).as_posix())
        return found

    def test_only_the_door_and_the_coordinator_put_objects(self) -> None:
        assert self._callers("put", "exchange") == {
            "node/door.py",
            # The coordinator holds no rows; its own words and totals under the banks' mask leave by these.
            "coordinator/daemon.py",
            "coordinator/hub.py",
        }
        assert self._callers("announce", "exchange") == {"coordinator/daemon.py"}

    def test_only_the_daemon_answers_flower_and_only_through_the_door(self) -> None:
        # The command line is no part of a node: it asks a daemon for its status.
        sends = {
            name for name in self._callers("send_bytes", "connection") if not name.startswith("concordat/")
        }
        assert sends == {"node/daemon.py", "node/flower/shim.py"}
        text = (ROOT / "node/daemon.py").read_text("utf-8")
        flower = text[text.index("def _flower") :]
        flower = flower[: flower.index("\n    # --")]
        assert "self.door.release(" in flower
        assert "connection.send_bytes(" not in flower

    def test_nothing_that_speaks_to_a_network_is_imported_elsewhere_in_a_node(self) -> None:
        network = {
            "nats",
            "httpx",
            "requests",
            "urllib",
            "http",
            "socket",
            "ftplib",
            "smtplib",
            "aiohttp",
            "websockets",
            "grpc",
            "urllib3",
            "xmlrpc",
            "socketserver",
            "subprocess",
            "asyncio",
            "ssl",
        }
        allowed = {
            "node/exchange.py": {"nats", "asyncio", "ssl"},
            "node/enrolment.py": {"httpx", "ssl"},
            "node/keystore.py": {"ssl"},
            "node/guard.py": {"socket"},
            # Flower's SuperNode, a named exception.
            "node/flower/supernode.py": {"httpx"},
        }
        for path in _sources():
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(("node/", "bank_node/", "data_partner_node/", "protocol/")):
                continue
            imported = set()
            for part in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(part, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in part.names}
                elif isinstance(part, ast.ImportFrom) and part.module:
                    imported.add(part.module.split(".")[0])
            assert imported & network <= allowed.get(name, set()), name
