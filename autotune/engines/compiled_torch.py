"""What Keras's layers ask of PyTorch, written down once as a graph for all batch sizes.

On PyTorch Keras runs a model layer by layer in Python, which takes nearly all the time of a small
batch. `torch.export` follows that once, and what it wrote down is run. The graph shares the memory
of the model's variables, so that it follows `set_weights`.

A model that cannot be exported is refused. `torch.compile` would take some, but it compiles in C++
(17 s for two dense layers), and anew in the midst of production when a shape is new to it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from autotune.errors import EngineUnavailable, one_line
from autotune.nesting import Array, Nested

if TYPE_CHECKING:
    import keras

# No axis of a row is likely to be as long, and be taken for that of the rows; 1 is taken for a
# constant.
TRACED_ROWS = 7


class CompiledOnTorch:
    """Runs a batch through an exported graph.

    Args:
        model: The model; it must predict as Keras does, not by a method of its own.
        example: A batch: its nesting, dtypes and the shapes of its rows are built in.

    Raises:
        EngineUnavailable: PyTorch cannot export the model for every batch size.
    """

    thread_safe = True
    compiles_per_shape = False
    survives_shortage = True

    def __init__(self, model: keras.Model, example: Nested) -> None:
        import keras
        import torch

        self._torch = torch
        self._convert = keras.ops.convert_to_tensor
        leaves, nesting = optree.tree_flatten(example)
        rows = [np.repeat(leaf[:1], TRACED_ROWS, axis=0) for leaf in leaves]
        self._dtypes = [leaf.dtype for leaf in leaves]
        try:
            tensors = [self._convert(leaf) for leaf in rows]
            self._device = tensors[0].device
            self._shared = [_is_plain(*pair) for pair in zip(rows, tensors, strict=True)]
            forward, self._structure = _forward_of(model, nesting, tensors)
            self._run = _lean(_exported(forward, tensors, _free_axes(model, tensors)))
        except Exception as error:
            raise EngineUnavailable(
                f"The 'compiled' engine cannot export this model: {_reason(error)}"
            ) from error

    def __call__(self, batch: Nested) -> Nested:
        """Run one batch.

        Raises:
            ValueError: It has other dtypes than the example.
        """
        leaves = [batch] if isinstance(batch, np.ndarray) else optree.tree_leaves(batch)
        with self._torch.inference_mode():
            outputs = self._run(*map(self._tensor, leaves, self._dtypes, self._shared))
            return self._structure.unflatten([self._array(output) for output in outputs])

    def _tensor(self, leaf: Array, dtype: Any, shared: bool) -> Any:
        if leaf.dtype != dtype:  # the graph would take it, and give another dtype
            raise ValueError(f"Rows are {leaf.dtype}, but this engine was made for {dtype}.")
        if shared and leaf.flags.carray:  # else PyTorch warns or refuses
            return self._torch.from_numpy(leaf).to(self._device)
        return self._convert(leaf)

    def _array(self, tensor: Any) -> Array:
        """Copy an output into an array; on a GPU, that waits for it."""
        if tensor.dtype is self._torch.bfloat16:  # NumPy has none of its own
            import ml_dtypes

            brain: Array = tensor.float().cpu().numpy().astype(ml_dtypes.bfloat16)
            return brain
        there = tensor.cpu()
        array: Array = there.numpy()
        # On a CPU it may be an input or a weight.
        return array.copy() if there is tensor else array


def _is_plain(rows: Array, tensor: Any) -> bool:
    """Whether PyTorch reads such an array as it is, and as Keras would convert it."""
    import torch

    try:
        return bool(torch.from_numpy(rows[:0]).dtype == tensor.dtype)
    except TypeError:
        return False


def _forward_of(
    model: keras.Model, nesting: optree.PyTreeSpec, tensors: list[Any]
) -> tuple[Any, optree.PyTreeSpec]:
    """Return the model as a module from tensors to a tuple of tensors, and how to nest those.

    Raises:
        ValueError: It gives something else.
    """
    import torch

    keywords = {"training": False} if model._call_has_training_arg else {}

    def forward(*arrays: Any) -> tuple[Any, ...]:
        outputs = model(nesting.unflatten(arrays), **keywords)
        return tuple(optree.tree_leaves(outputs, none_is_leaf=True))

    module: Any = torch.nn.Module()
    module.model, module.forward = model, forward
    with torch.no_grad():  # this builds a model that is not built yet
        outputs = model(nesting.unflatten(tensors), **keywords)
    leaves, structure = optree.tree_flatten(outputs, none_is_leaf=True)
    if not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise ValueError("an output is no dense tensor.")
    return module, structure


def _free_axes(model: keras.Model, tensors: list[Any]) -> list[set[int]]:
    """For each input, the rows' axis and the axes of a row that the model leaves free."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != len(tensors):
        return [{0} for _ in tensors]
    free = {i for t in inputs for i, size in enumerate(t.shape) if size is None}
    return [{0, *(i for i in free if i < tensor.ndim)} for tensor in tensors]


def _exported(forward: Any, tensors: list[Any], free: list[set[int]]) -> Any:
    """Export a module, and see that the graph holds for every number of rows.

    Raises:
        ValueError: It holds for some only.
    """
    import torch

    dynamic = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            forward, tuple(tensors), dynamic_shapes={"arrays": dynamic}, strict=False
        )
    module = program.module()
    for node in module.graph.find_nodes(op="placeholder"):
        bounds = program.range_constraints.get(node.meta["val"].shape[0].node.expr)
        # None: of an input that is not used. 0 and 1 are never told apart from 2.
        if bounds is not None and (bounds.lower > 2 or bounds.upper < 2**31):
            raise ValueError("what it does depends on the number of rows.")
    return module


def _reason(error: Exception) -> str:
    text = one_line(error, 200)
    if "as dynamic but your code specialized it" in str(error):  # a page on flags of PyTorch
        return "its graph would hold for one number of rows, or one length of them, only."
    return text.removeprefix("ValueError: ")


def _lean(module: Any) -> Any:
    """Take out of an exported graph what does nothing: three quarters of a small model's time.

    That is checks of dtypes, which are known, conversions to the same dtype and device, and the
    nesting of arguments and outputs.
    """
    import torch

    graph, aten = module.graph, torch.ops.aten
    for node in list(graph.nodes):
        if node.target is aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target in (aten.to.dtype, aten.to.dtype_layout, aten.to.device):
            copies = len(node.args) > 3 or {"copy", "memory_format"} & node.kwargs.keys()
            if not copies and _is_same_kind(node.args[0].meta.get("val"), node.meta["val"]):
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
    graph.set_codegen(torch.fx.graph.CodeGen())
    return torch.fx.GraphModule(module, graph)


def _is_same_kind(a: Any, b: Any) -> bool:
    return a is not None and bool(
        a.dtype == b.dtype and a.device == b.device and a.layout == b.layout
    )
