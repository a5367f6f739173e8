"""The contract of a stage, as the reference's pipelines know it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from captionkit.stages.tasks import VideoTask


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage needs: CPU cores and GPUs."""

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class NodeInfo:
    """The machine that a stage is set up on."""

    node_id: str = ""


@dataclass(frozen=True)
class WorkerMetadata:
    """The worker that a stage is set up in."""

    worker_id: str = ""
    allocation: Any = None


@dataclass
class ProcessingStage(ABC):
    """One step over `VideoTask`s: set up once a worker, then called for each task."""

    _name: str = field(default="stage", kw_only=True)
    _resources: Resources = field(default_factory=Resources, kw_only=True)

    @property
    def name(self) -> str:
        """Name in logs."""
        return self._name

    @property
    def resources(self) -> Resources:
        """What a worker needs."""
        return self._resources

    def inputs(self) -> tuple[list[str], list[str]]:
        """Attributes of the task, and of its data, that the stage reads."""
        return ["data"], ["clips"]

    def outputs(self) -> tuple[list[str], list[str]]:
        """Attributes of the task, and of its data, that the stage writes."""
        return ["data"], ["clips"]

    def setup_on_node(  # noqa: B027 (most stages need nothing there)
        self, node_info: NodeInfo | None = None, worker_metadata: WorkerMetadata | None = None
    ) -> None:
        """Called once a machine, before any `setup`."""

    @abstractmethod
    def setup(self, worker_metadata: WorkerMetadata | None = None) -> None:
        """Called once a worker."""

    @abstractmethod
    def process(self, task: VideoTask) -> VideoTask:
        """Work on a task; returns the same object."""
