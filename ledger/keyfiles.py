"""Where the password of a ledger's keys stands, and how a file of keys is made: once, for this user alone."""

from __future__ import annotations

import os
from pathlib import Path

PASSWORD_VARIABLE = "CONCORDAT_LEDGER_PASSWORD_FILE"  # noqa: S105 - the name of a variable


def password_file(folder: Path) -> Path:
    """Return the file with the password: the environment's, else one beside the keys."""
    return Path(os.environ.get(PASSWORD_VARIABLE) or folder / "password")


def write_new(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 that isn't there yet.

    Raises:
        FileExistsError: it is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
