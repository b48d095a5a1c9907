"""Errors: how they are related, and how those of other people are read."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune import errors
from autotune.errors import AutotuneError, NoFeasibleBatchSize, is_out_of_memory, one_line
from autotune.goal import Goal
from autotune.records import TuningRecord

ALL = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if value.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_one_base_and_stands_in_the_tree(kind: type[Exception]) -> None:
    """One `except AutotuneError` catches them all, and the module's tree shows them all."""
    assert issubclass(kind, AutotuneError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("name", ["Sample", "Model", "Record", "Input"])
def test_bad_input_is_a_value_error(name: str) -> None:
    """Who does not know autotune's errors catches bad input as a ValueError."""
    kind = getattr(errors, f"Invalid{name}")
    assert issubclass(kind, ValueError)
    assert issubclass(kind, errors.InvalidInput)


def test_a_fault_of_the_machine_is_an_os_error_with_its_message() -> None:
    """EnvironmentFault is an OSError, and its text is the message alone."""
    fault = errors.EnvironmentFault("Cannot write x: disk full.")
    assert isinstance(fault, OSError)
    assert str(fault) == "Cannot write x: disk full."


def test_nothing_feasible_carries_the_record() -> None:
    """NoFeasibleBatchSize holds what was measured, and None where nothing was."""
    record = TuningRecord(goal=Goal(), outcomes=(), recommendation=None)
    assert NoFeasibleBatchSize("none", record).record is record
    assert NoFeasibleBatchSize("none").record is None


def test_numpy_out_of_memory_is_told() -> None:
    """The error that NumPy itself raises for an array of 2**60 bytes means out of memory."""
    with pytest.raises(MemoryError) as caught:
        np.empty(2**60, np.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "Exception: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.",
        "OOM when allocating tensor with shape[8192,4096]",
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[Errno 12] Cannot allocate memory",
    ],
)
def test_messages_of_the_frameworks_are_told(message: str) -> None:
    """A framework's words for "out of memory" are enough, whatever the error's type."""
    assert is_out_of_memory(RuntimeError(message))


def test_out_of_memory_is_found_behind_another_error() -> None:
    """Keras raises a new error `from None`: the one behind it is still seen."""
    with pytest.raises(ValueError, match="layer failed") as caught:
        raise_from_none()
    assert is_out_of_memory(caught.value)


def raise_from_none() -> None:
    """Raise the way that Keras does when a layer fails."""
    try:
        raise MemoryError
    except MemoryError:
        raise ValueError("layer failed") from None


def test_out_of_memory_is_found_as_a_cause() -> None:
    """An error's explicit cause counts as well."""
    error = ValueError("layer failed")
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)


def test_a_ring_of_errors_ends() -> None:
    """Errors that are each other's context are walked once."""
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert not is_out_of_memory(first)


@pytest.mark.parametrize("error", [None, ValueError("memory of an elephant"), KeyError("x")])
def test_other_errors_are_not_out_of_memory(error: BaseException | None) -> None:
    """An error that speaks of memory need not be one of memory."""
    assert not is_out_of_memory(error)


@given(st.text(), st.integers(min_value=20, max_value=400))
def test_one_line_is_one_printable_line(text: str, limit: int) -> None:
    """Whatever an error says, `one_line` makes one printable line within the limit of it."""
    line = one_line(ValueError(text), limit)
    assert line.isprintable()
    assert line.startswith("ValueError: ")
    assert len(line) <= limit


def test_one_line_keeps_the_words() -> None:
    """Line breaks become spaces, so that words stay apart."""
    assert one_line(OSError("disk\n  full\x1b[2J")) == "OSError: disk full[2J"
