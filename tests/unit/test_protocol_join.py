"""The join table: writer and reader meet, malformed tables are refused whoever is a client."""

import hashlib
import secrets
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol import join, labels, ring
from protocol.errors import ProtocolError
from protocol.join import Matched, MemorySpool, Reader, Table, Writer, bucketed
from protocol.labels import LabelLedger, observe

TABLE_KEY = hashlib.sha256(b"table").digest()
SEED = hashlib.sha256(b"s_T").digest()
WIDTH = 5


def output(name: object) -> bytes:
    return hashlib.sha512(f"output {name}".encode()).digest()


def bits_of(n: int, width: int = WIDTH, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2, (n, width), dtype=np.uint8)


def table_of(rows: int, width: int = WIDTH, kind: str = "join", **place: str) -> Table:
    named = {"job": "job-1", "bank": "bank-a", "partner": "shop"} | place
    return Table(named["job"], 0, named["bank"], named["partner"], bucketed(rows), width, kind)


def written(
    outputs: Sequence[bytes], bits: NDArray[np.uint8], *, kind: str = "join", pieces: int = 1
) -> tuple[Table, list[bytes]]:
    table = table_of(len(outputs), bits.shape[1], kind)
    seed = SEED if kind == "join" else None
    writer = Writer(table, len(outputs), table_key=TABLE_KEY, share_seed=seed, spool=MemorySpool())
    for part in np.array_split(np.arange(len(outputs)), pieces):
        writer.add([outputs[i] for i in part], bits[part])
    return table, list(writer.chunks())


def read(table: Table, chunks: Sequence[bytes], outputs: Sequence[bytes], key: bytes = TABLE_KEY) -> Matched:
    reader = Reader(table, outputs, table_key=key)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def opened(table: Table, matched: Matched) -> NDArray[np.uint8]:
    """Shares with s_T: the plaintext bits, in the order of the matches."""
    columns = [
        np.concatenate([join.zeta(table, SEED, t, block) for block in range(table.blocks)])[matched.slots]
        for t in range(table.width)
    ]
    return matched.shares ^ np.stack(columns, axis=1)


