"""The manifest of a bundle: what the model is, what it needs, and the SHA-256 of every file.

The bytes of `manifest.json` are what is signed, and their SHA-256 names the bundle in every decision.
Nothing in it depends on the clock, so the same training gives the same manifest.
"""

from __future__ import annotations

import hashlib

import msgspec

from models.core.base import ModelVersion, Signature
from models.core.errors import BundleRefused

FORMAT = 1
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Scores (or values) seen in training: `counts[i]` lie in `edges[i]`..`edges[i + 1]`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class TrainingWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Event times (microseconds since 1970 UTC) and size of the training set."""

    start: int
    end: int
    rows: int
    positives: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a model but its graph.

    `baseline` gives each input's ordinary value: what a reason compares with. `thresholds` are named
    operating points that a policy may refer to. `constraints` says for monotone features whether the
    score rises (1) or falls (-1) with them. `features` are histograms of inputs, for drift.
    `fill` gives the value of a numeric input where an event has none.
    `input` names the graph's numeric matrix, `output` the probability of the bad outcome.
    """

    name: str
    version: str
    algorithm: str
    source: str
    plan: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    baseline: dict[str, float | str | None]
    files: dict[str, str]
    model_file: str = "model.onnx"
    input: str = "features"
    output: str = ""
    opset: dict[str, int] = {}
    thresholds: dict[str, float] = {}
    constraints: dict[str, int] = {}
    training: TrainingWindow | None = None
    metrics: dict[str, float] = {}
    scores: Histogram | None = None
    features: dict[str, Histogram] = {}
    settings: dict[str, str] = {}
    fill: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    format: int = FORMAT

    @property
    def signature(self) -> Signature:
        """The model's input, as the rest of riskstream sees it."""
        return Signature(
            numeric=self.numeric, categorical=self.categorical, plan=self.plan, source=self.source
        )


def encode(manifest: Manifest) -> bytes:
    """The canonical bytes: sorted keys, indented, one newline at the end."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def decode(data: bytes, where: str) -> Manifest:
    """Read and check a manifest; `where` names the bundle in a refusal."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleRefused(where, f"{MANIFEST_FILE} is not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise BundleRefused(
            where, f"{MANIFEST_FILE} has format {manifest.format}, this riskstream reads {FORMAT}"
        )
    unnamed = [n for n in (*manifest.numeric, *manifest.categorical) if n not in manifest.baseline]
    if unnamed:
        raise BundleRefused(where, f"{MANIFEST_FILE} gives no baseline for {', '.join(unnamed)}")
    return manifest


def version_of(manifest: Manifest, data: bytes) -> ModelVersion:
    """What decisions carry of a bundle."""
    return ModelVersion(name=manifest.name, version=manifest.version, sha256=hashlib.sha256(data).hexdigest())


def content_version(manifest: Manifest) -> str:
    """A version drawn from the content, for bundles whose maker names none: 12 hex digits."""
    blank = msgspec.structs.replace(manifest, version="")
    return hashlib.sha256(encode(blank)).hexdigest()[:12]
