"""Members that verify: agreement with an honest operator, and what happens to one that lies."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_consortium import BANKS, TOLERANCE, Bridge, Operator, World
from engine_processes import counter_code, needs_engine
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from ledger.engine import evidence, records
from ledger.engine.checkpoints import Book, compose
from ledger.engine.evidence import Evidence, judge
from ledger.engine.gateway import frames
from ledger.engine.genesis import sign_legacy
from ledger.engine.member import MemberDoor
from ledger.engine.records import BlockRecord
from ledger.engine.restoring import restore
from protocol.checkpoint import START, Note, cosign, require_final, sign
from protocol.errors import (
    ConcordatError,
    ConfigurationError,
    LedgerError,
    ProtocolError,
    SignatureInvalid,
    Unavailable,
)

pytestmark = [pytest.mark.integration, needs_engine]


def played(scene: Callable[[World], Awaitable[None]]) -> Callable[[Path], None]:
    """Run a scene in a fresh consortium."""

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            async with World(tmp_path) as world:
                await scene(world)

        asyncio.run(run())

    test.__doc__ = scene.__doc__
    return test


def all_stopped(world: World, kind: str) -> None:
    """Every bank keeps evidence of this kind, calls nothing final and signs no more."""
    for bank in world.banks.values():
        assert kind in bank.evidence, (bank.name, bank.evidence, bank.replica.problems)
        for refused in (bank.door.final, bank.witness.latest):
            with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
                refused()
        assert bank.replica.health()["status"] == "halted"


def proven(world: World, kind: str) -> None:
    """Somebody who has nothing but the genesis document is convinced by what each bank keeps."""
    for bank in world.banks.values():
        found = [each for each in bank.book.evidence() if each.kind == kind]
        assert found
        for each in found:
            judge(Evidence.from_json(each.to_json()), world.genesis)


@played
async def test_everybody_agrees_with_an_honest_operator(world: World) -> None:
    operator = await world.start()
    await operator.send(3)
    await world.step()
    await operator.send(2)
    world.clock.now += 5
    await world.step()
    size = operator.chain.head.number + 1
    for bank in world.banks.values():
        final = bank.door.final()
        assert (final["size"], final["asOf"]) == (size, int(world.clock()))
        note = Note.decode(final["note"])
        assert set(require_final(note, world.genesis.member_keys())) == set(BANKS)
        assert bank.chain.head == operator.chain.head
        assert not bank.replica.problems
        balance = await bank.chain.ask("eth_call", {"to": "0x" + world.address.hex()}, "latest")
        assert int(balance, 16) == 5


@played
async def test_final_needs_more_than_two_thirds_and_two_peers(world: World) -> None:
    operator = await world.operator()
    a = await world.bank("bank-a", operator.app)
    b = await world.bank("bank-b", operator.app)
    await operator.send()
    await world.step(3)
    for bank in (a, b):
        with pytest.raises(Unavailable, match=r"\[NOT_FINAL\]"):
            bank.door.final()
    # The operator shows a note with everybody's cosignature: not enough, they must come from the peers.
    note = a.book.at(2)
    assert note is not None
    c_key = world.keys["bank-c"].checkpoint
    a.book.cosign(2, "bank-c", cosign(note.text, f"{world.genesis.origin}/bank-c", c_key, 5))
    with pytest.raises(Unavailable, match=r"\[NOT_FINAL\]"):
        a.door.final()
    await world.bank("bank-c", operator.app)
    await world.step(2)
    assert a.door.final()["size"] == b.door.final()["size"] == 3


@played
async def test_old_words_are_not_relied_on(world: World) -> None:
    operator = await world.start()
    await operator.send()
    await world.step()
    bank = world.banks["bank-a"]
    bank.door.final()
    world.clock.now += TOLERANCE + 1
    with pytest.raises(Unavailable, match=r"\[LEDGER_STALE\]"):
        bank.door.final()
    await world.step()
    assert bank.door.final()["asOf"] == int(world.clock())


@played
async def test_a_bank_comes_back_and_catches_up(world: World) -> None:
    operator = await world.start()
    await operator.send(2)
    await world.step()
    bank = world.banks.pop("bank-b")
    await bank.close()
    await operator.send(4)
    world.clock.now += 3600
    await operator.send(1)
    again = await world.bank("bank-b", operator.app)
    await world.step()
    assert again.evidence == []
    assert again.door.final()["size"] == operator.chain.head.number + 1


@played
async def test_an_operator_that_begins_again_is_found(world: World) -> None:
    """Another log from the same genesis, replaying cleanly, with checkpoints of the operator's own key."""
    first = await world.start()
    await first.send(3)
    await world.step()
    second = await world.operator("rewritten")
    await second.send(5)
    for bank in world.banks.values():
        bank.operator_app = second.app
    await world.step()
    all_stopped(world, "TWO_HISTORIES")
    proven(world, "TWO_HISTORIES")


