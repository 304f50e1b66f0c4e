"""Trained models as one ONNX graph: raw features in, probability of the bad outcome out.

    features  float32[n, F]  --+--> encoder --> estimator --> log-odds --+
    CATEGORY  string[n, 1]   --+       (once for each member)            +--> blend, calibrate --> probability

Trees come from skl2onnx (forest) and onnxmltools (XGBoost). Linear parts, the blend and the
calibration are computed in float64, as the training library does. tests/models/training/test_convert.py
holds that graph and library agree within 1e-6 on 10,000 rows for each algorithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.training.algorithms import EDGE, Logistic, Member, Trained

INPUT = "features"
OUTPUT = "probability"
OPSET = 17
ML_OPSET = 3


class Graph:
    """Collects nodes and constants; every node's output gets a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.opsets: dict[str, int] = {"": OPSET, "ai.onnx.ml": ML_OPSET}

    def constant(self, values: NDArray[Any] | np.generic) -> str:
        """Add a constant; returns its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def embed(self, model: Any, source: str, output: str) -> str:
        """Add another model's graph, fed with `source`; returns the new name of its `output`."""
        prefix = f"m{len(self.nodes)}_"
        renamed = {model.graph.input[0].name: source}

        def rename(name: str) -> str:
            return renamed.get(name, prefix + name) if name else ""

        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{prefix}{len(self.nodes)}"
            del copy.input[:], copy.output[:]
            copy.input.extend(rename(name) for name in node.input)
            copy.output.extend(rename(name) for name in node.output)
            self.nodes.append(copy)
        for constant in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(constant)
            copy.name = prefix + constant.name
            self.constants.append(copy)
        for entry in model.opset_import:
            self.opsets[entry.domain] = max(self.opsets.get(entry.domain, 0), entry.version)
        return rename(output)


def to_onnx(trained: Trained) -> bytes:
    """The serialised graph; the same model gives the same bytes."""
    graph = Graph()
    encoder = trained.members[0].encoder
    first = trained.members[0]
    if len(trained.members) == 1 and not trained.calibrated and first.algorithm == "forest":
        score = _tree_sum(graph, first)
    else:
        score = _sigmoid(graph, _blend(graph, trained))
    graph.nodes.append(helper.make_node("Cast", [score], [OUTPUT], "output", to=TensorProto.FLOAT))
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(encoder.numeric)])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in encoder.categories
    ]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None])
    body = helper.make_graph(graph.nodes, "riskstream", inputs, [output], graph.constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(graph.opsets.items())]
    model = helper.make_model(body, opset_imports=opsets, producer_name="riskstream", ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _blend(graph: Graph, trained: Trained) -> str:
    """Weighted mean of the members' log-odds, moved by the calibration: float64[n]."""
    total = ""
    for member in trained.members:
        weight = graph.constant(np.float64(member.weight * trained.slope))
        weighted = graph.add("Mul", _odds(graph, member), weight)
        total = graph.add("Add", total, weighted) if total else weighted
    return graph.add("Add", total, graph.constant(np.float64(trained.intercept)))


def _odds(graph: Graph, member: Member) -> str:
    """One member's log-odds: float64[n]."""
    if isinstance(member.estimator, Logistic):
        wide = graph.add("Cast", _encode(graph, member), to=TensorProto.DOUBLE)
        line = graph.add("MatMul", wide, graph.constant(np.asarray(member.estimator.coefficients)))
        return graph.add("Add", line, graph.constant(np.float64(member.estimator.intercept)))
    total = graph.add("Cast", _tree_sum(graph, member), to=TensorProto.DOUBLE)
    if member.algorithm != "forest":
        return total
    low, high = graph.constant(np.float64(EDGE)), graph.constant(np.float64(1 - EDGE))
    bad = graph.add("Min", graph.add("Max", total, low), high)
    good = graph.add("Sub", graph.constant(np.float64(1)), bad)
    return graph.add("Log", graph.add("Div", bad, good))


def _sigmoid(graph: Graph, odds: str) -> str:
    unity = graph.constant(np.float64(1))
    return graph.add("Div", unity, graph.add("Add", unity, graph.add("Exp", graph.add("Neg", odds))))


def _tree_sum(graph: Graph, member: Member) -> str:
    """Sum of a member's trees, float32[n]: a forest's probability, a boosting's log-odds."""
    both = graph.embed(_convert_trees(member), _encode(graph, member), "probabilities")
    return graph.add("Gather", both, graph.constant(np.int64(1)), axis=1)


def _encode(graph: Graph, member: Member) -> str:
    encoder = member.encoder
    pieces = [INPUT]
    if encoder.fill is not None and encoder.numeric:
        pieces = [graph.add("Where", graph.add("IsNaN", INPUT), graph.constant(encoder.fill), INPUT)]
    if encoder.indicators:
        columns = graph.constant(np.array(encoder.indicators, dtype=np.int64))
        shown = graph.add("Gather", graph.add("IsNaN", INPUT), columns, axis=1)
        pieces.append(graph.add("Cast", shown, to=TensorProto.FLOAT))
    for name, values in encoder.categories.items():
        hot = graph.add("OneHotEncoder", name, domain="ai.onnx.ml", cats_strings=list(values), zeros=1)
        pieces.append(graph.add("Reshape", hot, graph.constant(np.array([-1, len(values)], dtype=np.int64))))
    return graph.add("Concat", *pieces, axis=1) if len(pieces) > 1 else pieces[0]


def _convert_trees(member: Member) -> Any:
    """The converter's graph, with input [n, width] and output `probabilities` [n, 2]."""
    if member.algorithm == "forest":
        from skl2onnx import to_onnx as convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        return convert_sklearn(
            member.estimator,
            initial_types=[("encoded", FloatTensorType([None, member.encoder.width]))],
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
            options={"zipmap": False},
        )
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as ToolsTensorType

    shape = [("encoded", ToolsTensorType([None, member.encoder.width]))]
    return _without_sigmoid(convert_xgboost(member.estimator, "trees", shape, target_opset=15))


def _without_sigmoid(model: Any) -> Any:
    """Leave the sum of the trees as it is: float32 loses what tells scores near 1 apart."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "post_transform":
                attribute.s = b"NONE"
    return model
