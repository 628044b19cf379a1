"""Who there is: enterprises with their latent strengths, their outcome and the institutions that know them.

Enterprises come in blocks of fixed size, each from its own stream of the seed. Therefore memory is bounded,
and the first enterprises of a large economy are those of a small one with the same seed and banks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import uscc

BLOCK = 16_384
CLIENTS, STRANGERS = 0, 1

INDUSTRIES = (
    "agriculture",
    "catering",
    "construction",
    "manufacturing",
    "services",
    "technology",
    "transport",
    "wholesale_retail",
)
_INDUSTRY_SHARE = np.array([0.06, 0.10, 0.09, 0.24, 0.16, 0.08, 0.08, 0.19])
_INDUSTRY_RISK = np.array([0.15, 0.60, 0.45, -0.20, 0.00, -0.40, 0.10, 0.00])
# How hard thin liquidity hits: builders and traders live on credit, services don't.
_INDUSTRY_SLOPE = np.array([0.8, 1.1, 1.6, 1.0, 0.55, 0.7, 0.9, 1.35])
SIZES = ("micro", "small", "medium")
_SIZE_SHARE = np.array([0.52, 0.36, 0.12])
_SIZE_RISK = np.array([0.20, -0.05, -0.30])
# Region and some of its administrative divisions (GB/T 2260), which open the code that is registered there.
REGIONS: dict[str, tuple[str, ...]] = {
    "beijing": ("110105", "110108"),
    "fujian": ("350203", "350582"),
    "guangdong": ("440106", "440305", "441900"),
    "henan": ("410105", "410303"),
    "hubei": ("420106", "420506"),
    "jiangsu": ("320506", "320583"),
    "shaanxi": ("610113", "610302"),
    "shandong": ("370202", "370785"),
    "shanghai": ("310112", "310115"),
    "sichuan": ("510107", "510703"),
    "zhejiang": ("330106", "330783"),
}
_REGION_SHARE = np.array([0.07, 0.07, 0.17, 0.08, 0.07, 0.13, 0.05, 0.11, 0.08, 0.07, 0.10])
_REGION_RISK = np.array([-0.1, 0.0, -0.05, 0.2, 0.05, -0.1, 0.15, 0.05, -0.1, 0.1, -0.05])

E_COMMERCE_KNOWS = 0.90
GOVERNMENT_KNOWS = 0.97
SECOND_BANK = 0.065
_SECOND_OUTCOME_DIFFERS = 0.10
_SERIALS = 31**6
_STRANGERS_FROM = _SERIALS // 2


@dataclass(frozen=True)
class Enterprises:
    """A block of n enterprises. Latent strengths are standard normal, higher is healthier.

    Attributes:
        code: (n,) Unified Social Credit Codes.
        industry, size, region: (n,) indices into INDUSTRIES, SIZES, REGIONS.
        age: (n,) years in business.
        liquidity, sales, compliance: (n,) latent strengths.
        default: (n,) outcome at the first bank.
        second_default: (n,) outcome at the second bank.
        bank, second: (n,) index of the first bank and of the second (-1: none); both -1 for strangers.
        in_commerce, in_government: (n,) whether the partner knows it.
    """

    code: NDArray[np.str_]
    industry: NDArray[np.int64]
    size: NDArray[np.int64]
    region: NDArray[np.int64]
    age: NDArray[np.float64]
    liquidity: NDArray[np.float64]
    sales: NDArray[np.float64]
    compliance: NDArray[np.float64]
    default: NDArray[np.bool_]
    second_default: NDArray[np.bool_]
    bank: NDArray[np.int64]
    second: NDArray[np.int64]
    in_commerce: NDArray[np.bool_]
    in_government: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.code)

    def where(self, rows: NDArray[Any]) -> Enterprises:
        """Return the enterprises that a mask or an index chooses."""
        return Enterprises(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the reproducible stream of a seed for one purpose; nothing secret may come from it."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def enterprises(seed: int, kind: int, block: int, banks: int) -> Enterprises:
    """Draw one block.

    Args:
        seed: of the economy.
        kind: CLIENTS of a bank, or STRANGERS whom only partners know.
        block: number of the block.
        banks: number of banks that share out the clients.
    """
    rng = stream(seed, kind, block)
    industry = rng.choice(len(INDUSTRIES), BLOCK, p=_INDUSTRY_SHARE)
    size = rng.choice(len(SIZES), BLOCK, p=_SIZE_SHARE)
    region = rng.choice(len(REGIONS), BLOCK, p=_REGION_SHARE / _REGION_SHARE.sum())
    age = np.asarray(
        np.round(np.minimum(rng.gamma(1.7, 4.2, BLOCK) + 0.3 + 1.5 * size, 60.0), 1), dtype=np.float64
    )
    liquidity, sales, compliance = _strengths(rng)
    risk = _log_odds(industry, size, region, age, liquidity, sales, compliance)
    fate = rng.random((2, BLOCK))
    default = fate[0] < 1 / (1 + np.exp(-risk))
    differs = rng.random(BLOCK) < _SECOND_OUTCOME_DIFFERS
    second_default = np.where(differs, fate[1] < 1 / (1 + np.exp(-risk)), default)
    bank, second = _banks(rng, banks, industry, size, region)
    knows = rng.random((2, BLOCK))
    strangers = kind == STRANGERS
    serial = np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.int64) + (
        _STRANGERS_FROM if strangers else 0
    )
    nobody = np.full(BLOCK, -1, dtype=np.int64)
    return Enterprises(
        code=credit_codes(seed, serial, region, rng),
        industry=industry,
        size=size,
        region=region,
        age=age,
        liquidity=liquidity,
        sales=sales,
        compliance=compliance,
        default=default,
        second_default=second_default,
        bank=nobody if strangers else bank,
        second=nobody if strangers else second,
        in_commerce=knows[0] < (0.7 if strangers else E_COMMERCE_KNOWS),
        in_government=knows[1] < (1.0 if strangers else GOVERNMENT_KNOWS),
    )


def credit_codes(
    seed: int, serial: NDArray[np.int64], region: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.str_]:
    """Return valid codes (GB 32100-2015), one per serial number; different serials never share a code.

    A serial runs through a permutation of all six-character organisation codes that begin with "MA", as those
    registered since 2015 do. Authority 9 (market regulation), type 1 (enterprise), a division of the region.
    """
    shift = int(stream(seed, 2).integers(_SERIALS))
    # 31^6 shares no factor with the multiplier: a bijection, whose neighbours lie far apart.
    number = (serial * 271_828_183 + shift) % _SERIALS
    values = np.zeros((len(serial), 17), dtype=np.int64)
    values[:, 0], values[:, 1] = 9, 1
    divisions = list(REGIONS.values())
    pick = rng.integers(6, size=len(serial))
    table = np.array([[[int(c) for c in places[i % len(places)]] for i in range(6)] for places in divisions])
    values[:, 2:8] = table[region, pick]
    values[:, 8], values[:, 9] = uscc.ALPHABET.index("M"), uscc.ALPHABET.index("A")
    for place in range(15, 9, -1):
        values[:, place], number = number % 31, number // 31
    alphabet = np.frombuffer(uscc.ALPHABET.encode(), dtype=np.uint8)
    characters = np.zeros((len(serial), uscc.LENGTH), dtype=np.uint8)
    characters[:, :17] = alphabet[values]
    characters[:, 16] = _organisation_check(characters[:, 8:16])
    values[:, 16] = np.searchsorted(alphabet, characters[:, 16])
    characters[:, 17] = alphabet[uscc.check_values(values)]
    return np.ascontiguousarray(characters).view("S18").ravel().astype(np.str_)


def _organisation_check(body: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the check character of eight-character organisation codes (GB 11714-1997, mod 11, X for ten)."""
    weights = np.array([3, 7, 9, 10, 5, 8, 4, 2], dtype=np.int64)
    values = np.where(
        body < ord("A"), body.astype(np.int64) - ord("0"), body.astype(np.int64) - ord("A") + 10
    )
    remainder = (11 - (values @ weights) % 11) % 11
    return np.frombuffer(b"0123456789X", dtype=np.uint8)[remainder]