@pytest.mark.parametrize("more", [0, 1, 5])
def test_an_operator_that_rewrites_its_last_blocks_is_found(tmp_path: Path, more: int) -> None:
    """A log and book from a backup, continued otherwise: shorter than, as long as, and longer than before."""

    async def run() -> None:
        async with World(tmp_path) as world:
            first = await world.start()
            await first.send(2)
            await world.step()
            shutil.copytree(tmp_path / "operator", tmp_path / "backup")
            await first.send(2)
            await world.step()
            second = await world.operator("backup")
            await second.send(1 + more)
            for bank in world.banks.values():
                bank.operator_app = second.app
            await world.step()
            all_stopped(world, "TWO_HISTORIES")
            proven(world, "TWO_HISTORIES")

    asyncio.run(run())


@played
async def test_an_operator_that_shows_two_histories_is_found(world: World) -> None:
    first = await world.start()
    second = await world.operator("other")
    world.banks["bank-c"].operator_app = second.app
    await first.send(2)
    await second.send(2)
    await world.step()
    all_stopped(world, "TWO_HISTORIES")
    proven(world, "TWO_HISTORIES")


def delayed(world: World, operator: Operator, note: Note) -> FastAPI:
    """Return an operator that shows one bank an old checkpoint with fresh timestamps."""
    app = FastAPI(openapi_url=None)

    @app.get("/checkpoint")
    async def checkpoint() -> Response:
        stamp = cosign(note.text, world.genesis.origin, world.operator_key, int(world.clock()))
        return Response(note.plus(stamp).encode())

    @app.get("/checkpoints")
    async def checkpoints(after: int) -> Response:
        size = int(note.text.split("\n")[1])
        return JSONResponse([each.encode() for each in operator.book.after(after, 50) if after < size])

    @app.get("/log")
    async def log(start: int, count: int) -> Response:
        return Response(frames(operator.chain.log.read(start, count)))

    return app


@played
async def test_an_operator_that_delays_one_bank_is_found(world: World) -> None:
    operator = await world.start()
    await operator.send(2)
    await world.step()
    old = operator.book.at(operator.book.tip[0])
    assert old is not None
    c = world.banks["bank-c"]
    c.operator_app = delayed(world, operator, old)
    await operator.send(2)
    # A little later is no misconduct.
    world.clock.now += TOLERANCE - 5
    await world.step()
    assert all(bank.evidence == [] for bank in world.banks.values())
    world.clock.now += 10
    await world.step()
    all_stopped(world, "CLOCK")
    proven(world, "CLOCK")


@played
async def test_a_bank_that_the_operator_ignores_knows_that_it_is_behind(world: World) -> None:
    operator = await world.start()
    await operator.send(2)
    await world.step()
    c = world.banks["bank-c"]
    assert c.door.final()["size"] == 4
    c.operator_app = FastAPI(openapi_url=None)
    await operator.send(2)
    world.clock.now += TOLERANCE + 5
    await world.step()
    assert c.evidence == []
    assert c.replica.problems["operator"] == "PEER_REFUSES"
    with pytest.raises(Unavailable, match=r"\[LEDGER_BEHIND\]"):
        c.door.final()
    # The others go on, but without its cosignature nothing new becomes final.
    with pytest.raises(Unavailable, match=r"\[LEDGER_STALE\]"):
        world.banks["bank-a"].door.final()


@pytest.mark.parametrize("shift", [-100, 100])
def test_an_operator_that_dates_blocks_wrongly_is_found(tmp_path: Path, shift: int) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            off = [0.0]
            operator = await world.operator(clock=lambda: world.clock() + off[0])
            for name in BANKS:
                await world.bank(name, operator.app)
            await operator.send(2)
            await world.step()
            world.clock.now += 1000
            await world.step()
            off[0] = shift
            await operator.send(1)
            await world.step()
            all_stopped(world, "CLOCK")
            proven(world, "CLOCK")

    asyncio.run(run())


@played
async def test_a_block_dated_back_behind_an_honest_one_is_found(world: World) -> None:
    """Both come under one checkpoint, whose own time is right."""
    off = [0.0]
    operator = await world.operator(clock=lambda: world.clock() + off[0])
    for name in BANKS:
        await world.bank(name, operator.app)
    await operator.send(2)
    world.clock.now += 1000
    await world.step()
    off[0] = -100
    await operator.send(1, publish=False)
    off[0] = 0
    await operator.send(1)
    await world.step()
    all_stopped(world, "RECORD_FORBIDDEN")


