"""Writes and loads bundles: a directory with a graph, its manifest, golden rows, card and signature.

    manifest.json  signature.json  model.onnx  golden.json  card.md  ...

`load` believes nothing: signature, SHA-256 of every file, operator sets, plan, inputs and golden
rows are checked before the model is given out, and a refusal says which check failed
(tests/models/test_bundle_tampering.py). A path may be any fsspec URL. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import fsspec
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from features.core.batch import FeatureMatrix, Floats
from features.definitions.plan import Plan
from models.bundles import golden, plan_check, signing
from models.bundles.signing import ENCRYPTED, Trust
from models.core import manifest
from models.core.base import ModelInputs, ModelVersion, Signature
from models.core.errors import BundleRefused
from models.core.inputs import from_matrix
from models.core.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from models.formats import runners
from models.formats.graph.header import operator_sets
from models.formats.runners import OpenedModel, Runner

CARD_FILE = "card.md"
MAX_FILE_BYTES = 1 << 30
"""A longer file of a bundle is refused before it is read; forests of a few thousand trees have a tenth of it."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a trainer gives to `write`.

    `manifest` may leave `files`, `opset` and `version` empty: they are filled in. `golden` has a
    column for each input; `golden_scores` are those of the library that trained the model.
    """

    manifest: Manifest
    model: bytes
    golden: golden.GoldenColumns
    golden_scores: Sequence[float]
    card: str = ""
    more: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A verified bundle, ready to score; safe to share between threads."""

    manifest: Manifest
    version: ModelVersion
    runner: Runner
    exact: bool = False

    @property
    def signature(self) -> Signature:
        """The model's inputs."""
        return replace(self.manifest.signature, exact=self.exact)

    @property
    def baseline(self) -> Mapping[str, float | str | None]:
        """The ordinary value of each input."""
        return self.manifest.baseline

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Named operating points, chosen at training."""
        return self.manifest.thresholds

    def score(self, features: FeatureMatrix) -> Floats:
        """float64[n]: probability of the bad outcome for each row."""
        return self.runner.run(from_matrix(features, self.signature))

    def score_inputs(self, inputs: ModelInputs) -> Floats:
        """The same, for inputs picked and changed by the caller (reasons)."""
        return self.runner.run(inputs)


def write(
    directory: str,
    contents: Contents,
    *,
    key: Ed25519PrivateKey | None = None,
    encryption_key: bytes | None = None,
) -> Manifest:
    """Write a bundle; refuses when the graph does not give the golden scores, or the directory holds a bundle.

    The manifest comes last, so a half-written bundle is none. With `encryption_key`, every file but
    manifest and signature is encrypted; hashes are those of the plain bytes.
    """
    fs, root = _open(directory)
    if fs.exists(f"{root}/{MANIFEST_FILE}"):
        raise BundleRefused(directory, "there is a bundle already; versions are immutable")
    files, described, data = assemble(contents, directory)
    fs.makedirs(root, exist_ok=True)
    for name, content in files.items():
        if encryption_key is None:
            fs.pipe_file(f"{root}/{name}", content)
        else:
            fs.pipe_file(f"{root}/{name}{ENCRYPTED}", signing.encrypt(name, content, encryption_key))
    if key is not None:
        fs.pipe_file(f"{root}/{SIGNATURE_FILE}", signing.sign(data, key))
    fs.pipe_file(f"{root}/{MANIFEST_FILE}", data)
    return described


def assemble(contents: Contents, where: str) -> tuple[dict[str, bytes], Manifest, bytes]:
    """The files, the finished manifest and its bytes; refuses what `load` would refuse."""
    signature = contents.manifest.signature
    rows = golden.encode(contents.golden, contents.golden_scores, signature)
    files = {contents.manifest.model_file: contents.model, golden.GOLDEN_FILE: rows, **contents.more}
    if contents.card:
        files[CARD_FILE] = contents.card.encode()
    described = msgspec.structs.replace(
        contents.manifest,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        opset=_opset(contents.manifest.model_file, contents.model, where),
    )
    if not described.version:
        described = msgspec.structs.replace(described, version=manifest.content_version(described))
    data = manifest.encode(described)
    _ready(manifest.decode(data, where), files, where)
    return files, described, data


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What the directory of a bundle says that it is: the registry's name and version."""

    name: str
    version: str


def load(
    directory: str, trust: Trust, plan: Plan | None = None, *, identity: Identity | None = None
) -> LoadedModel:
    """Load and check a bundle; with `plan`, it must have been made for it. Raises BundleRefused.

    With `identity`, a bundle of another name or version is refused before anything else of it is believed: a signed
    bundle copied over another would otherwise be served in its place.
    """
    described, data, files = read(directory, trust, identity)
    if plan is not None:
        plan_check.check(described, plan, trust, directory)
    runner = _ready(described, files, directory)
    return LoadedModel(described, manifest.version_of(described, data), runner, runner.exact)


