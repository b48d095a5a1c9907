"""The model as OpenVINO's intermediate representation, run on the processor; needs no Keras."""

from __future__ import annotations

import functools
import threading
from collections import deque
from pathlib import Path
from typing import Any

from autotune.errors import EngineUnavailable, is_out_of_memory, one_line
from autotune.host import usable_cpus
from autotune.nesting import Array, Nested
from autotune.signature import Signature, Wiring

Ready = tuple[Any, deque[Any]]

HINTS = {"": "f32", "bfloat16": "bf16"}


class OpenVinoEngine:
    """Runs a batch through an OpenVINO infer request.

    Args:
        folder: An exported model: the `.xml` and `.bin` files and their signature.
        threads: Threads of one call; None for as many as this process may use processors.
        concurrency: How many calls will be in flight at once.
        precision: Lower precision that it may compute in; "" for none.

    Raises:
        EngineUnavailable: It cannot run the files.
        InvalidRecord: The folder holds no exported model.
    """

    compiles_per_shape = False
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
        self._compile = functools.partial(
            openvino.Core().compile_model, folder / signature.file, "CPU", settings
        )
        try:
            compiled = self._compile()
        except Exception as error:
            raise EngineUnavailable(
                f"The 'openvino' engine cannot open the exported model: {one_line(error, 200)}"
            ) from error
        places = {name: i for i, port in enumerate(compiled.inputs) for name in port.names}
        self._inputs = [places.get(port.name) for port in signature.inputs]
        self._outputs = range(len(signature.outputs))
        self._tensor = openvino.Tensor
        self._wiring = Wiring(signature)
        self._lock = threading.Lock()
        # What is compiled, and its requests that are free: to take one and to give it back are
        # atomic, and there are never more than calls were in flight at once.
        self._ready: Ready | None = (compiled, deque())

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        ready = self._ready or self._compile_again()
        compiled, free = ready
        try:
            request = free.pop()
        except IndexError:
            request = compiled.create_infer_request()
        try:
            outputs = self._run(request, self._wiring.take(batch))
        except Exception as error:
            if is_out_of_memory(error) and self._ready is ready:
                self._ready = None
            raise
        free.append(request)
        return self._wiring.give(outputs)

    def release(self, example: Nested) -> None:  # noqa: ARG002  other engines need one
        """Let go of the memory that it keeps for the next calls; none may be in flight."""
        if self._ready:
            compiled, _ = self._ready
            self._ready = compiled, deque()
            compiled.release_memory()

    def _compile_again(self) -> Ready:
        """After memory ran out, a compiled model may ask once more for what it did not get."""
        with self._lock:
            if self._ready is None:
                self._ready = (self._compile(), deque())
            return self._ready

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
        return [request.get_output_tensor(place).data.copy() for place in self._outputs]
