"""Masks by a network: a small one that the test makes, which calls red what is the object."""

from __future__ import annotations

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.photos.network_masks import MaskNetwork

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")


def network(path, inputs: int = 3, outputs: int = 1):
    """A 1×1 convolution, 8 · red − 8 · green: logits."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((outputs, inputs, 1, 1), np.float32)
    weights[:, 0], weights[:, min(1, inputs - 1)] = 8.0, -8.0
    graph = helper.make_graph(
        [helper.make_node("Conv", ["picture", "weights"], ["map"], kernel_shape=[1, 1])],
        "red",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, inputs, 64, 64])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, outputs, 64, 64])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_a_mask_is_what_the_network_says(tmp_path):
    image = np.full((90, 120, 3), (40, 160, 60), np.uint8)
    image[30:60, 40:90] = (200, 30, 30)
    mask = MaskNetwork(network(tmp_path / "red.onnx")).mask(image)
    truth = np.zeros((90, 120), bool)
    truth[30:60, 40:90] = True
    assert mask.dtype == bool and (mask & truth).sum() / (mask | truth).sum() > 0.9


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "no such file"),
        (lambda path: path.write_bytes(b"no network") and path, "not a network of one picture"),
        (lambda path: network(path, inputs=4), "not a picture of"),
    ],
)
def test_what_is_no_such_network_is_one_line(tmp_path, make, says):
    with pytest.raises(StspbrError, match=says) as caught:
        MaskNetwork(make(tmp_path / "x.onnx"))
    assert "\n" not in str(caught.value)


def test_two_maps_are_not_one(tmp_path):
    with pytest.raises(StspbrError, match=r"it gives \[1, 2, 64, 64\]"):
        MaskNetwork(network(tmp_path / "two.onnx", outputs=2)).mask(np.zeros((20, 20, 3), np.uint8))
