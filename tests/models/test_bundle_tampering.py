"""Every way of tampering with a bundle is refused, and the refusal says which."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import onnx
import pytest

from models.bundles import bundle, signing
from models.bundles.registry import Registry
from models.bundles.signing import Trust
from models.core.errors import BundleRefused
from models.formats.graph.header import operator_sets
from tests.models import small


@pytest.fixture(scope="module")
def keys():
    private, public = signing.new_key()
    return signing.private_key(private, "test"), signing.public_key(public, "test")


@pytest.fixture
def signed(tmp_path, keys):
    directory = tmp_path / "fraud"
    bundle.write(str(directory), small.contents(), key=keys[0])
    return directory


@pytest.fixture
def trusted(keys):
    return Trust(keys=(keys[1],))


def refusal(directory: Path, trust: Trust, plan=None) -> str:
    with pytest.raises(BundleRefused) as caught:
        bundle.load(str(directory), trust, plan)
    assert str(directory) in str(caught.value)
    return caught.value.reason


def rewrite(directory: Path, key=None, model: bytes | None = None, **changes) -> None:
    """Change the manifest (and the graph) consistently, as its maker could, and sign again."""
    manifest = json.loads((directory / "manifest.json").read_text())
    if model is not None:
        (directory / "model.onnx").write_bytes(model)
        manifest["files"]["model.onnx"] = hashlib.sha256(model).hexdigest()
    data = json.dumps({**manifest, **changes}).encode()
    (directory / "manifest.json").write_bytes(data)
    if key is not None:
        (directory / "signature.json").write_bytes(signing.sign(data, key))


def test_untouched_bundle_loads(signed, trusted):
    assert bundle.load(str(signed), trusted, small.plan()).version.name == "fraud"


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "card.md"])
def test_altered_file(signed, trusted, name):
    file = signed / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert refusal(signed, trusted) == f"{name} was altered: its SHA-256 is not the manifest's"


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "card.md"])
def test_missing_file(signed, trusted, name):
    (signed / name).unlink()
    assert refusal(signed, trusted) == f"{name} is missing"


def test_added_file(signed, trusted):
    (signed / "extra.bin").write_bytes(b"x")
    assert refusal(signed, trusted) == "extra.bin is not listed in manifest.json"


@pytest.mark.parametrize("change", [{"thresholds": {"cheapest": 0.99}}, {"version": "2"}, {"baseline": {}}])
def test_altered_manifest(signed, trusted, change):
    rewrite(signed, **change)
    reason = refusal(signed, trusted)
    assert "manifest" in reason


def test_manifest_with_one_more_blank(signed, trusted):
    file = signed / "manifest.json"
    file.write_bytes(file.read_bytes() + b" ")
    assert "the manifest or the signature was altered" in refusal(signed, trusted)


def test_manifest_that_is_none(signed, trusted):
    (signed / "manifest.json").write_text("[]")
    assert "manifest.json is not a manifest" in refusal(signed, trusted)


def test_signature_removed(signed, trusted):
    (signed / "signature.json").unlink()
    assert "it is not signed, and `fraud` is not among the models allowed unsigned" in refusal(
        signed, trusted
    )
    allowed = Trust(allow_unsigned=frozenset({"fraud"}))
    assert bundle.load(str(signed), allowed, small.plan()).version.version == "1"


def test_unsigned_is_allowed_for_that_name_only(signed):
    (signed / "signature.json").unlink()
    assert "not signed" in refusal(signed, Trust(allow_unsigned=frozenset({"other"})))


def test_signature_altered(signed, trusted):
    file = signed / "signature.json"
    content = json.loads(file.read_text())
    content["signature"] = content["signature"][4:8] + content["signature"][4:]
    file.write_text(json.dumps(content))
    assert "the manifest or the signature was altered" in refusal(signed, trusted)


def test_signed_by_another_key(signed, trusted):
    other, _ = signing.new_key()
    bundle.sign(str(signed), signing.private_key(other, "other"))
    assert "which is not trusted" in refusal(signed, trusted)


def test_a_trusted_keys_name_on_another_keys_signature(signed, trusted, keys):
    other, _ = signing.new_key()
    forged = json.loads(
        signing.sign((signed / "manifest.json").read_bytes(), signing.private_key(other, "x"))
    )
    forged["key"] = signing.key_id(keys[1])
    (signed / "signature.json").write_text(json.dumps(forged))
    assert "the manifest or the signature was altered" in refusal(signed, trusted)


def test_no_trusted_key(signed):
    assert "not trusted; trusted: none" in refusal(signed, Trust())


def test_a_signature_counts_even_where_unsigned_is_allowed(signed):
    assert "not trusted" in refusal(signed, small.TRUST)


def test_other_plan(signed, trusted, keys):
    rewrite(signed, keys[0], plan="0123456789abcdef")
    assert "made for feature plan 0123456789abcdef" in refusal(signed, trusted, small.plan())


def test_other_source(signed, trusted, keys):
    rewrite(signed, keys[0], source="loans")
    assert "scores source `loans`" in refusal(signed, trusted, small.plan())


def test_signature_with_a_feature_that_the_plan_lacks(tmp_path, trusted, keys):
    features = ("amount", "n", "unheard")
    contents = small.contents(numeric=features, baseline=dict.fromkeys(features, 0.0))
    contents = bundle.Contents(
        **{**vars(contents), "golden": {**contents.golden, "unheard": contents.golden["ratio"]}}
    )
    bundle.write(str(tmp_path / "b"), contents, key=keys[0])
    assert "the plan has no feature unheard" in refusal(tmp_path / "b", trusted, small.plan())


def test_signature_with_too_few_features(signed, trusted, keys):
    rewrite(signed, keys[0], numeric=["amount", "n"])
    assert "takes 3 numeric features, the manifest's signature has 2" in refusal(signed, trusted)


def test_signature_with_columns_swapped(signed, trusted, keys):
    rewrite(signed, keys[0], numeric=["n", "amount", "ratio"])
    assert "golden row" in refusal(signed, trusted)


def test_other_opset(signed, trusted, keys):
    graph = onnx.load_from_string(small.graph())
    for used in graph.opset_import:
        if used.domain == "":
            used.version -= 1
    rewrite(signed, keys[0], model=graph.SerializeToString())
    assert "model.onnx uses operator sets" in refusal(signed, trusted)


def test_an_opset_that_no_runtime_knows(signed, trusted, keys):
    graph = onnx.load_from_string(small.graph())
    sets = {}
    for used in graph.opset_import:
        used.version = 999
        sets[used.domain or "ai.onnx"] = 999
    rewrite(signed, keys[0], model=graph.SerializeToString(), opset=sets)
    assert "ONNX Runtime cannot load the graph" in refusal(signed, trusted)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_renamed_onnx_is_refused_and_not_run(signed, trusted, keys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rewrite(signed, keys[0], model=pickle.dumps(Bomb()))
    assert "model.onnx is not an ONNX model" in refusal(signed, trusted)
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_under_its_own_name(signed, trusted, keys):
    data = pickle.dumps({"a": 1})
    (signed / "model.pkl").write_bytes(data)
    files = json.loads((signed / "manifest.json").read_text())["files"]
    rewrite(signed, keys[0], model_file="model.pkl", opset={},
            files={**files, "model.pkl": hashlib.sha256(data).hexdigest()})  # fmt: skip
    assert "expected an .onnx or a .skops file" in refusal(signed, trusted)


def test_another_model_with_the_right_shape(signed, trusted, keys):
    rewrite(signed, keys[0], model=small.graph("logistic"),
            opset=operator_sets(small.graph("logistic")))  # fmt: skip
    assert "golden row" in refusal(signed, trusted)


def test_protected_attribute_as_input(tmp_path):
    features = ("amount", "n", "age")
    contents = small.contents(numeric=features, baseline=dict.fromkeys(features, 0.0))
    contents = bundle.Contents(
        **{**vars(contents), "golden": {**contents.golden, "age": contents.golden["ratio"]}}
    )
    bundle.write(str(tmp_path / "b"), contents)
    assert refusal(tmp_path / "b", small.TRUST, small.plan()).startswith("reads age: protected")
    by_name = Trust(allow_unsigned=frozenset({"fraud"}), allow_protected=frozenset({"age"}))
    assert bundle.load(str(tmp_path / "b"), by_name, small.plan()).signature.numeric == features


def test_a_feature_made_from_a_protected_attribute(tmp_path):
    features = ("amount", "n", "age_mean_1d_by_card")
    contents = small.contents(numeric=features, baseline=dict.fromkeys(features, 0.0))
    golden = {**contents.golden, "age_mean_1d_by_card": contents.golden["ratio"]}
    bundle.write(str(tmp_path / "b"), bundle.Contents(**{**vars(contents), "golden": golden}))
    assert "age_mean_1d_by_card: protected" in refusal(tmp_path / "b", small.TRUST, small.plan())


def test_encrypted_files(tmp_path, keys):
    directory, key = tmp_path / "b", b"k" * 32
    bundle.write(str(directory), small.contents(), key=keys[0], encryption_key=key)
    assert sorted(file.name for file in directory.iterdir()) == [
        "card.md.enc", "golden.json.enc", "manifest.json", "model.onnx.enc", "signature.json",
    ]  # fmt: skip
    assert small.graph()[:64] not in (directory / "model.onnx.enc").read_bytes()
    opened = Trust(keys=(keys[1],), decryption_key=key)
    assert bundle.load(str(directory), opened).version.name == "fraud"
    assert "no decryption key is set" in refusal(directory, Trust(keys=(keys[1],)))
    wrong = Trust(keys=(keys[1],), decryption_key=b"x" * 32)
    assert "cannot be decrypted: wrong key, or altered" in refusal(directory, wrong)
    (directory / "card.md.enc").write_bytes((directory / "golden.json.enc").read_bytes())
    assert refusal(directory, opened) == "card.md.enc cannot be decrypted: wrong key, or altered".replace(
        ".enc", ""
    )


def test_nothing_is_there(tmp_path):
    assert refusal(tmp_path / "void", Trust()) == "there is no manifest.json"


@pytest.fixture
def registry(tmp_path, keys):
    """Two versions of `fraud` and one of `other`, all signed by the trusted key."""
    registry = Registry(str(tmp_path / "registry"))
    for name, version in (("fraud", "1"), ("fraud", "2"), ("other", "2")):
        path = registry.path(name, version)
        bundle.write(path, small.contents(name=name, version=version), key=keys[0])
    return registry


@pytest.mark.parametrize(
    "source", [("other", "2"), ("fraud", "1")], ids=["another model", "an older version"]
)
def test_a_signed_bundle_copied_over_another_is_refused(registry, trusted, source):
    target = registry.path("fraud", "2")
    shutil.rmtree(target)
    shutil.copytree(registry.path(*source), target)
    with pytest.raises(BundleRefused, match="it was copied or moved from elsewhere"):
        bundle.load(target, trusted, identity=bundle.Identity(name="fraud", version="2"))


def test_a_name_allowed_unsigned_lets_no_other_model_in(registry, keys):
    target = registry.path("fraud", "3")
    bundle.write(target, small.contents(name="sandbox", version="3"))
    allowed = Trust(keys=(keys[1],), allow_unsigned=frozenset({"sandbox"}))
    with pytest.raises(BundleRefused, match="manifest says sandbox version 3"):
        bundle.load(target, allowed, identity=bundle.Identity(name="fraud", version="3"))


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "model.onnx", "golden.json", "card.md"])
@pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder"])
def test_only_regular_files_are_read(signed, trusted, name, kind):
    file = signed / name
    content = file.read_bytes()
    file.unlink()
    if kind == "link":
        (signed.parent / "elsewhere").write_bytes(content)
        file.symlink_to(signed.parent / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        file.mkdir()
    assert refusal(signed, trusted) == f"{name} is not a regular file"


def test_a_file_too_long_to_be_read(signed, trusted, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", (signed / "golden.json").stat().st_size - 1)
    assert "bytes; at most" in refusal(signed, trusted)
