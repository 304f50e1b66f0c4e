"""Runs ONNX graphs with ONNX Runtime: one session a model, one thread a call.

A graph takes its numeric features as one tensor [n, F] (named by the manifest's `input`), or
one tensor [n, 1] a feature, of float32, float64, int64, int32 or bool, each fed from the event's own
number; each categorical feature as a string tensor [n, 1] named by the
feature. Its output is the probability of the bad outcome: [n], [n, 1], or [n, classes], whose last
column counts. Nothing but the graph is read: no custom operators, no pickles, no code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, SessionOptions, set_default_logger_severity

from features.core.batch import Bools, Floats
from models.core.base import ModelInputs
from models.core.errors import BundleRefused
from models.core.manifest import Manifest
from models.formats.graph.parts import Parts, Trees, take_apart

Feed = Callable[[ModelInputs], NDArray[Any]]
Values = dict[str, NDArray[Any]]
"""Inputs, results of stages and outputs by name."""

_NUMBERS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
_EXACT = 2.0**53  # whole numbers of events are exact up to here
_LARGEST = {np.int64: _EXACT, np.int32: 2.0**31 - 1, np.bool_: 1.0}
_FATAL_ONLY = 4
_PROBES = 512
_MANY = 8  # sixteen rows are walked together: fewer than half of them are quicker one by one


class OnnxGraph:
    """One graph, ready to run; `run` may be called from several threads.

    Tree ensembles in it are walked by `models.formats.graph.forest` where that gives the runtime's results bit for bit,
    which is tried on each at load; all else, every graph of another form, and a handful of rows are the runtime's.
    """

    def __init__(self, data: bytes, manifest: Manifest, where: str) -> None:
        session = _open(data, where)
        self._feeds = _feeds(session, manifest, where)
        types = _types(session, manifest)
        self.exact = any(dtype is not np.float32 for dtype in types.values())
        self.whole = tuple(name for name, dtype in types.items() if dtype in _LARGEST)
        self._limits = [(manifest.numeric.index(name), _LARGEST[types[name]]) for name in self.whole]
        self._fill = _fills(manifest)
        self._output = _output(session, manifest, where)
        self._alone: list[_Stage] = [_Session(session, [self._output])]
        self._stages = _walking(data, self._output, where) or self._alone

    def run(self, inputs: ModelInputs) -> Floats:
        """float64[n]: the probability of the bad outcome."""
        if not len(inputs):
            return np.empty(0, dtype=np.float64)
        inputs, unread = self._readable(inputs)
        values = {name: make(inputs) for name, make in self._feeds.items()}
        for stage in self._stages if len(inputs) >= _MANY else self._alone:
            stage.add(values)
        raw = np.asarray(values[self._output], dtype=np.float64)
        score = raw if raw.ndim == 1 else raw.reshape(len(inputs), -1)[:, -1]
        return score if unread is None else np.where(unread, np.nan, score)

    def _readable(self, inputs: ModelInputs) -> tuple[ModelInputs, Bools | None]:
        """Inputs with missing numbers filled, and the rows in which a whole number or flag is none (zero stands in)."""
        if self._fill is None and not self._limits:
            return inputs, None
        numeric = inputs.numeric
        if self._fill is not None:
            numeric = np.where(np.isnan(numeric), self._fill.astype(numeric.dtype), numeric)
        unread = np.zeros(len(numeric), dtype=np.bool_)
        for index, largest in self._limits:
            column = numeric[:, index]
            wrong = ~((np.abs(column) <= largest) & (column == np.floor(column)))
            if wrong.any():
                unread |= wrong
                numeric = numeric.copy() if numeric is inputs.numeric else numeric
                numeric[wrong, index] = 0.0
        return ModelInputs(numeric, inputs.categorical), unread


class _Stage(Protocol):
    """Adds to the values that are known by name."""

    def add(self, values: Values) -> None:
        """Compute and add this stage's results."""
        ...


class _Session:
    """A graph run by ONNX Runtime."""

    def __init__(self, session: Any, outputs: list[str]) -> None:
        self._session = session
        self._inputs = [node.name for node in session.get_inputs()]
        self._outputs = outputs

    def add(self, values: Values) -> None:
        """See _Stage."""
        results = self._session.run(self._outputs, {name: values[name] for name in self._inputs})
        values.update(zip(self._outputs, results, strict=True))


