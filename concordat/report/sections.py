"""The page's figures: each a chart, the table beside it and one sentence that says how to read both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from concordat.report import charts, facts
from concordat.report import figures as fig
from concordat.report.charts import Chart, Plot, linear
from concordat.report.findings import calibration_note, interval_note
from concordat.report.result import Result
from concordat.report.words import Both, Words, band, clipped, count, figure, percent, signed


@dataclass(frozen=True)
class Table:
    """A table: first cell of a row names it, the others are read against the head."""

    caption: Both
    head: Sequence[Words]
    rows: Sequence[Sequence[Words]]
    words: frozenset[int] = frozenset()
    """Columns, from 0, that hold words instead of numbers."""
    strong: frozenset[int] = frozenset()
    """Rows, from 0, to be read first."""


@dataclass(frozen=True)
class Key:
    """A line of a chart's legend; ``mark`` is ``line`` or ``box``."""

    style: str
    mark: str
    words: Both


@dataclass(frozen=True)
class Section:
    """A chart with its table."""

    name: str
    title: Both
    sentence: Both
    chart: Chart | None
    keys: Sequence[Key]
    table: Table


SHARED = Both("shared score", "共享评分")
POOLED = Both("pooled ceiling (not allowed in real life)", "数据集中的上限（现实中不允许）")
ALONE = Both("each bank alone", "各行单独建模")


def comparison(result: Result) -> Section:
    """Return each bank alone, the shared score, and the ceilings."""
    auc, ks = result["auc"], result["ks"]
    interval = fig.auc_interval(result["figures"])
    names: list[tuple[Words, str, float, float]] = [
        (bank, "bank", value, ks["bank_only"].get(bank, 0.0))
        for bank, value in sorted(auc["bank_only"].items())
    ]
    mean = auc["bank_only_mean"]
    names += [
        (Both("mean of the banks alone", "单家平均"), "mean", mean, ks["bank_only_mean"]),
        (SHARED, "shared", auc["federated"], ks["federated"]),
    ]
    if facts.joint(result):
        names += [
            (Both("banks' rows pooled", "银行数据集中"), "pooled", auc["pooled"], ks["pooled"]),
            (Both("… and all partners'", "另加数据方字段"), "pooled", auc["pooled_all"], ks["pooled_all"]),
        ]
    else:
        names.append((Both("pooled ceiling", "数据集中的上限"), "pooled", auc["pooled"], ks["pooled"]))
    shared = next(i for i, (_, style, _, _) in enumerate(names) if style == "shared")
    mean_alone = Both("mean alone", "单家平均")
    chart = charts.standing(
        [
            (
                clipped(name) if isinstance(name, str) else mean_alone if style == "mean" else name,
                value,
                style,
            )
            for name, style, value, _ in names
        ],
        "AUC",
        guide=mean,
        whiskers={shared: (interval.lower, interval.upper)},
    )
    table = Table(
        Both("AUC and KS on the same held-out rows of all banks", "各模型在同一留出样本上的 AUC 与 KS"),
        [Both("model", "模型"), "AUC", Both("against mean alone", "与单家平均之差"), "KS"],
        [
            (
                name if not isinstance(name, str) else Both(f"{name} alone", f"{name} 单独"),
                figure(value),
                "–" if style == "mean" else signed(value - mean),
                figure(k),
            )
            for name, style, value, k in names
        ],
        strong=frozenset({shared}),
    )
    sentence = interval_note(result)
    return Section(
        "comparison",
        Both("Alone, together, and the ceiling", "单独、联合与上限"),
        Both(
            "AUC is the chance that a borrower who defaulted got the higher risk: 0.5 is a coin, 1 is "
            "perfect. "
            f"{sentence.en} All models are measured on the same rows, so their differences are surer than "
            f"each number.",
            f"AUC 是违约者得到更高风险评分的概率：0.5 等于抛硬币，1 为完美。{sentence.zh}"
            "各模型在相同样本上比较，其差异比单个数值更可靠。",
        ),
        chart,
        [
            Key("bank", "dot", ALONE),
            Key("shared", "dot", Both("shared score, with its 95 % interval", "共享评分及 95 % 区间")),
            Key("pooled", "dot", POOLED),
        ],
        table,
    )


