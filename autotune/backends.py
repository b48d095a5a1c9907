"""What differs between Keras's backends: the GPU that each takes, its memory, and its threads."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Literal

PREALLOCATING = ("tensorflow", "jax")  # take all of a GPU's memory at once, unless told not to
PREALLOCATION = "XLA_PYTHON_CLIENT_PREALLOCATE"
# On a CPU these let one call have fewer threads than there are processors. JAX has one pool for
# all calls of a process: with NPROC=1 three calls in flight have one processor between them, and
# without XLA's multi-threaded Eigen one call still took 1.9 processors (JAX 0.10).
SETTING_THREADS = ("tensorflow", "torch")


@dataclass(frozen=True, slots=True)
class Choice:
    """The GPU that a backend runs models on, in its own words.

    Attributes:
        ordinal: Its number among the GPUs that CUDA gives this process.
        count: How many of those the backend sees.
        name: What the backend calls it; "" where it does not tell.
    """

    ordinal: int
    count: int
    name: str


def kind_of(backend: str) -> Literal["cpu", "gpu"]:
    """Tell whether a Keras backend runs models on a GPU here; starts the backend."""
    if backend == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if backend == "jax":
        import jax

        return "gpu" if jax.default_backend() in ("gpu", "cuda", "rocm") else "cpu"
    if backend == "torch":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    return "cpu"


def gpu_of(backend: str) -> Choice | None:
    """Return the GPU that a backend runs models on; None where it does not tell."""
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        first = tf.config.get_visible_devices("GPU")[0]
        details = tf.config.experimental.get_device_details(first)
        return Choice(gpus.index(first), len(gpus), details.get("device_name", ""))
    if backend == "jax":
        import jax

        devices = jax.local_devices()
        return Choice(devices[0].local_hardware_id, len(devices), devices[0].device_kind)
    if backend == "torch":
        import torch

        current = torch.cuda.current_device()
        return Choice(current, torch.cuda.device_count(), torch.cuda.get_device_name(current))
    return None


def let_memory_grow() -> None:
    """Keep the backend from taking all GPU memory at once, which would blind every reading.

    To be called before it has used a GPU: later it has no effect.
    """
    os.environ[PREALLOCATION] = "false"
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # it has begun
                tf.config.experimental.set_memory_growth(gpu, True)


def can_set_threads(backend: str, kind: Literal["cpu", "gpu"]) -> bool:
    """Tell whether a process can have the threads of one call set; on a GPU they do not matter."""
    return kind == "cpu" and backend in SETTING_THREADS


def set_threads(threads: int) -> bool:
    """Set how many threads one call of Keras's backend may use, for the whole process.

    TensorFlow fixes that when it first runs; torch takes it at any time, for calls from threads
    that have not called it yet.

    Args:
        threads: How many.

    Returns:
        Whether it is so from now on: False where the backend has begun with another number, or
        has no such setting.
    """
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Only these: the threads between operations are a call's own. With one of those for all,
        # calls in flight wait for each other (two of a CNN: 18,000 rows/s in place of 30,000).
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError:  # it has begun
            return False
        return True
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
        return True
    return False


def threads() -> int | None:
    """Return how many threads one call of Keras's backend may use; None where nobody set that."""
    import keras

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return int(tf.config.threading.get_intra_op_parallelism_threads()) or None
    if backend == "torch":  # which does not tell its own choice from a setting
        import torch

        return int(torch.get_num_threads())
    return None


def holds_gpu() -> str:
    """Tell why a child process would find no GPU memory: this one has taken it all; "" if not."""
    if "tensorflow" in sys.modules and _tensorflow_holds_gpu():
        return "TensorFlow has taken the GPU's memory in this process"
    if "jax" in sys.modules and _jax_holds_gpu():
        return "JAX has taken the GPU's memory in this process"
    return ""


def _tensorflow_holds_gpu() -> bool:
    import tensorflow as tf
    from tensorflow.python.eager import context

    # Whether it has begun is not told in public; asked in public, it begins.
    if not getattr(context.context(), "_initialized", False):
        return False
    gpus = tf.config.get_visible_devices("GPU")
    return any(not tf.config.experimental.get_memory_growth(gpu) for gpu in gpus)


def _jax_holds_gpu() -> bool:
    from jax._src import xla_bridge

    if not xla_bridge.backends_are_initialized() or kind_of("jax") != "gpu":
        return False
    return os.environ.get(PREALLOCATION, "true").lower() not in ("false", "0")
