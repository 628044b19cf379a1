"""What a result means, in plain words: what came out, who learned what, where the model fails.

Sentences follow from the numbers; a bad result reads as one. What is said of privacy is the training protocol's
"Who learns what" for the banks' shared score, no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from concordat.report import facts, partners
from concordat.report import figures as fig
from concordat.report.result import Result
from concordat.report.words import Both, band, count, figure, joined, percent, seconds, signed, size

EQUAL, SLIGHT = 0.0005, 0.005
"""Differences of two AUCs below which they are called equal, and slight."""


@dataclass(frozen=True)
class Finding:
    """A heading and what is to be said under it."""

    title: Both
    body: Both


def headline(result: Result) -> Both:
    """Return the outcome in one sentence."""
    auc = result["auc"]
    gain = auc["federated"] - auc["bank_only_mean"]
    shared, mean = figure(auc["federated"]), figure(auc["bank_only_mean"])
    little, little_zh = ("slightly ", "略") if abs(gain) < SLIGHT else ("", "")
    if gain > EQUAL:
        return Both(
            f"The shared score tells good borrowers from bad ones {little}better than the average bank can alone: "
            f"AUC {shared} against {mean} ({signed(gain)}).",
            f"共享评分区分好坏借款人的能力{little_zh}优于单家银行的平均水平：AUC {shared}，单家平均 "
            f"{mean}（{signed(gain)}）。",
        )
    if gain < -EQUAL:
        return Both(
            f"The shared score tells good borrowers from bad ones {little}worse than the average bank can alone: "
            f"AUC {shared} against {mean} ({signed(gain)}).",
            f"共享评分区分好坏借款人的能力{little_zh}不及单家银行的平均水平：AUC {shared}，单家平均 "
            f"{mean}（{signed(gain)}）。",
        )
    return Both(
        f"The shared score tells good borrowers from bad ones as well as the average bank can alone: "
        f"AUC {shared} against {mean}.",
        f"共享评分区分好坏借款人的能力与单家银行的平均水平相当：AUC {shared}，单家平均 {mean}。",
    )


def against_ceiling(result: Result) -> Both:
    """Return how near the shared score comes to what pooled data would give."""
    auc = result["auc"]
    ceiling = auc["pooled_all"] if facts.joint(result) else auc["pooled"]
    gap = ceiling - auc["federated"]
    pooled = figure(ceiling)
    if gap > EQUAL:
        return Both(
            f"One model fitted on everybody's rows in one place, which nobody may do in real life, "
            f"reaches {pooled}: "
            f"{figure(gap)} more.",
            f"若把各方数据集中到一处训练（现实中不允许），可达 {pooled}，高出 {figure(gap)}。",
        )
    return Both(
        f"One model fitted on everybody's rows in one place, which nobody may do in real life, reaches "
        f"{pooled}: "
        "no more than the shared score.",
        f"若把各方数据集中到一处训练（现实中不允许），可达 {pooled}，并不高于共享评分。",
    )


def interval_note(result: Result) -> Both:
    """Return the shared score's interval in words."""
    found = result["figures"]
    interval = fig.auc_interval(found)
    low, high = figure(interval.lower), figure(interval.upper)
    bad, rows = count(found["holdout_defaults"]), count(found["holdout_rows"])
    noise_en = " The release's own noise comes on top." if facts.private(result) else ""
    noise_zh = "隐私发布所加的噪声未计入。" if facts.private(result) else ""
    return Both(
        f"With {bad} defaults among {rows} held-out enterprises, the shared score's AUC is known to lie "
        f"between "
        f"{low} and {high} (95 %, DeLong).{noise_en}",
        f"留出样本 {rows} 家企业中有 {bad} 家违约，共享评分 AUC 的 95 % 置信区间为 {low} 至 "
        f"{high}（DeLong 法）。{noise_zh}",
    )


def calibration_note(result: Result) -> Both:
    """Return whether predicted rates can be taken at their word."""
    said, after = _slope_note(result), partners.recalibrated(result)
    return Both(said.en + after.en, said.zh + after.zh)