def code(raised: pytest.ExceptionInfo[ProtocolError]) -> str:
    return raised.value.code


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 slots, so that a small table has several."""
    monkeypatch.setattr(join, "BLOCK", 64)


class TestShape:
    @pytest.mark.parametrize(
        ("count", "rounded"),
        [(1, 1), (7, 7), (8, 8), (9, 10), (15, 16), (17, 20), (200_000, 229_376), (24_000, 24_576)],
    )
    def test_counts_are_rounded_up_to_three_significant_bits(self, count: int, rounded: int) -> None:
        assert bucketed(count) == rounded
        assert bucketed(rounded) == rounded

    @pytest.mark.parametrize("wrong", [(0, 5), (9, 5), (8, 0), (8, 257), (8.0, 5), (-8, 5)])
    def test_malformed_shapes_are_refused(self, wrong: tuple[int, int]) -> None:
        with pytest.raises(ProtocolError, match="TABLE_SHAPE"):
            Table("job", 0, "bank-a", "shop", *wrong)

    def test_a_place_is_complete(self) -> None:
        for place in ({"bank": ""}, {"partner": ""}):
            with pytest.raises(ProtocolError, match="TABLE_SHAPE"):
                table_of(8, **place)
        with pytest.raises(ProtocolError, match="LABEL_MALFORMED"):
            table_of(8, job="")
        with pytest.raises(ProtocolError, match="TABLE_SHAPE"):
            table_of(8, kind="other")
        with pytest.raises(ProtocolError, match="TABLE_SHAPE"):
            bucketed(0)


@pytest.mark.usefixtures("small_blocks")
class TestMeeting:
    @pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
    @pytest.mark.parametrize("pieces", [1, 7])
    def test_bank_finds_exactly_its_rows_and_their_bits(self, n: int, pieces: int) -> None:
        outputs, bits = [output(i) for i in range(n)], bits_of(n)
        table, chunks = written(outputs, bits, pieces=pieces)
        assert [len(chunk) for chunk in chunks] == [
            table.block_slots(block) * table.entry_bytes for block in range(table.blocks)
        ]
        own = [output(i) for i in range(0, n, 2)] + [output(f"stranger {i}") for i in range(20)]
        matched = read(table, chunks, own)
        assert sorted(matched.rows.tolist()) == list(range(len(own) - 20))
        assert matched.slots.tolist() == sorted(set(matched.slots.tolist()))
        assert opened(table, matched).tolist() == bits[matched.rows * 2].tolist()

    @pytest.mark.parametrize("coverage", ["none", "all"])
    def test_coverage_none_and_all(self, coverage: str) -> None:
        outputs, bits = [output(i) for i in range(150)], bits_of(150)
        table, chunks = written(outputs, bits)
        own = outputs if coverage == "all" else [output(f"stranger {i}") for i in range(150)]
        matched = read(table, chunks, own)
        assert len(matched.rows) == (150 if coverage == "all" else 0)
        assert matched.shares.shape == (len(matched.rows), WIDTH)

    def test_a_bank_without_rows_reads_nothing(self) -> None:
        table, chunks = written([output(1)], bits_of(1))
        assert len(read(table, chunks, []).rows) == 0

    def test_a_publication_carries_the_bits_themselves(self) -> None:
        outputs, bits = [output(i) for i in range(90)], bits_of(90, 4)
        table, chunks = written(outputs, bits, kind="publication")
        matched = read(table, chunks, outputs)
        assert matched.shares.tolist() == bits[matched.rows].tolist()

    def test_sorting_by_tag_hides_the_order_of_rows(self) -> None:
        """Slots against rows: Spearman below 3.3 standard deviations; without sorting it is 1."""
        n = 2_000
        outputs = [output(i) for i in range(n)]
        table, chunks = written(outputs, bits_of(n))
        matched = read(table, chunks, outputs)
        assert abs(np.corrcoef(matched.rows, matched.slots)[0, 1]) < 3.3 / n**0.5

    def test_red_unsorted_entries_are_refused_by_the_bank(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Writer, "_sorted", lambda self, data: data)
        table, chunks = written([output(i) for i in range(200)], bits_of(200))
        with pytest.raises(ProtocolError, match="TABLE_ORDER"):
            read(table, chunks, [])

    def test_shares_without_the_seed_are_uniform(self) -> None:
        """All plaintext bits one: the bank's shares have a mean of 1/2 within 5 standard deviations."""
        n = 2_000
        table, chunks = written([output(i) for i in range(n)], np.ones((n, WIDTH), dtype=np.uint8))
        shares = read(table, chunks, [output(i) for i in range(n)]).shares
        assert abs(shares.mean() - 0.5) < 5 * 0.5 / (n * WIDTH) ** 0.5

    def test_fresh_keys_give_tables_without_a_common_entry(self) -> None:
        outputs, bits = [output(i) for i in range(64)], bits_of(64)
        table, chunks = written(outputs, bits)
        writer = Writer(table, 64, table_key=bytes(32), share_seed=SEED, spool=MemorySpool())
        writer.add(outputs, bits)
        tags = {chunk[at : at + 16] for chunk in [*chunks, *writer.chunks()] for at in range(0, 64 * 17, 17)}
        assert len(tags) == 128


@pytest.mark.usefixtures("small_blocks")
class TestKeys:
    """Test 10 of the protocol, as far as tables go: each wrong key finds nothing."""

    def test_wrong_table_key_finds_nothing(self) -> None:
        outputs = [output(i) for i in range(64)]
        table, chunks = written(outputs, bits_of(64))
        assert len(read(table, chunks, outputs, key=bytes(32)).rows) == 0

    def test_another_place_finds_nothing(self) -> None:
        outputs = [output(i) for i in range(64)]
        _, chunks = written(outputs, bits_of(64))
        for other in ({"bank": "bank-b"}, {"partner": "state"}, {"job": "job-2"}, {"kind": "publication"}):
            assert len(read(table_of(64, **other), chunks, outputs).rows) == 0

    @pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
    def test_keys_have_32_bytes(self, key: bytes) -> None:
        with pytest.raises(ProtocolError, match="LABEL_KEY"):
            Reader(table_of(8), [], table_key=key)
        with pytest.raises(ProtocolError, match="LABEL_KEY"):
            Writer(table_of(8), 8, table_key=key, share_seed=SEED, spool=MemorySpool())
        with pytest.raises(ProtocolError, match="LABEL_KEY"):
            Writer(table_of(8), 8, table_key=TABLE_KEY, share_seed=key, spool=MemorySpool())


