"""Where a predictor's engines come from: a Keras model, or an exported model without Keras."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from autotune import backends, engines
from autotune.engines import Engine, Session
from autotune.errors import EngineUnavailable, InvalidSample
from autotune.fingerprint import Here, look_around
from autotune.nesting import Array, Nested, flatten, revive
from autotune.outcomes import Candidate
from autotune.signature import Signature, layout_of
from autotune.workload import Spec

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("autotune")


class Source(Protocol):
    """Makes engines for one model."""

    @property
    def model(self) -> keras.Model:
        """The Keras model; opened when first asked for."""
        ...

    def why_not(self, way: Candidate) -> str:
        """Say why batches cannot be run that way in this process; "" where they can.

        Where that hangs on a setting that can still be made, it is made.
        """
        ...

    def open(self) -> Sequence[Spec]:
        """Open what runs batches, and return its inputs; none where it does not tell."""
        ...

    def look_around(self) -> Here:
        """Look at what runs batches here."""
        ...

    def build(self, way: Candidate, example: Nested) -> Engine:
        """Make what runs batches that look like the example."""
        ...


class KerasSource:
    """A Keras model.

    Args:
        open_model: Opens it.
        exports: A folder that holds what the tuner exported of it, each format in its own.
        precision: Lower precision that engines may compute in; "" for none.
    """

    def __init__(
        self,
        open_model: Callable[[], keras.Model],
        exports: Path | None = None,
        precision: str = "",
    ) -> None:
        self._open_model = open_model
        self._exports = exports
        self._precision = precision
        self._model: keras.Model | None = None
        self._lock = threading.RLock()

    @property
    def model(self) -> keras.Model:
        """The Keras model; opened when first asked for."""
        with self._lock:
            if self._model is None:
                self._model = self._open_model()
            return self._model

    def why_not(self, way: Candidate) -> str:
        """Say why batches cannot be run that way here; sets the backend's threads if it can."""
        if not engines.threads_are_the_process(way.engine):
            return engines.why_not_installed(way.engine)
        if way.threads is None or backends.set_threads(way.threads):
            return ""
        return f"The threads of one call cannot be set to {way.threads} in this process any more."

    def open(self) -> Sequence[Spec]:
        """Open the model, and return its inputs."""
        from autotune.models import input_specs

        return input_specs(self.model)

    def look_around(self) -> Here:
        """Look at what runs Keras here."""
        return look_around()

    def build(self, way: Candidate, example: Nested) -> Engine:
        """Make the engine; the reference in its place, with a warning, where it cannot be had."""
        try:
            return self._build(way, example)
        except EngineUnavailable as error:
            _log.warning("%s Using 'keras' in its place.", error)
            return engines.build(engines.REFERENCE, self.model, example)

    def _build(self, way: Candidate, example: Nested) -> Engine:
        if engines.threads_are_the_process(way.engine):
            return engines.build(way.engine, self.model, example)
        if self._exports is not None:
            folder = self._exports / engines.FORMATS[way.engine]
            if folder.is_dir() and Signature.load(folder).input_layout == layout_of(example):
                return engines.open_exported(
                    way.engine, folder, way.threads, way.concurrency, self._precision
                )
        return engines.build(
            way.engine,
            self.model,
            example,
            threads=way.threads,
            concurrency=way.concurrency,
            precision=self._precision,
        )


class ExportedSource:
    """An exported model: Keras is imported only if somebody asks for the model itself.

    Args:
        folder: What `Exports.folder_of` made, or a copy of it.
        inputs: The model's inputs.
        open_model: Opens the Keras model.
        precision: Lower precision that engines may compute in; "" for none.
    """

    def __init__(
        self,
        folder: Path,
        inputs: Sequence[Spec],
        open_model: Callable[[], keras.Model],
        precision: str = "",
    ) -> None:
        self._folder = folder
        self._inputs = inputs
        self._precision = precision
        self._layout = Signature.load(folder).input_layout
        self._of_keras = KerasSource(open_model)

    @property
    def model(self) -> keras.Model:
        """The Keras model; opened when first asked for."""
        return self._of_keras.model

    def why_not(self, way: Candidate) -> str:
        """Say why batches cannot be run that way here."""
        return engines.why_not_installed(way.engine)

    def open(self) -> Sequence[Spec]:
        """Return the model's inputs."""
        return self._inputs

    def look_around(self) -> Here:
        """Look at the processor."""
        return look_around(backend="")

    def build(self, way: Candidate, example: Nested) -> Engine:
        """Open the exported model.

        Raises:
            InvalidSample: The example is nested in a way that cannot be brought into the one
                that was exported.
        """
        engine = engines.open_exported(
            way.engine, self._folder, way.threads, way.concurrency, self._precision
        )
        if layout_of(example) == self._layout:
            return engine
        return _Rearranged(engine, self._layout, [spec.name for spec in self._inputs])


class _Rearranged:
    """Brings inputs into the nesting that was exported: by name, or in the model's order."""

    def __init__(self, engine: Session, layout: object, names: Sequence[str]) -> None:
        self.thread_safe = engine.thread_safe
        self.compiles_per_shape = engine.compiles_per_shape
        self.survives_shortage = engine.survives_shortage
        self._engine = engine
        self._layout = layout
        self._names = names
        nesting = revive(layout, lambda place: place)
        keys = list(nesting) if isinstance(nesting, dict) else names
        places = nesting.values() if isinstance(nesting, dict) else flatten(nesting)[0]
        self._place_of = dict(zip(keys, places, strict=False))

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        return self._engine(self._arranged(batch))

    def release(self, example: Nested) -> None:
        """Let go of the memory that the session keeps."""
        self._engine.release(self._arranged(example))

    def _arranged(self, batch: Nested) -> Nested:
        arrays: dict[int, Array] = {}
        leaves = flatten(batch)[0]
        if len(leaves) == len(self._place_of) == 1:  # its name is decoration, as to Keras
            return revive(self._layout, lambda _: leaves[0])
        named = (
            batch
            if isinstance(batch, dict)
            else dict(zip(self._names, flatten(batch)[0], strict=False))
        )
        for name, array in named.items():
            if name not in self._place_of or not hasattr(array, "dtype"):
                raise InvalidSample(
                    "The exported model takes its inputs nested as they were when it was tuned: "
                    f"{', '.join(self._place_of)}. Give them so."
                )
            arrays[self._place_of[name]] = array
        return revive(self._layout, arrays.__getitem__)
