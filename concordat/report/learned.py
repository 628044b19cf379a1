"""Who learned what in a job, and what the protocol doesn't protect: the training protocol's table, in plain words."""

from __future__ import annotations

from dataclasses import dataclass

from concordat.report import facts
from concordat.report.result import Result
from concordat.report.words import Both, count, percent, same


@dataclass(frozen=True)
class Learned:
    """What one kind of party came to know, and what stayed hidden from it."""

    who: Both
    learned: Both
    hidden: Both


def learned(result: Result) -> list[Learned]:
    """Return who learned what in this job, party by party."""
    if facts.joint(result):
        return [*_with_partners(result), *_idle(result)]
    found = [
        Learned(
            Both("Each bank of the job", "参与作业的每家银行"),
            Both(
                "the finished score; over all banks together: quantiles and means of each field, rows, "
                "defaults, and the "
                "figures on this page; who took part",
                "最终评分；全体银行合计的字段分位数与均值、行数、违约数和本页指标；参与方名单",
            ),
            Both(
                "any other bank's rows, clients, counts and updates, unless all the other banks pool "
                "what they "
                "know",
                "其他任何银行的数据行、客户、行数与更新（前提是其余银行不全部串通）",
            ),
        ),
        Learned(
            Both("Coordinator, and who runs exchange and Flower", "协调方及消息与 Flower 运营方"),
            Both(
                "identities, times and sizes of messages; the model's digest and card, with the figures "
                "on this page",
                "身份、消息的时间和大小；模型摘要与模型卡（含本页指标）",
            ),
            Both(
                "the score itself, any bank's update or sum: it adds up numbers that it can't read",
                "评分本身、任何银行的更新或合计：它只对看不懂的数做加法",
            ),
        ),
    ]
    return [*found, *_idle(result)]


def _idle(result: Result) -> list[Learned]:
    resting = facts.idle(result)
    if not resting:
        return []
    names = ", ".join(resting)
    return [
        Learned(
            Both(f"{names} (no part in this job)", f"{names}（未参与本次作业）"),
            Both("that the consortium exists and who belongs to it", "联盟的存在及其成员"),
            Both("everything else about the job's data", "作业数据的其他一切"),
        )
    ]


def _with_partners(result: Result) -> list[Learned]:
    """Return who learned what, with the job's own sizes."""
    banks = [_bank(result, bank) for bank in facts.banks(result)]
    partners = [_partner(result, partner) for partner in result["partners"]]
    return [*banks, *partners, _compute(result), _relays(result), *_together(result)]


def _bank(result: Result, bank: str) -> Learned:
    listed, read, listed_zh, read_zh = [], [], [], []
    for name, partner in result["partners"].items():
        known = result["coverage"][name].get(bank)
        if known is None:
            continue
        share, clients = percent(known["listed"]), count(known["clients"])
        listed.append(
            f"{name} {share} of {clients} clients in a table of about {count(partner['slots'])} rows"
        )
        listed_zh.append(f"{name} 收录其 {clients} 家客户的 {share}（表约 {count(partner['slots'])} 行）")
        if partner["published"]:
            read.append(f"{name} {count(known['bins'])}")
            read_zh.append(f"{name} {count(known['bins'])} 家")
    bins = Both(
        f"sub-scores in 16 bins, of clients that consented: {', '.join(read)}; "
        if read
        else "no sub-score; ",
        f"已授权客户的 16 档子评分：{'，'.join(read_zh)}；" if read else "没有子评分；",
    )
    return Learned(
        same(bank),
        Both(
            f"which of its own enterprises that it asked about each partner lists ({'; '.join(listed)}); {bins.en}"
            "the shared networks; "
            "over all banks together: quantiles and means of each field, rows, defaults, and the figures on this page",
            f"所查询的自身企业中哪些被各数据方收录（{'；'.join(listed_zh)}）；{bins.zh}共享网络；"
            "全体银行合计的字段分位数与均值、行数、违约数和本页指标",
        ),
        Both(
            "any column of a partner, a partner's weights, enterprises that aren't its own; any other bank's rows, "
            "clients, counts and updates, unless all the other banks pool what they know",
            "数据方的任何字段与权重、非自身客户的企业；其他任何银行的数据行、客户、行数与更新（前提是其余银行不全部串通）",
        ),
    )


def _partner(result: Result, name: str) -> Learned:
    partner, spent = result["partners"][name], result["privacy_spent"][name]
    asked = [
        f"{bank} {count(sizes.get('training', 0))} + {count(sizes.get('serving', 0))}"
        for bank, sizes in partner["asked"].items()
    ]
    sizes = Both(
        f" ({', '.join(asked)}; to train + to read)" if asked else "",
        f"（{'，'.join(asked)}；训练 + 读取）" if asked else "",
    )
    k = count(partner["components"])
    if not partner["released"]:
        read = Both("no sums: the release was void", "没有合计：发布作废")
    elif spent["noise"] is None:
        read = Both(f"{k} sums over the banks, EXACT, without noise", f"{k} 个银行合计值，精确且未加噪")
    else:
        read = Both(
            f"{k} sums over all banks, each with noise of standard deviation {spent['noise']:.1f} "
            f"({spent['sigma']:.1f} by {facts.compute(result)} and {spent['sigma']:.1f} by the banks together)",
            f"{k} 个全体银行合计值，各带标准差 {spent['noise']:.1f} 的噪声"
            f"（{facts.compute(result)} 与银行各方合计均为 {spent['sigma']:.1f}）",
        )
    return Learned(
        same(name),
        Both(
            f"the rounded number of new ids that each bank asked for{sizes.en}; {read.en}; whether the job went on",
            f"各银行查询的新标识的取整数量{sizes.zh}；{read.zh}；作业是否继续",
        ),
        Both(
            "which of its enterprises are clients of a bank, any label, any single bank's sums, any column of a bank "
            "or of another partner, the networks",
            "其收录的企业中谁是银行客户、任何标签、任何单家银行的合计、银行或其他数据方的任何字段、网络",
        ),
    )