def _slope_note(result: Result) -> Both:
    slope = result["figures"]["calibration"]["slope"]
    if slope is None:
        return Both("The hold-out does not determine a calibration slope.", "留出样本不足以确定校准斜率。")
    shown = f"{slope:.2f}"
    advice = Both(" Recalibrate before a PD is used as a number.", "作为数值使用 PD 前须重新校准。")
    if partners.recalibrated(result).en:
        advice = Both("", "")
    if slope < 0.9:
        return Both(
            f"Calibration slope {shown}: the predicted rates are spread too widely, the high ones too "
            f"high or the low "
            f"ones too low.{advice.en}",
            f"校准斜率 {shown}：预测违约率过于分散，高者偏高或低者偏低。{advice.zh}",
        )
    if slope > 1.1:
        return Both(
            f"Calibration slope {shown}: the predicted rates are not spread widely enough.{advice.en}",
            f"校准斜率 {shown}：预测违约率过于集中。{advice.zh}",
        )
    return Both(
        f"Calibration slope {shown}, where 1 is perfect: predicted rates can be read as rates of default.",
        f"校准斜率 {shown}（1 为理想）：预测值可视为违约率。",
    )


def privacy_note(result: Result) -> Both:
    """Return what protects a row in the released model, and in what partners read."""
    said = _model_privacy(result)
    if not facts.joint(result):
        return said
    toward = partners.privacy_note(result)
    return Both(f"{said.en} {toward.en}", said.zh + toward.zh)


def _model_privacy(result: Result) -> Both:
    if not facts.private(result):
        return Both(
            "No bank's update was readable by anybody. The finished model itself is exact: what it tells "
            "the banks that "
            "hold it about single enterprises is not bounded by a formal guarantee (release: none).",
            "任何一方都无法读取单家银行的更新。最终模型未加噪："
            "模型本身可能透露的单个企业信息没有形式化的隐私界限（发布方式：none）。",
        )
    epsilon, delta = facts.spent(result), result["release"].get("delta")
    shown = "not reported" if epsilon is None else f"{epsilon:.2f}"
    shown_zh = "未报告" if epsilon is None else f"{epsilon:.2f}"
    asked = result["release"].get("epsilon")
    asked_shown = "?" if asked is None else f"{asked:g}"
    delta_shown = "?" if delta is None else f"{delta:g}"
    return Both(
        f"The model was trained under differential privacy (DP-SGD): ε = {shown}, δ = {delta_shown} by "
        f"the banks' own "
        f"accountants, {asked_shown} allowed. It bounds what the model can tell anybody about one "
        f"enterprise's row; means, "
        "quantiles and row counts over all banks are exact and outside it.",
        f"模型在差分隐私（DP-SGD）下训练：各银行核算 ε = {shown_zh}，δ = {delta_shown}，上限 {asked_shown}。"
        "它限制模型透露单个企业的信息；全体银行合计的均值、分位数与行数为精确值，不在其保护范围内。",
    )


def overview(result: Result) -> list[Finding]:
    """Return the page's top: what was done, what came out, what nobody saw, who learned what."""
    outcome, ceiling = headline(result), against_ceiling(result)
    said = [outcome, ceiling]
    if facts.joint(result):
        said.insert(1, partners.gain(result))
    out = Finding(
        Both("What came out", "结果如何"),
        Both(" ".join(one.en for one in said), "".join(one.zh for one in said)),
    )
    return [_done(result), out, _unseen(result), _who(result)]


def _done(result: Result) -> Finding:
    data, found = result["data"], result["figures"]
    number, rounds = len(facts.banks(result)), result["card"].get("recipe", {}).get("rounds")
    rows = count(found["training_rows"])
    beside = Both("", "")
    if facts.joint(result):
        further = facts.terms(result).get("recipe", {}).get("rounds", 0)
        rounds = rounds + further if rounds else rounds
        names = joined(list(result["partners"]))
        beside = Both(
            f" {names.en} brought their columns in, which no bank and nobody else saw; "
            f"{facts.compute(result)} helped to compute.",
            f"{names.zh} 提供了自有字段，银行和其他任何一方均不可见；{facts.compute(result)} 协助计算。",
        )
    in_rounds = (f" in {rounds} rounds", f"，共 {rounds} 轮") if rounds else ("", "")
    return Finding(
        Both("What was done", "做了什么"),
        Both(
            f"{number} banks trained one score for the risk of default{in_rounds[0]} on {rows} "
            f"enterprises, each bank on its "
            f"own computer and its own rows ({data['name']}).{beside.en} The job took "
            f"{seconds(result['seconds']['job'])}.",
            f"{number} 家银行在各自的机器和数据上，用 {rows} 家企业共同训练了一个违约风险评分{in_rounds[1]}"
            f"（{data['name']}）。{beside.zh}作业用时 {seconds(result['seconds']['job'])}。",
        ),
    )


