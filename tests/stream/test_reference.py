"""The reference pages say what the code says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
spec = importlib.util.spec_from_file_location("reference_generator", ROOT / "tools" / "reference.py")
assert spec is not None and spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)

PAGES = generate.pages()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name):
    assert (FOLDER / name).read_text() == PAGES[name], "run: python tools/reference.py"


def test_no_schema_is_left_over():
    assert {f"schemas/{file.name}" for file in (FOLDER / "schemas").iterdir()} == {
        name for name in PAGES if name.startswith("schemas/")
    }


def test_schemas_hold_every_field():
    from stream.codecs.contracts import Alert

    schema = json.loads(PAGES["schemas/alert.json"])
    assert set(schema["$defs"]["Alert"]["required"]) == set(Alert.__struct_fields__)


def test_the_asyncapi_document_refers_to_what_is_there():
    document = json.loads(PAGES["asyncapi.json"])
    assert set(document["channels"]) == {"transactions", "chargebacks", "alerts", "decisions", "dead_letters"}
    for name, channel in document["channels"].items():
        assert channel["messages"][name]["$ref"] == f"#/components/messages/{name}"
    for message in document["components"]["messages"].values():
        target = message["payload"].get("$ref")
        assert target is None or (FOLDER / target).exists()
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].split("/")[-1] in document["channels"]
