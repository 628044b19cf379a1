"""The outbox and its pump: nothing lost, nothing twice, nothing believed that is not final."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coincurve
import httpx
import pytest
from engine_consortium import TOLERANCE, Bridge, World
from engine_processes import needs_engine
from eth_hash.auto import keccak
from sqlalchemy.engine import Engine

from ledger.client.embedded import EmbeddedChain
from ledger.client.outbox import Outbox, connect
from ledger.client.ports import Place, Receipt
from ledger.client.pump import Pump
from ledger.client.refusals import code_of, require_done
from ledger.client.signer import LocalSigner
from ledger.client.submission import Answer, State, check_step, view
from ledger.engine.genesis import new_chain_id
from ledger.engine.transactions import parse
from protocol.errors import LedgerError, ProtocolError, Unavailable

pytestmark = pytest.mark.integration
TO = b"\1" * 20


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'outbox.sqlite'}")
    yield engine
    engine.dispose()


class FakeChain:
    """A chain whose every answer a test decides; sent bytes are kept."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, Receipt] = {}
        self.sent: list[bytes] = []
        self.fault: Exception | None = None
        self.refuse: dict[bytes, str] = {}
        self.final = 0
        self.take = True

    def send(self, raw: bytes) -> Place | None:
        if self.fault is not None:
            raise self.fault
        self.sent.append(raw)
        if raw in self.refuse:
            raise LedgerError(self.refuse[raw], "refused")
        if not self.take:
            return None
        digest = keccak(raw)
        if digest not in self.blocks:
            number = len(self.blocks) + 1
            self.blocks[digest] = Receipt(Place(number, keccak(b"%d" % number)), True)
        return self.blocks[digest].place

    def receipt(self, transaction: bytes) -> Receipt | None:
        if self.fault is not None:
            raise self.fault
        return self.blocks.get(transaction)

    def revert_data(self, transaction: bytes) -> bytes:
        return b"\xde\xad\xbe\xef"

    def is_final(self, place: Place) -> bool:
        return place.block <= self.final


def parts(database: Engine) -> tuple[Outbox, FakeChain, Pump, LocalSigner]:
    outbox, chain, signer = Outbox(database), FakeChain(), LocalSigner(coincurve.PrivateKey(), new_chain_id())
    return (
        outbox,
        chain,
        Pump(outbox, chain, {signer.address: signer}, lambda data: "CODE_" + data.hex()),
        signer,
    )


def test_a_call_goes_its_way(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"data", 100_000)
    assert (call.state, call.nonce) == (State.QUEUED, 0)
    assert outbox.add("a", signer, TO, b"data", 100_000) == call
    assert pump.work() == 1
    found = outbox.get("a")
    assert (found.state, found.succeeded, found.attempts) == (State.INCLUDED, True, 1)
    assert pump.work() == 0
    assert view(outbox.get("a"), fresh=True) is Answer.PENDING
    chain.final = 1
    assert pump.work() == 1
    assert view(outbox.get("a"), fresh=False) is Answer.DONE
    assert chain.sent == [call.raw]


def test_a_key_stands_for_one_call(database: Engine) -> None:
    outbox, _, _, signer = parts(database)
    outbox.add("a", signer, TO, b"data", 100_000)
    other = LocalSigner(coincurve.PrivateKey(), 5)
    changes: list[Callable[[], Any]] = [
        lambda: outbox.add("a", signer, TO, b"other", 100_000),
        lambda: outbox.add("a", signer, b"\2" * 20, b"data", 100_000),
        lambda: outbox.add("a", signer, TO, b"data", 100_001),
        lambda: outbox.add("a", other, TO, b"data", 100_000),
    ]
    for change in changes:
        with pytest.raises(LedgerError, match=r"\[OUTBOX_OTHER_CALL\]"):
            change()
    for key in ("", "x" * 201):
        with pytest.raises(LedgerError, match=r"\[OUTBOX_KEY\]"):
            outbox.add(key, signer, TO, b"data", 100_000)
    with pytest.raises(LedgerError, match=r"\[OUTBOX_UNKNOWN\]"):
        outbox.get("b")
    # None of the refused ones took a nonce.
    assert outbox.add("b", signer, TO, b"data", 100_000).nonce == 1


