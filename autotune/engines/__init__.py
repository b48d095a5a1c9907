"""Ways of running one batch, one file each, and the test that they agree with `keras`."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from autotune.errors import EngineUnavailable
from autotune.nesting import Nested
from autotune.parity import compare

if TYPE_CHECKING:
    import keras

    from autotune.exports import Exports

REFERENCE = "keras"
NAMES = ("keras", "compiled", "xla", "onnxruntime", "openvino")
BASELINE = "predict"  # what most people run: never a choice, only something to compare with
FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}
"""Engines that run an exported model, without Keras: the format of each, and its extra."""
REDUCIBLE = ("openvino",)
"""Engines that can compute in a lower precision than the model's own, where that is asked for."""


class Engine(Protocol):
    """Runs batches of any size through one model.

    Calling it with a batch (NumPy arrays nested as the sample is, shapes `(rows, ...)`) gives
    the outputs nested as `model.predict` gives them, as NumPy arrays that are ready: when the
    call returns, the device has finished.
    """

    thread_safe: bool
    """Whether calls from several threads at once give right answers."""

    compiles_per_shape: bool
    """Whether each new batch size costs a compilation."""

    survives_shortage: bool
    """Whether it may be called again after it ran out of memory."""

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        ...


@runtime_checkable
class Session(Engine, Protocol):
    """An engine that runs an exported model, and keeps memory for the next calls."""

    def release(self, example: Nested) -> None:
        """Let go of that memory; the next call takes it anew.

        Args:
            example: A batch as it will come, of few rows.
        """
        ...


def threads_are_the_process(name: str) -> bool:
    """Tell whether an engine's calls have the threads that the backend has in this process.

    All of a process's engines of that kind have the same number then, set before the first call;
    an engine that runs an exported model is told its own when it is built.
    """
    return name not in FORMATS


def formats_wanted(names: Sequence[str] | None) -> list[str]:
    """List the formats that engines run which are installed.

    Args:
        names: The engines; None for all.
    """
    wanted = [name for name in names or NAMES if name in FORMATS]
    return [FORMATS[name] for name in wanted if importlib.util.find_spec(name) is not None]


def build(
    name: str,
    model: keras.Model,
    example: Nested,
    *,
    threads: int | None = None,
    concurrency: int = 1,
    exports: Exports | None = None,
    precision: str = "",
) -> Engine:
    """Make an engine for a model.

    Args:
        name: One of `NAMES`, or `BASELINE`.
        model: The model, built.
        example: A batch as it will come: its nesting, shapes and dtypes.
        threads: Threads of one call, for an engine that runs an exported model; None for as many
            as there are processors for it.
        concurrency: How many calls will be in flight at once.
        exports: Where to take the exported model from, for an engine that runs one; None to
            export it to a temporary folder that goes with the engine.
        precision: Lower precision that it may compute in, if it is one of `REDUCIBLE`; "" for none.

    Raises:
        EngineUnavailable: There is no such engine, or it cannot run this model; the message
            says why in one sentence.
    """
    if threads is not None and threads_are_the_process(name):
        raise EngineUnavailable(f"The {name!r} engine has the threads of its process.")
    match name:
        case "keras":
            from autotune.engines.keras import KerasEngine

            return KerasEngine(model)
        case "compiled":
            from autotune.engines import compiled

            return compiled.build(model, example)
        case "xla":
            from autotune.engines import xla

            return xla.build(model, example)
        case "predict":
            from autotune.engines.predict import PredictEngine

            return PredictEngine(model)
    if name in FORMATS:
        _refuse_if_not_installed(name)
        if exports is None:
            return _build_apart(name, model, example, threads, concurrency, precision)
        folder = exports.folder_of(FORMATS[name])
        return open_exported(name, folder, threads, concurrency, precision)
    raise EngineUnavailable(f"There is no engine {name!r}; there are: {', '.join(NAMES)}.")


def open_exported(
    name: str,
    folder: Path,
    threads: int | None = None,
    concurrency: int = 1,
    precision: str = "",
) -> Session:
    """Make an engine from an exported model, without Keras.

    Args:
        name: One of `FORMATS`.
        folder: What `Exports.folder_of` returned, or a copy of it.
        threads: Threads of one call; None for as many as there are processors for it.
        concurrency: How many calls will be in flight at once.
        precision: Lower precision that it may compute in, if it is one of `REDUCIBLE`; "" for none.

    Raises:
        EngineUnavailable: The engine is not installed, or cannot run the files.
        InvalidRecord: The folder holds no exported model.
    """
    if name not in FORMATS:
        runs = ", ".join(FORMATS)
        raise EngineUnavailable(f"The {name!r} engine runs no exported model: {runs} do.")
    _refuse_if_not_installed(name)
    if name == "onnxruntime":
        from autotune.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(folder, threads, concurrency)
    from autotune.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(folder, threads, concurrency, precision)


def difference(got: Nested, expected: Nested, depth: int = 1) -> str | None:
    """Say in half a sentence where outputs are not those of the reference; None where they agree.

    `parity.compare` tells more, and what `depth` is.
    """
    return compare(got, expected, depth).complaint


def _build_apart(
    name: str,
    model: keras.Model,
    example: Nested,
    threads: int | None,
    concurrency: int,
    precision: str,
) -> Engine:
    from autotune.exports import Exports

    folder = Path(tempfile.mkdtemp(prefix="autotune-"))
    try:
        exported = Exports(model, example, folder).folder_of(FORMATS[name])
        engine = open_exported(name, exported, threads, concurrency, precision)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(engine, shutil.rmtree, folder, ignore_errors=True)
    return engine


def why_not_installed(name: str) -> str:
    """Say what must be installed for an engine that runs an exported model; "" where it is."""
    if importlib.util.find_spec(name) is not None:
        return ""
    return (
        f"The {name!r} engine needs a package that is not installed: "
        f"pip install 'keras-autotune[{FORMATS[name]}]'."
    )


def _refuse_if_not_installed(name: str) -> None:
    """Refuse before an export is made for nothing."""
    if why := why_not_installed(name):
        raise EngineUnavailable(why)
