"""The model as OpenVINO's intermediate representation, run on the processor; needs no Keras."""

from __future__ import annotations

import functools
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from autotune.errors import EngineUnavailable, is_out_of_memory, one_line
from autotune.host import usable_cpus
from autotune.joining import copy_of
from autotune.nesting import Array, Nested
from autotune.signature import Signature, Wiring, is_worth_programs

HINTS = {"": "f32", "bfloat16": "bf16"}
MOST_PROGRAMS = 16  # that are kept

Shapes = tuple[tuple[int, ...], ...]  # of a batch's arrays
ANY: Shapes = ()


class OpenVinoEngine:
    """Runs a batch through an OpenVINO infer request.

    Where weights are light and no length is free, it is that of a program for batches of its size:
    one for any size is slower by a tenth, and each time that the size changes by a millisecond or
    two for a net of sixty layers (docs/engines.md). But each has its own copy of the weights.

    Args:
        folder: An exported model: the `.xml` and `.bin` files and their signature.
        threads: Threads of one call; None for as many as this process may use processors.
        concurrency: How many calls will be in flight at once.
        precision: Lower precision that it may compute in; "" for none.

    Raises:
        EngineUnavailable: It cannot open the files.
        InvalidRecord: The folder holds no exported model.
    """

    survives_shortage = True
    thread_safe = True  # each call has a request of its own

    def __init__(
        self,
        folder: Path,
        threads: int | None = None,
        concurrency: int = 1,
        precision: str = "",
    ) -> None:
        import openvino

        signature = Signature.load(folder)
        each = threads or max(1, usable_cpus() // concurrency)
        settings = {
            "NUM_STREAMS": concurrency,  # calls beyond it wait for one another
            "INFERENCE_NUM_THREADS": concurrency * each,
            # Where the processor has bfloat16, OpenVINO takes it unasked: errors near 1 percent.
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }
        core = openvino.Core()
        self._compile = functools.partial(core.compile_model, device_name="CPU", config=settings)
        self._outputs = range(len(signature.outputs))
        self._tensor = openvino.Tensor
        self._wiring = Wiring(signature)
        self._lock = threading.Lock()
        self._programs: dict[Shapes, _Program] = {}
        file = folder / signature.file
        try:
            self._model = core.read_model(file)
            places = {name: i for i, port in enumerate(self._model.inputs) for name in port.names}
            self._inputs = [places.get(port.name) for port in signature.inputs]
            self.compiles_per_shape = is_worth_programs(
                file.with_suffix(".bin").stat().st_size, [port.shape for port in signature.inputs]
            )
            if not self.compiles_per_shape:
                self._program_for(ANY)
        except Exception as error:
            raise EngineUnavailable(
                f"The 'openvino' engine cannot open the exported model: {one_line(error, 200)}"
            ) from error

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        leaves = self._wiring.take(batch)
        if not len(leaves[0]):
            one = [np.zeros((1, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
            return self._wiring.give([output[:0] for output in self._answer(one)])
        return self._wiring.give(self._answer(leaves))

    def release(self, example: Nested) -> None:  # noqa: ARG002  other engines need one
        """Let go of the memory that it keeps for the next calls; none may be in flight."""
        for program in self._programs.values():
            program.free.clear()
            program.compiled.release_memory()

    def _answer(self, leaves: list[Array]) -> list[Array]:
        shapes = tuple(leaf.shape for leaf in leaves) if self.compiles_per_shape else ANY
        program = self._programs.get(shapes) or self._program_for(shapes)
        try:
            request = program.free.pop()
        except IndexError:
            request = program.compiled.create_infer_request()
        try:
            outputs = self._run(request, leaves)
        except Exception as error:
            if is_out_of_memory(error):  # it may ask once more for what it did not get
                self._programs.pop(shapes, None)
            raise
        program.free.append(request)
        return outputs

    def _program_for(self, shapes: Shapes) -> _Program:
        """Compile the model for batches of a shape, or of any; forget the oldest of many."""
        with self._lock:
            if shapes not in self._programs:
                model = self._model.clone()
                if shapes != ANY:
                    pairs = zip(self._inputs, shapes, strict=True)
                    # What has no place is not used by the file.
                    model.reshape({n: list(shape) for n, shape in pairs if n is not None})
                program = _Program(self._compile(model))
                if len(self._programs) >= MOST_PROGRAMS:
                    self._programs.pop(next(iter(self._programs)))
                self._programs[shapes] = program
            return self._programs[shapes]

    def _run(self, request: Any, leaves: list[Array]) -> list[Array]:
        for place, leaf in zip(self._inputs, leaves, strict=True):
            if place is not None:  # else the file does not use it
                # It may share no memory that cannot be written to, such as that of a mapped file.
                shared = leaf if leaf.flags.writeable else leaf.copy()
                request.set_input_tensor(place, self._tensor(shared, shared_memory=True))
        # Not infer(): where memory runs out, that may say nothing and leave the outputs of an
        # earlier call (measured with OpenVINO 2026.4; the test of a shortage holds it).
        request.start_async()
        request.wait()
        # Copied, because the next call writes to the same memory.
        return [copy_of(request.get_output_tensor(place).data) for place in self._outputs]


class _Program:
    """What is compiled, and its requests that are free.

    To take one and to give it back are atomic, and there are never more than calls were in flight
    at once.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.free: deque[Any] = deque()