def read(
    directory: str, trust: Trust, identity: Identity | None = None
) -> tuple[Manifest, bytes, dict[str, bytes]]:
    """Manifest, its bytes and all files, with identity, signature and hashes checked; nothing is run."""
    fs, root = _open(directory)
    names = _list(fs, root)
    if MANIFEST_FILE not in names:
        raise BundleRefused(directory, f"there is no {MANIFEST_FILE}")
    data = _content(fs, root, MANIFEST_FILE, directory)
    described = manifest.decode(data, directory)
    if identity is not None and (described.name, described.version) != (identity.name, identity.version):
        raise BundleRefused(
            directory,
            f"its manifest says {described.name} version {described.version}, but {identity.name} version"
            f" {identity.version} "
            "stands here: it was copied or moved from elsewhere",
        )
    if SIGNATURE_FILE in names:
        signing.verify(data, _content(fs, root, SIGNATURE_FILE, directory), trust, directory)
    elif described.name not in trust.allow_unsigned:
        raise BundleRefused(
            directory, f"it is not signed, and `{described.name}` is not among the models allowed unsigned"
        )
    return described, data, _read_files(fs, root, described, names, trust, directory)


def describe(directory: str) -> Manifest:
    """The manifest alone, believed as it stands; for listings."""
    fs, root = _open(directory)
    try:
        return manifest.decode(fs.cat_file(f"{root}/{MANIFEST_FILE}"), directory)
    except FileNotFoundError as error:
        raise BundleRefused(directory, f"there is no {MANIFEST_FILE}") from error


def sign(directory: str, key: Ed25519PrivateKey) -> None:
    """Sign, or sign anew, a bundle whose files fit its manifest."""
    fs, root = _open(directory)
    data: bytes = fs.cat_file(f"{root}/{MANIFEST_FILE}")
    fs.pipe_file(f"{root}/{SIGNATURE_FILE}", signing.sign(data, key))


def _read_files(
    fs: Any, root: str, described: Manifest, names: set[str], trust: Trust, where: str
) -> dict[str, bytes]:
    allowed = {
        MANIFEST_FILE,
        SIGNATURE_FILE,
        *described.files,
        *(name + ENCRYPTED for name in described.files),
    }
    unlisted = sorted(names - allowed)
    if unlisted:
        raise BundleRefused(where, f"{', '.join(unlisted)} is not listed in {MANIFEST_FILE}")
    files: dict[str, bytes] = {}
    for name, digest in described.files.items():
        if name not in names and name + ENCRYPTED not in names:
            raise BundleRefused(where, f"{name} is missing")
        if name in names:
            content = _content(fs, root, name, where)
        else:
            content = signing.decrypt(name, _content(fs, root, name + ENCRYPTED, where), trust, where)
        if hashlib.sha256(content).hexdigest() != digest:
            raise BundleRefused(where, f"{name} was altered: its SHA-256 is not the manifest's")
        files[name] = content
    return files


def _content(fs: Any, root: str, name: str, where: str) -> bytes:
    """A regular file's bytes. Links, pipes and devices are refused, and so is what is too long to be read."""
    entry = fs.info(f"{root}/{name}")
    mode = entry.get("mode")
    irregular = (
        entry.get("islink") or entry["type"] != "file" or (mode is not None and not stat.S_ISREG(mode))
    )
    if irregular:
        raise BundleRefused(where, f"{name} is not a regular file")
    if (entry["size"] or 0) > MAX_FILE_BYTES:
        raise BundleRefused(where, f"{name} has {entry['size']:,} bytes; at most {MAX_FILE_BYTES:,} are read")
    content: bytes = fs.cat_file(f"{root}/{name}")
    return content


def _ready(described: Manifest, files: Mapping[str, bytes], where: str) -> OpenedModel:
    for name in (described.model_file, golden.GOLDEN_FILE):
        if name not in files:
            raise BundleRefused(where, f"{MANIFEST_FILE} does not list {name}")
    data = files[described.model_file]
    opset = _opset(described.model_file, data, where)
    if opset != described.opset:
        raise BundleRefused(
            where,
            f"{described.model_file} uses operator sets {opset}, {MANIFEST_FILE} says {described.opset}",
        )
    runner = runners.open_runner(data, described, where)
    inputs, expected = golden.decode(
        files[golden.GOLDEN_FILE], replace(described.signature, exact=runner.exact), where
    )
    golden.check(runners.try_run(runner, inputs, where), expected, where)
    return runner


def _opset(name: str, data: bytes, where: str) -> dict[str, int]:
    if not name.endswith(".onnx"):
        return {}
    try:
        return operator_sets(data)
    except ValueError as error:
        raise BundleRefused(where, f"{name} is not an ONNX model: {error}") from error


def _open(directory: str) -> tuple[Any, str]:
    fs, root = fsspec.core.url_to_fs(str(directory))
    return fs, str(root).rstrip("/")


def _list(fs: Any, root: str) -> set[str]:
    try:
        return {str(path).rsplit("/", 1)[-1] for path in fs.ls(root, detail=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
