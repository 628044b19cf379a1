"""The durable log: what it refuses to open, and that damage at any place is found or harmless."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.engine import records
from ledger.engine.log import DurableLog
from ledger.engine.records import BlockRecord, GenesisRecord
from protocol.errors import ConcordatError, ProtocolError, Unavailable

COUNT = 12
STRIDE = 61 if os.environ.get("CONCORDAT_EXHAUSTIVE") else 4999
"""Bytes between the places that are damaged, beside those at and in records."""

FOUND = {"LOG_CORRUPT", "LOG_SHORTENED"}


def body(number: int) -> bytes:
    if number == 0:
        return records.encode(GenesisRecord(b"\1" * 32, b"\2" * 32))
    # Long enough for overflow pages now and then, unlike any other.
    raws = tuple(bytes([number, at]) * (20 + 900 * (number % 5 == 0)) for at in range(1 + number % 3))
    return records.encode(BlockRecord(number, 1000 + number, bytes([number]) * 32, raws))


BODIES = [body(number) for number in range(COUNT)]


def fill(log: DurableLog, start: int = 0) -> None:
    for number in range(start, COUNT):
        assert log.append(BODIES[number]) == number
        log.mark(bytes([number]) * 32)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a log as they lie after a kill, and after an orderly stop."""
    base = tmp_path_factory.mktemp("log")
    log = DurableLog(base / "live")
    fill(log)
    shutil.copytree(base / "live", base / "killed")
    log.close()
    shutil.copytree(base / "live", base / "stopped")
    return base / "killed", base / "stopped"


def outcome(folder: Path) -> str:
    """Open a log; return "same" if it holds all records, else the code of the refusal."""
    try:
        log = DurableLog(folder)
    except ConcordatError as error:
        return error.code
    try:
        assert log.read(0, COUNT + 1) == BODIES, "a log opened with other records than were written"
        # It also takes the next record.
        log.append(records.encode(BlockRecord(COUNT, 5000, bytes(32), (b"x",))))
    except Unavailable as error:
        return error.code
    finally:
        log.close()
    return "same"


def test_a_log_survives_a_kill_and_a_stop(written: tuple[Path, Path], tmp_path: Path) -> None:
    for number, folder in enumerate(written):
        shutil.copytree(folder, tmp_path / str(number))
        assert outcome(tmp_path / str(number)) == "same"


