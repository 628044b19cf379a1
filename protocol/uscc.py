"""The Unified Social Credit Code (统一社会信用代码): canonical form and check character.

Specification: GB 32100-2015. Eighteen characters of an alphabet of 31 (digits and letters without I, O, S,
V, Z): registering authority, entity type, six digits of the administrative division, nine characters of
organisation code (the last its own check character, GB 11714-1997), one check character with
sum of value·3^i mod 31 over all eighteen = 0, weights 1, 3, 9 … for the first seventeen and 1 for the last.

Invariants: two spellings of one code have one canonical form, so that parties' private joins meet; a code
with a wrong check character never enters a job. What it learns or protects: nothing, it is arithmetic. A
valid check character does not say that the enterprise exists. No error of this module holds the code.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from protocol.errors import DataError

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
LENGTH = 18
# The authority may be a letter in the published list (A military, N agriculture: rural collectives, Y other).
PATTERN = rf"^[1-9ANY][{ALPHABET}][0-9]{{6}}[{ALPHABET}]{{10}}$"
_WEIGHTS = np.array([pow(3, i, 31) for i in range(LENGTH - 1)] + [1], dtype=np.int64)
_VALUES = np.full(256, 255, dtype=np.uint8)
_VALUES[np.frombuffer(ALPHABET.encode(), dtype=np.uint8)] = np.arange(31, dtype=np.uint8)


def canonical(text: str) -> str:
    """Return the one spelling: half-width, upper-case, without spaces and hyphens. Checks nothing."""
    folded = unicodedata.normalize("NFKC", text).upper()
    return "".join(
        c for c in folded if not c.isspace() and c not in "-\u00ad\u2010\u2011\u2012\u2013\u2014\u2212"
    )


def well_formed(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which codes have the right shape and check character.

    Args:
        codes: (n, 18) bytes of ASCII text in canonical form.

    Returns:
        (n,) booleans.
    """
    values = _VALUES[codes]
    shape = (values != 255).all(axis=1) & (values[:, 2:8] < 10).all(axis=1)
    authority = np.isin(codes[:, 0], np.frombuffer(b"123456789ANY", dtype=np.uint8))
    return np.asarray(shape & authority & ((values.astype(np.int64) @ _WEIGHTS) % 31 == 0))


def check_values(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the values (0…30) of the check characters for (n, 17) character values."""
    return np.asarray((31 - (values @ _WEIGHTS[:-1]) % 31) % 31)


def validate(text: str) -> str:
    """Return the canonical form of a valid code.

    Raises:
        DataError: its length, alphabet or check character is wrong (``DATA_INVALID_ID``).
    """
    code = canonical(text)
    if len(code) == LENGTH and code.isascii():
        row = np.frombuffer(code.encode(), dtype=np.uint8).reshape(1, LENGTH)
        if bool(well_formed(row)[0]):
            return code
    raise DataError(
        "DATA_INVALID_ID",
        "not a valid Unified Social Credit Code",
        "It has 18 characters and a check character (GB 32100-2015); look for a typing error.",
    )
