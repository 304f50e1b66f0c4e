"""Walks the trees of an ONNX tree ensemble: the runtime's result, bit for bit, in a third of its time.

A node's children lie side by side, so that a step is "to the first child, or one further": no branch for the
processor to guess wrong, and the steps of sixteen rows are computed together. A leaf leads to itself until the deepest
leaf of the tree is reached. The trees of a row are added up in float32 in the order of the file, as ONNX Runtime does
(tests/models/test_forest.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.core.batch import Bools, Ints
from features.core.compiled import Scalar, inlined, lean_released
from models.formats.graph import protobuf

Singles = NDArray[np.float32]
Words = NDArray[np.int32]

DEEPEST = 100
"""Trees with a deeper leaf are left to the runtime: rows would wait for others in them."""
_LOOK_AFTER, _LOOK_EVERY = 12, 4
_FEATURE_BITS = 8
_MISSING = 1 << _FEATURE_BITS
_CHILD = _FEATURE_BITS + 1
_MOST_NODES = 1 << (31 - _CHILD)
_ROWS = 16
_TEXT, _WHOLE, _FLOATS, _WHOLES, _TEXTS = 4, 3, 7, 8, 9


@dataclass(frozen=True)
class Forest:
    """Trees whose sum is the result.

    `node` has for each node its first child, whether a missing value goes on to the second, and the feature asked
    for. `binary`: results are (1 - sum, sum) or (-sum, sum), as a classifier's; else the sum alone.
    """

    node: Words
    threshold: Singles
    leaf: Singles
    root: Words
    depth: Words
    features: int
    base: np.float32
    binary: bool
    positive: bool

    def run(self, rows: Singles) -> Singles:
        """float32[n, 2] of a classifier, else float32[n, 1], for float32[n, F]; NaN is a missing value.

        ValueError when the rows have fewer features than the trees ask for.
        """
        n, width = rows.shape
        if width < self.features:
            raise ValueError(f"the trees ask for {self.features} features, the rows have {width}")
        whole = np.zeros((-(-n // _ROWS) * _ROWS, width), np.float32)
        whole[:n] = rows
        sums = np.zeros(len(whole), np.float32)
        missing = bool(np.isnan(whole).any())
        here = np.zeros(_ROWS, np.int32)
        trees = (self.node, self.threshold, self.leaf, self.root, self.depth)
        _walk(whole.reshape(-1), width, missing, *trees, sums, here)
        total = sums[:n] + self.base
        if not self.binary:
            return total[:, None]
        out = np.empty((n, 2), np.float32)
        out[:, 0] = 1 - total if self.positive else -total
        out[:, 1] = total
        return out

    def probes(self, count: int) -> Singles:
        """Rows that try the trees: values at thresholds, just beside them, and missing ones."""
        rng = np.random.default_rng(0)
        inner = self.node >> _CHILD != np.arange(len(self.node))
        features = self.node & (_MISSING - 1)
        rows = np.zeros((count, self.features), np.float32)
        for feature in np.unique(features[inner]).tolist():
            some = rng.choice(self.threshold[inner & (features == feature)], count)
            beside = np.where(rng.random(count) < 0.5, _before(some), -_before(-some))
            rows[:, feature] = np.where(rng.random(count) < 0.5, some, beside)
        rows[count // 2 :][rng.random((count - count // 2, self.features)) < 0.1] = np.nan
        return rows


def read_forest(kind: str, attributes: Mapping[str, bytes]) -> Forest | None:
    """The forest of a `TreeEnsembleClassifier` or `TreeEnsembleRegressor` node; None for one of another form.

    Taken are sums of trees with one result and `<=` or `<` in every node. `attributes` are the node's, as bytes.
    """
    binary = kind == "TreeEnsembleClassifier"
    if not _is_plain_sum(attributes, binary):
        return None
    nodes = _read_nodes(attributes)
    weights = _read_weights(attributes, "class" if binary else "target")
    if nodes is None or weights is None or len(nodes.key) >= _MOST_NODES:
        return None
    if nodes.feature.min() < 0 or nodes.feature.max() >= 1 << _FEATURE_BITS:
        return None
    base = protobuf.floats(attributes.get("base_values", b""), _FLOATS)
    if len(base) > 1:
        return None
    return _lay_out(nodes, *weights, np.float32(base[0] if len(base) else 0), binary)


def _is_plain_sum(attributes: Mapping[str, bytes], binary: bool) -> bool:
    if _one_text(attributes, "post_transform", b"NONE") != b"NONE":
        return False
    if binary:
        labels = attributes.get("classlabels_int64s", b"")
        texts = attributes.get("classlabels_strings", b"")
        return len(protobuf.whole_numbers(labels, _WHOLES)) + len(protobuf.texts(texts, _TEXTS)) == 2
    targets = protobuf.whole_numbers(attributes.get("n_targets", b""), _WHOLE)
    return targets.tolist() == [1] and _one_text(attributes, "aggregate_function", b"SUM") == b"SUM"


def _one_text(attributes: Mapping[str, bytes], name: str, usual: bytes) -> bytes:
    matches = protobuf.texts(attributes.get(name, b""), _TEXT)
    return matches[0] if matches else usual


@dataclass(frozen=True)
class _Nodes:
    """Nodes in the order of the file; `yes` and `no` are the children's places in it, a leaf's its own."""

    key: Ints
    tree: Ints
    feature: Ints
    threshold: Singles
    leaf: Bools
    tracks: Bools
    yes: Ints
    no: Ints


def _read_nodes(attributes: Mapping[str, bytes]) -> _Nodes | None:
    def whole(name: str) -> Ints:
        return protobuf.whole_numbers(attributes.get(name, b""), _WHOLES)

    tree, number = whole("nodes_treeids"), whole("nodes_nodeids")
    threshold = protobuf.floats(attributes.get("nodes_values", b""), _FLOATS)
    modes = protobuf.texts(attributes.get("nodes_modes", b""), _TEXTS)
    yes, no, feature = whole("nodes_truenodeids"), whole("nodes_falsenodeids"), whole("nodes_featureids")
    tracks = whole("nodes_missing_value_tracks_true")
    if not len(tracks):
        tracks = np.zeros(len(tree), np.int64)
    columns = (number, threshold, modes, yes, no, feature, tracks)
    if not len(tree) or any(len(column) != len(tree) for column in columns):
        return None
    if set(modes) - {b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT"}:
        return None
    leaf = np.array([mode == b"LEAF" for mode in modes])
    below = np.array([mode == b"BRANCH_LT" for mode in modes])
    if np.isneginf(threshold[below]).any():
        return None
    threshold = np.where(below, _before(threshold), threshold)  # x < t is x <= the float before t
    key = tree << 32 | number
    indices = np.arange(len(tree))
    children = [np.where(leaf, indices, _indices_of(key, tree << 32 | child)) for child in (yes, no)]
    if min(child.min() for child in children) < 0:
        return None
    feature = np.where(leaf, 0, feature)
    return _Nodes(key, tree, feature, threshold, leaf, (tracks != 0) & ~leaf, children[0], children[1])


def _before(values: Singles) -> Singles:
    """The float just below each."""
    with np.errstate(over="ignore", under="ignore"):
        return np.nextafter(values, np.float32(-np.inf))


def _indices_of(keys: Ints, wanted: Ints) -> Ints:
    """Where each wanted key stands among `keys`, -1 where it does not."""
    order = np.argsort(keys, kind="stable")
    matches = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[matches] == wanted, matches, -1)


def _read_weights(attributes: Mapping[str, bytes], prefix: str) -> tuple[Ints, Singles] | None:
    """Key and weight of each leaf; None unless all are of one class or target."""
    tree = protobuf.whole_numbers(attributes.get(f"{prefix}_treeids", b""), _WHOLES)
    number = protobuf.whole_numbers(attributes.get(f"{prefix}_nodeids", b""), _WHOLES)
    of = protobuf.whole_numbers(attributes.get(f"{prefix}_ids", b""), _WHOLES)
    weight = protobuf.floats(attributes.get(f"{prefix}_weights", b""), _FLOATS)
    if not len(tree) == len(number) == len(of) == len(weight) or len(np.unique(of)) != 1:
        return None
    return tree << 32 | number, weight


def _lay_out(nodes: _Nodes, leaf_key: Ints, weight: Singles, base: np.float32, binary: bool) -> Forest | None:
    """Give each node its place: tree by tree, level by level, children side by side."""
    is_child = np.zeros(len(nodes.key), np.bool_)
    is_child[nodes.yes[~nodes.leaf]] = is_child[nodes.no[~nodes.leaf]] = True
    roots = np.flatnonzero(~is_child)
    levels = _levels(nodes, roots)
    if levels is None:
        return None
    matches = np.concatenate(levels)
    level = np.repeat(np.arange(len(levels)), [len(level_nodes) for level_nodes in levels])
    tree = _indices_of(nodes.tree[roots], nodes.tree[matches])
    order = matches[np.lexsort((np.arange(len(matches)), level, tree))]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    leaf_index = _indices_of(nodes.key, leaf_key)
    if (
        leaf_index.min() < 0
        or len(np.unique(leaf_index)) != len(leaf_index)
        or not nodes.leaf[leaf_index].all()
    ):
        return None
    value = np.zeros(len(order), np.float32)
    value[leaf_index] = weight
    child = np.where(nodes.leaf, rank, rank[nodes.yes])
    node = child << _CHILD | np.where(nodes.leaf | nodes.tracks, 0, _MISSING) | nodes.feature
    deepest = np.zeros(len(roots), np.int64)
    np.maximum.at(deepest, tree, level)
    return Forest(
        node=node[order].astype(np.int32),
        threshold=np.where(nodes.leaf, np.float32(np.inf), nodes.threshold)[order].astype(np.float32),
        leaf=value[order],
        root=rank[roots].astype(np.int32),
        depth=deepest.astype(np.int32),
        features=int(nodes.feature.max()) + 1,
        base=base,
        binary=binary,
        positive=bool((weight >= 0).all()),
    )


def _levels(nodes: _Nodes, roots: Ints) -> list[Ints] | None:
    """Places by distance from the root, children of a node side by side; None for what are no trees, or too deep."""
    if len(np.unique(nodes.tree[roots])) != len(roots):
        return None
    levels, count = [roots], len(roots)
    while (inner := levels[-1][~nodes.leaf[levels[-1]]]).size:
        levels.append(np.column_stack([nodes.yes[inner], nodes.no[inner]]).ravel())
        count += len(levels[-1])
        if len(levels) > DEEPEST + 1 or count > len(nodes.key):
            return None
    return levels if count == len(nodes.key) else None


@inlined
def _steps(
    rows: Singles, begin: Scalar, width: Scalar, missing: bool, node: Words, threshold: Singles, here: Words
) -> None:
    """One step of `_ROWS` rows."""
    if missing:
        for i in range(_ROWS):
            at = np.uint32(here[i])
            word = node[at]
            x = rows[np.uint32((begin + i) * width + (word & np.int32(_MISSING - 1)))]
            second = np.int32(x > threshold[at]) | (
                np.int32(x != x) & ((word >> _FEATURE_BITS) & np.int32(1))
            )
            here[i] = (word >> _CHILD) + second
    else:
        for i in range(_ROWS):
            at = np.uint32(here[i])
            word = node[at]
            x = rows[np.uint32((begin + i) * width + (word & np.int32(_MISSING - 1)))]
            here[i] = (word >> _CHILD) + np.int32(x > threshold[at])


@inlined
def _all_at_leaves(node: Words, here: Words) -> Scalar:
    moving = 0
    for i in range(_ROWS):
        moving |= (node[np.uint32(here[i])] >> _CHILD) ^ here[i]
    return moving == 0


@lean_released
def _walk(
    rows: Singles,
    width: int,
    missing: bool,
    node: Words,
    threshold: Singles,
    leaf: Singles,
    root: Words,
    depth: Words,
    total: Singles,
    here: Words,
) -> None:
    """Add to `total` each row's leaf of each tree; the number of rows is a multiple of `_ROWS`."""
    for block in range(0, len(total), _ROWS):
        for tree in range(len(root)):
            for i in range(_ROWS):
                here[i] = root[tree]
            for step in range(depth[tree]):
                if step >= _LOOK_AFTER and step % _LOOK_EVERY == 0 and _all_at_leaves(node, here):
                    break
                _steps(rows, block, width, missing, node, threshold, here)
            for i in range(_ROWS):
                total[block + i] += leaf[np.uint32(here[i])]
