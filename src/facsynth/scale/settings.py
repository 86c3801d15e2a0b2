"""Where extraction runs beyond one process."""

from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["ScaleSettings"]


@dataclass(frozen=True)
class ScaleSettings(Settings):
    """By which processes and which engine the model is run."""

    devices: str | None = None
    """Read with one process for each GPU (`all`), or for the devices named (`cuda:0,cuda:2`).
    Without a GPU, `all` makes groups of cores, and a number makes so many."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the model. `vllm` needs `facsynth[vllm]` and is meant for models of billions of
    parameters on GPUs."""

    tensor_parallel: int = 1
    """GPUs over which vLLM spreads the model, for one that does not fit on a single GPU."""

    ray: str | None = None
    """Extract on the Ray cluster at this address, `auto` for a running one, `local` for one on this
    machine. Needs `facsynth[ray]`, and a folder for the table that all machines see."""

    ray_workers: int | None = None
    """Workers, each with its own model; by default one for each GPU, or for each CPU but one."""

    def __post_init__(self) -> None:
        if self.ray_workers is not None and self.ray_workers < 1:
            raise DataError(f"ray_workers is {self.ray_workers}, and must be at least 1")
        if self.tensor_parallel < 1:
            raise DataError(f"tensor_parallel is {self.tensor_parallel}, and must be at least 1")
        if self.tensor_parallel > 1 and self.engine != "vllm":
            raise DataError("--tensor-parallel needs --engine vllm")
        given = [self.ray and "--ray", self.devices and "--devices"]
        given.append("--engine vllm" if self.engine == "vllm" else None)
        if len(named := [name for name in given if name]) > 1:
            raise DataError(f"{' and '.join(named)} do not go together; choose one")
