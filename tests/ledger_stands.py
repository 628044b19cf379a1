"""A whole ledger on this machine, for tests with real processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from concordat.ledger_stand import Stand

PATIENCE = 240


@contextmanager
def running(prefix: str) -> Iterator[Stand]:
    """Bring a ledger up, and remove it afterwards."""
    # A Unix socket's path must stay short, which pytest's own temporary directories don't promise.
    made = Stand(Path(tempfile.mkdtemp(prefix=prefix)))
    made.create(clock_tolerance=PATIENCE)
    try:
        made.up(patience=PATIENCE)
        yield made
    finally:
        made.remove()
