"""Trees that are walked here give what ONNX Runtime gives, to the bit; every other form is left to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.core.base import ModelInputs
from models.core.manifest import Manifest
from models.formats import onnx_model
from models.formats.graph import protobuf
from models.formats.graph.forest import DEEPEST, Forest
from models.formats.graph.parts import take_apart
from models.formats.onnx_model import OnnxGraph

from . import small

WIDTH = 4
VALUES = np.array([-2.5, -1.0, -0.0, 0.0, 0.1, 1.0, 3.0, np.inf], np.float32)
Tree = list[dict[str, Any]]


def draw_tree(rng: np.random.Generator, depth: int, modes: tuple[str, ...]) -> Tree:
    """Nodes numbered in the order in which they are drawn: the root first, a child after its parent."""
    nodes: Tree = []

    def grow(left: int) -> int:
        node: dict[str, Any] = {"id": len(nodes), "mode": "LEAF", "weight": np.float32(rng.normal())}
        nodes.append(node)
        if left and rng.random() < 0.8:
            node.update(
                mode=str(rng.choice(modes)),
                feature=int(rng.integers(WIDTH)),
                value=float(rng.choice(VALUES)),
                tracks=int(rng.random() < 0.5),
            )
            node["yes"], node["no"] = grow(left - 1), grow(left - 1)
        return int(node["id"])

    grow(depth)
    return nodes


def ensemble(trees: list[Tree], kind: str, prefix: str, **more: Any) -> bytes:
    """A model of one tree ensemble: x -> y."""
    flat = [(number, node) for number, tree in enumerate(trees) for node in tree]
    leaves = [(number, node) for number, node in flat if node["mode"] == "LEAF"]
    outputs = ["label", "y"] if prefix == "class" else ["y"]
    leaf_columns: dict[str, Any] = {
        f"{prefix}_treeids": [number for number, _ in leaves],
        f"{prefix}_nodeids": [node["id"] for _, node in leaves],
        f"{prefix}_ids": [more.pop("of", 0)] * len(leaves),
        f"{prefix}_weights": [float(node["weight"]) for _, node in leaves],
    }
    node = helper.make_node(
        kind, ["x"], outputs, domain="ai.onnx.ml",
        nodes_treeids=[number for number, _ in flat],
        nodes_nodeids=[node["id"] for _, node in flat],
        nodes_featureids=[node.get("feature", 0) for _, node in flat],
        nodes_modes=[node["mode"] for _, node in flat],
        nodes_values=[node.get("value", 0.0) for _, node in flat],
        nodes_truenodeids=[node.get("yes", 0) for _, node in flat],
        nodes_falsenodeids=[node.get("no", 0) for _, node in flat],
        nodes_missing_value_tracks_true=[node.get("tracks", 0) for _, node in flat],
        **leaf_columns,
        **more,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def classifier(trees: list[Tree], **more: Any) -> bytes:
    return ensemble(trees, "TreeEnsembleClassifier", "class", **{"classlabels_int64s": [0, 1], **more})


def regressor(trees: list[Tree], **more: Any) -> bytes:
    return ensemble(trees, "TreeEnsembleRegressor", "target", **{"n_targets": 1, **more})


def walked(data: bytes) -> Forest | None:
    parts = take_apart(data, "y")
    return None if parts is None else parts.trees[0].forest


def runtime(data: bytes, rows: np.ndarray) -> np.ndarray:
    return np.asarray(onnx_model._open(data, "test").run(["y"], {"x": rows})[0])


def draw_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.choice(VALUES, (count, WIDTH))
    rows = np.where(rng.random(rows.shape) < 0.3, rng.normal(size=rows.shape), rows)
    return np.where(rng.random(rows.shape) < 0.1, np.nan, rows).astype(np.float32)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 12),
    depth=st.integers(0, 7),
    rows=st.integers(1, 70),
    modes=st.sampled_from([("BRANCH_LEQ",), ("BRANCH_LT",), ("BRANCH_LEQ", "BRANCH_LT")]),
    make=st.sampled_from([classifier, regressor]),
    base=st.sampled_from([(), (0.25,)]),
    positive=st.booleans(),
)
def test_any_sum_of_trees_is_walked_as_the_runtime_does(
    seed, count, depth, rows, modes, make, base, positive
):
    rng = np.random.default_rng(seed)
    trees = [draw_tree(rng, depth, modes) for _ in range(count)]
    for node in (node for tree in trees for node in tree):
        node["weight"] = abs(node["weight"]) if positive else node["weight"]
    data = make(trees, **({"base_values": base} if base else {}))
    forest = walked(data)
    assert forest is not None
    given_rows = draw_rows(rng, rows)
    assert np.array_equal(forest.run(given_rows), runtime(data, given_rows))
    probes = np.zeros((40, WIDTH), np.float32)
    probes[:, : forest.features] = forest.probes(40)
    assert np.array_equal(forest.run(probes), runtime(data, probes))


def test_rows_scored_alone_or_together_are_the_same():
    rng = np.random.default_rng(5)
    forest = walked(classifier([draw_tree(rng, 6, ("BRANCH_LEQ",)) for _ in range(20)]))
    assert forest is not None
    rows = draw_rows(rng, 50)
    together = forest.run(rows)
    assert np.array_equal(
        np.concatenate([forest.run(rows[place : place + 1]) for place in range(50)]), together
    )


def test_rows_without_a_feature_that_is_asked_for_are_refused():
    forest = walked(regressor([chain(2)]))
    assert forest is not None
    with pytest.raises(ValueError, match="ask for 1 features, the rows have 0"):
        forest.run(np.zeros((3, 0), np.float32))


def chain(depth: int) -> Tree:
    """A tree that is as deep as it has decisions."""
    nodes: Tree = []
    for level in range(depth):
        branch = {"id": 2 * level, "mode": "BRANCH_LEQ", "feature": 0, "value": float(level), "tracks": 0}
        nodes.append({**branch, "yes": 2 * level + 1, "no": 2 * level + 2, "weight": 0})
        nodes.append({"id": 2 * level + 1, "mode": "LEAF", "weight": np.float32(level)})
    return [*nodes, {"id": 2 * depth, "mode": "LEAF", "weight": np.float32(-1)}]


def test_deep_trees_are_left_to_the_runtime():
    assert walked(regressor([chain(DEEPEST)])) is not None
    assert walked(regressor([chain(DEEPEST + 1)])) is None


@pytest.mark.parametrize(
    "other",
    [
        lambda trees: classifier(trees, post_transform="LOGISTIC"),
        lambda trees: classifier(trees, classlabels_int64s=[0, 1, 2]),
        lambda trees: regressor(trees, aggregate_function="AVERAGE"),
        lambda trees: regressor(trees, n_targets=2),
    ],
    ids=["logistic", "three classes", "average", "two targets"],
)
def test_other_sums_are_left_to_the_runtime(other):
    rng = np.random.default_rng(2)
    data = other([draw_tree(rng, 4, ("BRANCH_LEQ",)) for _ in range(3)])
    assert runtime(data, draw_rows(rng, 3)).shape[0] == 3
    assert walked(data) is None


def test_other_comparisons_are_left_to_the_runtime():
    rng = np.random.default_rng(2)
    assert walked(regressor([draw_tree(rng, 4, ("BRANCH_GTE",)) for _ in range(3)])) is None


@pytest.mark.parametrize("broken", ["cycle", "two parents", "no such child"])
def test_what_is_no_tree_is_not_walked(broken):
    tree = chain(3)
    tree[2]["yes"] = {"cycle": 0, "two parents": 1, "no such child": 77}[broken]
    assert walked(regressor([tree])) is None


def graph(data: bytes, width: int = 3, output: str = "probabilities") -> OnnxGraph:
    manifest = Manifest(
        name="m", version="1", algorithm="x", source="s", plan="p", categorical=(), baseline={}, files={},
        numeric=tuple(f"f{place}" for place in range(width)), input="features", output=output,
    )  # fmt: skip
    return OnnxGraph(data, manifest, "test")


def test_a_walk_that_differs_in_one_bit_is_not_used(monkeypatch):
    rows = ModelInputs(small.training_set(40)[0], {})
    right = graph(small.graph()).run(rows)
    true_run = Forest.run
    monkeypatch.setattr(Forest, "run", lambda self, rows: np.nextafter(true_run(self, rows), np.float32(9)))
    left_alone = graph(small.graph())
    assert not any(isinstance(stage, onnx_model._Walk) for stage in left_alone._stages)
    assert np.array_equal(left_alone.run(rows), right)


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_as_protobuf_packs_them(packed):
    numbers = [0, 1, 127, 128, 2**40, -1, -(2**63)]
    attribute = helper.make_attribute("numbers", numbers).SerializeToString()
    if packed:
        several = b"".join(protobuf._number(number & 2**64 - 1) for number in numbers)
        attribute = protobuf.field(1, b"numbers") + protobuf.field(8, several)
    assert protobuf.whole_numbers(attribute, 8).tolist() == numbers
    assert protobuf.texts(attribute, 1) == [b"numbers"]
    values = [0.5, -1.25, float("inf")]
    attribute = helper.make_attribute("values", values).SerializeToString()
    if packed:
        attribute = protobuf.field(7, np.array(values, "<f4").tobytes())
    assert protobuf.floats(attribute, 7).tolist() == values


def doubled(data: bytes, inside: bool) -> bytes:
    """The same trees fed with float64: by the model's input, or by a node before them."""
    model = onnx.load_from_string(data)
    model.graph.input[0].name = "features"
    if inside:
        model.graph.node[0].input[0] = "wide"
        model.graph.node.insert(0, helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE))
    else:
        model.graph.node[0].input[0] = "features"
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("inside", [False, True], ids=["input", "node before"])
def test_trees_over_float64_are_left_to_the_runtime(inside):
    rng = np.random.default_rng(4)
    data = doubled(regressor([draw_tree(rng, 4, ("BRANCH_LEQ",)) for _ in range(3)]), inside)
    opened = graph(data, WIDTH, "y")
    assert not any(isinstance(stage, onnx_model._Walk) for stage in opened._stages)
    rows = draw_rows(rng, 20)
    values = rows if inside else rows.astype(np.float64)
    theirs = onnx_model._open(data, "test").run(["y"], {"features": values})[0]
    assert np.array_equal(opened.run(ModelInputs(rows, {})), theirs[:, 0])


def test_parts_are_models_of_their_own():
    parts = take_apart(small.graph(), "probabilities")
    assert parts is not None
    assert parts.before is None
    assert parts.after is None
    onnx.checker.check_model(onnx.load_from_string(parts.trees[0].alone))
