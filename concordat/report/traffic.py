"""What was sent, by whom, to whom, and how long it took: figures and tables of a page."""

from __future__ import annotations

from concordat.report import charts, facts
from concordat.report.result import Link, Result
from concordat.report.sections import Section, Table
from concordat.report.words import Both, Words, clipped, count, percent, seconds, size

MOST_LINKS = 20
"""Links in the chart; the table beside it has all."""


def steps(result: Result) -> Section:
    """Return seconds per step."""
    found = [step for step in result["steps"] if "within" not in step]
    chart = charts.ranking(
        [(clipped(step["step"]), step["seconds"], seconds(step["seconds"])) for step in found],
        Both("seconds", "秒"),
        lambda value: f"{value:g}",
        left=110.0,
    )
    times = result["seconds"]
    parts = [
        (Both("starting up", "启动"), times["start_up"]),
        (Both("the job", "作业"), times["job"]),
        (Both("yardsticks for this page", "本页对照模型"), times["baselines"]),
        (Both("all", "合计"), times["total"]),
    ]
    listed = "; ".join(f"{words.en} {seconds(value)}" for words, value in parts)
    listed_zh = "；".join(f"{words.zh} {seconds(value)}" for words, value in parts)
    return Section(
        "steps",
        Both("Seconds per step", "各步骤用时"),
        Both(
            f"Time: {listed}. Steps overlap: a step that waits for another holds the other's time too.",
            f"用时：{listed_zh}。步骤之间有重叠：等待其他步骤的时间也计入。",
        ),
        chart if found else None,
        [],
        Table(
            Both("Seconds and bytes of each step", "各步骤用时与字节数"),
            [Both("step", "步骤"), Both("seconds", "用时"), Both("bytes", "字节"), Both("parties", "参与方")],
            [(s["step"], seconds(s["seconds"]), size(s["bytes"]), count(s["parties"])) for s in found],
        ),
    )


def _masked_share(result: Result) -> tuple[str, str]:
    """Return how much of what left the nodes was masked updates, in both languages; empty without logs."""
    left = [entry for entries in result["egress"].values() for entry in entries]
    total = sum(entry["bytes"] for entry in left)
    if total == 0:
        return "", ""
    share = percent(sum(e["bytes"] for e in left if e["field_class"] == "masked update") / total)
    return f" Of what left the nodes, {share} was masked updates.", f"节点外发内容中 {share} 为掩码更新。"


def links(result: Result) -> Section:
    """Return bytes per link."""
    found = sorted(result["links"], key=lambda link: (-link["bytes"], link["from"], link["to"], link["via"]))
    names = [f"{clipped(link['from'], 12)} → {clipped(link['to'], 12)}" for link in found]
    chart = charts.ranking(
        [
            (name, float(link["bytes"]), size(link["bytes"]))
            for name, link in zip(names[:MOST_LINKS], found[:MOST_LINKS], strict=True)
        ],
        Both("bytes", "字节"),
        lambda value: size(int(value)),
        left=168.0,
    )
    few = (f" The chart shows the {MOST_LINKS} largest.", f"图中为最大的 {MOST_LINKS} 条。")
    if len(found) <= MOST_LINKS:
        few = ("", "")
    kinds = facts.joint(result)
    total = size(sum(link["bytes"] for link in found))
    return Section(
        "links",
        Both("Bytes per link", "各链路字节数"),
        Both(
            f"{total} in all.{_masked_share(result)[0]} A link that carried little carried keys, signatures, "
            f"figures or masked sums.{few[0]}"
            if found
            else "Nothing was sent: the job ran in one process.",
            f"共 {total}。{_masked_share(result)[1]}流量很小的链路传输的是密钥、签名、指标或掩码求和。{few[1]}"
            if found
            else "没有任何传输：作业在单一进程中运行。",
        ),
        chart if found else None,
        [],
        Table(
            Both("Messages and bytes of each direction", "各方向消息数与字节数"),
            [
                Both("from → to", "发送 → 接收"),
                Both("through", "通道"),
                Both("messages", "消息"),
                Both("bytes", "字节"),
                *([Both("of these", "其中")] if kinds else []),
            ],
            [
                (
                    f"{link['from']} → {link['to']}",
                    link["via"],
                    count(link["messages"]),
                    size(link["bytes"]),
                    *([_kinds(result, link)] if kinds else []),
                )
                for link in found
            ],
            words=frozenset({1, 4}),
        ),
    )


def _kinds(result: Result, link: Link) -> Words:
    """Return the kinds of data that make up a link, the largest first; the coordinator's have none in a log."""
    parts = sorted(link.get("classes", {}).items(), key=lambda pair: -pair[1])
    if not parts and link["to"] not in facts.banks(result):
        return Both("requests", "请求")
    if not parts:
        return Both("requests and totals under the group mask", "请求与组掩码下的合计")
    return ", ".join(f"{kind} {size(total)}" for kind, total in parts)


def egress_table(result: Result) -> Table:
    """Return what left each node, by class of data; with partners its receivers stand in one row."""
    rows: list[tuple[Words, ...]] = []
    together = facts.joint(result)
    for node, entries in sorted(result["egress"].items()):
        sums: dict[tuple[str, str], list[int]] = {}
        peers: dict[tuple[str, str], list[str]] = {}
        for entry in entries:
            kind = (entry["field_class"], "" if together else entry["peer"])
            kept = sums.setdefault(kind, [0, 0])
            kept[0] += entry["records"]
            kept[1] += entry["bytes"]
            if entry["peer"] not in peers.setdefault(kind, []):
                peers[kind].append(entry["peer"])
        intact = result["verified"].get(node)
        state = Both("verifies", "校验通过") if intact else Both("NOT VERIFIED", "未通过校验")
        for kind, (records, total) in sorted(sums.items(), key=lambda item: -item[1][1]):
            rows.append((node, kind[0], ", ".join(peers[kind]), count(records), size(total), state))
    return Table(
        Both("What left each node, from its own signed log", "各节点外发内容（来自其自身签名日志）"),
        [
            Both("node", "节点"),
            Both("kind of data", "数据类别"),
            Both("to", "接收方"),
            Both("releases", "次数"),
            Both("bytes", "字节"),
            Both("log", "日志"),
        ],
        rows,
        words=frozenset({1, 2, 5}),
    )