class TestWriter:
    def _writer(self, rows: int = 8, kind: str = "join", seed: bytes | None = SEED) -> Writer:
        table = table_of(rows, kind=kind)
        return Writer(table, rows, table_key=TABLE_KEY, share_seed=seed, spool=MemorySpool())

    def test_a_join_has_a_seed_and_a_publication_none(self) -> None:
        for kind, seed in (("join", None), ("publication", SEED)):
            with pytest.raises(ProtocolError, match="TABLE_SHAPE"):
                self._writer(kind=kind, seed=seed)

    def test_slots_fit_the_rows(self) -> None:
        with pytest.raises(ProtocolError, match="TABLE_SHAPE"):
            Writer(table_of(8), 4, table_key=TABLE_KEY, share_seed=SEED, spool=MemorySpool())

    @pytest.mark.parametrize(
        "bits", [bits_of(2), bits_of(3, 4), bits_of(3).astype(np.int64), bits_of(3) + np.uint8(1)]
    )
    def test_rows_of_another_shape_are_refused(self, bits: NDArray[np.uint8]) -> None:
        with pytest.raises(ProtocolError, match="TABLE_ROWS"):
            self._writer().add([output(i) for i in range(3)], bits)

    def test_too_many_and_too_few_rows_are_refused(self) -> None:
        with pytest.raises(ProtocolError, match="TABLE_ROWS"):
            self._writer().add([output(i) for i in range(9)], bits_of(9))
        writer = self._writer()
        writer.add([output(1)], bits_of(1))
        with pytest.raises(ProtocolError, match="TABLE_ROWS"):
            list(writer.chunks())

    def test_an_enterprise_that_stands_twice_is_refused(self) -> None:
        writer = self._writer(2)
        writer.add([output(1), output(1)], bits_of(2))
        with pytest.raises(ProtocolError, match="TABLE_TAG_REPEATED"):
            list(writer.chunks())

    def test_an_output_has_64_bytes(self) -> None:
        with pytest.raises(ProtocolError, match="TABLE_OUTPUT"):
            self._writer(1).add([bytes(32)], bits_of(1))

    def test_a_table_made_again_is_the_same_table(self) -> None:
        outputs, bits = [output(i) for i in range(70)], bits_of(70)
        table, first = written(outputs, bits)
        writer = Writer(table, 70, table_key=TABLE_KEY, share_seed=SEED, spool=MemorySpool())
        for i in range(70):  # in another order
            writer.add([outputs[69 - i]], bits[69 - i : 70 - i])
        assert list(writer.chunks()) == first

    def test_red_fresh_fillers_would_move_rows_under_one_zeta(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Writer, "_filler", lambda self, at, n: secrets.token_bytes(n))
        outputs, bits = [output(i) for i in range(70)], bits_of(70)
        with observe(LabelLedger()):
            written(outputs, bits)
            with pytest.raises(ProtocolError, match="LABEL_REUSED"):
                written(outputs, bits)

    def test_a_second_table_under_the_same_keys_is_seen(self) -> None:
        def make(bits: NDArray[np.uint8], table_key: bytes, seed: bytes) -> None:
            table = table_of(8)
            writer = Writer(table, 8, table_key=table_key, share_seed=seed, spool=MemorySpool())
            writer.add([output(i) for i in range(8)], bits)
            list(writer.chunks())

        other = hashlib.sha256(b"other").digest()
        with observe(LabelLedger()):
            make(bits_of(8), TABLE_KEY, SEED)
            make(bits_of(8), TABLE_KEY, SEED)  # the same table again
            make(bits_of(8), other, other)
            for changed in ((bits_of(8, seed=2), TABLE_KEY, SEED), (bits_of(8), other, SEED)):
                with pytest.raises(ProtocolError, match="LABEL_REUSED"):
                    make(*changed)


