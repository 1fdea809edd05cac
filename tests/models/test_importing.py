"""A user's own ONNX extractor and head: accepted files, bounded features, and refused files."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from he_infer.cli import app
from models.bundle import Bundle
from models.card import decide
from models.datasets import load
from models.errors import BundleError, DamagedBundle, HeadError, InputError
from models.extractors.extractor import Extractor
from models.extractors.opset import raise_opset
from models.heads.from_onnx import from_onnx
from models.heads.from_sklearn import from_sklearn
from models.importing import BOUND, Normalisation, guess_layout, import_model
from models.metrics import figures, softmax
from tests.models.kit import graph_model, npz, one_against_the_rest, small_extractor, split, toy


def raw_network(**options: Any) -> bytes:
    """A network of 16 features that are neither bounded nor standardised."""
    model = graph_model(size=16, **options)
    del model.graph.node[-2:]
    model.graph.output[0].name = "projected"
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("options", [{}, {"nhwc": True}, {"batch": 5}])
def test_imported_extractor_is_standardised_and_bounded_and_gets_a_head(
    options: dict[str, Any], tmp_path: Path
) -> None:
    dataset, seen = toy(), []
    bundle = import_model(
        raw_network(**options), dataset, head="linear", progress=lambda done, total: seen.append(done)
    )
    assert seen[-1] == 192 + 48
    features = bundle.features(dataset.train.images)
    assert np.abs(features).max() < BOUND
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.2)
    assert figures(dataset.test.labels, bundle.scores(bundle.features(dataset.test.images))).auc > 0.8
    assert bundle.guard is not None
    bundle.save(tmp_path / "own.hebundle")
    np.testing.assert_array_equal(Bundle.load(tmp_path / "own.hebundle").features(dataset.train.images), features)


def _mean_of_all(model: ModelProto) -> None:
    """Take the mean over the images, which leaves one row of features."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "axes"))
    model.graph.node.append(helper.make_node("ReduceMean", ["projected", "axes"], ["features"], keepdims=1))
    model.graph.output[0].name = "features"


def _less_the_mean(model: ModelProto) -> None:
    _mean_of_all(model)
    model.graph.node[-1].output[0] = "mean"
    model.graph.node.append(helper.make_node("Sub", ["projected", "mean"], ["features"]))


def _softmax_over_images(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Softmax", ["projected"], ["features"], axis=0))
    model.graph.output[0].name = "features"


def _in_training_mode(model: ModelProto) -> None:
    for name, value in (("one", 1), ("none", 0), ("mean", 0), ("variance", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.full(16, value, dtype=np.float32), name))
    model.graph.node.append(
        helper.make_node(
            "BatchNormalization",
            ["projected", "one", "none", "mean", "variance"],
            ["features", "new mean", "new variance"],
            training_mode=1,
        )
    )
    model.graph.output[0].name = "features"


def _first_image_alone(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "first"))
    model.graph.node.append(helper.make_node("Gather", ["projected", "first"], ["features"], axis=0))
    model.graph.output[0].name = "features"


def _next_image(model: ModelProto) -> None:
    """The features of the image before, which are right if one image comes alone."""
    for name, value in (("last", -1), ("end", 1 << 40), ("start", 0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.int64), name))
    model.graph.node.extend(
        [
            helper.make_node("Slice", ["projected", "last", "end", "start"], ["tail"]),
            helper.make_node("Slice", ["projected", "start", "last", "start"], ["head"]),
            helper.make_node("Concat", ["tail", "head"], ["features"], axis=0),
        ]
    )
    model.graph.output[0].name = "features"


@pytest.mark.parametrize("batch", ["batch", 5])
@pytest.mark.parametrize(
    "change",
    [_mean_of_all, _less_the_mean, _softmax_over_images, _in_training_mode, _first_image_alone, _next_image],
)
def test_network_that_does_not_treat_each_image_by_itself_is_refused(
    change: Callable[[ModelProto], None], batch: int | str
) -> None:
    model = ModelProto.FromString(raw_network(batch=batch))
    change(model)
    with pytest.raises((DamagedBundle, InputError), match=r"for inference|output is no"):
        import_model(model.SerializeToString(), toy(), head="linear")


