"""What the result of a job with data partners means, in plain words: what they added, and who learned what.

What is said of privacy is the training protocol's "Who learns what", filled with the job's own sizes. Nothing here is
said of a job without partners.
"""

from __future__ import annotations

from collections.abc import Mapping

from concordat.report import facts
from concordat.report.result import Result
from concordat.report.words import Both, count, figure, joined, percent, signed

MODELS: Mapping[str, Both] = {
    "h": Both("H: the banks' columns", "H：仅银行字段"),
    "h_plus": Both("H+: H, with S's further rounds", "H+：H 再训练与 S 相同的轮数"),
    "s": Both("S: H+ with the partners' sub-scores", "S：H+ 加上数据方子评分"),
    "s_head": Both("S with each bank's own head", "S 加各行自有附加模型"),
}


def gain(result: Result) -> Both:
    """Return what the partners added, and whether that is enough for the model to be used."""
    auc, compared = result["auc"], result["figures"].get("comparison")
    names = joined(facts.used(result))
    if compared is None or "s" not in auc:
        return Both(
            "No partner's sub-scores are in a model: the bank score H serves, and the model can't be promoted as one "
            "with partners.",
            "没有数据方的子评分进入模型：由银行评分 H 提供服务，该模型不能作为联合模型启用。",
        )
    low, high = signed(compared["lower"]), signed(compared["upper"])
    difference = signed(compared["difference"])
    said = Both(
        f"With the sub-scores of {names.en} the shared risk model S reaches AUC {figure(auc['s'])}; H+, the banks' own "
        f"score after as many rounds, {figure(auc['h_plus'])}. The difference is {difference}, {low} to {high} at 95 %",
        f"加入 {names.zh} 的子评分后，共享风险模型 S 的 AUC 为 {figure(auc['s'])}；同轮数的银行评分 H+ 为 "
        f"{figure(auc['h_plus'])}。差异 {difference}，95 % 区间 {low} 至 {high}",
    )
    if facts.promotable(result):
        end = Both(": beyond chance, so the model may be promoted.", "：超出偶然，模型可启用。")
    else:
        end = Both(
            ": no more than chance allows, so the model is registered but can't be promoted.",
            "：未超出偶然，模型仅登记，不得启用。",
        )
    return Both(said.en + end.en + _further_rounds(result).en, said.zh + end.zh + _further_rounds(result).zh)


def _further_rounds(result: Result) -> Both:
    """Return, where the further rounds did harm, what S gains over the score without them."""
    auc = result["auc"]
    if auc["h"] <= auc["h_plus"] + 0.0005:
        return Both("", "")
    return Both(
        f" The further rounds alone did harm: H, without them, has {figure(auc['h'])}, and S is "
        f"{signed(auc['s'] - auc['h'])} against that.",
        f"多训练的轮数本身有害：没有这些轮数的 H 为 {figure(auc['h'])}，S 与之相差 {signed(auc['s'] - auc['h'])}。",
    )


def recalibrated(result: Result) -> Both:
    """Return what happens to a score before it is used; empty without partners."""
    found = result["figures"]
    model = found.get("models", {}).get(str(found.get("serving")))
    if not facts.joint(result) or model is None:
        return Both("", "")
    slope, intercept = model["recalibration"]["slope"], model["recalibration"]["intercept"]
    return Both(
        f" Figures and table are of the model as trained; each score that it gives goes through the line of log-odds "
        f"that this hold-out showed (slope {slope:.2f}, intercept {intercept:.2f}).",
        f"指标与表格为训练所得模型；实际给出的评分会先经本留出样本确定的对数几率直线校正"
        f"（斜率 {slope:.2f}，截距 {intercept:.2f}）。",
    )


def privacy_note(result: Result) -> Both:
    """Return what bounds the releases to the partners."""
    private = [name for name, entry in result["privacy_spent"].items() if entry["epsilon"] is not None]
    exact = [name for name in result["privacy_spent"] if name not in private]
    said = Both("", "")
    if private:
        first = result["privacy_spent"][private[0]]
        names = joined(private)
        said = Both(
            f"What {names.en} read of the banks is under differential privacy: ε = {first['epsilon']:g}, "
            f"δ = {first['delta']:g} for each release. It bounds what a release tells about one enterprise's record at "
            f"the banks (membership and label, at up to {first['memberships']} banks). Not covered: what bins tell the "
            "banks about a partner's rows.",
            f"{names.zh} 读到的银行信息受差分隐私保护：每次发布 ε = {first['epsilon']:g}，δ = {first['delta']:g}，"
            f"限制发布透露单个企业在银行的记录（是否客户及标签，至多 {first['memberships']} 家银行）。"
            "不涵盖：分箱对银行透露的数据方行信息。",
        )
    if exact:
        names = joined(exact)
        said = Both(
            f"{said.en} What {names.en} read was EXACT, without noise: for tests only.".strip(),
            f"{said.zh}{names.zh} 读到的是未加噪的精确值：仅限测试。",
        )
    return said


def limitations(result: Result) -> list[Both]:
    """Return where a model with partners fails, and what was not tested of it."""
    told = []
    for name in facts.unused(result):
        partner = result["partners"][name]
        why = (
            Both("it published nothing", "未发布任何内容")
            if not partner["published"]
            else Both("not every bank could read what it published", "并非每家银行都读到其发布内容")
        )
        told.append(
            Both(
                f"{name} was asked, and no model takes its sub-scores: {why.en}.",
                f"{name} 参与了作业，但没有模型使用其子评分：{why.zh}。",
            )
        )
    if facts.used(result):
        told += [
            Both(
                "For an enterprise that no partner knows, or none of whose consents stands, the score is H's.",
                "对没有任何数据方收录或无有效授权的企业，评分即为 H。",
            ),
            Both(
                "Partners' columns, bins and S were tried at one point in time; how sub-scores age is unknown.",
                "数据方字段、分箱与 S 只在单一时点检验；子评分随时间的变化未知。",
            ),
        ]
    return told


def training_note(result: Result) -> Both:
    """Return how the partners' columns came in."""
    further = facts.terms(result).get("recipe", {})
    rounds = further.get("rounds", "?") if isinstance(further, Mapping) else "?"
    return Both(
        f" Each partner read one noised vector of sums over the banks, made of it a sub-score of its own columns, and "
        f"published 16 bins of it for enterprises that consented. S is H trained for {rounds} more rounds with the "
        f"bins; H+ the same without them. Each bank may average S with a boosted-tree head of its own.",
        f"各数据方读取一个加噪的银行合计向量，据此为自有字段形成子评分，并为已授权企业发布其 16 档分箱。"
        f"S 为 H 加入分箱再训练 {rounds} 轮；H+ 为不加分箱的同样训练。各行可将 S 与自有提升树附加模型取平均。",
    )


def coverage_note(result: Result) -> Both:
    """Return how many of the banks' clients the partners speak about."""
    parts = []
    for partner, by_bank in result["coverage"].items():
        clients = sum(entry["clients"] for entry in by_bank.values())
        bins = sum(entry["bins"] for entry in by_bank.values())
        parts.append(f"{partner} {percent(bins / clients) if clients else '–'} ({count(bins)})")
    return Both(
        f"Clients of all banks that a partner lists and that consented to its sub-score: {', '.join(parts)}. Of the "
        "others no bank reads anything; the model has a flag for them.",
        f"被数据方收录且已授权的客户：{'，'.join(parts)}。其余客户银行读不到任何内容；模型为其设有标志。",
    )
