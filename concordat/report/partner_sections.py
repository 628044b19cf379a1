"""What a page adds for a job with data partners: its models, whom partners cover, what was spent, kinds of data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from concordat.report import charts, facts, partners
from concordat.report.result import Result
from concordat.report.sections import Key, Section, Table
from concordat.report.words import Both, Words, clipped, count, figure, percent, seconds, signed, size

SHORT: Mapping[str, Words] = {
    "h": "H",
    "h_plus": "H+",
    "s": "S",
    "s_head": Both("S with heads", "S 加附加模型"),
}
DIGITS = "{:.3g}"


def models(result: Result) -> Section:
    """Return the job's models between the mean of the banks alone and the ceilings, each against H+."""
    auc, ks, found = result["auc"], result["ks"], result["figures"].get("models", {})
    base = auc["h_plus"]
    shown: list[tuple[Words, float, str]] = [
        (Both("mean alone", "单家平均"), auc["bank_only_mean"], "mean"),
    ]
    rows: list[tuple[Words, ...]] = [
        _row(Both("mean of the banks alone", "单家平均"), auc["bank_only_mean"], ks["bank_only_mean"], base)
    ]
    whiskers = {}
    made = [name for name in partners.MODELS if name in found]
    for name in made:
        model = found[name]
        compared = model["comparison"]
        if compared is not None:
            whiskers[len(shown)] = (
                max(0.0, base + compared["lower"]),
                min(1.0, base + compared["upper"]),
            )
        shown.append((SHORT[name], model["auc"], "shared" if compared is not None else "bank"))
        rows.append(
            (
                partners.MODELS[name],
                figure(model["auc"]),
                figure(model["ks"]),
                "–" if name == "h_plus" else signed(model["auc"] - base),
                "–" if compared is None else f"{signed(compared['lower'])} … {signed(compared['upper'])}",
                _verdict(result, name),
            )
        )
    strong = next((i for i, name in enumerate(made, 1) if name == result["figures"].get("serving")), None)
    for ceiling, label, whole, k in _ceilings(result):
        shown.append((label, ceiling, "pooled"))
        rows.append(_row(whole, ceiling, k, base))
    return Section(
        "models",
        Both("What the partners' columns add", "数据方字段带来的提升"),
        partners.gain(result),
        charts.standing(shown, "AUC", guide=base, whiskers=whiskers),
        [
            Key("bank", "dot", Both("the banks' columns only", "仅银行字段")),
            Key(
                "shared",
                "dot",
                Both("with partners; H+ plus the interval of the difference", "含数据方；H+ 加差异区间"),
            ),
            Key("pooled", "dot", Both("ceilings (not allowed in real life)", "上限（现实中不允许）")),
            Key("guide", "line", Both("H+", "H+")),
        ],
        Table(
            Both(
                "The job's models and the ceilings, on the same held-out rows; ceilings are boosted trees",
                "本次作业的模型与上限（相同留出样本；上限为提升树）",
            ),
            [
                Both("model", "模型"),
                "AUC",
                "KS",
                Both("against H+", "与 H+ 之差"),
                Both("95 % interval", "95 % 区间"),
                Both("verdict", "结论"),
            ],
            rows,
            words=frozenset({5}),
            strong=frozenset() if strong is None else frozenset({strong}),
        ),
    )


def _row(name: Words, auc: float, ks: float | None, base: float) -> tuple[Words, ...]:
    return name, figure(auc), "–" if ks is None else figure(ks), signed(auc - base), "–", "–"


def _verdict(result: Result, name: str) -> Words:
    if name == "h_plus":
        return Both("the bar", "门槛")
    if name != result["figures"].get("serving"):
        return "–"
    if facts.promotable(result):
        return Both("serves; promotable", "提供服务；可启用")
    return Both("serves; NOT promotable", "提供服务；不得启用")


def _ceilings(result: Result) -> list[tuple[float, Words, Words, float | None]]:
    """Return AUC, short and whole name, and KS of each ceiling."""
    auc, ks = result["auc"], result["ks"]
    found: list[tuple[float, Words, Words, float | None]] = [
        (
            auc["pooled"],
            Both("banks pooled", "银行集中"),
            Both("ceiling: all banks' columns pooled", "上限：银行字段集中"),
            ks["pooled"],
        )
    ]
    one = auc["pooled_with"]
    if len(one) > 1:
        for name, value in sorted(one.items()):
            label = f"+ {clipped(name, 14)}"
            whole = Both(f"ceiling: with {name}", f"上限：加 {name}")
            found.append((value, label, whole, ks.get("pooled_with", {}).get(name)))
    return [
        *found,
        (
            auc["pooled_all"],
            Both("all pooled", "全部集中"),
            Both("ceiling: with all partners", "上限：加全部数据方"),
            ks.get("pooled_all"),
        ),
        (
            auc["pooled_all_within_banks"],
            Both("… within banks", "…各行内"),
            Both("the same within each bank, mean by rows", "同上，各行内按行数平均"),
            None,
        ),
    ]