def test_given_normalisation_is_applied() -> None:
    bundle = import_model(raw_network(), toy(), head="linear", normalisation=Normalisation((0.5,), (0.25,)))
    assert (bundle.preprocessing.mean, bundle.preprocessing.std) == ((0.5,), (0.25,))
    with pytest.raises(InputError, match="Invalid preprocessing"):
        import_model(raw_network(), toy(), normalisation=Normalisation((0.5, 0.5), (0.25, 0.25)))


def test_normalisation_file_states_mean_std_white_and_layout(tmp_path: Path) -> None:
    file = tmp_path / "input.toml"
    file.write_text("mean = [127.5]\nstd = [51]\nwhite = 255\nlayout = 'NHWC'")
    assert Normalisation.load(file) == (Normalisation((0.5,), (0.2,)), "NHWC")
    file.write_text("mean = [0.5]\nstd = [0.25]")
    assert Normalisation.load(file) == (Normalisation((0.5,), (0.25,)), None)


@pytest.mark.parametrize(
    "text",
    ["mean = [0.5]", "mean = 0.5\nstd = 1", "mean = ['a']\nstd = [1]", "mean = [1]\nstd = [1]\nwhite = 100",
     "mean = [1]\nstd = [1]\nsize = 3", "mean = []\nstd = []", "mean = [", "mean = [true]\nstd = [1]"],
)  # fmt: skip
def test_invalid_normalisation_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "input.toml").write_text(text)
    with pytest.raises(InputError, match=r"input\.toml"):
        Normalisation.load(tmp_path / "input.toml")


@pytest.mark.parametrize("opset", [7, 9, 11, 12])
def test_early_opset_is_raised_and_gives_equal_features(opset: int) -> None:
    model = graph_model(size=16)
    content = model.SerializeToString()
    model.opset_import[0].version = opset
    early = model.SerializeToString()
    with pytest.raises(DamagedBundle, match=f"opset {opset}.*he-infer import"):
        Extractor(early)
    raised = Extractor(raise_opset(early))
    assert raised.graph.opset == 18
    images = np.random.default_rng(0).normal(size=(3, 1, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(raised.run(images), Extractor(content).run(images), atol=1e-6)


def test_opset_that_cannot_be_raised_is_refused() -> None:
    assert raise_opset(content := graph_model().SerializeToString()) == content
    model = graph_model()
    model.opset_import[0].version = 3
    assert raise_opset(model.SerializeToString()) == model.SerializeToString()
    model.opset_import[0].version = 9
    model.graph.node[1].op_type = "Upsample"
    with pytest.raises(DamagedBundle, match="not among the operators"):
        raise_opset(model.SerializeToString())
    model = graph_model()
    model.opset_import[0].version = 9
    model.graph.node[1].op_type = "Mish"  # an operator that opset 9 does not have
    with pytest.raises(DamagedBundle, match="cannot raise it to 18"):
        raise_opset(model.SerializeToString())


def test_networks_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        import_model(small_extractor(size=16, scale=float("nan")).content, toy())
    with pytest.raises(InputError, match="same features for every image"):
        import_model(small_extractor(size=16, scale=0.0).content, toy())
    with pytest.raises(DamagedBundle, match="no ONNX file"):
        import_model(b"nothing of the kind", toy())
    with pytest.raises(DamagedBundle, match="state its layout"):
        guess_layout(graph_model(size=8, channels=2).SerializeToString())


# Heads


def data(classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(240) % classes
    return np.random.default_rng(0).normal(size=(240, 16)) + 2 * np.eye(classes, 16)[labels], labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("named", [False, True])
def test_skl2onnx_heads_are_converted_with_their_classes(classes: int, named: bool) -> None:
    from skl2onnx import to_onnx

    x, y = data(classes)
    labels = np.array(["zebra", "ape", "mouse"])[y] if named else y
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, labels)
    for zipmap in (True, False):
        options = {id(estimator): {"zipmap": zipmap}}
        content = to_onnx(estimator, x[:1].astype(np.float32), options=options).SerializeToString()
        found = from_onnx(content, features=x)
        assert found.classes == tuple(map(str, estimator.classes_))
        given = np.array(found.classes)[found.head.evaluate(x).argmax(axis=1)]
        assert (given == estimator.predict(x).astype(str)).all()


def test_gemm_and_activations_are_converted() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Linear(16, 6), nn.Linear(6, 3)
    weights = {
        "a": first.weight.detach().numpy(),
        "b": first.bias.detach().numpy(),
        "c": last.weight.detach().numpy().T,
        "d": last.bias.detach().numpy(),
        "two": np.array(2.0, dtype=np.float32),
    }
    for activation in ("Pow", "Tanh"):
        nodes = [
            helper.make_node("Gemm", ["x", "a", "b"], ["h"], transB=1),
            helper.make_node(activation, ["h", "two"] if activation == "Pow" else ["h"], ["s"]),
            helper.make_node("MatMul", ["s", "c"], ["m"]),
            helper.make_node("Add", ["m", "d"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "head",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 16])],
            [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 3])],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        content = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
        ).SerializeToString()
        found = from_onnx(content, features=0.5 * data(3)[0])
        assert [str(layer) for layer in found.head.layers][::2] == ["linear 16 to 6", "linear 6 to 3"]
        assert (found.fits == ()) == (activation == "Pow")
        assert found.label_agreement is not None
        assert found.label_agreement > 0.9


