"""The contract of a stage in the reference's pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from captionkit.stages.tasks import VideoTask


@dataclass(frozen=True)
class Resources:
    """Needs of one worker of a stage: CPU cores and GPUs."""

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class NodeInfo:
    """Machine of a stage's setup."""

    node_id: str = ""


@dataclass(frozen=True)
class WorkerMetadata:
    """Worker of a stage's setup."""

    worker_id: str = ""
    allocation: Any = None


class Portable:
    """Can be copied and sent to other processes at any time, without what runs in this one."""

    # Attributes of decoders and engines; a copy makes its own with its first task.
    _running: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has."""
        return {**self.__dict__, **dict.fromkeys(self._running)}


@dataclass
class ProcessingStage(Portable, ABC):
    """One step over `VideoTask` objects: set up once for each worker, then called for each task."""

    # Class attribute, not a field: a field would be the first positional argument of the stages.
    _name = "stage"
    _resources: Resources = field(default_factory=Resources, kw_only=True)

    @property
    def name(self) -> str:
        """Name in logs."""
        return self._name

    @property
    def resources(self) -> Resources:
        """Needs of one worker."""
        return self._resources

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes of the task, and of its data, that the stage reads."""
        return ["data"], ["clips"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes of the task, and of its data, that the stage writes."""
        return ["data"], ["clips"]

    def setup_on_node(
        self, node_info: NodeInfo | None = None, worker_metadata: WorkerMetadata | None = None
    ) -> None:
        """Prepare a machine, once and before any `setup`."""

    @abstractmethod
    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Prepare a worker, once."""

    @abstractmethod
    def process(self, task: VideoTask) -> VideoTask:
        """Work on a task; return the same object."""
