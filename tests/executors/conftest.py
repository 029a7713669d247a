"""A real Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OBJECT_STORE_BYTES = 80 * 2**20


class Nodes:
    """A cluster whose head does no jobs; nodes come and go."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        arguments = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=arguments)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, *, own_folder: Path | None = None, cpus: int = 1, gpus: int = 0) -> Any:
        """Start a node; one with a folder of its own does not see the run's."""
        variables = {"HARNESS_NODE_FOLDER": str(own_folder)} if own_folder else {}
        return self._cluster.add_node(
            num_cpus=cpus, num_gpus=gpus, object_store_memory=OBJECT_STORE_BYTES, env_vars=variables
        )

    def kill(self, node: Any) -> None:
        """End a node without a warning."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    try:
        yield cluster
    finally:
        cluster.close()