def roc(result: Result) -> Section:
    """Return the ROC curves."""
    found, curves = result["figures"]["roc"], result["curves"]
    plot = Plot(360.0, linear(0, 1), linear(0, 1))
    plot.line([(0, 0), (1, 1)], "guide")
    for _, curve in sorted(curves["bank_only"].items()):
        plot.line(curve, "bank")
    pooled = curves["pooled_all"] if facts.joint(result) else curves["pooled"]
    plot.line(pooled, "pooled")
    plot.line(found, "shared")
    rows = []
    for x in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7):
        mine = fig.at(found, x)
        alone = [fig.at(curve, x) for curve in curves["bank_only"].values()]
        plot.dot(x, mine, "shared", percent(mine))
        span = f"{percent(min(alone))[:-2]}–{percent(max(alone))}" if alone else "–"
        rows.append((percent(x), percent(mine), span, percent(fig.at(pooled, x))))
    return Section(
        "roc",
        Both("How well risk is ranked (ROC)", "风险排序能力（ROC）"),
        Both(
            "Walking down the list from the riskiest borrower: how many of those who defaulted are "
            "found, for how many "
            "good ones turned away. Nearer the upper left is better; the diagonal is chance.",
            "从风险最高者往下看：误拒多少好客户时，能找出多少违约者。越靠左上越好，对角线为随机。",
        ),
        plot.drawn(
            Both("good borrowers turned away", "误拒的好客户比例"),
            Both("defaults found", "找出的违约比例"),
            charts.shares(),
            charts.shares(),
        ),
        [Key("shared", "line", SHARED), Key("bank", "line", ALONE), Key("pooled", "line", POOLED)],
        Table(
            Both(
                "Defaults found at a given share of good borrowers turned away",
                "给定误拒比例下找出的违约比例",
            ),
            [Both("turned away", "误拒"), SHARED, Both("banks alone", "各行单独"), Both("pooled", "集中")],
            rows,
        ),
    )


def separation(result: Result) -> Section:
    """Return the cumulative shares of good and bad borrowers, and their largest gap."""
    counted = result["figures"]["histogram"]
    fine = fig.climb(counted["good"], counted["bad"])
    coarse_bands = fig.bands(result["figures"])
    coarse = fig.climb([b.good for b in coarse_bands], [b.bad for b in coarse_bands])
    widest = max(fine, key=lambda climb: climb.gap)
    plot = Plot(360.0, linear(0, 1), linear(0, 1))
    plot.line([(c.share, c.bad) for c in fine], "bad")
    plot.line([(c.share, c.good) for c in fine], "good")
    plot.line([(widest.share, widest.good), (widest.share, widest.bad)], "gap")
    plot.label(
        widest.share,
        (widest.good + widest.bad) / 2,
        f"KS {figure(result['figures']['ks'])}",
        dx=8,
        dy=4,
        style="number",
    )
    rows = []
    for climb in coarse[1:-1]:
        plot.dot(climb.share, climb.bad, "bad", percent(climb.bad))
        plot.dot(climb.share, climb.good, "good", percent(climb.good))
        rows.append((percent(climb.share), percent(climb.bad), percent(climb.good), figure(climb.gap)))
    return Section(
        "ks",
        Both("Where good and bad part (KS)", "好坏客户的分离（KS）"),
        Both(
            f"Of all borrowers, the riskiest first: the share of defaults and of good borrowers passed so "
            f"far. The widest gap "
            f"is the KS, {figure(result['figures']['ks'])}; here it lies at the riskiest "
            f"{percent(widest.share)}.",
            f"按风险从高到低累计：已覆盖的违约者比例与好客户比例。最大差距即 "
            f"KS（{figure(result['figures']['ks'])}），"
            f"位于风险最高的 {percent(widest.share)} 处。",
        ),
        plot.drawn(
            Both("share of all borrowers, riskiest first", "全部借款人比例（风险从高到低）"),
            Both("share passed so far", "累计比例"),
            charts.shares(),
            charts.shares(),
        ),
        [Key("bad", "line", charts.BAD), Key("good", "line", charts.GOOD)],
        Table(
            Both("Cumulative shares, the riskiest borrowers first", "累计比例（风险从高到低）"),
            [
                Both("of all borrowers", "全部"),
                Both("of defaults", "违约"),
                Both("of good", "好客户"),
                Both("gap", "差距"),
            ],
            rows,
        ),
    )


