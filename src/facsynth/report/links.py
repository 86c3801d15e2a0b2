"""Where else a feature can be looked up."""

import re

from facsynth.table.manifest import TableSource

__all__ = ["feature_link"]

_NEURONPEDIA = "https://www.neuronpedia.org/{model}/{layer}-{source}/{{id}}"

_GEMMA = re.compile(r"gemma-scope-(2b|9b)-pt-(res|mlp|att)\b.*?layer_(\d+)/width_(16k|65k|131k)/")
_LLAMA = re.compile(r"Llama3_1-8B-Base-LX([RAM])-(8|32)x|l(\d+)([ram])_(8|32)x")
_PARTS = {"R": "res", "A": "att", "M": "mlp"}


def feature_link(source: TableSource) -> str:
    """Address of a feature's page on Neuronpedia with `{id}` for its number; empty if unknown.

    Only SAEs whose name says which published one they are have an address. Gemma Scope has
    several sparsities for one width there; the address is that of the canonical one.

    >>> source = TableSource("", "", 16384, 20, "sae", "max", "all", 99, "", "gemma-2-2b",
    ...     "google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71")
    >>> feature_link(source)
    'https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/{id}'
    """
    name = source.sae_name
    if found := _GEMMA.search(name):
        size, part, layer, width = found.groups()
        return _NEURONPEDIA.format(
            model=f"gemma-2-{size}", layer=layer, source=f"gemmascope-{part}-{width}"
        )
    if found := _LLAMA.search(name):
        part = _PARTS[(found[1] or found[4]).upper()]
        width = {"8": "32k", "32": "131k"}[found[2] or found[5]]
        return _NEURONPEDIA.format(
            model="llama3.1-8b", layer=source.layer, source=f"llamascope-{part}-{width}"
        )
    return ""
