"""What each institution sees of an enterprise: its columns, drawn around the latent strengths.

Amounts are yuan and skewed, counts are counts, and cells are empty where real tables have holes: a micro
enterprise without statements, a shop too new for a rating, a firm that doesn't trade abroad.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from concordat.economy.population import INDUSTRIES, REGIONS, SIZES, Enterprises

Columns = dict[str, NDArray[np.float64] | NDArray[np.str_]]
_STOCK = np.isin(INDUSTRIES, ("manufacturing", "wholesale_retail", "agriculture"))


def bank_view(who: Enterprises, rng: np.random.Generator) -> Columns:
    """Draw what one bank sees of n clients; another bank sees another draw of the same strengths."""
    n = len(who)
    fluid, fair, sell = (
        _seen(rng, who.liquidity, 0.55),
        _seen(rng, who.compliance, 2.2),
        _seen(rng, who.sales, 2.0),
    )
    noise = rng.standard_normal((12, n))
    statements = rng.random(n) < np.array([0.78, 0.93, 0.99])[who.size]
    stocks = _STOCK[who.industry] & statements
    history = np.minimum(who.age * 12 * rng.beta(2, 3, n), 240)
    dropped = rng.random(n) < _logistic(-1.9 - 0.7 * fluid)
    leaking = rng.random(n) < _logistic(-2.6 - 0.6 * fluid - 0.3 * fair)
    columns: Columns = {
        "industry": np.array(INDUSTRIES)[who.industry],
        "region": np.array(list(REGIONS))[who.region],
        "enterprise_size": np.array(SIZES)[who.size],
        "years_in_business": who.age,
        "average_balance": _yuan(9.6 + 1.25 * who.size + 0.32 * fluid + 1.05 * noise[0]),
        "balance_drop_3m": _rounded(np.where(dropped, rng.beta(4, 4, n), rng.beta(1.5, 12, n)), 3),
        "loan_amount": _yuan(12.6 + 0.95 * who.size + 0.75 * noise[1]),
        "loan_history_months": _rounded(history),
        "loans_24m": rng.poisson(np.exp(0.3 - 0.12 * fluid + 0.15 * who.size)).astype(np.float64),
        "night_transfer_share": _rounded(rng.beta(1.0, 22 * np.exp(0.30 * fair + 0.10 * fluid)), 4),
        "same_ip_logins": rng.poisson(np.exp(-1.7 - 0.55 * fair)).astype(np.float64),
        "cash_flow_coverage": _rounded(np.exp(0.30 + 0.26 * fluid + 0.14 * sell + 0.34 * noise[2]), 3),
        "abnormal_outflow_share": _rounded(np.where(leaking, rng.beta(2, 6, n), 0.0), 3),
        "past_defaults": rng.poisson(np.exp(-2.5 - 0.55 * fluid - 0.2 * fair)).astype(np.float64),
        "debt_ratio": _holes(
            _rounded(np.clip(0.54 - 0.10 * fluid + 0.16 * noise[3], 0.02, 2.0), 3), ~statements
        ),
        "current_ratio": _holes(_rounded(np.exp(0.25 + 0.22 * fluid + 0.42 * noise[4]), 3), ~statements),
        "short_term_debt_growth": _holes(
            _rounded(np.clip(0.06 - 0.10 * fluid + 0.28 * noise[5], -0.95, 5.0), 3), ~statements
        ),
        "receivable_turnover": _holes(_rounded(np.exp(1.7 + 0.18 * sell + 0.5 * noise[6]), 2), ~statements),
        "inventory_turnover": _holes(_rounded(np.exp(1.4 + 0.2 * sell + 0.5 * noise[7]), 2), ~stocks),
        "has_collateral": (rng.random(n) < 0.25 + 0.15 * who.size).astype(np.float64),
    }
    return columns


def commerce_view(who: Enterprises, rng: np.random.Generator) -> Columns:
    """Draw what the platform sees of n enterprises. Never product names or customers."""
    n = len(who)
    sell, fair = _seen(rng, who.sales, 0.7), _seen(rng, who.compliance, 2.0)
    noise = rng.standard_normal((8, n))
    months = np.ceil(np.minimum(who.age * 12, 96) * rng.beta(2, 2, n))
    young = months < 6
    return {
        "platform_months": months,
        "monthly_sales": _yuan(10.2 + 1.05 * who.size + 0.35 * sell + 1.0 * noise[0]),
        "sales_trend_6m": _holes(
            _rounded(np.clip(0.02 + 0.11 * sell + 0.16 * noise[1], -0.95, 3.0), 3), young
        ),
        "order_volume_change_4w": _rounded(np.clip(0.01 + 0.08 * sell + 0.17 * noise[2], -0.95, 4.0), 3),
        "conversion_rate": _rounded(np.clip(np.exp(-3.4 + 0.18 * sell + 0.4 * noise[3]), 0.0005, 0.6), 4),
        "return_rate": _rounded(
            np.clip(np.exp(-3.1 - 0.22 * sell - 0.12 * fair + 0.45 * noise[4]), 0, 0.9), 4
        ),
        "sales_volatility": _holes(_rounded(np.exp(-1.2 - 0.20 * sell + 0.4 * noise[5]), 3), young),
        "repeat_buyer_share": _rounded(_logistic(-0.9 + 0.28 * sell + 0.6 * noise[6]), 3),
        "dispute_rate": _rounded(
            np.clip(np.exp(-5.3 - 0.30 * fair - 0.15 * sell + 0.6 * noise[7]), 0, 0.5), 5
        ),
        "shop_rating": _holes(
            _rounded(np.clip(4.6 + 0.12 * sell + 0.18 * rng.standard_normal(n), 1, 5), 1), young
        ),
    }


def government_view(who: Enterprises, rng: np.random.Generator) -> Columns:
    """Draw what tax, court, social insurance, customs, registry and patent offices see of n enterprises."""
    n = len(who)
    sell, fair, fluid = (
        _seen(rng, who.sales, 1.0),
        _seen(rng, who.compliance, 0.7),
        _seen(rng, who.liquidity, 2.2),
    )
    noise = rng.standard_normal((8, n))
    falling = 0.02 + 0.12 * sell + 0.05 * fluid + 0.20 * noise[1]
    heads = np.exp(1.5 + 1.15 * who.size + 0.10 * sell + 0.55 * noise[2])
    abroad = rng.random(n) < np.where(np.isin(who.industry, (3, 5, 7)), 0.32, 0.05)
    grade = np.digitize(0.85 * fair + 0.6 * noise[3], (-1.9, -1.1, -0.2, 0.9))
    licensed = rng.random(n) < 0.96
    return {
        "vat_paid_12m": _yuan(10.4 + 1.2 * who.size + 0.3 * sell + 0.95 * noise[0]),
        "vat_change_3m": _rounded(np.clip(falling, -1.0, 4.0), 3),
        "vat_falling_months": np.clip(_rounded(1.2 - 3.0 * falling + 0.7 * noise[4]), 0, 3),
        "input_invoice_count": _rounded(np.exp(3.2 + 0.9 * who.size + 0.15 * sell + 0.8 * noise[5])),
        "void_invoice_share": _rounded(rng.beta(1.0, 26 * np.exp(0.28 * fair)), 4),
        "late_filings_12m": rng.poisson(np.exp(-0.9 - 0.50 * fair - 0.15 * fluid)).astype(np.float64),
        "tax_credit_grade": np.where(who.age < 1.5, "M", np.array(["D", "C", "M", "B", "A"])[grade]),
        "litigation_24m": rng.poisson(np.exp(-1.5 - 0.55 * fair - 0.20 * fluid + 0.25 * who.size)).astype(
            np.float64
        ),
        "enforcement_listed": (rng.random(n) < _logistic(-4.4 - 0.9 * fair - 0.4 * fluid)).astype(np.float64),
        "insured_headcount": _rounded(heads),
        "insured_change_12m": _rounded(np.clip(0.02 + 0.09 * sell + 0.16 * noise[6], -1.0, 3.0), 3),
        "trade_volume_12m": _holes(_yuan(13.5 + 1.0 * who.size + 0.3 * sell + noise[7]), ~abroad),
        "trade_stability": _holes(
            _rounded(_logistic(0.4 + 0.5 * sell + 0.7 * rng.standard_normal(n)), 3), ~abroad
        ),
        "legal_rep_changes_24m": rng.poisson(np.exp(-1.9 - 0.45 * fair)).astype(np.float64),
        "registered_capital": _holes(
            _rounded(np.exp(13.2 + 1.0 * who.size + 0.9 * rng.standard_normal(n)), -4), ~licensed
        ),
        "patents": rng.poisson(np.exp(-2.2 + 1.6 * (who.industry == 5) + 0.5 * who.size + 0.2 * sell)).astype(
            np.float64
        ),
        "environment_penalties_24m": rng.poisson(np.exp(-3.4 - 0.35 * fair)).astype(np.float64),
    }


def _seen(rng: np.random.Generator, strength: NDArray[np.float64], blur: float) -> NDArray[np.float64]:
    """Return a strength as an institution sees it, scaled back to unit variance; `blur` is the noise's sd."""
    return np.asarray((strength + blur * rng.standard_normal(len(strength))) / np.sqrt(1 + blur**2))


def _rounded(values: NDArray[np.float64], decimals: int = 0) -> NDArray[np.float64]:
    return np.asarray(np.round(values, decimals), dtype=np.float64)


def _yuan(log_amount: NDArray[np.float64]) -> NDArray[np.float64]:
    return _rounded(np.exp(log_amount), 2)


def _holes(values: NDArray[np.float64], empty: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.where(empty, np.nan, values))


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))