def _compute(result: Result) -> Learned:
    sizes = ", ".join(
        f"{name} {count(partner['slots'])} × {partner['components']}"
        for name, partner in result["partners"].items()
    )
    return Learned(
        Both(f"{facts.compute(result)} (compute party)", f"{facts.compute(result)}（计算方）"),
        Both(
            f"the rounded size of each partner's table and its components ({sizes}); who stopped",
            f"各数据方表的取整行数与分量数（{sizes}）；谁中途停止",
        ),
        Both(
            "any id, row, count, label, or which places of a table are clients: what it was sent is numbers at random, "
            "as many whoever is a client",
            "任何标识、数据行、数量、标签，或表中哪些位置是客户：它收到的是随机数，数量与谁是客户无关",
        ),
    )


def _relays(result: Result) -> Learned:
    return Learned(
        Both("Coordinator, and who runs exchange and Flower", "协调方及消息与 Flower 运营方"),
        Both(
            "identities, times and sizes of messages; the partners' rounded sizes, who published, how long it took; "
            "the model's digest and card, with the figures on this page",
            "身份、消息的时间和大小；数据方的取整规模、是否发布及用时；模型摘要与模型卡（含本页指标）",
        ),
        Both(
            "the networks, bins, ids, any bank's update or sum: it adds up and passes on what it can't read",
            "网络、分箱、标识、任何银行的更新或合计：它只相加和转发看不懂的内容",
        ),
    )


def _together(result: Result) -> list[Learned]:
    """Return what parties could learn that pool what they have, against the rules."""
    neutral = facts.compute(result)
    return [
        Learned(
            Both(f"{neutral} and a partner, if they pooled", f"{neutral} 与某数据方若串通"),
            Both(
                "which of the partner's enterprises are clients of a bank of the job, and their labels",
                "该数据方收录的企业中谁是作业银行的客户及其标签",
            ),
            Both("the banks' columns", "银行的字段"),
        ),
        Learned(
            Both(f"{neutral} and a bank, if they pooled", f"{neutral} 与某银行若串通"),
            Both(
                "the signs of the partners' components for enterprises that the bank asked about",
                "该银行所查询企业在数据方各分量上的正负号",
            ),
            Both(
                "the columns themselves; enterprises that the bank didn't ask about",
                "字段本身；该银行未查询的企业",
            ),
        ),
        Learned(
            Both("all banks but one, if they pooled", "除一家外的所有银行若串通"),
            Both(
                "the last bank's update and histograms; with a partner also its part of the sums, under the noise of "
                f"{neutral}",
                f"最后一家银行的更新与直方图；若再加数据方，还有其在合计中的份额（仍有 {neutral} 的噪声）",
            ),
            Both("the last bank's rows and ids", "最后一家银行的数据行与标识"),
        ),
        Learned(
            Both(
                f"banks and partners without {neutral}, if they pooled",
                f"不含 {neutral} 的银行与数据方若串通",
            ),
            Both("what their own tables and outputs hold together", "各自数据表与所得结果的并集"),
            Both("rows and labels of banks that keep out of it", "未参与串通的银行的数据行与标签"),
        ),
    ]


def not_protected(result: Result) -> list[Both]:
    """Return what the protocol does not protect, plainly."""
    told = [
        Both(
            "All banks but one, acting together, can compute the last one's updates and sums.",
            "除一家外的所有银行串通，可算出最后一家的更新与合计。",
        ),
        Both(
            "Who talks to whom, and when, is visible to who runs the exchange.",
            "通信双方和时间对消息运营方可见。",
        ),
        Both("A bank that invents rows is not found out by the protocol.", "协议不能发现虚构数据行的银行。"),
    ]
    if facts.joint(result):
        told += _open_with_partners()
    if not facts.private(result):
        told.insert(
            1,
            Both(
                "What the finished model tells the banks about single enterprises is not bounded (no "
                "differential "
                "privacy in this release).",
                "最终模型透露的单个企业信息没有上限（本次发布未用差分隐私）。",
            ),
        )
    return told


def _open_with_partners() -> list[Both]:
    return [
        Both(
            "What sub-scores and the sums behind them say of enterprises in general reaches banks and partners: that "
            "is what they are for.",
            "子评分及其背后合计所反映的总体规律会到达银行与数据方：这正是其用途。",
        ),
        Both(
            "A malicious bank can steer a partner's sums and read its direction in the bins of clients that consented.",
            "恶意银行可操纵数据方的合计，并从已授权客户的分箱中读出其方向。",
        ),
        Both(
            "Bins are exact functions of a partner's rows: toward the banks no differential privacy bounds them.",
            "分箱是数据方数据行的精确函数：对银行没有差分隐私约束。",
        ),
        Both(
            "That the compute party colludes with no partner is the main assumption.",
            "计算方不与任何数据方串通是主要假设。",
        ),
        Both("That seeds were deleted after the job can't be proved.", "作业后种子已删除无法证明。"),
    ]
