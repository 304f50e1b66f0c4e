"""Takes the tree ensembles out of an ONNX graph: what comes before them, the trees, what comes after.

    inputs  -- before -->  trees' inputs  -- forests -->  trees' results  -- after -->  output

The parts before and after are ONNX graphs again, made of the bytes of the nodes that they need.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from models.formats.graph import protobuf
from models.formats.graph.forest import Forest, read_forest
from models.formats.graph.protobuf import field

_GRAPH, _NODE, _INITIALIZER, _INPUT, _OUTPUT = 7, 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND, _ATTRIBUTE = 1, 2, 4, 5
_SUBGRAPH, _SUBGRAPHS = 6, 11
_TENSOR_NAME = 8
_TREES = {"TreeEnsembleClassifier": 1, "TreeEnsembleRegressor": 0}
"""Kinds of tree ensembles and which of their outputs has the results."""
# The type of a value that is a float32 matrix: {tensor_type: {elem_type: 1, shape: {dim: {}, dim: {}}}}.
_MATRIX = field(2, field(1, field(1, 1) + field(2, field(1, b"") + field(1, b""))))


@dataclass(frozen=True)
class Trees:
    """One tree ensemble: names of its input and result, itself, and a graph of it alone."""

    source: str
    result: str
    forest: Forest
    alone: bytes


@dataclass(frozen=True)
class Parts:
    """`before` is None when the trees read the model's inputs, `after` when their result is the output."""

    before: bytes | None
    trees: tuple[Trees, ...]
    after: bytes | None


@dataclass(frozen=True)
class _Node:
    data: bytes
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def take_apart(data: bytes, output: str) -> Parts | None:
    """The parts of a model that was loaded before; None when no tree ensemble of it can be walked."""
    model = _Model(data)
    if model.nested:
        return None
    trees = [walked for node in model.needed([output], set()) if (walked := model.trees(node))]
    if not trees:
        return None
    results = {walked.result for walked in trees}
    sources = sorted({walked.source for walked in trees} - model.inputs.keys())
    before = model.subgraph(model.needed(sources, set()), sources) if sources else None
    after = None if output in results else model.subgraph(model.needed([output], results), [output], results)
    return Parts(before, tuple(trees), after)


class _Model:
    """A graph's nodes, inputs and constants, by name."""

    def __init__(self, data: bytes) -> None:
        self._head = b"".join(field(n, value) for n, value in protobuf.fields(data) if n != _GRAPH)
        graph = protobuf.messages(data, _GRAPH)[0]
        self._nodes = [_node(value) for value in protobuf.messages(graph, _NODE)]
        self._maker = {name: node for node in self._nodes for name in node.outputs}
        self._constants = {
            _text(value, _TENSOR_NAME): value for value in protobuf.messages(graph, _INITIALIZER)
        }
        self._outputs = {_text(value, 1): value for value in protobuf.messages(graph, _OUTPUT)}
        named = {_text(value, 1): value for value in protobuf.messages(graph, _INPUT)}
        self.inputs = {name: value for name, value in named.items() if name not in self._constants}
        self.nested = any(
            protobuf.texts(attribute, number)
            for node in self._nodes
            for attribute in protobuf.messages(node.data, _ATTRIBUTE)
            for number in (_SUBGRAPH, _SUBGRAPHS)
        )

    def needed(self, wanted: Iterable[str], given: set[str]) -> list[_Node]:
        """The nodes that make some values out of the inputs and of what is given, in the order of the file."""
        pending, names = list(wanted), set()
        while pending:
            name = pending.pop()
            node = self._maker.get(name)
            if name not in given and node is not None and node.outputs not in names:
                names.add(node.outputs)
                pending += node.inputs
        return [node for node in self._nodes if node.outputs in names]

    def trees(self, node: _Node) -> Trees | None:
        """The node as trees, if it is one that can be walked."""
        if node.kind not in _TREES:
            return None
        attributes = {_text(value, 1): value for value in protobuf.messages(node.data, _ATTRIBUTE)}
        source, result = node.inputs[0], node.outputs[_TREES[node.kind]]
        if source in self.inputs and not _is_float(self.inputs[source]):
            return None
        forest = read_forest(node.kind, attributes)
        if forest is None:
            return None
        return Trees(source, result, forest, self.subgraph([node], [result], {source}))

    def subgraph(self, nodes: list[_Node], outputs: Iterable[str], given: Iterable[str] = ()) -> bytes:
        """A model of some nodes; what they read of `given` becomes an input."""
        read = {name for node in nodes for name in node.inputs}
        graph = b"".join(field(_NODE, node.data) for node in nodes)
        graph += field(2, b"part")
        graph += b"".join(
            field(_INITIALIZER, self._constants[name]) for name in sorted(read & self._constants.keys())
        )
        own = {name: value for name, value in self.inputs.items() if name in read and name not in given}
        graph += b"".join(field(_INPUT, value) for value in own.values())
        graph += b"".join(field(_INPUT, _matrix(name)) for name in sorted(read & set(given)))
        graph += b"".join(field(_OUTPUT, self._outputs.get(name) or _matrix(name)) for name in outputs)
        return self._head + field(_GRAPH, graph)


def _node(data: bytes) -> _Node:
    inputs = tuple(value.decode() for value in protobuf.messages(data, _NODE_INPUT))
    outputs = tuple(value.decode() for value in protobuf.messages(data, _NODE_OUTPUT))
    return _Node(data, _text(data, _NODE_KIND), inputs, outputs)


def _text(data: bytes, number: int) -> str:
    return protobuf.texts(data, number)[0].decode()


def _is_float(value: bytes) -> bool:
    """Whether a value's type is {tensor_type: {elem_type: 1, ...}}: float32."""
    tensors = [tensor for kind in protobuf.messages(value, 2) for tensor in protobuf.messages(kind, 1)]
    return [dict(protobuf.fields(tensor)).get(1) for tensor in tensors] == [1]


def _matrix(name: str) -> bytes:
    return field(1, name.encode()) + _MATRIX
