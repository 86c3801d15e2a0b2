"""Where extraction runs beyond one process."""

from dataclasses import dataclass

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["RaySettings"]


@dataclass(frozen=True)
class RaySettings(Settings):
    """Where a Ray cluster is and how many workers it gets."""

    ray: str | None = None
    """Extract on the Ray cluster at this address, `auto` for a running one, `local` for one on this
    machine. Needs `facsynth[ray]`, and a folder for the table that all machines see."""

    ray_workers: int | None = None
    """Workers, each with its own model; by default one for each GPU, or for each CPU but one."""

    def __post_init__(self) -> None:
        if self.ray_workers is not None and self.ray_workers < 1:
            raise DataError(f"ray_workers is {self.ray_workers}, and must be at least 1")
