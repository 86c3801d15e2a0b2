"""`python -m facsynth` is `fac`."""

from facsynth.cli import main

if __name__ == "__main__":
    main(prog_name="fac")