@played
async def test_the_operators_last_word_is_remembered_through_a_restart(world: World) -> None:
    off = [0.0]
    operator = await world.operator(clock=lambda: world.clock() + off[0])
    await world.bank("bank-a", operator.app)
    await operator.send(2)
    world.clock.now += 1000
    await world.step()
    await world.banks["bank-a"].close()
    off[0] = -100
    await operator.send(1)
    again = await world.bank("bank-a", operator.app)
    await again.replica.step()
    assert again.evidence == ["CLOCK"]


@played
async def test_a_late_block_within_the_tolerance_is_fine(world: World) -> None:
    off = [0.0]
    operator = await world.operator(clock=lambda: world.clock() + off[0])
    for name in BANKS:
        await world.bank(name, operator.app)
    await operator.send(1)
    world.clock.now += 1000
    await world.step()
    off[0] = -TOLERANCE
    await operator.send(1)
    await world.step()
    assert all(bank.door.final()["size"] == 4 for bank in world.banks.values())


@played
async def test_an_operator_whose_timestamps_are_off_is_not_used(world: World) -> None:
    operator = await world.start()
    await operator.send(1)
    note = operator.book.at(operator.book.tip[0])
    assert note is not None
    for off in (-TOLERANCE - 1, TOLERANCE + 1, None):
        app = FastAPI(openapi_url=None)
        stamps = []
        if off is not None:
            stamps = [cosign(note.text, world.genesis.origin, world.operator_key, int(world.clock()) + off)]
        body = note.plus(*stamps).encode()
        app.get("/checkpoint")(lambda body=body: Response(body))
        bank = world.banks["bank-a"]
        bank.operator_app = app
        await bank.replica.step()
        assert bank.replica.problems["operator"] == "CHECKPOINT_STALE"
        assert bank.book.tip == (0, START)


def offering(world: World, operator: Operator, changed: Any, bodies: list[bytes]) -> FastAPI:
    """Return an operator that signs a given checkpoint over given records."""
    note = Note(changed.text, (sign(changed.text, world.genesis.origin, world.operator_key),))
    app = FastAPI(openapi_url=None)
    stamp = cosign(note.text, world.genesis.origin, world.operator_key, int(world.clock()))
    app.get("/checkpoint")(lambda: Response(note.plus(stamp).encode()))
    app.get("/checkpoints")(lambda after: JSONResponse([note.encode()]))
    app.get("/log")(lambda start, count: Response(frames(bodies[int(start) : int(start) + int(count)])))
    return app


@pytest.mark.parametrize("field", ["state_root", "block_hash", "time"])
def test_a_checkpoint_that_its_log_does_not_give_is_found(tmp_path: Path, field: str) -> None:
    async def run() -> None:
        async with World(tmp_path) as world:
            operator = await world.start()
            await operator.send(2, publish=False)
            honest = await compose(operator.chain, operator.chain.head.number + 1, operator.book.tip[1])
            previous = operator.book.tip[1]
            assert honest.previous == previous
            wrong = honest.time - 1 if field == "time" else b"\7" * 32
            changed = dataclasses.replace(honest, **{field: wrong})
            await world.step()
            bodies = operator.chain.log.read(0, 100)
            for bank in world.banks.values():
                bank.operator_app = offering(world, operator, changed, bodies)
                await bank.replica.step()
                assert bank.evidence == ["REPLAY_DIFFERS" if field != "time" else bank.evidence[0]]
                with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
                    bank.door.final()

    asyncio.run(run())


@played
async def test_a_foreign_checkpoint_is_found(world: World) -> None:
    operator = await world.start()
    await operator.send(1)
    honest = await compose(operator.chain, operator.chain.head.number + 1, operator.book.tip[1])
    bank = world.banks["bank-a"]
    bodies = operator.chain.log.read(0, 100)
    bank.operator_app = offering(world, operator, dataclasses.replace(honest, members=b"\7" * 32), bodies)
    await bank.replica.step()
    assert bank.evidence == ["WRONG_LEDGER"]
    judge(bank.book.evidence()[0], world.genesis)


