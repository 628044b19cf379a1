"""Opening an institution's file: what it is, how it is encoded, and its cells in blocks.

Reads CSV (UTF-8 with or without a byte-order mark, GB 18030) and Parquet by content, not by the file's
name. CSV cells stay text: what they mean is `node.ingest`'s business. Blocks bound the memory: a file is
never held whole. No message of this module holds a cell.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from protocol.errors import DataError

BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 1 << 16
ENCODINGS = ("utf-8", "gb18030")
_DELIMITERS = (",", ";", "\t")
_ALIEN = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


@dataclass(frozen=True)
class Block:
    """Some records of a file.

    Attributes:
        cells: n records, columns under their names in the file.
        positions: (n,) index of each record among the file's well-formed records, from 0.
    """

    cells: pa.RecordBatch
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """An opened file, its records not read yet.

    Attributes:
        path: where it lies.
        name: what messages call it.
        format: how it is written.
        encoding: of a CSV, ``"utf-8"``, ``"utf-8-sig"`` or ``"gb18030"``; empty for Parquet.
        delimiter: of a CSV.
        header: column names as they stand in the file.
        skip: lines that the header takes in a CSV.
        transform: applied to each block, for a table that is cut out of a larger file.
        inputs: columns of the file that `transform` needs.
    """

    path: Path
    name: str
    format: Literal["csv", "parquet"]
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    skip: int = 0
    transform: Callable[[Block], Block] | None = None
    inputs: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The word for a record's number: a CSV has lines, Parquet has rows."""
        return "line" if self.format == "csv" else "row"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that blocks hold."""
        if self.transform is None:
            return self.header
        empty = pa.RecordBatch.from_pylist(
            [], schema=pa.schema([(name, pa.string()) for name in self.inputs])
        )
        return tuple(self.transform(Block(empty, np.zeros(0, dtype=np.int64))).cells.schema.names)

    def through(self, transform: Callable[[Block], Block], inputs: Collection[str]) -> Source:
        """Return the same file with `transform` applied to each block of the columns `inputs`.

        Positions keep naming the file's records, so that a message about a cut-out table names the file's
        lines.
        """
        return replace(
            self, transform=transform, inputs=tuple(name for name in self.header if name in set(inputs))
        )

    def blocks(self, wanted: Collection[str], broken: list[int] | None = None) -> Iterator[Block]:
        """Yield the records, block by block.

        Args:
            wanted: columns to read; others are skipped. With a transform its own `inputs` are read.
            broken: receives one entry for each CSV record that has too few or too many cells; such records
                are left out.

        Raises:
            DataError: the file can't be parsed (``DATA_FILE_UNREADABLE``).
        """
        names = list(self.inputs) if self.transform else [name for name in self.header if name in set(wanted)]
        start = 0
        for batch in self._csv(names, broken) if self.format == "csv" else self._parquet(names):
            block = Block(batch, np.arange(start, start + batch.num_rows, dtype=np.int64))
            start += batch.num_rows
            yield block if self.transform is None else self.transform(block)

    def numbers(self, positions: Sequence[int]) -> list[int]:
        """Return the line (CSV) or row (Parquet) at which a person finds each record, counting from 1."""
        if self.format == "parquet":
            return [int(position) + 1 for position in positions]
        wanted = set(positions)
        found: dict[int, int] = {}
        position = 0
        for line, cells in self._records():
            if len(found) == len(wanted):
                break
            if len(cells) == len(self.header):
                if position in wanted:
                    found[position] = line
                position += 1
        return [found.get(position, 0) for position in positions]

    def broken_lines(self, limit: int) -> list[int]:
        """Return the first lines of a CSV whose record has too few or too many cells."""
        lines: list[int] = []
        for line, cells in self._records():
            if len(cells) != len(self.header):
                lines.append(line)
                if len(lines) == limit:
                    break
        return lines

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        with self.path.open(encoding=self.encoding, newline="") as stream:
            reader = csv.reader(stream, delimiter=self.delimiter)
            line, seen_header = 0, False
            try:
                for cells in reader:
                    first, line = line + 1, reader.line_num
                    if cells and seen_header:
                        yield first, cells
                    seen_header = seen_header or bool(cells)
            except csv.Error:
                raise _unparsable(self.name) from None

    def _csv(self, names: list[str], broken: list[int] | None) -> Iterator[pa.RecordBatch]:
        def skip(row: object) -> str:
            if broken is not None:
                broken.append(len(broken))
            return "skip"

        unique = [
            name if self.header.index(name) == i else f"{name}\0{i}" for i, name in enumerate(self.header)
        ]
        try:
            with pacsv.open_csv(
                self.path,
                read_options=pacsv.ReadOptions(
                    use_threads=False,
                    block_size=BLOCK_BYTES,
                    skip_rows=self.skip,
                    column_names=unique,
                    encoding="utf-8" if self.encoding == "utf-8-sig" else self.encoding,
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=skip
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types={name: pa.string() for name in names},
                    include_columns=names,
                    strings_can_be_null=False,
                ),
            ) as reader:
                yield from reader
        except pa.ArrowException:
            if next(self._records(), None) is None:  # nothing but a header
                return
            raise _unparsable(self.name) from None

    def _parquet(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(batch_size=BLOCK_ROWS, columns=names)
        except (pa.ArrowException, OSError):
            raise _unparsable(self.name) from None


def open_table(path: Path, likely: Collection[str] = ()) -> Source:
    """Find out what a file is and read its header.

    Args:
        path: CSV or Parquet file.
        likely: column names that should be there; they settle the delimiter.

    Raises:
        DataError: missing or unreadable (``DATA_FILE_UNREADABLE``), empty (``DATA_FILE_EMPTY``), neither
            CSV nor Parquet (``DATA_FILE_BINARY``), or not UTF-8 or GB 18030 (``DATA_ENCODING``).
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(8192)
    except OSError as error:
        raise DataError(
            "DATA_FILE_UNREADABLE",
            f"{path.name}: can't be read ({error.strerror})",
            f"Look at the path {path}.",
        ) from None
    if not head.strip():
        raise DataError("DATA_FILE_EMPTY", f"{path.name}: the file is empty", "Export the table again.")
    if head[:4] == b"PAR1":
        try:
            names = pq.read_schema(path).names
        except (pa.ArrowException, OSError):
            raise _unparsable(path.name) from None
        return Source(path, path.name, "parquet", "", "", tuple(names))
    for magic, what in _ALIEN.items():
        if head.startswith(magic):
            raise _binary(path.name, what)
    encoding, quotes = _encoding(path)
    delimiter, header, skip = _header(path, encoding, likely)
    if quotes % 2:
        _check_quotes(path, encoding, delimiter)
    return Source(path, path.name, "csv", encoding, delimiter, header, skip)


