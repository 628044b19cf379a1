"""Parts of stages V and P in one process, without a consortium: identifiers a second, rows a second, peak memory.

``python -m benchmarks.vertical --parts-only``. Every part runs in a fresh process, so that its peak memory is its own:
what the process holds at its highest, less what it held before the part began. Identifiers, bits and outcomes come
from the operating system's generator or a stated seed; nothing here is anybody's.

What is extrapolated to ten million rows is a rate times ten million, and is printed as such.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from data_partner_node.spool import FileSpool
from protocol import product, voprf
from protocol.join import BLOCK, Reader, Table, Writer, bucketed
from protocol.labels import Label
from protocol.product import ComputeSums, DenseBook, Product

COMPONENTS = 20
OWN_ROWS = 100_000
"""Rows of the bank that reads the table."""
TEN_MILLION = 10_000_000

Found = dict[str, Any]


def measure(ids: int, table_rows: int, own_rows: int = OWN_ROWS) -> Found:
    """Measure all parts.

    Args:
        ids: identifiers that go through the VOPRF, at most 65,535.
        table_rows: rows of the partner's table in the join and the product.
        own_rows: rows of the bank, of which all are in the table.
    """
    own_rows = min(own_rows, table_rows)
    found = {
        "cores": os.cpu_count(),
        "ids": ids,
        "table_rows": table_rows,
        "own_rows": own_rows,
        "components": COMPONENTS,
        "voprf": {who: apart(prf, ids, who) for who in ("one core", "two processes", "two threads")},
        "join": apart(join, table_rows, own_rows),
        "product": apart(products, table_rows, own_rows),
        "partner_in_memory": apart(partner_memory, min(100_000, table_rows), min(10_000, ids)),
    }
    found["ten_million_rows_extrapolated"] = extrapolated(found)
    return found


def apart(part: Callable[..., Found], *arguments: Any) -> Found:
    """Run a part in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(part, *arguments).result()


class Memory:
    """Peak memory of this process since the object was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
        self._before = self._read("VmRSS")

    def peak_mb(self) -> float:
        """Return the megabytes at the highest point beyond those at the beginning."""
        return round((self._read("VmHWM") - self._before) / 1024, 1)

    def now_mb(self) -> float:
        """Return the megabytes now beyond those at the beginning."""
        return round((self._read("VmRSS") - self._before) / 1024, 1)

    @staticmethod
    def _read(field: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise OSError(f"no {field}")


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = act()
    return result, time.perf_counter() - began


# -- VOPRF ----------------------------------------------------------------------------------------------------


def prf(ids: int, who: str) -> Found:
    """Blind, evaluate and finalize a batch; evaluate a partner's own rows, hashes shared and not."""
    if who == "two processes":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            list(
                pool.map(abs, range(8))
            )  # both are up, and have nothing left to import but what the part needs
            return _prf(ids, pool)
    if who == "two threads":
        with ThreadPoolExecutor(2) as threads:
            return _prf(ids, threads)
    return _prf(ids, None)


def _prf(ids: int, pool: Executor | None) -> Found:
    inputs = [voprf.enterprise_input("opaque", f"{number:018d}") for number in range(ids)]
    key = voprf.derive_key_pair(secrets.token_bytes(32), voprf.key_info("training", "epoch", "bank"))
    audit, label = secrets.token_bytes(32), Label("benchmark", "job", 0)
    # Processes import the group's code with their first chunk: that is start-up, not arithmetic.
    voprf.hash_inputs(inputs[:2048], pool)
    spent = time.process_time()
    batch, blind = timed(lambda: voprf.blind(inputs, audit_key=audit, label=label, pool=pool))
    spent = time.process_time() - spent
    response, answer = timed(lambda: voprf.blind_evaluate(key, batch.request, pool))
    spent -= time.process_time()
    outputs, finalize = timed(lambda: voprf.finalize(batch, response, key.public, pool))
    spent += time.process_time()
    hashed, hashing = timed(lambda: voprf.hash_inputs(inputs, pool))
    own, evaluate = timed(lambda: voprf.evaluate(key, inputs, hashed, pool))
    if own != outputs:
        raise SystemExit("the two sides of the VOPRF do not agree")
    alone: Found = {"bank_cpu_seconds_per_30k_ids": round(spent / ids * 30_000, 1)} if pool is None else {}
    return alone | {
        "bank_ids_per_second": round(ids / (blind + finalize)),
        "blind_per_second": round(ids / blind),
        "finalize_per_second": round(ids / finalize),
        "partner_answers_per_second": round(ids / answer),
        "own_table_rows_per_second": round(ids / (hashing + evaluate)),
        "own_table_rows_per_second_hashes_shared": round(ids / evaluate),
    }


# -- join -----------------------------------------------------------------------------------------------------


