"""Rewrite the pages of the studies from their stored results: `make studies`.

    python studies/pages.py                 all pages
    python studies/pages.py fill_rate       some of them

No data and no model is needed; plots stay as they are. Each study is a module beside this one with
`RESULTS`, `PAGE` and `page(results)`.
"""

import argparse
import json
from importlib import import_module

STUDIES = (
    "explanations",
    "measures",
    "prediction",
    "keep_rules",
    "selection",
    "fill_rate",
    "failures",
    "tasks",
    "transfer",
    "experiment_small",
    "baselines",
    "writing",
)


def written(name: str) -> str | None:
    """The page of a study from its stored results; None if it has not been run."""
    study = import_module(name)
    if not study.RESULTS.is_file():
        return None
    text: str = study.page(json.loads(study.RESULTS.read_text(encoding="utf-8")))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []])
    for name in parser.parse_args().studies or STUDIES:
        text = written(name)
        if text is None:
            print(f"{name}: not run yet")
            continue
        path = import_module(name).PAGE
        is_new = not path.is_file() or path.read_text(encoding="utf-8") != text
        path.write_text(text, encoding="utf-8")
        print(f"{name}: {'rewritten' if is_new else 'unchanged'}")


if __name__ == "__main__":
    main()
