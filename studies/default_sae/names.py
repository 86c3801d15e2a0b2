"""Put names of features into the reference profile of the default SAE.

    python studies/default_sae/corpus.py DATA_FOLDER corpus.jsonl
    rough='"id": "(hh_harmless|davidson|toxic_spans|nltk/movie|nltk/webtext|c4_)'
    grep -vE "$rough" corpus.jsonl | head -1000 > clean.jsonl
    fac extract clean.jsonl -o names --max-length 112
    python studies/default_sae/names.py names

Sources with offensive text are left out, so that no name quotes any.
"""

import sys
from dataclasses import replace

from facsynth.coverage.profile import PROFILE_FILE, read_profile, write_profile
from facsynth.models.default_model import default_sae_folder
from facsynth.models.lm import load_language_model
from facsynth.table.table import open_table
from facsynth.understand.names import count_terms, name_terms
from facsynth.understand.spans import ReadTable, collect_spans

LEFT_OUT = {"retarded"}


def main(folder: str) -> None:
    """Name every feature that fires in the table."""
    profile = read_profile()
    tokenizer = load_language_model(weights=False).tokenizer
    table = ReadTable.of(open_table(folder), tokenizer)
    words = count_terms(table.samples)
    spans = collect_spans(table, range(profile.n_features))
    terms = (name_terms(spans[i], words) for i in range(profile.n_features))
    names = tuple(", ".join(term for term in found if term not in LEFT_OUT) for found in terms)
    write_profile(replace(profile, names=names), default_sae_folder() / PROFILE_FILE)
    print(f"{sum(map(bool, names)):,} of {len(names):,} features have a name")


if __name__ == "__main__":
    main(sys.argv[1])
