"""The errors that autotune raises, all of them, and how to read those of others.

AutotuneError
├── InvalidInput (also a ValueError)    what was given cannot be used; nothing was changed
│   ├── InvalidSample                   rows: shape, dtype, names, number
│   ├── InvalidModel                    the file, its layers, or how it treats a batch
│   │   └── ModelNotPortable            a model in memory that no other process can make again
│   ├── InvalidRecord                   a record or tuned directory that cannot be trusted
│   └── EngineUnavailable               an engine that cannot run this model here
├── EnvironmentFault (also an OSError)  disk, permissions, a study in use
├── ProbeFailed                         the probe could not be started at all
├── Unserved                            a request to a MicroBatcher that was never run
│   ├── Overloaded                      too many rows wait already
│   ├── DeadlineExceeded (also a TimeoutError)  its time was over before its turn came
│   └── BatcherClosed (also a RuntimeError)     the batcher takes no more
└── NoFeasibleBatchSize                 tried, and no candidate is within the limits
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autotune.records import TuningRecord


class AutotuneError(Exception):
    """Base of every error that autotune raises on purpose."""


class InvalidInput(AutotuneError, ValueError):
    """An argument, a file or an option that cannot be used."""


class InvalidSample(InvalidInput):
    """Rows that do not fit the model, or that are no rows at all."""


class InvalidModel(InvalidInput):
    """A model that cannot be opened, or that cannot be cut into batches."""


class ModelNotPortable(InvalidModel):
    """A model in memory that cannot be handed to another process."""


class InvalidRecord(InvalidInput):
    """A record or a tuned directory that is damaged, changed or too new."""


class EngineUnavailable(InvalidInput):
    """An engine that is not installed or cannot run this model."""


class EnvironmentFault(AutotuneError, OSError):
    """The machine said no: a full disk, a missing permission, a study in use."""


class ProbeFailed(AutotuneError):
    """The child that should try the candidates could not be started, or died while loading."""


class Unserved(AutotuneError):
    """A request that a `MicroBatcher` never ran; it can be sent again, there or elsewhere."""


class Overloaded(Unserved):
    """The queue is full: the request was turned away at once."""


class DeadlineExceeded(Unserved, TimeoutError):
    """The request waited longer than its `timeout_s`."""


class BatcherClosed(Unserved, RuntimeError):
    """The batcher was closed before the request came, or before its turn came."""


class NoFeasibleBatchSize(AutotuneError):
    """No candidate that was tried is within the limits.

    Attributes:
        record: Everything that was measured, with `recommendation` None; None where the
            search did not begin.
    """

    def __init__(self, message: str, record: TuningRecord | None = None) -> None:
        super().__init__(message)
        self.record = record


_MEMORY_TYPES = ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError", "_ArrayMemoryError")
_MEMORY_WORDS = (
    "resource_exhausted",
    "out of memory",
    "oom when allocating",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "std::bad_alloc",
    "could not create a memory object",  # oneDNN
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error means that memory ran out, in any framework.

    The whole chain is walked, `__context__` too, because Keras re-raises errors `from None`.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = str(error).lower()
        if type(error).__name__ in _MEMORY_TYPES or any(word in text for word in _MEMORY_WORDS):
            return True
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            return True
        error = error.__context__
    return False


# Colours, and TensorFlow's screenful of where a node was made, before it says what is wrong.
_NOISE = re.compile(r'\x1b\[[0-9;]*m|Detected at node [^\n]*\n(?:\s*File "[^\n]*\n)+')


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an error's type and message on one printable line of at most `limit` characters."""
    text = _NOISE.sub("", str(error))
    text = " ".join(text.split())
    printable = "".join(char for char in text if char.isprintable())
    return f"{type(error).__name__}: {printable}"[:limit]
