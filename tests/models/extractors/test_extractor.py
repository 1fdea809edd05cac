"""The ONNX extractor: its features, hostile files that are refused, and a client without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.errors import DamagedBundle, InputError, TrainingError
from models.extractors import graph_checks
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.export import export
from models.extractors.extractor import Extractor
from models.extractors.graph_checks import check_graph, count_products
from tests.models.kit import filled, graph_model, png, small_extractor

PIXELS = (np.arange(5 * 64).reshape(5, 1, 8, 8) % 17 / 8 - 1).astype(np.float32)


def test_extractor_computes_the_graph() -> None:
    maps = torch.nn.functional.conv2d(
        torch.from_numpy(PIXELS), torch.from_numpy(filled((2, 1, 3, 3), 1).astype(np.float32)), stride=2, padding=1
    )
    flat = torch.relu(maps).flatten(1).numpy()
    expected = 4 * np.tanh(flat @ (filled((16, 32), 2) / 4).T + filled((16,), 3))
    np.testing.assert_allclose(small_extractor().run(PIXELS), expected, atol=1e-5)


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 3}, {"nhwc": True}, {"nhwc": True, "batch": 4}])
def test_fixed_batch_and_nhwc_layout_give_equal_features(options: dict[str, int]) -> None:
    extractor = small_extractor(**options)
    assert (extractor.channels, extractor.size, extractor.width) == (1, 8, 16)
    np.testing.assert_allclose(extractor.run(PIXELS), small_extractor().run(PIXELS), atol=1e-6)
    assert (
        Extractor.from_bundle(extractor.to_json(), {"extractor.onnx": extractor.to_tensor()}).layout == extractor.layout
    )


def test_products_are_counted() -> None:
    assert count_products(small_extractor().content) == 4 * 4 * 2 * 9 + 32 * 16
    assert count_products(small_extractor(batch=3).content) == 4 * 4 * 2 * 9 + 32 * 16


def test_input_of_another_shape_and_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected \(N, 1, 8, 8\)"):
        small_extractor().run(np.zeros((2, 1, 9, 9), dtype=np.float32))
    with pytest.raises(InputError, match="not finite"):
        small_extractor(scale=float("nan")).run(PIXELS)
    with pytest.raises(InputError, match="not finite"):
        small_extractor(scale=float("inf")).run(PIXELS)


# What is refused


def _node(kind: str, inputs: list[str], outputs: list[str], **more: object) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node.append(helper.make_node(kind, inputs, outputs, **more))


def _branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["features"], ["more"], then_branch=inner, else_branch=inner))


def _loop(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "", "features"], ["more"], body=inner))


def _hidden_graph(model: onnx.ModelProto) -> None:
    """A graph that is an attribute of an allowed operator."""
    attribute = helper.make_attribute("extra", helper.make_graph([], "inner", [], []))
    model.graph.node[0].attribute.append(attribute)


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "features"


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _huge(model: onnx.ModelProto) -> None:
    shape = numpy_helper.from_array(np.array([1, 1 << 20, 1 << 12], dtype=np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["big"]))


def _huge_by_doubling(model: onnx.ModelProto) -> None:
    last = "images"
    for step in range(30):
        model.graph.node.insert(step, helper.make_node("Concat", [last, last], [f"d{step}"], axis=1))
        last = f"d{step}"


def _huge_outer_product(model: onnx.ModelProto) -> None:
    for name, shape in (("tall", (200_000, 1)), ("wide", (1, 200_000))):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, dtype=np.float32), name))
    model.graph.node.insert(0, helper.make_node("MatMul", ["tall", "wide"], ["outer"]))


def _announced(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 31, 1 << 31])


def _unknown_size(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["count"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", ["count", "axis"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "axis"))


def _foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[1].domain = "com.microsoft"


def _function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("own", "f", ["x"], ["x"], [], [helper.make_opsetid("", 18)]))


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def _two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 1]))


def _two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["batch", 32]))


def _open_sides(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def _integers(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


HOSTILE: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "a branch": (_branch, "a loop or a branch"),
    "a loop": (_loop, "a loop or a branch"),
    "a graph on an allowed operator": (_hidden_graph, "a loop or a branch"),
    "a cycle": (_cycle, "no valid ONNX network"),
    "external data": (_external, "lies in a file of its own"),
    "a huge constant": (_huge, "numbers for one image|ConstantOfShape"),
    "doubling": (_huge_by_doubling, "numbers for one image|no valid"),
    "an outer product": (_huge_outer_product, "numbers for one image"),
    "a tensor of announced size": (_announced, "announces"),
    "a size that an image decides": (_unknown_size, "not known beforehand|no valid"),
    "an operator of another domain": (_foreign, "'com.microsoft'"),
    "a random operator": (_node("RandomNormalLike", ["images"], ["noise"]), "RandomNormalLike"),
    "an operator that writes": (_node("StringNormalizer", ["images"], ["text"]), "StringNormalizer"),
    "a function": (_function, "functions"),
    "an old opset": (_opset(7), "opset 7"),
    "a coming opset": (_opset(99), "opset 99"),
    "two inputs": (_two_inputs, "takes 2 inputs"),
    "two outputs": (_two_outputs, "has 2 outputs"),
    "open sides": (_open_sides, "only the first may be left open"),
    "whole numbers": (_integers, "float32"),
    "no nodes": (lambda model: model.graph.ClearField("node"), "no nodes"),
    "a name that nothing gives": (lambda model: model.graph.node[1].input.__setitem__(0, "nowhere"), "no valid"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_network_is_refused_before_it_runs(name: str) -> None:
    change, message = HOSTILE[name]
    model = graph_model()
    change(model)
    with pytest.raises(DamagedBundle, match=message) as caught:
        Extractor(model.SerializeToString())
    assert "\n" not in str(caught.value)


def test_a_network_of_too_many_bytes_nodes_or_products_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = small_extractor().content
    for limit, message in (("MAX_BYTES", "bytes"), ("MAX_NODES", "nodes"), ("MAX_PRODUCTS", "multiplies")):
        with monkeypatch.context() as patch:
            patch.setattr(graph_checks, limit, 3)
            with pytest.raises(DamagedBundle, match=message):
                check_graph(content)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 255), st.integers(0, 5000))
def test_a_changed_or_cut_file_ends_in_one_line_or_a_network(place: int, value: int, cut: int) -> None:
    content = bytearray(small_extractor().content)
    content[place % len(content)] = value
    for data in (bytes(content), bytes(content[: cut % len(content)])):
        try:
            Extractor(data).run(PIXELS)
        except (DamagedBundle, InputError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - a network that still works is as right


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 8}, "gives 8 features"), ({"width": 5000}, "gives 5000"), ({"channels": 2}, "2 channels")],
)
def test_a_network_of_another_kind_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(DamagedBundle, match=message):
        small_extractor(**options)


# Export


def test_an_exported_network_is_the_trained_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Cnn(CnnConfig(in_channels=1, size=28, width=32, channels=(4, 8)))
        for _ in range(3):
            network(torch.randn(16, 1, 28, 28))
    images = np.random.default_rng(0).normal(size=(9, 1, 28, 28)).astype(np.float32)
    extractor = export(network, channels=1, size=28, images=images)
    with torch.inference_mode():
        np.testing.assert_allclose(extractor.run(images), network.eval()(torch.from_numpy(images)).numpy(), atol=1e-5)
    text = extractor.content.decode("latin-1")
    assert ".py" not in text
    assert "/" not in "".join(node.name for node in onnx.load_from_string(extractor.content).graph.node)


class _ByChance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.flatten(1)) + torch.rand(1)


class _ByValue(_ByChance):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.flatten(1)) if x.sum() > 0 else self.out(-x.flatten(1))


class _Together(_ByChance):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out((x - x.mean(dim=0)).flatten(1))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_ByChance(), "RandomUniform|other features"),
        (_ByValue(), "cannot be exported"),
        (_Together(), "depend on the images beside it"),
    ],
)
def test_a_network_that_cannot_be_trusted_is_not_exported(module: nn.Module, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        export(module, channels=1, size=8)


# The client


def test_a_client_extracts_features_and_judges_them_without_torch(tmp_path: Path) -> None:
    png(tmp_path / "a.png", np.arange(400).reshape(20, 20).astype(np.uint8))
    (tmp_path / "e.onnx").write_bytes(small_extractor().content)
    code = f"""
import sys
for name in ("torch", "sklearn", "scipy", "onnxscript", "skl2onnx"):
    sys.modules[name] = None
from pathlib import Path
import he_infer.cli
import he_infer.client.images.decoder
import he_infer.client.run
from he_infer import Client
from he_infer.publication.parts import ClientPart
from models.card import check_kind
from models.bundle import Bundle
from models.extractors.extractor import Extractor
from models.feature_model import FeatureModel
from models.images.load import load_frames
from models.images.preprocessing import Preprocessing
model = FeatureModel(Preprocessing.plain(8, 1), Extractor(Path({str(tmp_path / "e.onnx")!r}).read_bytes()), 4.0)
print(model.features([image.pixels for image in load_frames({str(tmp_path / "a.png")!r})]).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 16)"