@pytest.mark.usefixtures("small_blocks")
class TestMalformedTables:
    """Test 11: the bank's answer to a malformed table is a function of the table, not of its clients."""

    N = 150
    CLIENT, STRANGER = 3, 4

    def _table(self) -> tuple[Table, list[bytes], NDArray[np.uint8]]:
        bits = bits_of(self.N)
        return (*written([output(i) for i in range(self.N)], bits), bits)

    def _banks(self) -> list[list[bytes]]:
        """Three banks: one with the client, one without, one without any row."""
        return [[output(self.CLIENT), output("x")], [output("y")], []]

    def _entry(self, table: Table, chunks: Sequence[bytes], who: int) -> tuple[int, int]:
        """Return block and offset of an enterprise's entry."""
        slot = int(read(table, chunks, [output(who)]).slots[0])
        return slot // join.BLOCK, slot % join.BLOCK * table.entry_bytes

    def _answers(self, table: Table, chunks: Sequence[bytes]) -> set[str]:
        answers = set()
        for own in self._banks():
            try:
                read(table, chunks, own)
                answers.add("taken")
            except ProtocolError as error:
                answers.add(f"{error.code} {error}")
        return answers

    @pytest.mark.parametrize("who", [CLIENT, STRANGER])
    def test_a_poisoned_entry_is_taken_by_everybody(self, who: int) -> None:
        table, chunks, bits = self._table()
        block, at = self._entry(table, chunks, who)
        poisoned = bytearray(chunks[block])
        poisoned[at + 16] ^= 0xFF  # all bits, and the unused ones of the last byte too
        changed = [*chunks[:block], bytes(poisoned), *chunks[block + 1 :]]
        assert self._answers(table, changed) == {"taken"}
        matched = read(table, changed, [output(who)])
        assert opened(table, matched).tolist() == [(1 - bits[who]).tolist()]

    @pytest.mark.parametrize("who", [CLIENT, STRANGER])
    def test_a_repeated_tag_is_refused_by_everybody(self, who: int) -> None:
        table, chunks, _ = self._table()
        block, at = self._entry(table, chunks, who)
        size = table.entry_bytes
        other = at + size if at + 2 * size <= len(chunks[block]) else at - size
        twice = bytearray(chunks[block])
        twice[other : other + 16] = twice[at : at + 16]
        answers = self._answers(table, [*chunks[:block], bytes(twice), *chunks[block + 1 :]])
        assert len(answers) == 1
        assert answers.pop().startswith("TABLE_TAG_REPEATED")

    def test_a_tag_repeated_across_blocks_is_refused(self) -> None:
        table, chunks, _ = self._table()
        second = chunks[0][-table.entry_bytes :] + chunks[1][table.entry_bytes :]
        assert {a.split()[0] for a in self._answers(table, [chunks[0], second, *chunks[2:]])} == {
            "TABLE_TAG_REPEATED"
        }

    def test_swapped_blocks_and_entries_are_refused(self) -> None:
        table, chunks, _ = self._table()
        size = table.entry_bytes
        swapped = chunks[0][size : 2 * size] + chunks[0][:size] + chunks[0][2 * size :]
        for changed in ([chunks[1], chunks[0], *chunks[2:]], [swapped, *chunks[1:]]):
            assert {a.split()[0] for a in self._answers(table, changed)} == {"TABLE_ORDER"}

    def test_wrong_lengths_are_refused(self) -> None:
        table, chunks, _ = self._table()
        for changed in (
            chunks[:-1],
            [*chunks, chunks[-1]],
            [chunks[0][:-1], *chunks[1:]],
            [chunks[0] + b"\0", *chunks[1:]],
            [b"", *chunks[1:]],
        ):
            assert {a.split()[0] for a in self._answers(table, changed)} == {"TABLE_LENGTH"}

    def test_red_a_checksum_in_the_entry_would_tell_who_is_a_client(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The planted bug: a bank that refuses a match whose unused bits are not zero."""
        honest = Reader.feed

        def checked(self: Reader, chunk: bytes) -> None:
            honest(self, chunk)
            rows, slots, _ = self._found[-1]
            entries = np.frombuffer(chunk, dtype=np.uint8).reshape(-1, self._table.entry_bytes)
            own = self._pads[np.isin(self._order, rows)]
            if ((entries[slots % join.BLOCK, 16:] ^ own) & 7).any():
                raise ProtocolError("TABLE_CHECKSUM", "…")

        monkeypatch.setattr(Reader, "feed", checked)
        table, chunks, _ = self._table()
        block, at = self._entry(table, chunks, self.CLIENT)
        poisoned = bytearray(chunks[block])
        poisoned[at + 16] ^= 0xFF
        assert len(self._answers(table, [*chunks[:block], bytes(poisoned), *chunks[block + 1 :]])) == 2

    def test_a_bank_with_a_row_twice_is_told_before_it_reads(self) -> None:
        with pytest.raises(ProtocolError, match="TABLE_OWN_REPEATED"):
            Reader(table_of(8), [output(1), output(1)], table_key=TABLE_KEY)


class TestStreaming:
    def test_the_writer_reads_its_spool_in_parts_of_about_a_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(join, "BLOCK", 64)
        n, largest = 2_000, 0

        class Watched(MemorySpool):
            def read(self, part: int) -> bytes:
                nonlocal largest
                data = super().read(part)
                largest = max(largest, len(data))
                return data

        table = table_of(n)
        writer = Writer(table, n, table_key=TABLE_KEY, share_seed=SEED, spool=Watched())
        for at in range(0, n, 50):
            writer.add([output(i) for i in range(at, at + 50)], bits_of(50, seed=at))
        assert sum(map(len, writer.chunks())) == table.slots * table.entry_bytes
        assert largest < 2 * 64 * table.entry_bytes

    def test_zeta_is_made_of_one_stream_per_component_and_block(self) -> None:
        table = table_of(200)
        seen = {join.zeta(table, SEED, t, 0).tobytes() for t in range(WIDTH)}
        assert len(seen) == WIDTH
        label = table.label("zeta", "2/0")
        stream = np.frombuffer(labels.keystream(labels.derive(SEED, label), 28), dtype=np.uint8)
        assert join.zeta(table, SEED, 2, 0).tolist() == np.unpackbits(stream)[: table.slots].tolist()


class TestPacking:
    @pytest.mark.parametrize("width", [8, 16, 40, 64])
    def test_low_bits_survive(self, width: int) -> None:
        values = np.array([0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF], dtype=np.uint64)
        packed = ring.pack(values, width)
        assert len(packed) == 5 * width // 8
        assert ring.unpack(packed, width, 5).tolist() == [int(v) % 2**width for v in values]

    def test_low_bits_are_read_in_twos_complement(self) -> None:
        values = np.array([-1, 5, -(2**39), 2**39 - 1, 2**39], dtype=np.int64).view(np.uint64)
        unpacked = ring.unpack(ring.pack(values, 40), 40, 5)
        assert ring.signed_low(unpacked, 40).tolist() == [-1, 5, -(2**39), 2**39 - 1, -(2**39)]

    @pytest.mark.parametrize("width", [0, 7, 12, 72, -8, 8.0])
    def test_other_widths_are_refused(self, width: int) -> None:
        with pytest.raises(ProtocolError, match="RING_PARAMETERS"):
            ring.pack(np.zeros(1, dtype=np.uint64), width)

    def test_other_lengths_and_types_are_refused(self) -> None:
        with pytest.raises(ProtocolError, match="RING_LENGTH"):
            ring.unpack(bytes(9), 40, 2)
        with pytest.raises(ProtocolError, match="RING_ELEMENTS"):
            ring.pack(np.zeros(1, dtype=np.int64), 40)  # type: ignore[arg-type]