def test_imported_head_has_the_class_order_of_the_bundle() -> None:
    from skl2onnx import to_onnx

    dataset = toy()
    features = import_model(raw_network(), dataset, head="linear").features(dataset.train.images)
    names = np.array(dataset.classes)[dataset.train.labels]
    estimator = LogisticRegression().fit(features, names)
    content = to_onnx(estimator, features[:1], options={id(estimator): {"zipmap": False}}).SerializeToString()
    bundle = import_model(raw_network(), dataset, head=content)
    given = np.array(bundle.classes)[bundle.scores(features).argmax(axis=1)]
    assert (given == estimator.predict(features)).mean() > 0.99
    other = LogisticRegression().fit(features, np.where(dataset.train.labels, "x", "y"))
    content = to_onnx(other, features[:1], options={id(other): {"zipmap": False}}).SerializeToString()
    with pytest.raises(BundleError, match="must be the same names"):
        import_model(raw_network(), dataset, head=content)


@pytest.mark.parametrize("names", [("healthy", "ill"), ("zebra", "ape")])
def test_classes_named_for_images_are_those_that_the_imported_classifier_predicts(names: tuple[str, str]) -> None:
    """With the operating point of the same scores, whatever the order of the classes in file and data set."""
    from skl2onnx import to_onnx

    dataset = replace(toy(), classes=names)
    features = import_model(raw_network(), dataset, head="linear").features(dataset.train.images)
    estimator = LogisticRegression(C=0.01).fit(features, np.array(names)[dataset.train.labels])
    content = to_onnx(estimator, features[:1], options={id(estimator): {"zipmap": False}}).SerializeToString()
    bundle = import_model(raw_network(), dataset, head=content)
    validation = bundle.features(dataset.val.images)
    shares = estimator.predict_proba(validation)[:, list(estimator.classes_).index(names[1])]
    sick = dataset.val.labels == 1
    point = bundle.card["operating_point"]
    assert point["class"] == names[1]
    assert point["sensitivity"] == pytest.approx((shares[sick] >= point["threshold"]).mean(), abs=1e-3)
    assert point["specificity"] == pytest.approx((shares[~sick] < point["threshold"]).mean(), abs=1e-3)
    assert point["sensitivity"] + point["specificity"] > 1.5
    own = bundle.with_head(from_sklearn(estimator).head)
    named = decide(own.card, names, softmax(own.scores(features)))
    assert (np.array(names)[named] == estimator.predict(features)).all()


