"""The report as one HTML file that asks for nothing: no script, no font, no image, no address.

Everything in it is escaped by the template engine; a content security policy inside forbids all else. Two languages
stand side by side in the markup, and two radio buttons with a style rule choose between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from concordat.report import figures as fig
from concordat.report import findings, sections
from concordat.report.card import card_json
from concordat.report.result import Result, check
from concordat.report.sections import Table
from concordat.report.words import Both, Words, count, figure, percent, short, size


def html(result: Mapping[str, Any]) -> str:
    """Return the report as a self-contained HTML page.

    Raises:
        DataError: ``REPORT_RESULT`` or ``REPORT_HISTOGRAM``: it isn't a result.
    """
    found = check(result)
    return (
        _environment()
        .get_template("page.html")
        .render(
            result=found,
            tiles=_tiles(found),
            overview=findings.overview(found),
            sections=sections.all_sections(found),
            learned=_learned(found),
            parties=_parties(found),
            open=findings.not_protected(found),
            egress=sections.egress_table(found) if found["egress"] else None,
            facts=_facts(found),
            limitations=findings.limitations(found),
            privacy=findings.privacy_note(found),
            training=findings.training_note(found),
            approvals=findings.approval_note(found),
            title=str(found["card"].get("title") or found["card"].get("name") or found["name"]),
            simulated=findings.simulated(found),
        )
    )


def both(words: Words) -> Markup:
    """Return words as escaped HTML in both languages, or bare where they are the same."""
    if isinstance(words, str):
        return Markup.escape(words)
    return Markup('<span lang="en">{}</span><span lang="zh-CN">{}</span>').format(words.en, words.zh)


def t(en: str, zh: str) -> Markup:
    """Return a template's own words in both languages."""
    return both(Both(en, zh))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("concordat.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["both"] = both
    environment.globals["t"] = t
    return environment


def _tiles(result: Result) -> list[tuple[Both, str, Both]]:
    """Return the numbers at the top: what, how much, what that means."""
    auc = result["auc"]
    interval = fig.auc_interval(result["figures"])
    low, high = figure(interval.lower), figure(interval.upper)
    tiles = [
        (
            Both("Shared score, AUC", "共享评分 AUC"),
            figure(auc["federated"]),
            Both(f"{low} to {high} at 95 %", f"95 % 区间 {low} 至 {high}"),
        ),
        (
            Both("Bank alone, on average", "单家银行平均"),
            figure(auc["bank_only_mean"]),
            Both("each bank with its own rows only", "仅用本行数据"),
        ),
        (
            Both("All rows pooled", "数据集中"),
            figure(auc["pooled"]),
            Both("a ceiling nobody may compute in real life", "现实中不允许的上限"),
        ),
    ]
    if findings.simulated(result):
        note = Both("simulated in one process", "单进程模拟")
        return [*tiles, (Both("Rows sent", "外发数据行"), "–", note)]
    if findings.unknown_classes(result) or not all(result["verified"].values()):
        note = Both("the logs need a look; see below", "日志待核实，见下文")
        return [*tiles, (Both("Rows that left a bank", "离开银行的数据行"), "?", note)]
    masked = sum(
        entry["bytes"]
        for entries in result["egress"].values()
        for entry in entries
        if entry["field_class"].startswith("masked")
    )
    return [
        *tiles,
        (
            Both("Rows that left a bank", "离开银行的数据行"),
            "0",
            Both(f"{size(masked)} of masked sums and updates did", f"外发的是 {size(masked)} 掩码求和与更新"),
        ),
    ]


def _learned(result: Result) -> Table:
    return Table(
        Both("What each party came to know in this job", "各方在本次作业中得知的内容"),
        [Both("who", "谁"), Both("learned", "得知"), Both("did not learn", "未得知")],
        [(entry.who, entry.learned, entry.hidden) for entry in findings.learned(result)],
        words=frozenset({1, 2}),
    )


def _parties(result: Result) -> Table:
    data = result["data"]
    rows: list[tuple[Words, ...]] = []
    trained = findings.banks(result)
    for party in data["parties"]:
        defaults = data["banks_defaults"].get(party["name"])
        rows.append(
            (
                party["name"],
                ROLES.get(party["role"], party["role"]),
                count(party["rows"]),
                count(party["fields"]),
                "–" if defaults is None else count(defaults),
                "–" if defaults is None or not party["rows"] else percent(defaults / party["rows"]),
                Both("trained", "参与训练") if party["name"] in trained else Both("no part", "未参与"),
            )
        )
    return Table(
        Both("The parties' tables", "各方数据表"),
        [
            Both("party", "参与方"),
            Both("role", "角色"),
            Both("rows", "行数"),
            Both("fields", "字段"),
            Both("defaults", "违约"),
            Both("rate", "违约率"),
            Both("this job", "本次作业"),
        ],
        rows,
        words=frozenset({1, 6}),
    )


ROLES = {
    "bank": Both("bank", "银行"),
    "e-commerce": Both("e-commerce", "电商平台"),
    "government": Both("government data", "政务数据"),
    "compute": Both("compute party", "计算方"),
}


def _facts(result: Result) -> list[tuple[Both, str, str]]:
    """Return the model's identifiers: what, short, whole."""
    card = card_json(result)
    found = [
        (Both("version", "版本"), str(card["model"]["version"]), ""),
        (Both("state", "状态"), card["model"]["state"], ""),
        (Both("model", "模型摘要"), short(card["digests"]["model"]), card["digests"]["model"]),
        (Both("job", "作业"), short(card["digests"]["job"]), card["digests"]["job"]),
    ]
    for name, words in (
        ("contract", Both("data contract", "数据契约")),
        ("code", Both("code", "代码")),
        ("proposal", Both("proposal", "提案")),
    ):
        if card["digests"][name]:
            found.append((words, short(card["digests"][name]), card["digests"][name]))
    made = result["card"].get("made_at")
    if made is not None:
        at = datetime.fromtimestamp(int(made), UTC).strftime("%Y-%m-%d %H:%M UTC")
        found.append((Both("registered", "登记时间"), at, ""))
    return found
