"""Where a partner keeps the rows of a table until they are sorted: unlinked files, a part each.

Rows are tags and padded bits, so that nothing of the table is readable from the files without the table's key.
"""

from __future__ import annotations

import tempfile
from typing import IO


class FileSpool:
    """A spool on disk (``protocol.join.Spool``); the files go with it."""

    def __init__(self) -> None:
        self._files: dict[int, IO[bytes]] = {}

    def append(self, part: int, data: bytes) -> None:
        """Add bytes to a part."""
        if part not in self._files:
            self._files[part] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the spool
        self._files[part].write(data)

    def read(self, part: int) -> bytes:
        """Return all bytes of a part."""
        file = self._files.get(part)
        if file is None:
            return b""
        file.seek(0)
        return file.read()

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()
