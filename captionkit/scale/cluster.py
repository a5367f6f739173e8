"""The Ray cluster: import Ray, join a cluster, count the engines that it has GPUs for."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from captionkit.scale.parts import ScaleError

_LEAST_RAY = (2, 48)
_ANSWER_S = 5.0
# Tries to start Ray on this machine.
_STARTS = 3


def engine_count(gpus: Sequence[int], size: int) -> int:
    """Return the number of engines for which a cluster has GPUs, 1 without GPUs.

    Parameters
    ----------
    gpus
        GPUs of each node.
    size
        GPUs of an engine, all on one node; 0 for an engine without.

    Raises
    ------
    ScaleError
        If GPUs are to share a model, and no node has so many.
    """
    fitting = sum(each // size for each in gpus) if size else 1
    if not fitting and size > 1:
        most = max(gpus, default=0)
        raise ScaleError(f"tensor_parallel is {size}, but a node here has at most {most} GPUs")
    return max(1, fitting)


def import_ray() -> Any:
    """Import Ray.

    Raises
    ------
    ScaleError
        If Ray is missing or too old.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ScaleError(f'Ray is not installed: pip install "captionkit[ray]" ({error})') from error
    version: Sequence[int] = [int(part) for part in ray.__version__.split(".")[:2]]
    if tuple(version) < _LEAST_RAY:
        least = ".".join(map(str, _LEAST_RAY))
        raise ScaleError(f"Ray is {ray.__version__}; {least} or newer is needed")
    return ray


def _start(ray: Any) -> None:
    """Start a cluster on this machine; Ray itself waits half a minute, which a busy one may exceed."""
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(address="local", log_to_driver=False, include_dashboard=False)
            return
        except Exception as error:
            # Ray raises the base class itself.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt == _STARTS:
                raise ScaleError(
                    f"Ray did not start on this machine in {_STARTS} tries: {error} Try again when "
                    "less else runs"
                ) from error


def connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one on this machine.

    Raises
    ------
    ScaleError
        If the address does not answer, or no cluster starts here.
    """
    if ray.is_initialized():
        return
    if address in (None, "local"):
        _start(ray)
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        except (OSError, ValueError) as error:
            raise ScaleError(
                f"the Ray address {address} does not answer ({error}); give HOST:PORT of a running "
                "cluster (see ray status), or leave it out for this machine"
            ) from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError) as error:
        raise ScaleError(f"the Ray cluster {address} cannot be joined: {error}") from error
