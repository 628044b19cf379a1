"""The synthetic consortium's data contract: what each role's columns mean, in English and Chinese."""

from __future__ import annotations

from typing import Any

from concordat.economy.population import INDUSTRIES, REGIONS, SIZES
from protocol.contract import DataContract, Dataset, Field

LABEL = "default_12m"
_Row = tuple[str, str, str, str, str, dict[str, Any]]
_SHARE: dict[str, Any] = {"unit": "share", "minimum": 0, "maximum": 1}
_COUNT: dict[str, Any] = {"unit": "count", "minimum": 0}
_YUAN: dict[str, Any] = {"unit": "CNY", "minimum": 0}
_RATIO: dict[str, Any] = {"unit": "ratio", "minimum": 0}
_CHANGE: dict[str, Any] = {"unit": "share", "minimum": -1}
_FULL: dict[str, Any] = {"missing": "refused"}

# name, type, data class, English, Chinese, what else the contract says
_BANK: tuple[_Row, ...] = (
    ("industry", "category", "licence", "Main line of business", "主营行业", {"levels": INDUSTRIES} | _FULL),
    (
        "region",
        "category",
        "licence",
        "Region of registration",
        "注册地区",
        {"levels": tuple(REGIONS)} | _FULL,
    ),
    ("enterprise_size", "category", "licence", "Size class", "企业规模", {"levels": SIZES} | _FULL),
    (
        "years_in_business",
        "number",
        "licence",
        "Years since registration",
        "经营年限",
        {"unit": "years", "minimum": 0},
    ),
    ("average_balance", "number", "account", "Average balance over three months", "近三月日均余额", _YUAN),
    (
        "balance_drop_3m",
        "number",
        "account",
        "Largest drop of the balance in three months",
        "近三月余额最大降幅",
        _SHARE,
    ),
    ("loan_amount", "number", "credit", "Amount of the loan", "贷款金额", _YUAN),
    ("loan_history_months", "number", "credit", "Months since the first loan", "信贷历史月数", _COUNT),
    ("loans_24m", "number", "credit", "Loans in 24 months", "近两年贷款笔数", _COUNT),
    ("night_transfer_share", "number", "behaviour", "Share of transfers at night", "夜间转账占比", _SHARE),
    (
        "same_ip_logins",
        "number",
        "behaviour",
        "Other accounts seen at its address",
        "同一网络地址登录的其他账户数",
        _COUNT,
    ),
    ("cash_flow_coverage", "number", "account", "Cash inflow over debt service", "现金流覆盖率", _RATIO),
    (
        "abnormal_outflow_share",
        "number",
        "behaviour",
        "Share of outflow to unusual payees",
        "异常流出占比",
        _SHARE,
    ),
    ("past_defaults", "number", "credit", "Overdue loans in five years", "近五年逾期次数", _COUNT),
    ("debt_ratio", "number", "statements", "Liabilities over assets", "资产负债率", _RATIO),
    ("current_ratio", "number", "statements", "Current assets over current liabilities", "流动比率", _RATIO),
    (
        "short_term_debt_growth",
        "number",
        "statements",
        "Growth of short-term debt in a year",
        "短期负债增幅",
        _CHANGE,
    ),
    ("receivable_turnover", "number", "statements", "Turnover of receivables", "应收账款周转率", _RATIO),
    ("inventory_turnover", "number", "statements", "Turnover of inventory", "存货周转率", _RATIO),
    ("has_collateral", "flag", "credit", "The loan is secured", "是否有抵押", {}),
)
_COMMERCE: tuple[_Row, ...] = (
    ("platform_months", "number", "sales", "Months on the platform", "入驻月数", _COUNT),
    ("monthly_sales", "number", "sales", "Average monthly sales", "月均销售额", _YUAN),
    ("sales_trend_6m", "number", "sales", "Trend of sales over six months", "近六月销售趋势", _CHANGE),
    (
        "order_volume_change_4w",
        "number",
        "orders",
        "Change of orders over four weeks",
        "近四周订单量变化",
        _CHANGE,
    ),
    ("conversion_rate", "number", "sales", "Orders over visits", "转化率", _SHARE),
    ("return_rate", "number", "orders", "Returned orders", "退货率", _SHARE),
    ("sales_volatility", "number", "sales", "Variation of monthly sales", "销售波动率", _RATIO),
    ("repeat_buyer_share", "number", "orders", "Share of returning buyers", "复购占比", _SHARE),
    ("dispute_rate", "number", "orders", "Orders in dispute", "纠纷率", _SHARE),
    (
        "shop_rating",
        "number",
        "orders",
        "Rating of the shop",
        "店铺评分",
        {"unit": "points", "minimum": 1, "maximum": 5},
    ),
)
_GOVERNMENT: tuple[_Row, ...] = (
    ("vat_paid_12m", "number", "tax", "VAT paid in twelve months", "近一年缴纳增值税", _YUAN),
    ("vat_change_3m", "number", "tax", "Change of VAT over three months", "近三月增值税变化", _CHANGE),
    (
        "vat_falling_months",
        "number",
        "tax",
        "Months of falling VAT among the last three",
        "近三月税额下降月数",
        {"unit": "count", "minimum": 0, "maximum": 3},
    ),
    ("input_invoice_count", "number", "tax", "Input invoices in twelve months", "近一年进项发票数", _COUNT),
    ("void_invoice_share", "number", "tax", "Share of voided invoices", "作废发票占比", _SHARE),
    ("late_filings_12m", "number", "tax", "Late tax returns in twelve months", "近一年逾期申报次数", _COUNT),
    (
        "tax_credit_grade",
        "category",
        "tax",
        "Tax credit grade",
        "纳税信用等级",
        {"levels": ("A", "B", "C", "D", "M")},
    ),
    ("litigation_24m", "number", "court", "Lawsuits as defendant in 24 months", "近两年被诉次数", _COUNT),
    ("enforcement_listed", "flag", "court", "Listed for enforcement", "是否被执行人", {}),
    ("insured_headcount", "number", "social-insurance", "Insured employees", "参保人数", _COUNT),
    (
        "insured_change_12m",
        "number",
        "social-insurance",
        "Change of insured employees in a year",
        "参保人数年变化",
        _CHANGE,
    ),
    (
        "trade_volume_12m",
        "number",
        "customs",
        "Imports and exports in twelve months",
        "近一年进出口额",
        _YUAN,
    ),
    ("trade_stability", "number", "customs", "Stability of monthly trade", "进出口稳定性", _SHARE),
    (
        "legal_rep_changes_24m",
        "number",
        "registry",
        "Changes of the legal representative in 24 months",
        "近两年法定代表人变更次数",
        _COUNT,
    ),
    ("registered_capital", "number", "registry", "Registered capital", "注册资本", _YUAN),
    ("patents", "number", "patents", "Patents in force", "有效专利数", _COUNT),
    (
        "environment_penalties_24m",
        "number",
        "environment",
        "Environmental penalties in 24 months",
        "近两年环保处罚次数",
        _COUNT,
    ),
)