class _Walk:
    """Trees walked here."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees

    def add(self, values: Values) -> None:
        """See _Stage."""
        values[self._trees.result] = self._trees.forest.run(values[self._trees.source])


def _walking(data: bytes, output: str, where: str) -> list[_Stage]:
    """Stages in which trees are walked; none where that is not sure to give what the runtime gives."""
    parts = take_apart(data, output)
    try:
        if parts is None or not all(_walks_alike(trees, where) for trees in parts.trees):
            return []
        return _stages(parts, output, where)
    except BundleRefused:  # a part that hands over anything but float32 is no graph of its own
        return []


def _walks_alike(trees: Trees, where: str) -> bool:
    """Whether walking gives what the runtime gives, to the bit: at thresholds, beside them, with missing values."""
    rows = trees.forest.probes(_PROBES)
    theirs = _open(trees.alone, where).run([trees.result], {trees.source: rows})[0]
    return bool(np.array_equal(theirs, trees.forest.run(rows)))


def _stages(parts: Parts, output: str, where: str) -> list[_Stage]:
    stages: list[_Stage] = [_Walk(trees) for trees in parts.trees]
    if parts.before is not None:
        session = _open(parts.before, where)
        stages.insert(0, _Session(session, [node.name for node in session.get_outputs()]))
    if parts.after is not None:
        stages.append(_Session(_open(parts.after, where), [output]))
    return stages


def _open(data: bytes, where: str) -> Any:
    set_default_logger_severity(_FATAL_ONLY)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    try:
        return InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        raise BundleRefused(where, f"ONNX Runtime cannot load the graph: {error}") from error


def _feeds(session: Any, manifest: Manifest, where: str) -> dict[str, Feed]:
    feeds: dict[str, Feed] = {}
    fed: set[str] = set()
    for graph_input in session.get_inputs():
        name, kind = graph_input.name, graph_input.type
        if name == manifest.input and kind in _NUMBERS:
            _check_width(graph_input.shape, manifest, where)
            feeds[name] = _matrix(_NUMBERS[kind])
            fed.update(manifest.numeric)
        elif name in manifest.categorical and kind == "tensor(string)":
            feeds[name] = _texts(name)
            fed.add(name)
        elif name in manifest.numeric and kind in _NUMBERS:
            feeds[name] = _column(manifest.numeric.index(name), _NUMBERS[kind])
            fed.add(name)
        else:
            raise BundleRefused(
                where, f"the graph's input `{name}` ({kind}) is not in the manifest's signature"
            )
    unused = [n for n in (*manifest.numeric, *manifest.categorical) if n not in fed]
    if unused:
        raise BundleRefused(where, f"the signature's {', '.join(unused)} is no input of the graph")
    return feeds


def _types(session: Any, manifest: Manifest) -> dict[str, Any]:
    """The type in which the graph reads each numeric input."""
    types: dict[str, Any] = {}
    for graph_input in session.get_inputs():
        dtype = _NUMBERS.get(graph_input.type)
        if graph_input.name == manifest.input and dtype is not None:
            types |= dict.fromkeys(manifest.numeric, dtype)
        elif graph_input.name in manifest.numeric:
            types[graph_input.name] = dtype
    return types


def _fills(manifest: Manifest) -> Floats | None:
    """The value of each numeric input where there is none, NaN for those without one; None without any."""
    if manifest.fill is msgspec.UNSET or not manifest.fill:
        return None
    return np.array([manifest.fill.get(name, np.nan) for name in manifest.numeric], dtype=np.float64)


def _check_width(shape: list[Any], manifest: Manifest, where: str) -> None:
    width = shape[1] if len(shape) == 2 else None
    if isinstance(width, int) and width != len(manifest.numeric):
        raise BundleRefused(
            where,
            f"the graph takes {width} numeric features, the manifest's signature has {len(manifest.numeric)}",
        )


def _output(session: Any, manifest: Manifest, where: str) -> str:
    outputs = {out.name: out.type for out in session.get_outputs()}
    numeric = [name for name, kind in outputs.items() if kind in ("tensor(float)", "tensor(double)")]
    wanted = manifest.output or (numeric[0] if len(numeric) == 1 else "probabilities")
    if wanted not in numeric:
        available = ", ".join(f"{name}: {kind}" for name, kind in outputs.items())
        raise BundleRefused(where, f"the graph has no float output `{wanted}`; it has {available}")
    return wanted


def _matrix(dtype: Any) -> Feed:
    return lambda inputs: inputs.numeric.astype(dtype, copy=False)


def _column(index: int, dtype: Any) -> Feed:
    return lambda inputs: inputs.numeric[:, index : index + 1].astype(dtype)


def _texts(name: str) -> Feed:
    return lambda inputs: inputs.categorical[name].reshape(-1, 1)
