"""The ledger service's tables and its outbox on a PostgreSQL server of their own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coincurve
import httpx
import pytest
import sqlalchemy as sa
from engine_processes import free_port
from ledger_index_chain import CONTRACT, LIEN, A, B, Chain, lien, opened, state

from ledger.client import outbox
from ledger.client.outbox import Outbox
from ledger.client.signer import LocalSigner
from ledger.index import folding, tables
from ledger.index.following import Follower
from ledger.keyring import Keyring
from ledger.service.tray import DONE, IN, OPEN, Tray
from ledger.service.wallet import Wallet
from ledger.signers import Certificate, Custodian, Role
from ledger.webhooks import Deliveries, Target
from protocol.errors import ConfigurationError

PLACES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
PLACES += [Path(found).parent for found in (shutil.which("initdb"),) if found]
BINARIES = next((path for path in PLACES if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(BINARIES is None, reason="PostgreSQL's initdb and pg_ctl are not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a private server without the database's name."""
    assert BINARIES is not None
    directory, user = Path(tempfile.mkdtemp(prefix="lpg-")), None
    directory.chmod(0o755)
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(directory, user)
    data, port = directory / "data", free_port()

    def run(*command: str) -> None:
        subprocess.run(
            [str(BINARIES / command[0]), *command[1:]],
            check=True,
            user=user,
            cwd=directory,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    options = f"-c listen_addresses= -c port={port} -c unix_socket_directories={directory} -c fsync=off"
    try:
        run("initdb", "-D", str(data), "-U", "admin", "-A", "trust", "-N")
        run("pg_ctl", "-D", str(data), "-o", options, "-l", str(directory / "log"), "-w", "start")
        yield f"postgresql+psycopg://admin@/{{}}?host={directory}&port={port}"
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def url(server: str) -> str:
    """A fresh database."""
    name = "t" + secrets.token_hex(6)
    engine = sa.create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.format(name)


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    made = tables.connect(url)
    yield made
    made.dispose()


def test_the_index_follows_and_goes_back(engine: sa.Engine, url: str) -> None:
    chain, came = Chain(), []
    client = httpx.Client(
        transport=httpx.MockTransport(lambda request: came.append(request) or httpx.Response(204))
    )
    deliveries = Deliveries(engine, [Target("http://127.0.0.1:9/", b"k" * 32)], client)
    chain.add()
    chain.add(*opened(A))
    follower = Follower(engine, chain, CONTRACT, deliveries.note)
    follower.follow(1)
    before = state(engine)
    chain.add(lien(A, 5), lien(A, 0, 2))
    follower.follow(2)
    assert state(engine)["index_lien"] == [(A, LIEN, 0, 2, B)]
    assert deliveries.work() == 1
    assert b"receivable.released" in came[0].content
    del chain.blocks[2:]
    chain.add(salt="other")
    follower.follow(1)
    assert follower.reorganisations == 1
    assert state(engine) == before
    with engine.begin() as db:
        folding.rebuild(db)
    assert state(engine) == before
    again = tables.connect(url)  # migrated already
    again.dispose()


def test_each_key_is_handed_out_once_under_load(engine: sa.Engine, tmp_path: Path) -> None:
    keyring = Keyring.create(tmp_path / "keys")
    known = {
        (Role.BANK, index): Certificate(Role.BANK, b"", Custodian.SELF, bytes(32), 0) for index in range(40)
    }
    wallet = Wallet(engine, keyring.account, known, keyring.secret("sealing"))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: wallet.fresh(Role.BANK), range(40)))
    assert sorted(found) == list(range(40))
    with pytest.raises(ConfigurationError, match=r"\[CERTIFICATES_USED_UP\]"):
        wallet.fresh(Role.BANK)


def test_the_tray_keeps_and_seals(engine: sa.Engine, tmp_path: Path) -> None:
    keyring = Keyring.create(tmp_path / "keys")
    tray = Tray(engine, Wallet(engine, keyring.account, {}, keyring.secret("sealing")))
    tray.keep(A, "owner", {"secret": "a document"}, b"\1" * 32)
    tray.keep(A, "former", {"secret": "a document"}, b"\1" * 32)
    assert tray.by_file(b"\1" * 32)[0].content == {"secret": "a document"}
    asked = tray.add(IN, "core", "confirm", A, {"note": 1}, id_="0" * 32)
    assert tray.add(IN, "core", "confirm", A, {"note": 2}, id_="0" * 32) == asked
    for _ in range(2):
        tray.finish(asked.id, A, 7)
    assert tray.receivable(A).paid == 7, "twice done is once paid"
    assert tray.request(asked.id).state == DONE
    assert tray.requests(A, OPEN) == []
    assert [each.id for each in tray.untold()] == [asked.id]
    tray.give(b"\2" * 32, 4, 3, {"ticket": "x"})
    tray.used(b"\2" * 32, b"\3" * 32)
    assert tray.given(b"\2" * 32) is None
    assert tray.given(b"\3" * 32) == (3, {"ticket": "x"})
    with engine.begin() as db:
        assert b"a document" not in db.execute(sa.select(tables.receivables.c.sealed)).scalar_one()


def test_one_authority_on_nonces(url: str) -> None:
    engine = outbox.connect(url)
    box, signer = Outbox(engine), LocalSigner(coincurve.PrivateKey(), 7)
    with ThreadPoolExecutor(8) as pool:
        calls = list(pool.map(lambda n: box.add(f"k{n % 20}", signer, b"\1" * 20, b"", 21_000), range(40)))
    assert sorted({each.nonce for each in calls}) == list(range(20))
    box.close()
