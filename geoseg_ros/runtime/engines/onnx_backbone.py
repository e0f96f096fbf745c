"""An ONNX backbone's file as an image engine: its own nodes, with layout and normalisation of the pixels added in front."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg_ros.backbones.onnx import OnnxBackbone


def surround(backbone: OnnxBackbone, source: str, outputs: tuple[str, str]) -> Any:
    """The file's model with one input float32 [V, H, W, 3], RGB 0..255, called ``source``, and two outputs as of
    :meth:`~geoseg_ros.backbones.base.ImageBackbone.tokens`: tokens [V, h, w, D] and their mean [V, D].

    Args:
        backbone: opened from the file. source, outputs: names; the file's own names get a prefix, so that none can clash.
    """
    import onnx
    from onnx import compose, helper, numpy_helper

    model = onnx.load(backbone.path)
    graph = compose.add_prefix_graph(model.graph, "file/")
    file_input, maps = f"file/{backbone.input_name}", [f"file/{name}" for name in backbone.output_names]
    constants = [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in (("mean", backbone.mean), ("deviation", backbone.deviation))
    ]
    front = [helper.make_node("Sub", [source, "mean"], ["centred"])]
    back = []
    if backbone.channels_first:
        front += [
            helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
            helper.make_node("Transpose", ["scaled"], [file_input], perm=[0, 3, 1, 2]),
        ]
    else:
        front.append(helper.make_node("Div", ["centred", "deviation"], [file_input]))
        back = [helper.make_node("Transpose", [name], [f"{name}/first"], perm=[0, 3, 1, 2]) for name in maps]
        maps = [f"{name}/first" for name in maps]
    back += [
        helper.make_node("Concat", maps, ["features"], axis=1),
        helper.make_node("Transpose", ["features"], [outputs[0]], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], [outputs[1]]),
    ]
    height, width = (fixed or axis for fixed, axis in zip(backbone.sides, ("height", "width"), strict=True))
    rows, columns = (side // backbone.stride if isinstance(side, int) else f"{side}_tokens" for side in (height, width))
    batch = backbone.batch or "batch"

    def tensor(name: str, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    joined = helper.make_graph(
        [*front, *graph.node, *back],
        "geoseg_ros",
        [tensor(source, batch, height, width, 3)],
        [tensor(outputs[0], batch, rows, columns, backbone.dim), tensor(outputs[1], batch, backbone.dim)],
        [*graph.initializer, *constants],
        sparse_initializer=graph.sparse_initializer,
    )
    result = helper.make_model(joined, opset_imports=model.opset_import, functions=model.functions)
    result.ir_version = model.ir_version
    return result
