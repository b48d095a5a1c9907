"""Matching: of several records the one that was tuned on such a machine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.matching import best_for, same_device, same_machine, same_memory, same_model
from autotune.records import Machine
from tests.tunings import L4, MODEL, XEON, replaced, tuned_on

SIZES = st.integers(1, 2**50)


@given(SIZES, SIZES)
def test_memory_is_of_one_class_both_ways_or_neither(one: int, other: int) -> None:
    """Which of two machines was first makes no difference."""
    assert same_memory(one, other) == same_memory(other, one)
    assert same_memory(one, one)


@given(SIZES)
def test_twice_the_memory_is_another_class(size: int) -> None:
    """A container of twice the memory is another machine; one percent less is the same one."""
    assert not same_memory(size, 2 * size)
    assert same_memory(100 * size, 99 * size)


def test_memory_that_is_not_known_is_not_held_against_a_machine() -> None:
    """Without NVML a GPU does not tell its memory, and is the same GPU."""
    assert same_machine(L4, replaced(L4, device_memory_bytes=None))


@pytest.mark.parametrize(
    "other",
    [
        replaced(XEON, device="AMD EPYC"),
        replaced(XEON, cpu_count=8),
        replaced(XEON, cpu_quota=0.5),
        replaced(XEON, memory_bytes=4 * 2**30),
        L4,
        None,
    ],
)
def test_another_device_is_another_machine(other: Machine | None) -> None:
    """Device, processors, their quota and the memory each make another machine."""
    assert same_machine(XEON, XEON)
    assert not same_machine(XEON, other)


def test_the_hosts_memory_does_not_make_another_gpu() -> None:
    """On a GPU it is the GPU's memory that counts; ids and versions never do."""
    other = replaced(L4, memory_bytes=2**40, device_id="GPU-1", versions={}, system="Linux 7")
    assert same_machine(L4, other)


def test_each_backend_has_its_own_tuning() -> None:
    """A tuning on JAX does not replace one on TensorFlow."""
    jax = tuned_on(XEON, replaced(MODEL, backend="jax"))
    assert not same_device(tuned_on(XEON), jax)
    assert same_model(tuned_on(XEON), jax)


def test_a_model_that_is_not_told_is_no_known_model() -> None:
    """A record of a bare probe is of the same model as no other."""
    assert not same_model(tuned_on(None, None), tuned_on(None, None))


RECORDS = (
    tuned_on(L4, created="2026-01-03T00:00:00+00:00"),
    tuned_on(XEON, created="2026-01-01T00:00:00+00:00"),
    tuned_on(XEON, replaced(MODEL, backend="jax"), created="2026-01-04T00:00:00+00:00"),
    tuned_on(replaced(XEON, cpu_count=8), created="2026-01-02T00:00:00+00:00"),
)


@pytest.mark.parametrize(
    ("machine", "backend", "expected"),
    [
        (XEON, "tensorflow", 1),
        (XEON, "jax", 2),
        (L4, "tensorflow", 0),
        (replaced(XEON, cpu_count=8), "tensorflow", 3),
        (replaced(XEON, device="AMD EPYC"), "tensorflow", 3),  # the newest on a CPU
        (replaced(L4, device="NVIDIA H200"), "tensorflow", 0),
        (L4, "torch", 2),  # the newest of all
        (None, "tensorflow", 2),
    ],
)
def test_the_tuning_of_this_machine_is_chosen(
    machine: Machine | None, backend: str, expected: int
) -> None:
    """Exactly this machine first, else the same kind of device, else the newest of all."""
    for records in itertools.permutations(RECORDS):
        assert best_for(records, machine, backend) is RECORDS[expected]