def _unseen(result: Result) -> Finding:
    title = Both("What nobody saw: usable but not visible", "谁也没看到什么：可用不可见")
    if facts.simulated(result):
        return Finding(
            title,
            Both(
                "This run took place in one process, to reproduce a model; nothing was sent, so it shows "
                "nothing about "
                "what parties see. A deployed run does.",
                "本次在单一进程中模拟，仅用于复现模型；没有任何传输，不能说明各方能看到什么。"
                "请以部署运行为准。",
            ),
        )
    strange = facts.unknown_classes(result)
    logs = len(result["verified"])
    intact = sum(result["verified"].values())
    total = sum(entry["bytes"] for entries in result["egress"].values() for entry in entries)
    whose = (
        ("a bank's or partner's table", "任何银行或数据方")
        if facts.joint(result)
        else ("a bank's table", "任何银行")
    )
    body = Both(
        f"No row of {whose[0]}, no identifier and no single bank's update was readable by anybody else. "
        f"{size(total)} left the nodes; each node wrote down what it released before releasing it, and "
        f"{intact} of {logs} "
        "of these logs verify.",
        f"{whose[1]}的数据行、企业标识和单家银行的模型更新，其他各方均不可读。各节点共送出 {size(total)}，"
        f"均先记入外发日志再送出；{logs} 份日志中 {intact} 份校验通过。",
    )
    if strange:
        names = ", ".join(strange)
        body = Both(
            f"The logs name kinds of data that this report does not know ({names}). Look at them before "
            f"saying that nothing "
            f"readable left. {size(total)} left the nodes; {intact} of {logs} logs verify.",
            f"日志中出现本报告不认识的数据类别（{names}），核实之前不能断言没有可读数据外发。"
            f"各节点共送出 {size(total)}；{logs} 份日志中 {intact} 份校验通过。",
        )
    return Finding(title, body)


def _who(result: Result) -> Finding:
    if facts.joint(result):
        return _who_with_partners(result)
    resting = facts.idle(result)
    names = ", ".join(resting)
    tail = (
        (
            f" {names} took no part in this job and gave nothing of their tables.",
            f" {names} 未参与本次作业，未提供任何数据。",
        )
        if resting
        else ("", "")
    )
    return Finding(
        Both("Who learned what", "谁知道了什么"),
        Both(
            "The banks learned the finished score and totals over all of them; the coordinator learned "
            "who took part, "
            f"when, and the figures on this page.{tail[0]}",
            f"银行得到最终评分和全体合计值；协调方只知道谁在何时参与，以及本页的指标。{tail[1]}",
        ),
    )


def _who_with_partners(result: Result) -> Finding:
    neutral = facts.compute(result)
    return Finding(
        Both("Who learned what", "谁知道了什么"),
        Both(
            "The banks learned the networks, totals over all of them, which of their own clients a partner lists and "
            "the sub-scores of those that consented; a partner learned its own noised sums and rounded numbers of ids; "
            f"{neutral} rounded sizes; the coordinator who took part, when, and the figures on this page. The table "
            "below has this job's numbers.",
            "银行得到网络、全体合计值、自身客户中哪些被数据方收录及已授权客户的子评分；数据方得到自己的加噪合计与"
            f"取整的标识数量；{neutral} 得到取整规模；协调方只知道谁在何时参与以及本页指标。具体数字见下表。",
        ),
    )