def damages(folder: Path) -> Iterator[tuple[str, str, Callable[[bytes], bytes]]]:
    """Yield (description, file, change) for every record boundary, inside records, and across the files."""

    def cut(at: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:at]

    def flip(at: int, bit: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]

    def zero(at: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]

    for name in ("log.sqlite", "log.sqlite-wal"):
        if not (folder / name).exists():
            continue
        data = (folder / name).read_bytes()
        places = set(range(0, len(data), STRIDE)) | {len(data) - 1} if data else set()
        for each in BODIES:
            start = data.rfind(each[:60])
            if start >= 0:
                places |= {start, start + len(each) // 2, start + len(each)}
        for at in sorted(place for place in places if place < len(data)):
            yield f"cut at {at}", name, cut(at)
            yield f"flip at {at}", name, flip(at, 1 << at % 8)
            yield f"zeros at {at}", name, zero(at)


@pytest.mark.parametrize("which", [0, 1], ids=["killed", "stopped"])
def test_damage_anywhere_is_found_or_harmless(written: tuple[Path, Path], which: int, tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    for number, (what, name, change) in enumerate(damages(written[which])):
        folder = tmp_path / str(number)
        shutil.copytree(written[which], folder)
        (folder / "log.sqlite-shm").unlink(missing_ok=True)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        result = outcome(folder)
        assert result in {"same", *FOUND}, f"{name}: {what}: {result}"
        seen[result] = seen.get(result, 0) + 1
        shutil.rmtree(folder)
    assert sum(seen.values()) > 100
    assert any(seen.get(code, 0) > 20 for code in FOUND), seen


def test_a_lost_tail_is_found(written: tuple[Path, Path], tmp_path: Path) -> None:
    """SQLite opens without complaint when its whole WAL is gone; the mark knows better."""
    shutil.copytree(written[0], tmp_path / "log")
    (tmp_path / "log/log.sqlite-wal").write_bytes(b"")
    (tmp_path / "log/log.sqlite-shm").unlink(missing_ok=True)
    with pytest.raises(Unavailable, match=r"\[LOG_(SHORTENED|CORRUPT)\]"):
        DurableLog(tmp_path / "log")


STATEMENTS = {
    "last record removed": "DELETE FROM record WHERE idx = 11",
    "last record and summary removed": "DELETE FROM record WHERE idx = 11; DELETE FROM whole",
    "middle record removed": "DELETE FROM record WHERE idx = 7",
    "record replaced": "UPDATE record SET body = (SELECT body FROM record WHERE idx = 8) WHERE idx = 7",
    "digest replaced": "UPDATE record SET digest = zeroblob(32) WHERE idx = 7",
    "records exchanged": "UPDATE record SET idx = 99 WHERE idx = 7; UPDATE record SET idx = 7 WHERE idx = 8;"
    "UPDATE record SET idx = 8 WHERE idx = 99",
    "last record moved": "UPDATE record SET idx = 99 WHERE idx = 11",
    "summary changed": "UPDATE whole SET size = 11",
    "table gone": "DROP TABLE record",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_changed_database_is_refused(written: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    shutil.copytree(written[1], tmp_path / "log")
    database = sqlite3.connect(tmp_path / "log/log.sqlite")
    database.executescript(STATEMENTS[name])
    database.close()
    with pytest.raises(Unavailable, match=r"\[LOG_(SHORTENED|CORRUPT)\]"):
        DurableLog(tmp_path / "log")


def test_a_consistent_shorter_log_is_refused_by_the_mark(written: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(written[1], tmp_path / "log")
    for name in ("log.sqlite", "log.sqlite-wal", "log.sqlite-shm"):
        (tmp_path / "log" / name).unlink(missing_ok=True)
    (tmp_path / "log/log.mark").rename(tmp_path / "mark")
    log = DurableLog(tmp_path / "log")
    for each in BODIES[:-1]:
        log.append(each)
    log.close()
    (tmp_path / "mark").rename(tmp_path / "log/log.mark")
    with pytest.raises(Unavailable, match=r"\[LOG_SHORTENED\]"):
        DurableLog(tmp_path / "log")


def test_a_torn_mark_falls_back_to_the_slot_before(written: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(written[1], tmp_path / "log")
    mark = tmp_path / "log/log.mark"
    data = bytearray(mark.read_bytes())
    newest = COUNT % 2 * 128
    data[newest + 3] ^= 1
    mark.write_bytes(data)
    log = DurableLog(tmp_path / "log")
    assert log.marked_head == (COUNT - 1, bytes([COUNT - 2]) * 32)
    log.close()


def test_a_record_that_changes_under_the_process_is_not_served(tmp_path: Path) -> None:
    log = DurableLog(tmp_path)
    fill(log)
    other = sqlite3.connect(tmp_path / "log.sqlite")
    with other:
        other.execute("UPDATE record SET body = zeroblob(65) WHERE idx = 5")
    other.close()
    with pytest.raises(Unavailable, match=r"\[LOG_CORRUPT\]"):
        log.read(0, COUNT)
    log.close()


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_record_in_the_wrong_place_is_refused_before_it_is_written(tmp_path: Path, number: int) -> None:
    log = DurableLog(tmp_path)
    log.append(BODIES[0])
    with pytest.raises(ProtocolError, match=r"\[RECORD_PLACE\]"):
        log.append(BODIES[number])
    log.close()
    reopened = DurableLog(tmp_path)
    assert len(reopened) == 1
    reopened.close()


@pytest.mark.parametrize("data", [b"", b"\1", b"\3" + bytes(64), BODIES[3][:-1], BODIES[3] + b"\0"])
def test_bytes_that_are_no_record_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"\[RECORD_MALFORMED\]"):
        records.decode(data)


def test_records_round_trip() -> None:
    for each in BODIES:
        assert records.encode(records.decode(each)) == each