@played
async def test_a_bank_that_met_a_log_it_cannot_execute_starts_again_and_shows_its_evidence(
    world: World,
) -> None:
    operator = await world.start()
    await operator.send(1)
    await world.step()
    gap = sign_legacy(operator.sender.key, operator.sender.chain_id, 9, world.address, b"", 200_000)
    head = operator.chain.head
    body = records.encode(BlockRecord(head.number + 1, int(world.clock()), head.hash, (gap,)))
    bodies = [*operator.chain.log.read(0, 100), body]
    frontier = operator.chain.log.tree.frontier()
    frontier.append(body)
    honest = await compose(operator.chain, head.number + 1, operator.book.tip[1])
    changed = dataclasses.replace(
        honest,
        size=head.number + 2,
        number=head.number + 1,
        root=frontier.root(),
        previous=operator.book.tip[1],
    )
    bank = world.banks.pop("bank-a")
    bank.operator_app = offering(world, operator, changed, bodies)
    await bank.replica.step()
    assert bank.evidence == ["REPLAY_DIFFERS"]
    await bank.close()
    again = await world.bank("bank-a", operator.app)
    assert again.evidence == ["REPLAY_DIFFERS"]
    assert again.chain.head == head


@played
async def test_a_forbidden_transaction_in_the_log_is_found(world: World) -> None:
    """An operator that deploys a contract of its own; its engine takes it, the members' rules don't."""
    operator = await world.start()
    await world.step()
    creation, _ = counter_code()
    sender = operator.sender
    raw = sign_legacy(sender.key, sender.chain_id, 0, b"", creation, 200_000)
    assert isinstance((await operator.chain.engine.admit([raw], [b""]))[0], bytes)
    await operator.chain.extend([raw], int(world.clock()))
    await operator.publisher.extend()
    await world.step()
    all_stopped(world, "RECORD_FORBIDDEN")


@played
async def test_records_under_another_root_are_not_held_against_the_operator(world: World) -> None:
    """A peer can't frame the operator with records that the operator did not log."""
    operator = await world.start()
    await operator.send(2)
    newest = operator.book.at(operator.book.tip[0])
    assert newest is not None
    silent = delayed(world, operator, newest)
    silent.router.routes = [route for route in silent.router.routes if getattr(route, "path", "") != "/log"]
    bank = world.banks["bank-a"]
    bank.operator_app = silent
    false = FastAPI(openapi_url=None)
    other = BlockRecord(1, int(world.clock()), b"\7" * 32, (b"x",))
    false.get("/log")(lambda start, count: Response(frames([records.encode(other)] * int(count))))
    world.apps["bank-b"] = world.apps["bank-c"] = false
    await bank.replica.step()
    assert bank.evidence == []
    assert bank.book.tip == (0, START)
    # An honest peer's copy of the log does as well as the operator's.
    world.apps["bank-b"] = world.banks["bank-b"].app
    await world.banks["bank-b"].replica.step()
    await bank.replica.step()
    assert bank.book.tip[0] == newest_size(newest)


def newest_size(note: Note) -> int:
    return int(note.text.split("\n")[1])


@played
async def test_false_evidence_stops_nobody(world: World) -> None:
    operator = await world.start()
    await operator.send(1)
    await world.step()
    await operator.send(1)
    await world.step()
    bank = world.banks["bank-a"]
    notes = [note.encode() for note in bank.book.after(0, 10)]
    assert len(notes) >= 2
    forged = notes[0].replace("time 1", "time 2")
    for found in (
        Evidence("TWO_HISTORIES", tuple(notes[:2]), "they differ"),
        Evidence("CLOCK", tuple(notes[:2]), "late"),
        Evidence("TWO_HISTORIES", (notes[0], forged), "forged"),
        Evidence("REPLAY_DIFFERS", (notes[0],), "trust me"),
        Evidence("TWO_HISTORIES", (notes[0],), "alone"),
    ):
        bank.witness.hear_evidence(found)
        with pytest.raises(ConcordatError):
            judge(found, world.genesis)
    assert bank.evidence == []
    for value in (None, [], {"kind": "X"}, {"kind": "CLOCK", "notes": [], "detail": ""}):
        with pytest.raises(ProtocolError, match=r"\[EVIDENCE_MALFORMED\]"):
            Evidence.from_json(value)


@played
async def test_a_peer_must_have_cosigned_what_it_shows(world: World) -> None:
    operator = await world.start()
    await operator.send(1)
    await world.step(1)
    note = operator.book.at(operator.book.tip[0])
    assert note is not None
    bank = world.banks["bank-a"]
    with pytest.raises(ProtocolError, match=r"\[PEER_UNSIGNED\]"):
        bank.witness.hear("bank-b", evidence.read(note.encode(), world.genesis))
    name = f"{world.genesis.origin}/bank-b"
    forged = cosign(note.text, name, world.keys["bank-c"].checkpoint, 5)
    stolen = dataclasses.replace(
        cosign(note.text, name, world.keys["bank-b"].checkpoint, 5),
        blob=cosign(note.text, name, world.keys["bank-b"].checkpoint, 5).blob[:-64] + forged.blob[-64:],
    )
    with pytest.raises(SignatureInvalid, match=r"\[NOTE_SIGNATURE\]"):
        evidence.read(note.plus(stolen).encode(), world.genesis)


