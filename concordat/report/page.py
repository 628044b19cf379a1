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

from concordat.report import facts, findings, learned, partner_sections, sections, traffic
from concordat.report import figures as fig
from concordat.report.card import card_json
from concordat.report.result import Result, check
from concordat.report.sections import Section, Table
from concordat.report.words import Both, Words, count, figure, percent, short, signed, size


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
            quality=sections.quality(found),
            added=[partner_sections.models(found), partner_sections.coverage(found)]
            if facts.joint(found)
            else [],
            spent=partner_sections.spent(found) if facts.joint(found) else None,
            sent=_sent(found),
            learned=_learned(found),
            parties=_parties(found),
            open=learned.not_protected(found),
            egress=traffic.egress_table(found) if found["egress"] else None,
            facts=_facts(found),
            limitations=findings.limitations(found),
            privacy=findings.privacy_note(found),
            training=findings.training_note(found),
            approvals=findings.approval_note(found),
            title=str(found["card"].get("title") or found["card"].get("name") or found["name"]),
            simulated=facts.simulated(found),
        )
    )


def _sent(result: Result) -> list[Section]:
    """Return the figures of what was sent and how long it took."""
    made = [traffic.links(result), traffic.steps(result)]
    if facts.joint(result):
        more = partner_sections.parts(result), partner_sections.kinds(result)
        made += [section for section in more if section is not None]
    return made


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
            figure(auc["pooled_all"] if facts.joint(result) else auc["pooled"]),
            Both("a ceiling nobody may compute in real life", "现实中不允许的上限"),
        ),
    ]
    if facts.joint(result):
        tiles.insert(2, _added(result))
    if facts.simulated(result):
        note = Both("simulated in one process", "单进程模拟")
        return [*tiles, (Both("Rows sent", "外发数据行"), "–", note)]
    if facts.unknown_classes(result) or not all(result["verified"].values()):
        note = Both("the logs need a look; see below", "日志待核实，见下文")
        return [*tiles, (Both("Rows that left a bank", "离开银行的数据行"), "?", note)]
    masked = sum(
        entry["bytes"]
        for entries in result["egress"].values()
        for entry in entries
        if entry["field_class"].startswith("masked")
    )
    whose = Both("Rows that left a bank", "离开银行的数据行")
    if facts.joint(result):
        whose = Both("Rows that left a bank or partner", "离开银行或数据方的数据行")
    return [
        *tiles,
        (
            whose,
            "0",
            Both(
                f"{size(masked)} of masked sums, tables, products and updates did",
                f"外发的是 {size(masked)} 掩码的求和、表、乘积与更新",
            )
            if facts.joint(result)
            else Both(
                f"{size(masked)} of masked sums and updates did", f"外发的是 {size(masked)} 掩码求和与更新"
            ),
        ),
    ]


def _added(result: Result) -> tuple[Both, str, Both]:
    """Return what the partners' columns add to the banks' own score."""
    name, compared = Both("The partners add", "数据方带来的提升"), result["figures"].get("comparison")
    if compared is None:
        return name, "–", Both("no sub-score was published to all banks", "没有向全体银行发布的子评分")
    low, high = signed(compared["lower"]), signed(compared["upper"])
    verdict = Both("promotable", "可启用") if facts.promotable(result) else Both("NOT promotable", "不得启用")
    return (
        name,
        signed(compared["difference"]),
        Both(
            f"AUC against H+, {low} to {high} at 95 %: {verdict.en}",
            f"与 H+ 的 AUC 之差，95 % 区间 {low} 至 {high}：{verdict.zh}",
        ),
    )


def _learned(result: Result) -> Table:
    return Table(
        Both("What each party came to know in this job", "各方在本次作业中得知的内容"),
        [Both("who", "谁"), Both("learned", "得知"), Both("did not learn", "未得知")],
        [(entry.who, entry.learned, entry.hidden) for entry in learned.learned(result)],
        words=frozenset({1, 2}),
    )


def _parties(result: Result) -> Table:
    data = result["data"]
    rows: list[tuple[Words, ...]] = []
    trained, beside = facts.banks(result), facts.took_part(result)
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
                Both("trained", "参与训练")
                if party["name"] in trained
                else _brought(result, party["name"])
                if party["name"] in beside
                else Both("no part", "未参与"),
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


def _brought(result: Result, partner: str) -> Both:
    found = result["partners"].get(partner)
    if found is not None and found["used"]:
        return Both("sub-scores in S", "子评分进入 S")
    if found is not None and found["published"]:
        return Both("published, not used", "已发布，未使用")
    return Both("published nothing", "未发布")


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
