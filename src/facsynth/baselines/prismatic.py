"""Prismatic Synthesis (arXiv 2505.20161): keep what falls into sparse regions of gradient space.

Each round writes texts after a few texts of the pool, clusters all texts by the gradients of a
small proxy model's loss (section 4: k-means in the space of G-Vendi's sketched, normalised
gradients), and keeps new texts of the clusters with the fewest members; they join the pool.

Deviations: the gradient is that of the proxy's last decoder layer, sketched to 1,024 numbers by a
count sketch in place of a random projection of all weights; the proxy is the model that reads the
features. The number of clusters is a quarter of the pool. The half of the clusters that is sparser
counts as sparse. After the last round but one the remaining places are filled from the clusters
that are not, the sparsest first, because the experiment compares equal numbers.
"""

import numpy as np
from jaxtyping import Bool, Float

from facsynth.baselines.job import Job
from facsynth.baselines.undirected import more_like

__all__ = ["sparse_members", "write_prismatic"]

_N_SHOWN = 3
_OVER = 2
"""Texts written for one that is wanted: about half are in sparse clusters."""


def write_prismatic(job: Job) -> None:
    """Write, cluster, and keep what is in sparse clusters."""
    pool, spare = list(job.seeds), list[str]()
    known = job.vectors("gradient", pool)
    while n := job.n_lacking:
        number = job.next_round()
        rngs = [job.rng("shown", number, i) for i in range(_OVER * n)]
        shown = [rng.sample(pool, min(_N_SHOWN, len(pool))) for rng in rngs]
        prompts = [more_like(job, some) for some in shown]
        texts = list(dict.fromkeys(text for text in job.ask(prompts, "texts") if text))
        if not texts:
            continue
        rows = job.vectors("gradient", texts)
        sparse = sparse_members(known, rows, random_seed=job.settings.random_seed + number)
        for text, row, is_sparse in zip(texts, rows, sparse, strict=True):
            if not is_sparse:
                spare.append(text)
            elif job.keep(text, cluster="sparse"):
                pool.append(text)
                known = np.concatenate([known, row[None]])
        if number >= job.settings.max_rounds - 2:
            break
    for text in spare:
        job.keep(text, cluster="dense")


def sparse_members(
    pool: Float[np.ndarray, "n_pool d"], new: Float[np.ndarray, "n_new d"], *, random_seed: int
) -> Bool[np.ndarray, " n_new"]:
    """Which new rows fall into the sparser half of the clusters of all rows.

    Args:
        pool: Rows of the texts that are known.
        new: Rows of the new texts.
        random_seed: Starts of k-means.
    """
    from sklearn.cluster import KMeans

    rows = np.concatenate([pool, new])
    k = max(2, len(rows) // 4)
    labels = KMeans(min(k, len(rows)), n_init=1, random_state=random_seed).fit_predict(rows)
    # Members are counted in the pool alone: a crowd of new texts does not make a region dense.
    sizes = np.bincount(labels[: len(pool)], minlength=k)
    present = np.unique(labels)
    limit = np.median(sizes[present])
    found: Bool[np.ndarray, " n_new"] = sizes[labels[len(pool) :]] <= limit
    return found