def coverage(result: Result) -> Section:
    """Return which share of each bank's clients each partner lists and may speak about."""
    bars, rows = [], []
    for partner, by_bank in result["coverage"].items():
        for bank, known in sorted(by_bank.items()):
            share = percent(known["consented"])
            bars.append((f"{clipped(partner, 12)} · {clipped(bank, 10)}", known["consented"], share))
            rows.append(
                (
                    f"{partner} · {bank}",
                    count(known["clients"]),
                    percent(known["listed"]),
                    share,
                    count(known["bins"]) if result["partners"][partner]["published"] else "0",
                )
            )
    return Section(
        "coverage",
        Both("Whom the partners know (coverage)", "数据方覆盖的客户"),
        partners.coverage_note(result),
        charts.ranking(
            bars,
            Both("share of clients, listed and consented", "收录且已授权的客户比例"),
            lambda value: f"{100 * value:g} %",
            left=168.0,
        ),
        [],
        Table(
            Both(
                "Each bank's clients and each partner; only a demo can see this table whole",
                "各行客户与各数据方（只有演示能看到全表）",
            ),
            [
                Both("partner · bank", "数据方 · 银行"),
                Both("clients", "客户"),
                Both("listed", "收录"),
                Both("and consented", "且已授权"),
                Both("sub-scores read", "读取的子评分"),
            ],
            rows,
        ),
    )


def spent(result: Result) -> Table:
    """Return the privacy that the releases to partners cost."""
    rows: list[tuple[Words, ...]] = []
    for partner, entry in result["privacy_spent"].items():
        exact = entry["epsilon"] is None
        rows.append(
            (
                partner,
                Both("none: exact", "无：精确") if exact else f"{entry['epsilon']:g}",
                _number(entry["delta"]),
                _number(entry["mu"]),
                _sigma(entry["sigma"]),
                _sigma(entry["noise"]),
                _number(entry["total_epsilon"]),
                count(entry["releases"]),
                Both("read", "已读取") if entry["released"] else Both("void", "作废"),
            )
        )
    return Table(
        Both(
            "Privacy spent toward each partner: this release, and all releases that were signed so far",
            "对各数据方的隐私消耗：本次发布，及迄今签署的全部发布",
        ),
        [
            Both("partner", "数据方"),
            "ε",
            "δ",
            "μ",
            Both("σ each side", "每方 σ"),
            Both("σ that it meets", "其所见 σ"),
            Both("ε in all", "累计 ε"),
            Both("releases", "发布次数"),
            Both("this one", "本次"),
        ],
        rows,
        words=frozenset({8}),
    )


def _sigma(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else DIGITS.format(value)


def parts(result: Result) -> Section | None:
    """Return the seconds that each partner told of its own parts; None if none told any."""
    rows = [
        (f"{partner}: {part}", taken)
        for partner, entry in result["partners"].items()
        for part, taken in sorted(entry["seconds"].items(), key=lambda pair: -pair[1])
    ]
    if not rows:
        return None
    return Section(
        "parts",
        Both("Where the partners' time went", "数据方的用时"),
        Both(
            "As each partner told it; parts that wait for banks or another partner hold their time too.",
            "由各数据方自报；等待银行或其他数据方的时间也计入。",
        ),
        charts.ranking(
            [(clipped(name, 24), taken, seconds(taken)) for name, taken in rows],
            Both("seconds", "秒"),
            lambda value: f"{value:g}",
            left=186.0,
        ),
        [],
        Table(
            Both("Seconds of each partner's parts", "各数据方各部分用时"),
            [Both("partner: part", "数据方：部分"), Both("seconds", "用时")],
            [(name, seconds(taken)) for name, taken in rows],
        ),
    )


def kinds(result: Result) -> Section | None:
    """Return the bytes of each kind of data that left a node, with what it is in plain words; None without logs."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entries in result["egress"].values():
        for entry in entries:
            sums[entry["field_class"]][0] += entry["records"]
            sums[entry["field_class"]][1] += entry["bytes"]
    if not sums:
        return None
    ordered = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    unknown = Both("NOT KNOWN to this report: look at it", "本报告不认识：请核实")
    return Section(
        "kinds",
        Both("What kinds of data left the nodes", "外发数据的类别"),
        Both(
            "By what each sender's log calls it. No kind holds a row that somebody else can read; of a masked table a "
            "bank reads one bin of each client that consented.",
            "按各发送方日志中的名称。任何类别中都没有他人可读的数据行；银行从掩码表中只读出已授权客户各一个分箱。",
        )
        if not facts.unknown_classes(result)
        else Both(
            "By what each sender's log calls it; one kind is not known.",
            "按各发送方日志中的名称；有类别不认识。",
        ),
        charts.ranking(
            [(clipped(kind), float(total), size(total)) for kind, (_, total) in ordered],
            Both("bytes", "字节"),
            lambda value: size(int(value)),
            left=162.0,
        ),
        [],
        Table(
            Both("Kinds of data, what they are, how much", "数据类别、含义与数量"),
            [
                Both("kind", "类别"),
                Both("what it is", "含义"),
                Both("releases", "次数"),
                Both("bytes", "字节"),
            ],
            [
                (kind, facts.KINDS.get(kind, unknown), count(records), size(total))
                for kind, (records, total) in ordered
            ],
            words=frozenset({1}),
        ),
    )