def data_contract(min_rows: int = 100) -> DataContract:
    """Return the contract that the synthetic tables keep.

    Args:
        min_rows: fewer rows than this are refused.
    """
    return DataContract(
        consortium="Synthetic consortium",
        name="Default of small enterprises within twelve months",
        datasets=(
            Dataset(
                role="bank",
                name="Clients with a loan",
                id_type="uscc",
                label=LABEL,
                fields=_fields(_BANK),
                min_rows=min_rows,
            ),
            Dataset(
                role="e-commerce",
                name="Shops on the platform",
                id_type="uscc",
                fields=_fields(_COMMERCE),
                min_rows=min_rows,
            ),
            Dataset(
                role="government",
                name="Public records of enterprises",
                id_type="uscc",
                fields=_fields(_GOVERNMENT),
                min_rows=min_rows,
            ),
        ),
    )


def _fields(rows: tuple[_Row, ...]) -> tuple[Field, ...]:
    slow = ("licence", "registry", "patents", "environment", "statements", "court")
    return tuple(
        Field.model_validate(
            {
                "name": name,
                "type": kind,
                "dimension": dimension,
                "frequency": "quarterly" if dimension in slow else "monthly",
                "sensitivity": "C3" if dimension in ("account", "behaviour") else "C2",
                "description_en": english,
                "description_zh": chinese,
            }
            | more
        )
        for name, kind, dimension, english, chinese, more in rows
    )
