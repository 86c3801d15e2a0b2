"""Create `.venv` and install facsynth into it, editable, with its pinned development tools.

`make` runs this when `.venv` is missing or older than what it was made from. It needs only
the standard library of Python 3.11 or newer, and pip's own configuration is left as it is.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

if sys.version_info < (3, 11):  # noqa: UP036  (this is what tells the user)
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
    """Bring `.venv` up to date and leave the stamp that `make` looks at."""
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
    """Make `.venv`, or make it anew where its Python is too old, broken or without pip."""
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if PYTHON.exists() and succeeds(PYTHON, "-c", check):
        return
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        stop(
            f"{sys.executable} has no module {missing[0]}, so .venv cannot be made; on Debian or "
            "Ubuntu run `apt-get install python3-venv`, or pass PYTHON=... another Python"
        )
    say(f"creating .venv with Python {sys.version.split()[0]}")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True
    )
    if made.returncode:
        lines = (made.stdout + made.stderr).strip().splitlines() or ["no output"]
        stop(f"`{sys.executable} -m venv .venv` failed: {lines[-1]}")


def install_torch(version: str) -> None:
    """Install torch, as a CPU build where no NVIDIA GPU is present and one is offered."""
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
        say(f"found no CPU build of torch {version}: taking the plain one, which may be several GB")
    require(plain, plain)


def has_gpu() -> bool:
    """Whether `nvidia-smi` is there and finds a device."""
    return shutil.which("nvidia-smi") is not None and succeeds("nvidia-smi", "--list-gpus")


def pinned_version(name: str) -> str:
    """The version that `constraints.txt` pins for `name`."""
    found = re.search(rf"^{name}==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    return found[1] if found else stop(f"{CONSTRAINTS} pins no version of {name}")


def require(title: str, *arguments: str) -> None:
    """Install what facsynth cannot do without."""
    log = install(title, *arguments)
    if log is not None:
        stop(reason(log))


def install(title: str, *arguments: str) -> str | None:
    """Run `pip install` under the constraints; None is success, else what pip said."""
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
    """One line on why pip failed; finding no version may mean that nothing was reached."""
    errors = [line for line in log.splitlines() if line.startswith("ERROR: ")]
    last = (errors or log.strip().splitlines() or ["no output"])[-1].removeprefix("ERROR: ")
    found_nothing = last.startswith(("No matching distribution", "ResolutionImpossible"))
    if OFFLINE.search(log if found_nothing else last):
        return f"pip cannot reach the package registry; check the network, run it again {SEE_LOG}"
    return f"pip failed: {last} {SEE_LOG}"


def succeeds(*command: object) -> bool:
    """Whether the command runs and exits with 0."""
    return not subprocess.run([str(part) for part in command], capture_output=True).returncode


def show(line: str) -> None:
    """On a terminal, replace the line that tells what pip does at the moment."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\033[K{line[:width]}", end="", flush=True)


def say(line: str) -> None:
    """Print one line of progress."""
    print(f"setup: {line}", flush=True)


def stop(message: str) -> NoReturn:
    """End with one line and exit status 1."""
    sys.exit(f"Error: {message}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