@played
async def test_a_book_takes_extensions_only_also_after_a_restart(world: World) -> None:
    operator = await world.start()
    await operator.send(2)
    await world.step(1)
    bank = world.banks.pop("bank-a")
    size, digest = bank.book.tip
    await bank.close()
    book = Book(world.folder / "bank-a/checkpoints.sqlite")
    last = book.last
    assert last is not None
    assert book.tip == (size, digest)
    operator_line = sign(last.text, world.genesis.origin, world.operator_key)
    for offered in (
        last,
        dataclasses.replace(last, state_root=b"\7" * 32),
        dataclasses.replace(last, size=size + 1, number=size, previous=START),
        dataclasses.replace(last, size=size - 1, number=size - 2, previous=digest),
    ):
        with pytest.raises(LedgerError, match=r"\[CHECKPOINT_NOT_EXTENDING\]"):
            book.add(offered, operator_line)
    book.stop(Evidence("REPLAY_DIFFERS", ("x",), "kept"))
    good = dataclasses.replace(last, size=size + 1, number=size, previous=digest)
    with pytest.raises(LedgerError, match=r"\[LEDGER_HALTED\]"):
        book.add(good, operator_line)
    book.close()
    again = Book(world.folder / "bank-a/checkpoints.sqlite")
    assert [each.kind for each in again.evidence()] == ["REPLAY_DIFFERS"]
    again.close()


@played
async def test_an_operator_with_an_old_log_does_not_sign_again(world: World) -> None:
    """A log restored from a backup without its book: the gateway refuses to start rather than fork."""
    operator = await world.operator()
    await operator.send(1)
    shutil.copytree(world.folder / "operator", world.folder / "backup")
    await operator.send(2)
    for name in ("checkpoints.sqlite", "checkpoints.sqlite-wal", "checkpoints.sqlite-shm"):
        shutil.copyfile(world.folder / "operator" / name, world.folder / "backup" / name)
    with pytest.raises(Unavailable, match=r"\[CHECKPOINT_DIFFERS\]"):
        await world.operator("backup")


@played
async def test_a_lost_log_comes_back_from_a_member(world: World) -> None:
    operator = await world.start()
    await operator.send(3)
    await world.step()
    bank = world.banks["bank-a"]
    folder = world.folder / "new"
    folder.mkdir()
    operator.book._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(world.folder / "operator/checkpoints.sqlite", folder / "checkpoints.sqlite")
    with httpx.Client(transport=Bridge(asyncio.get_running_loop(), {"bank-a": bank.app})) as client:

        def fetch(to: Path) -> int:
            return restore(to, world.genesis, "http://bank-a", client)

        assert await asyncio.to_thread(fetch, folder) == operator.chain.head.number + 1
        with pytest.raises(ConfigurationError, match=r"\[RESTORE_NOT_EMPTY\]"):
            await asyncio.to_thread(fetch, folder)
        again = await world.operator("new")
        assert again.chain.head == operator.chain.head
        # A member that shows other records than those under the checkpoint.
        other = FastAPI(openapi_url=None)
        other.get("/checkpoint")(lambda: Response(bank.witness.latest()))
        record = records.encode(records.GenesisRecord(b"\1" * 32, b"\2" * 32))
        other.get("/log")(lambda start, count: Response(frames([record] * int(count))))
        client._transport.apps["bank-a"] = other  # type: ignore[attr-defined]
        with pytest.raises(ProtocolError, match=r"\[RESTORE_DIFFERS\]"):
            await asyncio.to_thread(fetch, world.folder / "none")
        assert not (world.folder / "none/log.sqlite").exists()


@played
async def test_a_members_door_reads_but_does_not_write(world: World) -> None:
    operator = await world.start()
    await operator.send(1)
    await world.step()
    door: MemberDoor = world.banks["bank-a"].door
    assert b'"result"' in (await door.answer(b'{"id":1,"method":"eth_blockNumber","params":[]}')).encode()
    refused = await door.answer(b'{"id":1,"method":"eth_sendRawTransaction","params":["0x00"]}')
    assert "RPC_NOT_ALLOWED" in refused
