"""Tensors: flat, nested and binary ones mean the same; every wrong one is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.core.base import Signature
from stream.service.problems import Problem
from stream.service.schemas import InferRequest
from stream.service.scoring.tensors import attach_binary, inputs_of, split_binary

SIGNATURE = Signature(numeric=("amount", "age"), categorical=("country",), plan="p", source="s")


def request(**tensors: dict[str, Any]) -> InferRequest:
    return InferRequest.model_validate({"inputs": [{"name": name, **body} for name, body in tensors.items()]})


COUNTRY = {"shape": [2, 1], "datatype": "BYTES", "data": ["NL", None]}
MATRIX = {"shape": [2, 2], "datatype": "FP32", "data": [[1.5, 2], [3, 4]]}


@pytest.mark.parametrize("data", [[1.5, 2, 3, 4], [[1.5, 2], [3, 4]]])
def test_flat_and_nested_data_mean_the_same(data: list[Any]) -> None:
    values, strings = inputs_of(request(features={**MATRIX, "data": data}, country=COUNTRY), SIGNATURE)
    np.testing.assert_array_equal(values, [[1.5, 2], [3, 4]])
    assert strings == {"country": ["NL", None]}


def test_a_tensor_a_feature_means_the_same() -> None:
    made = request(
        age={"shape": [2, 1], "datatype": "INT64", "data": [2, 4]},
        country=COUNTRY,
        amount={"shape": [2], "datatype": "FP64", "data": [1.5, 3.0]},
    )
    np.testing.assert_array_equal(inputs_of(made, SIGNATURE)[0], [[1.5, 2], [3, 4]])


def test_binary_tensors_mean_the_same() -> None:
    tail = np.array([[1.5, 2], [3, 4]], "<f4").tobytes() + b"\x02\x00\x00\x00NL\x00\x00\x00\x00"
    document = {
        "inputs": [
            {"name": "features", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}},
            {"name": "country", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 10}},
        ]
    }
    made = InferRequest.model_validate(attach_binary(document, tail))
    values, strings = inputs_of(made, SIGNATURE)
    np.testing.assert_array_equal(values, [[1.5, 2], [3, 4]])
    assert strings == {"country": ["NL", ""]}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"features": {**MATRIX, "shape": [2, 3]}}, "shape"),
        ({"features": {**MATRIX, "data": [1, 2, 3]}}, "data"),
        ({"features": {**MATRIX, "data": [1, 2, 3, "x"]}}, r"data\[3\]"),
        ({"features": {**MATRIX, "data": [1, 2, 3, 1e300]}}, r"data\[3\]"),
        ({"features": {**MATRIX, "data": [1, 2, 3, 10**400]}}, "data"),
        ({"features": {**MATRIX, "datatype": "FP31"}}, "datatype"),
        ({"country": {**COUNTRY, "data": ["NL"]}}, "shape"),
        ({"country": {**COUNTRY, "data": ["NL", 5]}}, r"data\[1\]"),
        ({"country": {**COUNTRY, "datatype": "FP32"}}, "datatype"),
        ({"colour": COUNTRY}, "name"),
    ],
)
def test_a_wrong_tensor_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(Problem, match=place) as caught:
        inputs_of(request(**{"features": MATRIX, "country": COUNTRY, **change}), SIGNATURE)
    assert caught.value.status == 400


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5)))
def test_no_bytes_break_the_parser(body: bytes, header: str | None) -> None:
    try:
        attach_binary(*split_binary(body, header))
    except Problem as problem:
        assert problem.status == 400
