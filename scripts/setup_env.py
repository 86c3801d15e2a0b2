"""Create `.venv` with an editable install of facsynth and its pinned development tools.

`make` runs this when `.venv` is missing or older than the files it depends on. It needs only
the standard library of Python 3.11 or newer, and leaves pip's configuration unchanged.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

if sys.version_info < (3, 11):  # noqa: UP036  (tells users of an older Python)
    sys.exit(
        "Error: facsynth needs Python 3.11 or newer, but {} is {}.{}; "
        "run `make PYTHON=/path/to/python3.11 ...`".format(sys.executable, *sys.version_info)
    )

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".ready"
LOG = VENV / "setup.log"
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NOT_OFFERED = ("No matching distribution found for", "Cannot install")
OFFLINE = re.compile("connection broken|Max retries exceeded|ConnectionError|Read timed out")
SEE_LOG = f"(pip's output is in {LOG.relative_to(ROOT)})"


def main() -> None:
    """Bring `.venv` up to date and write the stamp that `make` checks."""
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    create_venv()
    LOG.write_text("")
    require("build backend", "setuptools")
    install_torch(pinned_version("torch"))
    require("facsynth and its tools", "--no-build-isolation", "--editable", f"{ROOT}[dev]")
    STAMP.touch()
    say(f".venv is ready ({time.monotonic() - started:.0f} s)")


def create_venv() -> None:
    """Create `.venv`; recreate it if its Python is too old, broken or lacks pip."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if PYTHON.exists() and succeeds(PYTHON, "-c", check):
        return
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        stop(
            f"cannot create .venv because {sys.executable} has no module {missing[0]}; on Debian "
            "or Ubuntu run `apt-get install python3-venv`, or choose another Python with PYTHON=..."
        )
    say(f"creating .venv with Python {sys.version.split()[0]}")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True
    )
    if made.returncode:
        lines = (made.stdout + made.stderr).strip().splitlines() or ["no output"]
        stop(f"`{sys.executable} -m venv .venv` failed: {lines[-1]}")


def install_torch(version: str) -> None:
    """Install torch; without an NVIDIA GPU prefer a CPU build if there is one."""
    check = f"import torch; assert torch.__version__.split('+')[0] == {version!r}"
    if succeeds(PYTHON, "-c", check):
        return
    plain = f"torch=={version}"
    if sys.platform == "linux" and not has_gpu():
        cpu = f"{plain}+cpu"
        for source in [], ["--timeout", "15", "--retries", "1", "--extra-index-url", CPU_INDEX]:
            log = install(f"{cpu} from {source[-1] if source else 'the registry'}", *source, cpu)
            if log is None:
                return
            if not any(f"{text} {cpu}" in log for text in NOT_OFFERED):
                stop(reason(log))
        say(f"no CPU build of torch {version}; installing the default build, maybe several GB")
    require(plain, plain)


def has_gpu() -> bool:
    """Whether `nvidia-smi` exists and finds a device."""
    return shutil.which("nvidia-smi") is not None and succeeds("nvidia-smi", "--list-gpus")


def pinned_version(name: str) -> str:
    """The version that `constraints.txt` pins for `name`."""
    found = re.search(rf"^{name}==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    return found[1] if found else stop(f"{CONSTRAINTS} does not pin a version of {name}")


def require(title: str, *arguments: str) -> None:
    """Install a required package; stop if that fails."""
    log = install(title, *arguments)
    if log is not None:
        stop(reason(log))


def install(title: str, *arguments: str) -> str | None:
    """Run `pip install` with the constraints; returns None on success, else pip's output."""
    say(f"installing {title}")
    command = [str(PYTHON), "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
    command += ["--progress-bar", "off", "--constraint", str(CONSTRAINTS), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        lines = []
        for line in pip.stdout or ():
            lines.append(line)
            show(line.strip())
    show("")
    with LOG.open("a") as log:
        log.writelines(["$ ", " ".join(command), "\n", *lines])
    return "".join(lines) if pip.returncode else None


def reason(log: str) -> str:
    """Why pip failed, in one line; "no matching version" can also mean that pip is offline."""
    errors = [line for line in log.splitlines() if line.startswith("ERROR: ")]
    last = (errors or log.strip().splitlines() or ["no output"])[-1].removeprefix("ERROR: ")
    found_nothing = last.startswith(("No matching distribution", "ResolutionImpossible"))
    if OFFLINE.search(log if found_nothing else last):
        return f"pip cannot reach the package registry; check the network and retry {SEE_LOG}"
    return f"pip failed: {last} {SEE_LOG}"


def succeeds(*command: object) -> bool:
    """Whether the command exits with status 0."""
    return not subprocess.run([str(part) for part in command], capture_output=True).returncode


def show(line: str) -> None:
    """On a terminal, replace the line that shows what pip is doing."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{line[:width]}", end="", flush=True)


def say(line: str) -> None:
    """Print one line of progress."""
    print(f"setup: {line}", flush=True)


def stop(message: str) -> NoReturn:
    """Exit with a one-line message and status 1."""
    sys.exit(f"Error: {message}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
