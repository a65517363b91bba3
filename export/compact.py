"""An FP32 graph that stores its weights as float16 where that loses nothing.

Weights that were saved in half precision are float32 numbers with float16 values. Stored as float16 behind a Cast they take
half the file; every runtime folds the Cast into a constant when it loads the graph, and computes what it computed before.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

LEAST_ELEMENTS = 64
"""A smaller tensor is not worth a node."""


def compact(model: ir.Model) -> ir.Model:
    """A copy of ``model`` whose float32 initialisers are float16 behind a Cast, those that float16 holds exactly.

    Raises nothing: what would change by a bit stays as it is.
    """
    graph = (model := model.clone()).graph
    for value in list(graph.initializers.values()):
        if value.dtype != ir.DataType.FLOAT or value.const_value is None:
            continue
        weights = value.const_value.numpy()
        with np.errstate(over="ignore"):
            halves = weights.astype(np.float16)
        if weights.size < LEAST_ELEMENTS or not np.array_equal(halves.astype(np.float32), weights):
            continue
        name = f"{value.name}_stored"
        stored = ir.Value(
            name=name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT16), const_value=ir.tensor(halves, name=name)
        )
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT.value}, name=f"{value.name}_restored")
        restored = cast.outputs[0]
        restored.name, restored.dtype, restored.shape = f"{value.name}_restored", ir.DataType.FLOAT, value.shape
        graph.initializers.add(stored)
        for user, index in list(value.uses()):
            user.replace_input_with(index, restored)
        graph.insert_before(graph[0], cast)
        del graph.initializers[value.name or ""]
    return model
