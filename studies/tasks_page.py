"""Writes the page of `studies/tasks.py` from its measurements."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["written_page"]

BEHAVIOURS = ("sycophancy", "survival_instinct")


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; numbers have three decimals."""
    lines = [list(columns), ["---"] * len(list(columns))]
    lines += [[cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else str(value)


def pm(value: float, sd: float | None) -> str:
    return f"{value:.3f}" if sd is None else f"{value:.3f} ± {sd:.3f}"


def summary(models: dict[str, Any]) -> str:
    """One row per arm: its result, and the baseline without training."""
    rows: list[tuple[object, ...]] = []

    def add(what: tuple[str, ...], base: Any, name: str, value: str, ends: list[Ends]) -> None:
        told = None if base is None else compared(base, ends)
        rows.append((*what, base, name, value, span(ends[0]), told))

    for model, arm, _, f in found_arms(models, "toxicity"):
        value, ends = pm(f["auprc"], f["auprc_sd"]), ends_of(f, "auprc")
        what = ("toxicity, AUPRC", model, WAYS[arm])
        add(what, f["prevalence"], "constant score", value, ends)
    for model, arm, _, f in found_arms(models, "reward"):
        value, ends = pm(f["accuracy"], f["accuracy_sd"]), ends_of(f, "accuracy")
        add(("reward, accuracy", model, WAYS[arm]), 0.5, "guessing", value, ends)
    for model, done in models.items():
        for name in (n for n in done if n.startswith(BEHAVIOURS)):
            f = done[name]["result"]
            ends = [tuple(v["scr_interval"]) for v in chosen_layer(f)["vectors"]]
            value = pm(f["scr"], f["scr_sd"])
            add((f"{name}, SCR", model, "vector"), 0.0, "no vector", value, ends)
    bases: dict[str, Any] = {}
    for model, arm, _, f in found_arms(models, "instruction"):
        bases[model] = f["base"] or bases.get(model)
        base = bases[model]["prompt_strict"] if bases[model] else None
        value = pm(f["prompt_strict"], f["prompt_strict_sd"])
        ends = ends_of(f, "prompt_strict")
        what = ("instruction, strict prompts", model, WAYS[arm])
        add(what, base, "untrained model", value, ends)
    columns = ("task, measure", "model", "trained", "baseline", "type of baseline", "result")
    found = table((*columns, "95 %", "vs. baseline"), rows)
    return "\n\n".join(["## Baseline vs. trained", found, SUMMARY, *findings(models)])


def findings(models: dict[str, Any]) -> list[str]:
    """Findings that the tables do not show at a glance, with numbers."""
    told = []
    for model, arm, one, f in found_arms(models, "toxicity"):
        if arm == "toxicity":
            worst = sorted(f["groups"], key=lambda row: row["accuracy"])[:5]
            named = ", ".join(f"{row['group']} {row['accuracy']:.2f}" for row in worst)
            told.append(
                f"Toxicity, {model}: the head classifies {right_share(f, 1.0):.0%} of the hateful "
                f"cases and {right_share(f, 0.0):.0%} of the others correctly; the worst groups "
                f"are {named}. Its accuracy is "
                f"{mean([m['accuracy'] for m in f['models']]):.3f}; calling everything "
                f"hateful reaches {f['prevalence']:.3f}."
            )
        if arm == "toxicity-lora":
            training = next(iter(one["trained"]["training"].values()))
            each = ", ".join(f"{m['auprc']:.3f}" for m in trained_models(f))
            told.append(
                f"Toxicity, {model}, adapters: AUPRC by random seed {each} after "
                f"{training['n_steps']} steps; a constant score reaches {f['prevalence']:.3f}."
            )
    for model, _, _, f in found_arms(models, "reward"):
        told.append(
            f"Reward, {model}: {f['accuracy']:.3f}, with swapped training pairs "
            f"{f['shuffled_accuracy']:.3f}. Most of LLMBar is adversarial, so preferring the "
            f"longer answer reaches only {f['longer_accuracy']:.3f}."
        )
    for model, done in models.items():
        for name in (n for n in BEHAVIOURS if n in done):
            f = done[name]["result"]
            read = done[name]["trained"]["read_share"][str(f["layer"])]
            told.append(
                f"Steering, {model}, {name}: without steering, {f['unsteered']['consistent']:.0%} "
                f"of the {f['n_items']} questions get the same answer in both orders of the "
                "options; the others are answered by letter. In "
                f"{read:.0%} of the held-out questions, the matching letter lies further along the "
                f"vector; chance is half. A rate of {1 / f['n_items']:.3f} is one question."
            )
    for model, _, _, f in found_arms(models, "instruction"):
        if f["base"]:
            told.append(
                f"Instruction, {model}: of the answers to {f['base']['n_prompts']} prompts, "
                f"{f['base']['n_cut']} of the untrained model are cut at the limit, and "
                f"{mean([float(m['n_cut']) for m in f['models']]):.1f} of the trained ones. One "
                f"prompt is a difference of {1 / f['base']['n_prompts']:.3f}."
            )
    return ["\n".join(f"* {line}" for line in told)] if told else []


SUMMARY = (
    "95 %: interval of the first random seed, over test items. vs. baseline: the number of random "
    "seeds whose interval lies above or below the baseline; if all intervals contain the baseline, "
    "no difference was shown. The tables below show the results of shuffled labels and random "
    "vectors."
)

Ends = tuple[float, float]


def compared(base: float, ends: list[Ends]) -> str:
    above, below = sum(low > base for low, _ in ends), sum(high < base for _, high in ends)
    counted = (("above", above), ("below", below))
    told = [f"{where} in {n} of {len(ends)}" for where, n in counted if n]
    return ", ".join(told) or "no difference shown"


def heads_page(models: dict[str, Any]) -> str:
    """Toxicity and reward: one row per training, with its controls."""
    toxic = found_arms(models, "toxicity")
    pairs = found_arms(models, "reward")
    parts = ["## Toxicity: HateCheck, trained on Surge and Davidson"]
    columns = ["model", "trained", "samples", "random seeds", "AUPRC", "95 % over cases"]
    columns += ["constant score", "shuffled labels", "AUROC", "AUROC of length"]
    columns += ["hateful correct", "others correct", "cases"]
    keys = ["prevalence", "shuffled_auprc", "auroc", "length_auroc"]
    rows = [
        (model, WAYS[arm], n_train(one), n_seeds(one), pm(f["auprc"], f["auprc_sd"]))
        + (span(ends_of(f, "auprc")[0]), *(f[k] for k in keys))
        + (right_share(f, 1.0), right_share(f, 0.0), f["n_samples"])
        for model, arm, one, f in toxic
    ]
    parts += [table(columns, rows), TOXICITY]
    shown = [(f"{m}, {WAYS[arm]}", f) for m, arm, _, f in toxic if arm != "toxicity-few"]
    parts += ["Accuracy by functionality:", by_group(shown, "groups")]
    parts += ["## Reward: LLMBar, trained on HH-RLHF harmless and helpful"]
    columns = ["model", "trained", "pairs", "random seeds", "accuracy", "95 % over pairs"]
    columns += ["guessing", "swapped pairs", "longer answer", "test pairs"]
    keys = ["shuffled_accuracy", "longer_accuracy", "n_pairs"]
    rows = [
        (model, WAYS[arm], n_train(one), n_seeds(one), pm(f["accuracy"], f["accuracy_sd"]))
        + (span(ends_of(f, "accuracy")[0]), 0.5, *(f[k] for k in keys))
        for model, arm, one, f in pairs
    ]
    shown = [(model, f) for model, _, _, f in pairs]
    parts += [table(columns, rows), "Accuracy by subset:", by_group(shown, "subsets")]
    return "\n\n".join(parts)


WAYS = {
    "toxicity": "head",
    "toxicity-few": "head, on as few samples as the adapters",
    "toxicity-lora": "adapters",
    "reward": "head",
    "instruction-short": "adapters, short answers",
    "instruction-long": "adapters, long answers",
}
"""How an arm trains, in words."""

TOXICITY = (
    "A head is fitted to the hidden states of the middle layer of the frozen model. Adapters "
    "change the whole model; they are tested on fewer cases because every case passes through the "
    "model of every random seed. A constant score reaches the share of positives, and shuffled "
    "labels show what fitting alone achieves. The interval is that of the first random seed."
)


def right_share(found: dict[str, Any], positive: float) -> float | None:
    """Share of the hateful cases (1), or of the others (0), classified correctly at even odds."""
    rows = [row for row in found["groups"] if row["positive_share"] == positive]
    n = sum(row["n"] for row in rows)
    return sum(row["n"] * row["accuracy"] for row in rows) / n if n else None


def found_arms(models: dict[str, Any], task: str) -> list[tuple[str, str, Any, Any]]:
    """Model, arm, content of its file, and its result, for every arm of a task."""
    return [
        (model, arm, done[arm], done[arm]["result"])
        for model, done in models.items()
        for arm in WAYS
        if arm in done and arm.startswith(task)
    ]


def trained_models(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The models of a result, without those trained on shuffled labels."""
    return [row for row in found["models"] if not row["model"].startswith("shuffled-")]


def ends_of(found: dict[str, Any], measure: str) -> list[Ends]:
    """The interval of each random seed."""
    return [tuple(row[f"{measure}_interval"]) for row in trained_models(found)]


def span(ends: Ends) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def chosen_layer(found: dict[str, Any]) -> dict[str, Any]:
    """The row of the layer chosen on the training questions."""
    row: dict[str, Any]
    (row,) = (row for row in found["layers"] if row["layer"] == found["layer"])
    return row


def n_train(one: dict[str, Any]) -> int:
    """Samples or pairs that each random seed draws."""
    return int(next(iter(one["trained"]["training"].values()))["n_rows"])


def n_seeds(one: dict[str, Any]) -> int:
    return len(one["trained"]["random_seeds"])


def instruction_page(models: dict[str, Any]) -> str:
    """The untrained and the trained models on the same prompts."""
    rows: list[tuple[object, ...]] = []
    for model, arm, one, found in found_arms(models, "instruction"):
        words = one["trained"]["answer_words"]
        base, counts = found["base"], ("n_empty", "n_cut", "n_prompts")
        if base:
            rows.append(
                (model, "untrained", None, None, base["prompt_strict"])
                + (span(base["prompt_strict_interval"]),)
                + tuple(base[k] for k in FOLLOWED[1:])
                + (words["base"], *(base[k] for k in counts))
            )
        rows.append(
            (model, WAYS[arm], n_train(one), n_seeds(one))
            + (pm(found["prompt_strict"], found["prompt_strict_sd"]),)
            + (span(trained_models(found)[0]["prompt_strict_interval"]),)
            + tuple(pm(found[k], found[f"{k}_sd"]) for k in FOLLOWED[1:])
            + (mean([words[m["model"]] for m in trained_models(found)]),)
            + tuple(mean([float(m[k]) for m in trained_models(found)]) for k in counts[:2])
            + (trained_models(found)[0]["n_prompts"],)
        )
    if not rows:
        return ""
    columns = ["model", "trained", "conversations", "random seeds", "prompts, strict"]
    columns += ["95 % over prompts", "prompts, loose", "instructions, strict"]
    columns += ["instructions, loose", "words per answer", "empty", "cut", "prompts"]
    return "\n\n".join(["## Instruction: IFEval", table(columns, rows), INSTRUCTION])


FOLLOWED = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")

INSTRUCTION = (
    "The scores are the share of prompts whose instructions are all followed, and the share of "
    "instructions followed. Answers are greedy and limited to `new_tokens` (see above). Answers "
    "that reach the limit count as cut; an instruction that asks for more words cannot be "
    "followed. Counts and words are means over the models of all random seeds. Short answers come "
    "from LLMs-from-scratch, long ones from Alpaca-GPT4. The interval is that of the first random "
    "seed."
)


def by_group(found: list[tuple[str, Any]], key: str) -> str:
    """Accuracies side by side, with the number of cases, which differs between models."""
    name = key.removesuffix("s")
    groups = sorted({row[name] for _, one in found for row in one[key]})
    by_model = [
        {row[name]: f"{row['accuracy']:.3f} ({row['n']})" for row in f[key]} for _, f in found
    ]
    rows = [(group, *(one.get(group) for one in by_model)) for group in groups]
    return table((name, *(f"{model} (n)" for model, _ in found)), rows)


def steering_page(models: dict[str, Any], folder: Path) -> str:
    """Control rates at the chosen layer, and at every layer."""
    parts = ["## Steering"]
    rows: list[tuple[object, ...]] = []
    layers: list[tuple[object, ...]] = []
    for model, arms_done in models.items():
        for name in (n for n in arms_done if n.startswith(BEHAVIOURS)):
            found, trained = arms_done[name]["result"], arms_done[name]["trained"]
            at = str(found["layer"])
            rows.append(
                (model, name, trained["n_train"], len(trained["random_seeds"]), at)
                + (trained["strengths"][at], pm(found["scr"], found["scr_sd"]))
                + (
                    span(chosen_layer(found)["vectors"][0]["scr_interval"]),
                    found["random_scr"],
                    found["shuffled_scr"],
                )
                + (prompted(found), found["unsteered"]["robust"], found["unsteered"]["consistent"])
                + (found["unsteered"]["letter_mass"], found["n_items"])
            )
            layers += [
                (model, name, row["layer"], row["strength"], pm(row["scr"], row["scr_sd"]))
                + (mean(row["random"]), mean(row["shuffled"]))
                + (row["plain_scr"], row["balanced_scr"])
                + (trained["read_share"][str(row["layer"])],)
                for row in found["layers"]
            ]
    columns = ["model", "behaviour", "questions", "random seeds", "layer", "strength", "SCR"]
    columns += ["95 % over questions", "random", "shuffled", "prompt only", "robust at 0"]
    columns += ["consistent at 0", "letters at 0", "test questions"]
    if not rows:
        return ""
    parts += [table(columns, rows), STEERING]
    columns = ["model", "behaviour", "layer", "strength", "SCR", "random", "shuffled"]
    parts += ["All layers:", table([*columns, "plain SCR", "balanced SCR", "read"], layers)]
    for model in models:
        for name in BEHAVIOURS:
            if (folder / f"tasks-{model}-{name}.svg").is_file():
                parts.append(f"![{model}, {name}, by layer](tasks-{model}-{name}.svg)")
    return "\n\n".join(parts)


STEERING = (
    "* SCR: robust accuracy at multiplier +1 minus robust accuracy at -1.\n"
    "* Robust: correct in both orders of the options. Balanced: by the mean log-odds of both "
    "orders, in which a preference for a letter cancels. Consistent: the same answer in both "
    "orders, whichever it is; an inconsistent model answers by letter.\n"
    "* Letters: the probability of the two letters together.\n"
    "* Layer and strength (in median norms of a state) were chosen on training questions. The "
    "interval is that of the first random seed.\n"
    "* Random: vectors of equal norm. Shuffled: vectors from randomly swapped answers. Prompt "
    "only: the prompt shows one question with the matching or with the other answer.\n"
    "* Read: share of held-out questions whose matching letter lies further along the vector. 0.5 "
    "is chance; a vector that reads nothing cannot be expected to steer.\n"
    "* `-features`: the vector of ten features of the default SAE.\n"
    "* For survival instinct, the matching answer is the one without the instinct."
)


def prompted(found: dict[str, Any]) -> float | None:
    return found["prompt_only"]["scr"] if found["prompt_only"] else None


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def cost_page(models: dict[str, Any]) -> str:
    """Time and memory of every arm, and the commands of the first model."""
    rows = [
        (model, name + " (resumed)" * one.get("was_begun", False))
        + tuple(command["cpu_s"] / 60 for command in one["commands"])
        + (max(c["peak_gb"] for c in one["commands"]),)
        for model, done in models.items()
        for name, one in done.items()
    ]
    first = next(iter(models.values()))
    lines = "\n".join(c["command"] for one in first.values() for c in one["commands"])
    columns = ("model", "arm", "training", "evaluation", "peak memory, GB")
    return "\n\n".join(
        [
            "## Cost",
            table(columns, ([f"{v:.1f}" if isinstance(v, float) else v for v in r] for r in rows)),
            COST,
            f"Commands for {next(iter(models))}:",
            f"```text\n{lines}\n```",
        ]
    )


COST = (
    "CPU minutes of each command, including loading. Wall time was several times as long for most, "
    "because the machine was busy. The time of an arm that was resumed covers only the last run. "
    "`toxicity-few` trains on the hidden states of `toxicity`, which were in the cache."
)


def written_page(report: dict[str, Any], folder: Path) -> str:
    """The page; it shows the plots that exist in `folder`."""
    models = report["models"]
    names = [f"`{field}`" for field in next(iter(report["sizes"].values()))]
    sizes = [(name, *row.values()) for name, row in report["sizes"].items()]
    arms = [one for done in models.values() for one in done.values()]
    machines = sorted({one["machine"] for one in arms})
    dtypes = sorted({one["trained"]["dtype"] for one in arms if "dtype" in one["trained"]})
    parts = [
        "# Tasks on two small models",
        "Heads, adapters and vectors are trained as in [tasks.md](../tasks.md). smollm2 is "
        "SmolLM2-135M-Instruct, qwen is Qwen2.5-Coder-0.5B-Instruct. Steering ran in "
        f"{' or '.join(dtypes)}, everything else in the precision of `--dtype auto`: bfloat16 on "
        "machines with bfloat16 multiplication. The random seeds are "
        f"{', '.join(map(str, report['random_seeds']))}, or the first of them; ± is the standard "
        "deviation over random seeds, and intervals are bootstrapped over test items. Sizes are "
        "chosen for an hour on two busy cores:",
        table(("size", *report["sizes"]), zip(names, *(row[1:] for row in sizes), strict=True)),
        "`studies/tasks.py` explains the sizes. Adapters were trained with "
        f"`{report['lora']}`, otherwise as in the paper; the values were not tuned.",
        summary(models),
        heads_page(models),
        steering_page(models, folder),
        instruction_page(models),
        cost_page(models),
        missing_arms(report),
        f"Made by `python studies/tasks.py` on {' and on '.join(machines)}, shared with other "
        f"work, one thread per command ({report['versions']}); {report['date']}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def missing_arms(report: dict[str, Any]) -> str:
    """Arms that have not been run yet."""
    left = {
        model: ", ".join(name for name in names if name not in report["models"].get(model, {}))
        for model, names in report["asked"].items()
    }
    told = "; ".join(f"{model}: {names}" for model, names in left.items() if names)
    return f"Not done: {told}. The study runs these when it is started again." * bool(told)