def limitations(result: Result) -> list[Both]:
    """Return where the model fails, and what has not been tested."""
    found = result["figures"]
    told = partners.limitations(result) if facts.joint(result) else []
    trained = ("As trained, for", "训练所得模型在") if partners.recalibrated(result).en else ("For", "")
    off = [bin_ for bin_ in fig.calibration_bins(found) if bin_.off]
    for bin_ in off:
        said, seen = percent(bin_.mean_pd), percent(bin_.observed)
        where = band(bin_.lower, bin_.upper)
        high = bin_.mean_pd > bin_.observed
        told.append(
            Both(
                f"{trained[0]} predicted rates of {where} the model says {said} on average, {seen} defaulted "
                f"({count(bin_.rows)} enterprises): it {'over' if high else 'under'}states the risk there.",
                f"{trained[1]}预测违约率 {where} 区间：平均预测 {said}，实际 {seen}（{count(bin_.rows)} 家），"
                f"{'高估' if high else '低估'}风险。",
            )
        )
    if not off:
        told.append(
            Both(
                "In no band of predicted rates does the observed rate of default contradict the "
                "prediction (95 %).",
                "各预测区间内，实际违约率与预测均无显著差异（95 %）。",
            )
        )
    if result["auc"]["federated"] < max(result["auc"]["bank_only"].values()) - EQUAL:
        best = max(result["auc"]["bank_only"], key=lambda bank: result["auc"]["bank_only"][bank])
        told.append(
            Both(
                f"{best} alone separates better than the shared score; it should keep its own model "
                f"beside it.",
                f"{best} 单独建模的区分能力高于共享评分，应同时保留自有模型。",
            )
        )
    told += [
        Both(
            f"The hold-out is a random share of the same enterprises' period "
            f"({percent(float(result['card'].get('holdout', 0)))} "
            "of the rows). No later period was tested, so how the score ages is unknown.",
            f"留出样本是同期随机抽取（占 {percent(float(result['card'].get('holdout', 0)))}），"
            f"未做跨期检验，评分随时间的衰减未知。",
        ),
        Both(
            "Figures by industry, region, size or age of enterprise were not made: neither weak segments "
            "nor unfair "
            "treatment have been looked for.",
            "未按行业、地区、规模、年限分别计算指标：未检查薄弱客群与不公平对待。",
        ),
        Both(
            "Enterprises unlike those of the banks' own clients (refused applicants, new industries) "
            "were never seen.",
            "从未见过与现有客户不同的企业（被拒申请人、新行业）。",
        ),
    ]
    if facts.private(result):
        told.append(
            Both("The noise of the private release is part of the figures.", "指标中含有隐私发布的噪声。")
        )
    return told


def training_note(result: Result) -> Both:
    """Return how the model was trained."""
    said = _bank_training(result)
    if not facts.joint(result):
        return said
    further = partners.training_note(result)
    return Both(said.en + further.en, said.zh + further.zh)


def _bank_training(result: Result) -> Both:
    recipe = result["card"].get("recipe", {})
    hidden = "-".join(str(width) for width in recipe.get("hidden", []))
    rounds, bins = recipe.get("rounds", "?"), recipe.get("bins", "?")
    local = (
        (f"{recipe['local_steps']} steps", f"{recipe['local_steps']} 步")
        if "local_steps" in recipe
        else (
            f"{recipe.get('local_epochs', '?')} passes (DP-SGD)",
            f"{recipe.get('local_epochs', '?')} 遍（DP-SGD）",
        )
    )
    return Both(
        f"Neural network ({hidden} and a linear path) in {rounds} rounds of federated averaging by "
        f"Flower, {local[0]} a "
        f"round at each bank, weighted by rows. Numbers enter as {bins} quantile bins fixed by masked "
        f"sums, missing values "
        "as flags, categories one by one. Updates travel under pairwise masks and a group mask; a bank "
        "that drops voids "
        "the round.",
        f"神经网络（{hidden}，外加线性通路），Flower 联邦平均 {rounds} 轮，每轮各行 {local[0]}，按行数加权。"
        f"数值字段按 {bins} 个分位区间编码（由掩码求和确定），缺失值设标志，类别逐一编码。"
        f"更新以两两掩码与组掩码传输；有银行掉线则该轮作废。",
    )


def approval_note(result: Result) -> Both:
    """Return who has said yes to what."""
    if facts.simulated(result):
        return Both(
            "None: a simulated model is not registered and must not be used.",
            "无：模拟模型未登记，不得使用。",
        )
    names = ", ".join(facts.banks(result))
    state = result["model"]["state"]
    others = joined(facts.took_part(result))
    too = Both(f" {others.en} approved it too.", f"{others.zh} 也已批准。") if others.en else others
    barred = Both("", "")
    if not facts.promotable(result):
        barred = Both(
            " It can't be promoted: it doesn't beat the banks' own score beyond chance.",
            "不得启用：未超出偶然地优于银行自有评分。",
        )
    before = Both(
        f"{names} approved the job, and each signed the same model digest and the same figures.{too.en}",
        f"{names} 批准了本次作业，并各自签署了相同的模型摘要和指标。{too.zh}",
    )
    if state == "champion":
        return Both(f"{before.en} The model is in use (champion).", f"{before.zh}模型已启用（冠军）。")
    return Both(
        f"{before.en} The model's state is “{state}”: not for decisions until an independent validator "
        f"has approved it.{barred.en}",
        f"{before.zh}模型状态为“{state}”：独立验证人批准前不得用于信贷决策。{barred.zh}",
    )