def test_the_command_says_that_probabilities_differ(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    (tmp_path / "e.onnx").write_bytes(raw_network())
    parts = {}
    for part, count in (("train", 60), ("val", 24), ("test", 24)):
        one = split(count, 3, classes=3)
        parts |= {f"{part}_images": one.images, f"{part}_labels": one.labels}
    np.savez(tmp_path / "own.npz", **parts)
    bundle = import_model(raw_network(), load(tmp_path / "own.npz"), head="linear")
    features = bundle.features(parts["train_images"])
    estimator = OneVsRestClassifier(LogisticRegression()).fit(features, parts["train_labels"])
    (tmp_path / "head.onnx").write_bytes(one_against_the_rest(estimator))
    arguments = [str(tmp_path / "e.onnx"), "--data", str(tmp_path / "own.npz"), "--head", str(tmp_path / "head.onnx")]
    done = CliRunner().invoke(app, ["import", *arguments, "--out", str(tmp_path / "own.hebundle")])
    assert done.exit_code == 0, done.output
    assert "note: Classes are those of the ONNX head, but probabilities are not" in " ".join(done.stderr.split())


def test_pickles_and_graphs_that_are_no_chain_are_refused() -> None:
    from skl2onnx import to_onnx

    x, y = data(3)
    with pytest.raises(HeadError, match="pickled or packed Python object"):
        from_onnx(pickle.dumps(LogisticRegression()))
    for content in (b"", b"text", b"\xff" * 50):
        with pytest.raises(HeadError, match="ONNX"):
            from_onnx(content)
    network = MLPClassifier((4,), early_stopping=True, random_state=0).fit(x, y)
    content = to_onnx(network, x[:1].astype(np.float32), options={id(network): {"zipmap": False}}).SerializeToString()
    with pytest.raises(HeadError, match="Give calibration features"):
        from_onnx(content)
    with pytest.raises(HeadError, match=r"not among what a head can hold|shortcut"):
        from_onnx(graph_model().SerializeToString())


# The command


def test_the_command_writes_a_bundle(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    (tmp_path / "e.onnx").write_bytes(raw_network())
    npz(tmp_path / "own.npz")
    out = tmp_path / "own.hebundle"
    arguments = ["import", str(tmp_path / "e.onnx"), "--data", str(tmp_path / "own.npz"), "--out", str(out)]
    (tmp_path / "input.toml").write_text("mean = [127.5]\nstd = [63.75]\nwhite = 255")
    (tmp_path / "card.toml").write_text("licence = 'CC0'\n[image]\nbody_part = ['chest']")
    files = ["--normalisation", str(tmp_path / "input.toml"), "--card", str(tmp_path / "card.toml")]
    done = CliRunner().invoke(app, [*arguments, "--head", "linear", *files])
    assert done.exit_code == 0, done.output
    bundle = Bundle.load(out)
    assert (bundle.preprocessing.mean, bundle.preprocessing.std) == ((0.5,), (0.25,))
    assert (bundle.card["licence"], bundle.card["image"]["body_part"]) == ("CC0", ["CHEST"])
    assert bundle.head.width == 16
    both = CliRunner().invoke(app, [*arguments, *files, "--mean", "0.5", "--std", "0.25"])
    assert both.exit_code == 1
    assert "not both" in str(both.exception)
    assert bundle.card["test"]["images"] == 8
    failed = CliRunner().invoke(app, [*arguments, "--mean", "half", "--std", "0.25"])
    assert failed.exit_code == 1
