"""The page docs/studies/prediction.md."""

from typing import Any

__all__ = ["page"]

PROTOCOL = """## Protocol

Fixed before the first run.

* **Tasks.** Toxicity (surge and Davidson; tests: held-out rows and HateCheck, classes matched in
  length), praise or complaint in product reviews (test: held-out sentences, matched in length), and
  which answer people prefer (harmless and helpful pairs; test: held-out pairs).
* **Training sets.** 300 a task, of equal size and with the pool's length deciles: 60 random, 100
  from 1 to 16 of 40 clusters of hidden states, 40 from random mixes of sources, 50 between random
  and greedy coverage, 50 between random and herding. One class is chosen; eight draws of the other
  class are the same for all sets. Pairs bring their rejected answers.
* **Score.** AUROC, or the share of pairs in the right order, of a linear head on
  SmolLM2-135M-Instruct's mean hidden state at the SAE's layer, without what log length and its
  square explain; the mean over tests and over the eight draws.
* **Measures** are computed on the chosen class only; for pairs on the chosen answers. Higher means
  more diverse or closer. "Features by labels" and "label direction" use the pool's labels; no other
  measure does.
* **Intervals.** 95 %, from 300 two-way bootstrap draws of sets and test items. Sets of one task
  share a pool, which makes them too narrow.
* **Question.** Is there a measure in feature space above every text, sentence, gradient and hidden
  measure, with an interval of the difference that excludes zero? The rival is the one that turns
  out best, which favours it.
* **Second part.** 120 random sets of 12 to 200 samples, to show what varying size does.
"""


def page(report: dict[str, Any]) -> str:
    tasks = report["tasks"]
    sizes = ", ".join(f"{name} {task['size']} of {task['n_pool']}" for name, task in tasks.items())
    spread = "; ".join(
        f"{name} {task['fixed']['score'][0]:.3f} ± {task['fixed']['score'][1]:.3f} "
        f"(random sets ± {task['fixed']['score'][2]:.3f})"
        for name, task in tasks.items()
    )
    return f"""# What predicts how good a training set is

{finding(report)}

{PROTOCOL}
## At fixed size and length

Samples chosen: {sizes}. Test scores, mean ± standard deviation over the sets: {spread}.

{table(report["fixed"], tasks)}

"Ahead" is the mean minus that of the best rival (bold). "Random only" is the mean correlation among
the 60 random sets.

## With varying size

{table(report["varying"], tasks)}

Whatever grows with the number of samples correlates here, log N included.

## Limits

A task of the protocol without a column was not run. Hidden measures look at the very space in
which the heads are trained, which favours them. Real text only, heads on a frozen model of 135 M
parameters, one SAE of 4,096 features, one split of each pool. About 25 measures are compared
without a correction. Measures that use a language model's judgement of relevance are not in the
table.

Made by `python studies/prediction.py`; {report["machine"]}; {report["date"]}.
"""


def finding(report: dict[str, Any]) -> str:
    """The answer to the question, in words."""
    rows = report["fixed"]
    rival = next(row for row in rows if row["is_best_rival"])
    ours = sorted((row for row in rows if row["kind"] == "features"), key=lambda row: -row["mean"])
    top = ours[0]
    low, high = top["ahead_interval"]
    best = max((row for row in rows if row["kind"] != "labels"), key=lambda row: row["mean"])
    fac = next(row for row in ours if row["name"] == "FAC, δ = 2")
    said = (
        "It is ahead of every measure without features"
        if low > 0
        else "It is not shown to be ahead of measures without features"
        if high > 0
        else "Measures without features are ahead of it"
    )
    return (
        f"**At a fixed number and length of samples, `{best['name']}` correlates best with the "
        f"test score among measures without labels (r = {best['mean']:+.2f}, mean of "
        f"{len(report['tasks'])} tasks).** The best measure in feature space is `{top['name']}` "
        f"(r = {top['mean']:+.2f} {bounds(top['interval'])}). {said}: the difference to "
        f"`{rival['name']}` is {top['ahead']:+.2f} {bounds(top['ahead_interval'])}. FAC at δ = 2 "
        f"has r = {fac['mean']:+.2f} {bounds(fac['interval'])}, and among random sets "
        f"{fac['r_random']:+.2f}."
    )


def table(rows: list[dict[str, Any]], tasks: dict[str, Any]) -> str:
    has_random = "r_random" in rows[0]
    head = ["kind", "measure", *tasks, "mean", "95 %", "ahead", "95 %"]
    head += ["random only"] if has_random else []
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for row in sorted(rows, key=lambda row: -row["mean"]):
        name = f"**{row['name']}**" if row["is_best_rival"] else row["name"]
        cells = [row["kind"], name, *(f"{row['r'][task]:+.2f}" for task in tasks)]
        cells += [f"{row['mean']:+.2f}", bounds(row["interval"])]
        cells += [f"{row['ahead']:+.2f}", bounds(row["ahead_interval"])]
        cells += [f"{row['r_random']:+.2f}"] if has_random else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bounds(edges: list[float]) -> str:
    return f"[{edges[0]:+.2f}, {edges[1]:+.2f}]"
