"""The model as an ONNX file, run by ONNX Runtime on the processor; needs no Keras."""

from __future__ import annotations

from pathlib import Path

from autotune.errors import EngineUnavailable, one_line
from autotune.host import usable_cpus
from autotune.nesting import Array, Nested
from autotune.signature import Signature, Wiring


class OnnxRuntimeEngine:
    """Runs a batch through one ONNX Runtime session.

    Args:
        folder: An exported model: the ONNX file and its signature.
        threads: Threads of one call; None for as many as this process may use processors.
        concurrency: How many calls will be in flight at once.

    Raises:
        EngineUnavailable: It cannot run the file.
        InvalidRecord: The folder holds no exported model.
    """

    compiles_per_shape = False
    survives_shortage = True
    thread_safe = True  # run() of one session may be called from many threads

    def __init__(self, folder: Path, threads: int | None = None, concurrency: int = 1) -> None:
        import onnxruntime

        signature = Signature.load(folder)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong comes as an exception
        each = threads or max(1, usable_cpus() // concurrency)
        # The caller works too, and all calls share the session's other threads.
        options.intra_op_num_threads = concurrency * (each - 1) + 1
        options.inter_op_num_threads = 1
        # A thread that spins while it waits for work takes the processor from other calls and
        # other tenants: on two busy cores it cost a third to four fifths of the speed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                folder / signature.file, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise EngineUnavailable(
                f"The 'onnxruntime' engine cannot open the exported model: {one_line(error, 200)}"
            ) from error
        self._run = session.run
        self._shrink = onnxruntime.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._inputs = [port.name for port in signature.inputs]
        self._outputs = [port.name for port in signature.outputs]
        self._wiring = Wiring(signature)

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch."""
        return self._wiring.give(self._run(self._outputs, self._feed(batch)))

    def release(self, example: Nested) -> None:
        """Let go of the memory that it keeps for the next calls: at the end of a call it can."""
        self._run(self._outputs, self._feed(example), self._shrink)

    def _feed(self, batch: Nested) -> dict[str | None, Array]:
        feed = dict(zip(self._inputs, self._wiring.take(batch), strict=True))
        feed.pop(None, None)  # what the file does not use
        return feed
