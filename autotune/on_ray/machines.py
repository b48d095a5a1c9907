"""The machines of a cluster, by the kind of their devices, and tasks on just one of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autotune import fingerprint
from autotune.errors import ProbeFailed, one_line
from autotune.on_ray.kinds import Kind, kind_of

_log = logging.getLogger("autotune")

Node = dict[str, Any]  # as `ray.nodes` tells of it


@dataclass(slots=True)
class Group:
    """Machines of one kind."""

    kind: Kind
    nodes: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.kind} ({len(self.nodes)} machines)"


def groups_of_cluster() -> list[Group]:
    """Look at each machine of the cluster, and put those together that share a tuning.

    Raises:
        ProbeFailed: None of them can be described.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    looks = [task_on(node, _look, num_cpus=0).remote() for node in nodes]
    groups: list[Group] = []
    for node, look in zip(nodes, looks, strict=True):
        try:
            kind = ray.get(look)
        except RayError as error:
            _log.warning("Left out: machine %s: %s", node["NodeName"], one_line(error))
            continue
        if kind is None:
            _log.warning("Left out: machine %s, which cannot be described.", node["NodeName"])
            continue
        group = next((each for each in groups if each.kind.is_like(kind)), None)
        if group is None:
            group = Group(kind)
            groups.append(group)
        group.nodes.append(node)
    if not groups:
        raise ProbeFailed("No machine of the cluster can be tuned on: none could be described.")
    return groups


def task_on(node: Node, function: Any, num_cpus: float) -> Any:
    """A task on just that machine, with its GPU if it has one, in a process for nothing else."""
    options: dict[str, Any] = {
        "num_cpus": num_cpus,
        "num_gpus": 1 if node["Resources"].get("GPU") else 0,
        "max_calls": 1,
        "max_retries": 1,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    }
    return ray.remote(**options)(function)


def _look() -> Kind | None:
    return kind_of(fingerprint.look_around())