def _strengths(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (3, BLOCK) standard normal strengths, mildly correlated through a common health."""
    health, own = rng.standard_normal(BLOCK), rng.standard_normal((3, BLOCK))
    share = 0.30
    return np.asarray(np.sqrt(share) * health + np.sqrt(1 - share) * own)


def _log_odds(
    industry: NDArray[np.int64],
    size: NDArray[np.int64],
    region: NDArray[np.int64],
    age: NDArray[np.float64],
    liquidity: NDArray[np.float64],
    sales: NDArray[np.float64],
    compliance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the log-odds of default within a year: strengths, their joint weakness, and where they stand."""
    weak = np.maximum(-liquidity - 0.3, 0) * np.maximum(-sales - 0.2, 0)
    risk = -3.30 - 0.92 * _INDUSTRY_SLOPE[industry] * liquidity - 0.48 * sales - 0.44 * compliance
    risk += 0.35 * weak + 0.30 * np.maximum(-compliance - 1.2, 0) ** 2 + 0.9 * np.exp(-age / 2.0)
    return np.asarray(risk + _INDUSTRY_RISK[industry] + _SIZE_RISK[size] + _REGION_RISK[region])


def _banks(
    rng: np.random.Generator,
    banks: int,
    industry: NDArray[np.int64],
    size: NDArray[np.int64],
    region: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each client's first bank and, for a few, a second. Banks differ in mix: that is their profile.

    By turns: a national bank with larger clients, a regional bank at home in three regions with smaller
    ones, a bank for manufacturers, a bank for farming and food.
    """
    pull = np.zeros((BLOCK, banks))
    for bank in range(banks):
        match bank % 4:
            case 0:
                pull[:, bank] = 0.55 * size
            case 1:
                home = (np.arange(3) * 4 + bank // 4) % len(REGIONS)
                pull[:, bank] = 1.7 * np.isin(region, home) - 0.45 * size + 0.1
            case 2:
                pull[:, bank] = 1.5 * np.isin(industry, (3, 5)) + 0.1
            case _:
                pull[:, bank] = 1.5 * np.isin(industry, (0, 1)) + 0.2
    taste = pull - np.log(-np.log(rng.random((BLOCK, banks))))
    ranked = np.argsort(-taste, axis=1)
    shared = rng.random(BLOCK) < SECOND_BANK
    second = np.where(shared & (banks > 1), ranked[:, min(1, banks - 1)], -1)
    return ranked[:, 0], second