def calibration(result: Result) -> Section:
    """Return predicted against observed rates."""
    bins = fig.calibration_bins(result["figures"])
    high = min(1.0, max(max(b.mean_pd, b.interval.upper) for b in bins) * 1.05)
    scale = charts.root(high)
    plot = Plot(360.0, scale, scale)
    plot.line([(high * i * i / 400, high * i * i / 400) for i in range(21)], "guide")
    rows = []
    for bin_ in bins:
        plot.line(
            [(bin_.mean_pd, bin_.interval.lower), (bin_.mean_pd, bin_.interval.upper)], "whisker shared"
        )
        plot.dot(bin_.mean_pd, bin_.observed, "shared", percent(bin_.observed))
        span = f"{percent(bin_.interval.lower)[:-2]}–{percent(bin_.interval.upper)}"
        rows.append((percent(bin_.mean_pd), percent(bin_.observed), span, count(bin_.rows)))
    ticks = [
        (value, f"{100 * value:g} %")
        for value in (0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
        if value <= high
    ]
    note = calibration_note(result)
    return Section(
        "calibration",
        Both("Can the predicted rates be believed? (calibration)", "预测违约率可信吗？（校准）"),
        Both(
            f"Each dot is about a tenth of the borrowers: the rate predicted for them and the rate seen, "
            f"with its 95 % interval "
            f"(Wilson). On the line the two agree; above it the model is too hopeful. {note.en}",
            f"每点约为十分之一的借款人：预测违约率与实际违约率（95 % Wilson 区间）。落在线上即一致，"
            f"高于线则模型过于乐观。{note.zh}",
        ),
        plot.drawn(
            Both("predicted rate of default (square-root scale)", "预测违约率（平方根刻度）"),
            Both("observed rate (square-root scale)", "实际违约率（平方根刻度）"),
            ticks,
            ticks,
        ),
        [Key("shared", "dot", SHARED), Key("guide", "line", Both("perfect agreement", "完全一致"))],
        Table(
            Both("Predicted and observed rates of default", "预测与实际违约率"),
            [
                Both("predicted", "预测"),
                Both("observed", "实际"),
                Both("95 % interval", "95 % 区间"),
                Both("rows", "行数"),
            ],
            rows,
        ),
    )


def distribution(result: Result) -> Section:
    """Return where good and bad borrowers fall along the score."""
    found = fig.bands(result["figures"])
    goods, bads = sum(b.good for b in found), sum(b.bad for b in found)
    most = max(max(b.good / goods, b.bad / bads) for b in found)
    ticks = charts.round_ticks(most * 1.05, 5)
    plot = Plot(360.0, linear(0, len(found)), linear(0, most * 1.05))
    rows: list[tuple[Words, ...]] = []
    floor = plot.py(0)
    for i, part in enumerate(found):
        wide = (plot.px(i + 1) - plot.px(i)) * 0.38
        for share, style, shift in ((part.good / goods, "good", 0.1), (part.bad / bads, "bad", 0.52)):
            top = plot.py(share)
            plot.bars.append(
                charts.Bar(
                    plot.px(i + shift), top, round(wide, 2), round(floor - top, 2), style, percent(share)
                )
            )
        rows.append(
            (
                Both(f"{i + 1}: {band(part.lower, part.upper)}", f"{i + 1}：{band(part.lower, part.upper)}"),
                percent(part.good / goods),
                percent(part.bad / bads),
                percent(part.bad / part.rows),
            )
        )
    return Section(
        "distribution",
        Both("Where borrowers fall (score distribution)", "借款人的评分分布"),
        Both(
            "Bands of about a tenth of the borrowers each, the safest first. A score that separates puts "
            "few defaults into the "
            "first bands and many into the last.",
            "每档约占借款人的十分之一，从最安全到最高风险。区分能力好的评分，前几档违约少，后几档违约多。",
        ),
        plot.drawn(
            Both("band of predicted rate of default (ranges in the table)", "预测违约率分档（范围见表）"),
            Both("share of its kind", "占同类比例"),
            [(i + 0.5, str(i + 1)) for i in range(len(found))],
            [(value, f"{100 * value:g} %") for value in ticks],
        ),
        [Key("good", "box", charts.GOOD), Key("bad", "box", charts.BAD)],
        Table(
            Both("Borrowers by band of predicted rate", "各档借款人"),
            [
                Both("band: predicted rate", "档：预测违约率"),
                Both("of good", "占好客户"),
                Both("of defaults", "占违约"),
                Both("default rate", "违约率"),
            ],
            rows,
        ),
    )


def quality(result: Result) -> list[Section]:
    """Return the figures of how good the score is, in their order."""
    return [make(result) for make in (comparison, roc, separation, calibration, distribution)]