def test_silence_changes_nothing_and_is_unknown(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    outbox.add("a", signer, TO, b"1", 100_000)
    outbox.add("b", signer, TO, b"2", 100_000)
    chain.fault = Unavailable("LEDGER_STOPPED", "gone")
    assert pump.work() == 0
    assert outbox.get("a").state is State.QUEUED
    assert outbox.get("b").attempts == 0, "a later nonce waits for the one before"
    assert view(outbox.get("a"), fresh=pump.fresh) is Answer.UNKNOWN
    chain.fault = None
    assert pump.work() == 2
    assert pump.fresh


def test_a_refusal_by_the_contract_is_kept_with_its_code(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"1", 100_000)
    chain.blocks[call.hash] = Receipt(Place(1, b"\1" * 32), False)
    chain.final = 1
    pump.work()
    pump.work()
    found = outbox.get("a")
    assert (found.state, found.succeeded, found.refusal) == (State.FINAL, False, "CODE_deadbeef")
    assert view(found, fresh=True) is Answer.FAILED


def test_a_call_that_is_never_taken_gets_its_nonce_filled(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"1", 100_000)
    chain.refuse[call.raw] = "TX_REFUSED"
    later = outbox.add("b", signer, TO, b"2", 100_000)
    pump.work()
    assert (outbox.get("a").state, outbox.get("a").refusal) == (State.REFUSED, "TX_REFUSED")
    assert view(outbox.get("a"), fresh=True) is Answer.FAILED
    fillers = [raw for raw in chain.sent if raw not in (call.raw, later.raw)]
    assert len(fillers) == 1
    filler = parse(fillers[0], chain_of(signer))
    assert (filler.nonce, filler.sender, filler.to) == (0, signer.address, signer.address)
    pump.work()
    assert len([raw for raw in chain.sent if raw == fillers[0]]) == 1, "filled once"


def chain_of(signer: LocalSigner) -> int:
    return signer._chain_id


def test_a_nonce_that_somebody_else_used_is_not_filled(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"1", 100_000)
    chain.refuse[call.raw] = "TX_NONCE_USED"
    pump.work()
    assert outbox.get("a").refusal == "TX_NONCE_USED"
    assert chain.sent == [call.raw]


def test_a_gap_waits(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"1", 100_000)
    chain.refuse[call.raw] = "TX_NONCE_GAP"
    pump.work()
    assert outbox.get("a").state is State.QUEUED
    assert not pump.fresh


def test_a_replaced_block_sends_again_and_alerts(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"1", 100_000)
    pump.work()
    del chain.blocks[call.hash]
    chain.take = False
    pump.work()
    assert (outbox.get("a").state, pump.alerts) == (State.QUEUED, 1)
    chain.take = True
    pump.work()
    assert outbox.get("a").state is State.INCLUDED
    # The same call in another block of the same height is a replacement too.
    chain.blocks[call.hash] = Receipt(Place(1, b"\7" * 32), True)
    chain.final = 1
    pump.work()
    assert (outbox.get("a").state, pump.alerts) == (State.QUEUED, 2)


def test_an_answer_that_cannot_be_used_is_a_problem_not_a_crash(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    outbox.add("a", signer, TO, b"1", 100_000)
    assert not pump.fresh, "nothing was asked yet"
    chain.fault = ProtocolError("LEDGER_ANSWER", "no signature")
    assert pump.work() == 0
    assert not pump.fresh
    assert outbox.get("a").state is State.QUEUED


def test_a_filler_whose_nonce_was_used_is_not_sent_for_ever(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    call = outbox.add("a", signer, TO, b"1", 100_000)
    chain.refuse[call.raw] = "TX_REFUSED"
    chain.take = False
    pump.work()
    filler = chain.sent[-1]
    chain.refuse[filler] = "TX_NONCE_USED"
    pump.work()
    count = len(chain.sent)
    pump.work()
    assert len(chain.sent) == count


def test_evidence_stops_the_pump(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    outbox.add("a", signer, TO, b"1", 100_000)
    pump.work()
    outbox.add("b", LocalSigner(coincurve.PrivateKey(), 5), TO, b"2", 100_000)

    def halted(place: Place) -> bool:
        raise LedgerError("LEDGER_HALTED", "evidence")

    chain.is_final = halted  # type: ignore[method-assign]
    assert pump.work() == 0
    assert outbox.get("b").attempts == 0, "other senders stop too"
    assert view(outbox.get("a"), fresh=pump.fresh) is Answer.UNKNOWN


def test_waiting_ends_at_the_end_or_in_time(database: Engine) -> None:
    outbox, chain, pump, signer = parts(database)
    outbox.add("a", signer, TO, b"1", 100_000)
    assert pump.wait("a", 0.05, 0.01).state is State.INCLUDED
    with pytest.raises(Unavailable, match=r"\[LEDGER_PENDING\]"):
        require_done(outbox.get("a"), fresh=pump.fresh)
    chain.final = 1
    require_done(pump.wait("a", 20, 0.01), fresh=False)
    refused = outbox.add("b", signer, TO, b"2", 100_000)
    chain.blocks[refused.hash] = Receipt(Place(1, b"\1" * 32), False)
    with pytest.raises(LedgerError, match=r"\[CODE_deadbeef\]"):
        require_done(pump.wait("b", 20, 0.01), fresh=False)
    outbox.add("c", signer, TO, b"3", 100_000)
    chain.fault = Unavailable("LEDGER_SILENT", "gone")
    with pytest.raises(Unavailable, match=r"\[LEDGER_UNCERTAIN\]") as caught:
        require_done(pump.wait("c", 0.05, 0.01), fresh=pump.fresh)
    assert caught.value.problem()["status"] == 503


def test_refusals_of_the_real_contracts_have_codes() -> None:
    assert code_of(keccak(b"OverLien()")[:4]).startswith("LEDGER_")
    assert code_of(b"") == "LEDGER_UNKNOWN"


def test_steps_that_the_states_do_not_allow_are_refused(database: Engine) -> None:
    outbox, _, _, signer = parts(database)
    outbox.add("a", signer, TO, b"1", 100_000)
    with pytest.raises(LedgerError, match=r"\[OUTBOX_STEP\]"):
        outbox.move("a", State.FINAL)
    for state in (State.QUEUED, State.INCLUDED):
        with pytest.raises(LedgerError, match=r"\[OUTBOX_STEP\]"):
            check_step(State.FINAL, state)
    with pytest.raises(LedgerError, match=r"\[OUTBOX_STEP\]"):
        check_step(State.REFUSED, State.QUEUED)


ADDING = """
import sys, coincurve
from ledger.client.outbox import Outbox, connect
from ledger.client.signer import LocalSigner
url, name = sys.argv[1:]
engine = connect(url)
signer = LocalSigner(coincurve.PrivateKey(b"\\5" * 32), 77)
for number in range(30):
    Outbox(engine).add(f"{name}-{number}", signer, b"\\1" * 20, name.encode(), 100_000)
    Outbox(engine).add(f"shared-{number}", signer, b"\\1" * 20, b"shared", 100_000)
engine.dispose()
"""


def test_processes_share_one_nonce_authority(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'outbox.sqlite'}"
    connect(url).dispose()
    processes = [
        subprocess.Popen([sys.executable, "-c", ADDING, url, name], stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    for process in processes:
        assert process.communicate(timeout=100)[1] == ""
    engine = connect(url)
    calls = Outbox(engine).open(1000)
    engine.dispose()
    assert [call.nonce for call in calls] == list(range(3 * 30 + 30))


def test_a_keystore_is_decrypted(tmp_path: Path) -> None:
    from eth_keyfile.keyfile import create_keyfile_json

    secret = b"\5" * 32
    made = create_keyfile_json(secret, b"password", kdf="pbkdf2", iterations=10)
    path = tmp_path / "key.json"
    path.write_text(json.dumps(made))
    signer = LocalSigner.from_keystore(path, "password", 77)
    assert signer.address == LocalSigner(coincurve.PrivateKey(secret), 77).address
    assert secret.hex() not in repr(signer)
    with pytest.raises(Exception, match=r"\[KEYSTORE\]"):
        LocalSigner.from_keystore(path, "wrong", 77)


@needs_engine
def test_on_the_embedded_ledger_from_key_to_final(tmp_path: Path, database: Engine) -> None:
    """Operator and members in this process; the client talks to them through a synchronous bridge."""

    async def run() -> None:
        async with World(tmp_path) as world:
            operator = await world.start()
            loop = asyncio.get_running_loop()
            signer = LocalSigner(coincurve.PrivateKey(), world.genesis.chain.chain_id)
            bridge = Bridge(loop, {"operator": operator.app, **world.apps})
            with httpx.Client(transport=bridge) as client:
                chain = EmbeddedChain(world.genesis, "http://operator", "http://bank-a", client, world.clock)
                outbox = Outbox(database)
                pump = Pump(outbox, chain, {signer.address: signer}, lambda data: "CODE_" + data.hex())
                outbox.adopt(signer.address, await asyncio.to_thread(chain.count, signer.address))
                outbox.add("good", signer, world.address, (7).to_bytes(32, "big"), 200_000)
                outbox.add("bad", signer, world.address, b"\xff" * 32, 200_000)
                await asyncio.to_thread(pump.work)
                # In the operator's log, but the own replica has not seen it: nothing is believed yet.
                assert outbox.get("good").state is State.QUEUED
                await operator.publisher.extend()
                await world.step()
                await asyncio.to_thread(pump.work)
                assert outbox.get("good").state is State.INCLUDED
                await asyncio.to_thread(pump.work)
                good, bad = outbox.get("good"), outbox.get("bad")
                assert (good.state, good.succeeded) == (State.FINAL, True)
                assert (bad.state, bad.succeeded, bad.refusal) == (State.FINAL, False, "CODE_deadbeef")
                value, height = await asyncio.to_thread(chain.view, world.address, b"")
                assert (int.from_bytes(value, "big"), height) == (7, operator.chain.head.number)
                outbox.add("late", signer, world.address, (1).to_bytes(32, "big"), 200_000)
                await asyncio.to_thread(pump.work)
                await operator.publisher.extend()
                await world.step()
                await asyncio.to_thread(pump.work)
                world.clock.now += TOLERANCE + 1
                await asyncio.to_thread(pump.work)
                assert isinstance(pump.problem, Unavailable)
                assert pump.problem.code == "LEDGER_STALE"
                assert view(outbox.get("late"), fresh=pump.fresh) is Answer.UNKNOWN
                with pytest.raises(Unavailable, match=r"\[LEDGER_STALE\]"):
                    await asyncio.to_thread(chain.view, world.address, b"")
                # A gateway with another key: its acknowledgement is not used.
                other = EmbeddedChain(world.genesis, "http://forger", "http://bank-a", client, world.clock)
                bridge.apps["forger"] = world.apps["bank-b"]
                with pytest.raises((ProtocolError, Unavailable)):
                    await asyncio.to_thread(other.send, outbox.get("late").raw)

    asyncio.run(run())