def _encoding(path: Path) -> tuple[str, int]:
    """Return the first of ENCODINGS in which the whole file is valid, and the number of quotation marks."""
    failed_line = 0
    for encoding in ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)("strict")
        lines, quotes, marked = 1, 0, False
        with path.open("rb") as stream:
            try:
                while chunk := stream.read(1 << 20):
                    if lines == 1 and chunk.startswith(codecs.BOM_UTF8):
                        marked = True
                    if b"\0" in chunk:
                        raise _binary(path.name, "binary data")
                    decoder.decode(chunk)
                    lines += chunk.count(b"\n")
                    quotes += chunk.count(b'"')
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                failed_line = lines + chunk[: max(error.start, 0)].count(b"\n")
                continue
        return ("utf-8-sig" if marked and encoding == "utf-8" else encoding), quotes
    raise DataError(
        "DATA_ENCODING",
        f"{path.name}: neither UTF-8 nor GB 18030 text (it fails near line {failed_line})",
        "Save the file as UTF-8 (in Excel: CSV UTF-8).",
    )


def _check_quotes(path: Path, encoding: str, delimiter: str) -> None:
    """Refuse a CSV whose last quotation mark never closes: it would swallow rows without a trace."""
    with path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        line = 1
        try:
            for _ in reader:
                line = reader.line_num + 1
        except csv.Error:
            raise DataError(
                "DATA_FILE_UNREADABLE",
                f"{path.name}: a quotation mark in the record at line {line} has no partner",
                "Close it, or double it where it belongs to the text.",
            ) from None


def _header(path: Path, encoding: str, likely: Collection[str]) -> tuple[str, tuple[str, ...], int]:
    """Return the delimiter, the header's cells and the number of lines that the header takes."""
    best: tuple[tuple[int, int], str, tuple[str, ...], int] | None = None
    for delimiter in _DELIMITERS:
        with path.open(encoding=encoding, newline="") as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            try:
                cells = next((cells for cells in reader if cells), [])
            except csv.Error:
                raise _unparsable(path.name) from None
            names = tuple(cell.strip() for cell in cells)
            merit = (len(set(likely) & set(names)), len(names))
            if best is None or merit > best[0]:
                best = (merit, delimiter, names, reader.line_num)
    if best is None or not any(best[2]):
        raise DataError(
            "DATA_FILE_EMPTY", f"{path.name}: the file has no header", "The first line names the columns."
        )
    return best[1:]


def _binary(name: str, what: str) -> DataError:
    return DataError(
        "DATA_FILE_BINARY", f"{name}: this is {what}, not CSV or Parquet", "Export it as CSV (UTF-8)."
    )


def _unparsable(name: str) -> DataError:
    return DataError(
        "DATA_FILE_UNREADABLE",
        f"{name}: damaged, or not what it seems to be",
        "In a CSV look for a quotation mark that never closes; export a Parquet file again.",
    )