def rows_of(rows: int) -> Iterator[tuple[list[bytes], np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Give made-up PRF outputs and bits block by block, so that the caller never holds the table."""
    generator = np.random.Generator(np.random.PCG64(7))
    for at in range(0, rows, BLOCK):
        size = min(BLOCK, rows - at)
        whole = generator.bytes(64 * size)
        outputs = [whole[place : place + 64] for place in range(0, len(whole), 64)]
        yield outputs, generator.integers(0, 2, (size, COMPONENTS), dtype=np.uint8)


def own_outputs(rows: int, own: int) -> list[bytes]:
    """Return the outputs that the bank holds: the first of the table's."""
    found: list[bytes] = []
    for outputs, _ in rows_of(rows):
        found += outputs
        if len(found) >= own:
            break
    return found[:own]


def table_of(rows: int) -> Table:
    return Table("job", 0, "bank", "partner", bucketed(rows), COMPONENTS)


def join(rows: int, own: int) -> Found:
    """Write a table through a spool on disk and read it, block by block."""
    table, key = table_of(rows), secrets.token_bytes(32)
    mine = own_outputs(rows, own)
    with tempfile.TemporaryFile() as file:
        memory = Memory()
        writing = _write(table, rows, key, secrets.token_bytes(32), file)
        written = memory.peak_mb()
        size = file.tell()
        file.seek(0)
        memory = Memory()
        began = time.perf_counter()
        reader = Reader(table, mine, table_key=key)
        for block in range(table.blocks):
            reader.feed(file.read(table.block_slots(block) * table.entry_bytes))
        matched = reader.finish()
        reading, read = time.perf_counter() - began, memory.peak_mb()
    if len(matched.rows) != own:
        raise SystemExit("the bank does not find its rows in the table")
    return {
        "slots": table.slots,
        "bytes": size,
        "bytes_specified": table.slots * table.entry_bytes,
        "write_seconds": round(writing, 2),
        "write_rows_per_second": round(rows / writing),
        "write_peak_mb": written,
        "read_seconds": round(reading, 2),
        "read_slots_per_second": round(table.slots / reading),
        "read_peak_mb": read,
    }


def _write(table: Table, rows: int, key: bytes, seed: bytes, file: Any) -> float:
    """Write a table; returns the seconds of that, without those in which its rows were made up."""
    writer = Writer(table, rows, table_key=key, share_seed=seed, spool=FileSpool())
    making = 0.0
    for outputs, bits in rows_of(rows):
        making += timed(lambda outputs=outputs, bits=bits: writer.add(outputs, bits))[1]  # type: ignore[misc]
    return making + timed(lambda: [file.write(chunk) for chunk in writer.chunks()])[1]


# -- product --------------------------------------------------------------------------------------------------


def products(rows: int, own: int) -> Found:
    """Run one product; D goes from the bank to T chunk by chunk. The sum of shares is checked."""
    table, key, share_seed, seed = table_of(rows), *(secrets.token_bytes(32) for _ in range(3))
    mine = own_outputs(rows, own)
    with tempfile.TemporaryFile() as file:
        _write(table, rows, key, share_seed, file)
        file.seek(0)
        reader = Reader(table, mine, table_key=key)
        for block in range(table.blocks):
            reader.feed(file.read(table.block_slots(block) * table.entry_bytes))
    matched = reader.finish()
    outcomes = np.random.Generator(np.random.PCG64(8)).random(own) < 0.1
    values = product.weights(outcomes[matched.rows], 0.1)
    shape = Product(table)
    memory = Memory()
    side, bank_seconds, compute_seconds, size = ComputeSums(shape, share_seed=share_seed), 0.0, 0.0, 0
    chunks = product.dense(shape, matched, values, seed=seed)
    for _ in range(shape.chunks):
        chunk, took = timed(lambda: next(chunks))
        bank_seconds += took
        size += len(chunk)
        compute_seconds += timed(lambda chunk=chunk: side.feed(chunk))[1]  # type: ignore[misc]
    streamed = memory.peak_mb()
    theirs, partner_seconds = timed(lambda: product.partner_sums(shape, seed=seed, share_seed=share_seed))
    total = product.bank_sums(matched, values) + side.finish(DenseBook()) + theirs
    _check(total, rows, outcomes)
    return {
        "bytes": size,
        "bytes_specified": table.slots * COMPONENTS * shape.width // 8,
        "bank_seconds": round(bank_seconds, 2),
        "bank_slots_per_second": round(table.slots / bank_seconds),
        "compute_seconds": round(compute_seconds, 2),
        "compute_slots_per_second": round(table.slots / compute_seconds),
        "partner_seconds": round(partner_seconds, 2),
        "partner_slots_per_second": round(table.slots / partner_seconds),
        "peak_mb": streamed,
    }


def _check(total: np.ndarray[Any, np.dtype[np.uint64]], rows: int, outcomes: np.ndarray[Any, Any]) -> None:
    """Compare with the plaintext sum, modulo 2^K."""
    values, plain, at = product.weights(outcomes, 0.1), np.zeros(COMPONENTS, dtype=np.int64), 0
    for outputs, bits in rows_of(rows):
        part = values[at : at + len(outputs)]
        plain += part @ bits[: len(part)].astype(np.int64)
        at += len(outputs)
        if at >= len(values):
            break
    mask = np.uint64((1 << product.WIDTH) - 1)
    if not np.array_equal(total & mask, plain.view(np.uint64) & mask):
        raise SystemExit("the product differs from the plaintext sums")


# -- what the product's own partner holds ---------------------------------------------------------------------


def partner_memory(rows: int, evaluated: int) -> Found:
    """Return what the partner's session holds at once for a table, in megabytes per million rows.

    Whole in memory, whatever the spool: the table and its columns; hashes, outputs and what the keep holds of every
    row (dictionaries, and once more as one byte string on its way into the keep); the bits of every row; and the
    finished table as a list of blocks. Measured on the product's own code over a small synthetic table.

    Args:
        rows: of the table.
        evaluated: rows that go through the VOPRF.
    """
    from concordat import dataset
    from concordat.economy import write_economy
    from data_partner_node.tables import PartnerTable
    from node.keep import MemoryKeep
    from protocol.subscore import sign_bits

    def read(count: int) -> tuple[Any, Any]:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "economy"
            write_economy(home, count=max(300, round(count / 1.1)), banks=3, seed=7, kind="parquet")
            data = dataset.load(home)
            return data.table("e-commerce"), data.contract().dataset_for("e-commerce")

    read(300)  # what is imported on the way is no memory of the table
    memory = Memory()
    table, contract = read(rows)
    reading, read_mb = memory.peak_mb(), memory.now_mb()
    partner = PartnerTable(table, contract, MemoryKeep(), {})
    basis = partner.basis(COMPONENTS)
    bits = np.concatenate([sign_bits(z) for z in basis.blocks(partner.columns)])
    million, mega = 1e6 / table.rows, 2.0**20
    found: Found = {
        "rows": table.rows,
        "table_as_read_mb": round(read_mb * million),
        "table_as_read_peak_mb": round(reading * million),
        "columns_mb": round(sum(column.nbytes for column in partner.columns.values()) * million / mega),
        "bits_mb": round(bits.nbytes * million / mega),
        "finished_table_mb": round(table_of(table.rows).entry_bytes * 1e6 / mega),
    }
    tracemalloc.start()
    inputs = partner.asked_of("bank-1", consent=False).inputs
    found["inputs_mb"] = round(tracemalloc.get_traced_memory()[0] * million / mega)
    tracemalloc.reset_peak()
    before, million = tracemalloc.get_traced_memory()[0], 1e6 / evaluated
    outputs = partner.outputs("training", "epoch", "bank-1", inputs[:evaluated])
    after, peak = tracemalloc.get_traced_memory()
    if len(outputs) != evaluated:
        raise SystemExit("the partner has not one output for every row")
    found["hashes_and_outputs_mb"] = round((after - before) * million / mega)
    found["hashes_and_outputs_peak_mb"] = round((peak - before) * million / mega)
    found["said"] = "megabytes per million partner rows; inputs and outputs: of one bank and purpose"
    return found


# -- ten million rows -----------------------------------------------------------------------------------------


def extrapolated(found: Found) -> Found:
    """Return what ten million partner rows would take per bank and purpose, from the measured rates."""
    one, two = found["voprf"]["one core"], found["voprf"]["two processes"]
    join_, shape, slots = found["join"], found["product"], bucketed(TEN_MILLION)
    table = table_of(TEN_MILLION)
    kept = found["partner_in_memory"]
    whole = sum(value for name, value in kept.items() if name.endswith("_mb") and "peak" not in name)
    return {
        "said": "extrapolated: a measured rate times ten million rows, per bank and purpose",
        "own_table_seconds_one_core": round(TEN_MILLION / one["own_table_rows_per_second"]),
        "own_table_seconds_two_cores": round(TEN_MILLION / two["own_table_rows_per_second"]),
        "table_write_seconds": round(TEN_MILLION / join_["write_rows_per_second"]),
        "table_read_seconds": round(slots / join_["read_slots_per_second"]),
        "product_bank_seconds": round(slots / shape["bank_slots_per_second"]),
        "product_compute_seconds": round(slots / shape["compute_slots_per_second"]),
        "product_partner_seconds": round(slots / shape["partner_slots_per_second"]),
        "table_mb": round(slots * table.entry_bytes / 1e6),
        "dense_mb": round(slots * COMPONENTS * product.WIDTH / 8 / 1e6),
        "streamed_peak_mb": max(join_["write_peak_mb"], join_["read_peak_mb"], shape["peak_mb"]),
        "partner_session_holds_mb": round(whole * TEN_MILLION / 1e6),
    }
