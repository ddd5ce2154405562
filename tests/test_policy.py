"""cimq.policy: forms, binding, files and what is refused."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimq.policy import LayerBits, LayerMachine, Policy

pairs = st.tuples(st.integers(1, 8), st.integers(1, 8))
named = st.dictionaries(st.text(min_size=1, max_size=10), pairs, min_size=1, max_size=8).map(Policy)
positional = st.lists(pairs, min_size=1, max_size=8).map(Policy.from_pairs)
uniform = st.builds(Policy.uniform, st.integers(1, 8), st.integers(1, 8))


@settings(max_examples=100)
@given(named | positional | uniform)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, policy: Policy) -> None:
    path = tmp_path_factory.getbasetemp() / "policy.json"
    policy.save(path)
    for other in (Policy.load(path), copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert other == policy
        assert hash(other) == hash(policy)
        assert (other.names, other.is_uniform) == (policy.names, policy.is_uniform)
    if not policy.is_uniform:
        policy.save(path.with_suffix(".npy"))
        assert Policy.load(path.with_suffix(".npy")) == Policy.from_pairs(policy.pairs())


def test_order_is_kept() -> None:
    policy = Policy({"z": (8, 8), "a": LayerBits(2, 3), "m": (4, 4)})
    assert list(policy) == list(policy.keys()) == ["z", "a", "m"]
    assert policy.pairs() == [(8, 8), (2, 3), (4, 4)]
    assert policy.items()[1] == ("a", LayerBits(2, 3))
    assert (policy[1], policy["a"], len(policy)) == ((2, 3), (2, 3), 3)
    assert "a" in policy
    assert "b" not in policy
    assert policy != Policy({"a": (2, 3), "z": (8, 8), "m": (4, 4)})


def test_bind() -> None:
    assert Policy.uniform(4, 6).bind(["a", "b"]) == Policy({"a": (4, 6), "b": (4, 6)})
    assert Policy.uniform(4, 6).bind(["a", "b", "c"], first_last_bits=8).pairs() == [(8, 8), (4, 6), (8, 8)]
    assert Policy.from_pairs([(1, 2), (3, 4)]).bind(["x", "y"])["y"] == (3, 4)
    assert list(Policy({"b": (1, 1), "a": (2, 2)}).bind(["a", "b"]).items()) == [("a", (2, 2)), ("b", (1, 1))]
    with pytest.raises(ValueError, match="2 rows of bits do not fit 3 layers"):
        Policy.from_pairs([(1, 2), (3, 4)]).bind(["x", "y", "z"])
    with pytest.raises(ValueError, match="lacks 'y' and has 'q'"):
        Policy({"x": (1, 1), "q": (2, 2)}).bind(["x", "y"])
    with pytest.raises(ValueError, match="layer names must differ"):
        Policy.uniform(4, 4).bind(["x", "x"])
    with pytest.raises(ValueError, match="first_last_bits: weight_bits must be an integer from 1 to 8, got 9"):
        Policy.uniform(4, 4).bind(["x"], first_last_bits=9)


def test_replace() -> None:
    policy = Policy({"a": (8, 8), "b": (4, 4)})
    assert policy.replace({"b": (2, 3)}).pairs() == [(8, 8), (2, 3)]
    assert policy["b"] == (4, 4)
    with pytest.raises(ValueError, match="no layer 'c'; there are: a, b"):
        policy.replace({"c": (1, 1)})
    with pytest.raises(ValueError, match="no layer names yet"):
        Policy.uniform(4, 4).replace({"c": (1, 1)})


def test_forms_without_names_say_what_is_missing() -> None:
    policy = Policy.uniform(4, 5)
    assert policy["any layer"] == (4, 5)
    assert "any layer" in policy
    assert bool(policy)
    for use in (policy.pairs, policy.items, lambda: len(policy), lambda: list(policy)):
        with pytest.raises(ValueError, match=r"use bind\(names\) first"):
            use()
    with pytest.raises(ValueError, match=r"no layer names yet \(asked for 'a'\)"):
        Policy.from_pairs([(1, 1)])["a"]
    with pytest.raises(KeyError, match="no layer 'b'; there are: a"):
        Policy({"a": (1, 1)})["b"]
    assert repr(policy) == "Policy.uniform(4, 5)"
    assert repr(Policy.from_pairs([(1, 2)])) == "Policy.from_pairs([(1, 2)])"
    assert repr(Policy({"a": (1, 2)})) == "Policy({'a': (1, 2)})"


@pytest.mark.parametrize("value", [0, 9, -1, True, 4.0, "4", None, np.bool_(True), 10**30])
def test_bits_outside_1_to_8_are_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="uniform: act_bits must be an integer from 1 to 8, got"):
        Policy.uniform(4, value)
    with pytest.raises(ValueError, match="layer 'fc': weight_bits must be an integer from 1 to 8, got"):
        Policy({"fc": (value, 4)})
    with pytest.raises(ValueError, match="row 1: weight_bits must be an integer from 1 to 8, got"):
        Policy.from_pairs([(4, 4), (value, 4)])


@pytest.mark.parametrize("pair", [(4,), (4, 4, None, None, 4), 4, "44", None])
def test_a_pair_is_two_numbers(pair: Any) -> None:
    with pytest.raises(ValueError, match=r"layer 'fc' must be a pair \(weight bits, activation bits\), got"):
        Policy({"fc": pair})


def test_numpy_integers_are_welcome() -> None:
    assert Policy.from_pairs(np.array([[8, 8], [4, 5]])[:, :].tolist()) == Policy.from_pairs([[8, 8], [4, 5]])
    assert type(Policy.uniform(np.int64(4), 4)["x"].weight_bits) is int  # type: ignore[arg-type]


def test_empty_policies_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Policy({})
    with pytest.raises(ValueError, match="at least one layer"):
        Policy.from_pairs([])
    with pytest.raises(TypeError, match="takes a mapping"):
        Policy([(4, 4)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a layer name must be a text, got 3"):
        Policy({3: (4, 4)})  # type: ignore[dict-item]


def test_plain_json_forms(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"conv1": [8, 8], "fc": [4, 5]}')
    assert Policy.load(path) == Policy({"conv1": (8, 8), "fc": (4, 5)})
    path.write_text("[[8, 8], [4, 5]]")
    assert Policy.load(str(path)) == Policy.from_pairs([(8, 8), (4, 5)])


def test_cim_aq_file(tmp_path: Path) -> None:
    """CIM-AQ stores int64 [layers, 2], weight bits first."""
    np.save(tmp_path / "best_policy.npy", np.array([[8, 8], [4, 5], [4, 3]], dtype=np.int64))
    assert Policy.load(tmp_path / "best_policy.npy").pairs() == [(8, 8), (4, 5), (4, 3)]


class Boom:
    def __reduce__(self) -> Any:
        return os.abort, ()


def npy_bytes(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy_bytes(np.array([Boom()], dtype=object), allow_pickle=True), r"not a readable \.npy of integers"),
        (npy_bytes(np.zeros((3, 2))), r"must hold integers \[layers, 2\], got float64 \[3, 2\]"),
        (npy_bytes(np.zeros((3, 3), dtype=np.int64)), r"got int64 \[3, 3\]"),
        (npy_bytes(np.zeros(4, dtype=np.int64)), r"got int64 \[4\]"),
        (npy_bytes(np.zeros((2, 2), dtype=np.int64)), "row 0: weight_bits must be an integer from 1 to 8, got 0"),
        (npy_bytes(np.full((2, 2), 4))[:-1], "not a readable"),
        (npy_bytes(np.full((2, 2), 4)).replace(b"(2, 2)", b"(9999999999999, 2)"), "not a readable"),
        (npy_bytes(np.full((2, 2), 4))[:20], "not a readable"),
        (b"", "not a readable"),
        (b"\x80\x04.", "not a readable"),
        (b"PK\x03\x04junk", "not a readable"),
    ],
)
def test_damaged_npy(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "p.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        Policy.load(path)
    assert str(path) in str(caught.value)


def test_npz_and_large_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", a=np.full((2, 2), 4))
    (tmp_path / "p.npz").rename(tmp_path / "p.npy")
    with pytest.raises(ValueError, match=r"does not begin as a \.npy file"):
        Policy.load(tmp_path / "p.npy")
    with open(tmp_path / "q.npy", "wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(ValueError, match="far more than a policy"):
        Policy.load(tmp_path / "q.npy")


HEAD = {"schema": "cimq.policy", "version": "1.0.0"}
ROW = {"name": "a", "weight_bits": 4, "act_bits": 4}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (3, "must hold an object or a list"),
        ({**HEAD, "schema": "cimq.hardware", "layers": [ROW]}, "schema must be 'cimq.policy', got 'cimq.hardware'"),
        ({**HEAD, "version": "2.0.0", "layers": [ROW]}, r"version must be 1\.x\.y, got '2\.0\.0'"),
        ({"schema": "cimq.policy", "layers": [ROW]}, "got None"),
        ({**HEAD}, "one of uniform, layers"),
        ({**HEAD, "layers": [ROW], "extra": 1}, "one of uniform, layers; got extra, layers"),
        ({**HEAD, "layers": {}}, "layers must be a list, got dict"),
        ({**HEAD, "layers": [ROW | {"adc_bits": 6}]}, r"version 1\.0\.0 knows no adc_bits and no mapping"),
        ({**HEAD, "uniform": {"weight_bits": 4, "act_bits": 4, "mapping": "offset"}}, r"version 1\.0\.0 knows no"),
        ({**HEAD, "layers": [ROW, ROW]}, "layer 'a' is given twice"),
        ({**HEAD, "layers": [ROW, {"weight_bits": 4, "act_bits": 4}]}, "either all layers have a name or none"),
        (
            {**HEAD, "layers": [{**ROW, "bits": 3}]},
            r"layers\[0\] must be an object with weight_bits and act_bits and name",
        ),
        ({**HEAD, "layers": [{**ROW, "name": 3}]}, r"layers\[0\]\.name must be a text, got 3"),
        ({**HEAD, "layers": [{**ROW, "act_bits": 99}]}, "layer 'a': act_bits must be an integer from 1 to 8, got 99"),
        ({**HEAD, "uniform": [4, 4]}, "uniform must be an object with weight_bits and act_bits, got"),
        ({"conv1": [4]}, "layer 'conv1' must be a pair"),
        ([[4, 4], 3], "row 1 must be a pair"),
    ],
)
def test_wrong_json(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason) as caught:
        Policy.load(path)
    assert str(path) in str(caught.value)


def test_files_and_suffixes(tmp_path: Path) -> None:
    for name in ("none.json", "none.npy"):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            Policy.load(tmp_path / name)
    with pytest.raises(ValueError, match=r"a policy is a \.json or a \.npy file"):
        Policy.load(tmp_path / "p.txt")
    with pytest.raises(ValueError, match=r"saved as \.json or \.npy"):
        Policy.uniform(4, 4).save(tmp_path / "p.txt")
    with pytest.raises(ValueError, match="a uniform policy has no rows"):
        Policy.uniform(4, 4).save(tmp_path / "p.npy")
    (tmp_path / "p.json").write_text('{"a": [4, 4], "a": [8, 8]}')
    with pytest.raises(ValueError, match="key 'a' is given twice"):
        Policy.load(tmp_path / "p.json")
    assert not list(tmp_path.glob(".p*"))


CHOOSING = {"a": (8, 8, 6), "b": (4, 5), "c": (2, 3, None, "offset"), "d": (1, 1, 4, "differential_row")}


def test_layers_choose_of_the_machine(tmp_path: Path) -> None:
    policy = Policy(CHOOSING)
    assert policy.pairs() == [(8, 8), (4, 5), (2, 3), (1, 1)]
    assert policy.rows() == list(CHOOSING.values())
    assert policy.machines()[0] == policy.machine("a") == LayerMachine(6)
    assert (policy.machine(2), policy.machine("b")) == (LayerMachine(None, "offset"), LayerMachine())
    weight_bits, act_bits = policy["a"]
    assert (weight_bits, act_bits, policy["a"]) == (8, 8, LayerBits(8, 8))
    assert policy.chooses_machines
    plain = Policy({name: row[:2] for name, row in CHOOSING.items()})
    assert plain != policy
    assert not plain.chooses_machines
    assert plain == Policy({name: (*row[:2], None, None) for name, row in CHOOSING.items()})
    assert repr(policy).startswith("Policy({'a': (8, 8, 6), 'b': (4, 5), 'c'")
    assert eval(repr(policy)) == policy
    for other in (
        copy.deepcopy(policy),
        pickle.loads(pickle.dumps(policy)),
        Policy.from_pairs(policy.rows()).bind("abcd"),
    ):
        assert (other, hash(other)) == (policy, hash(policy))
    path = tmp_path / "p.json"
    policy.save(path)
    assert Policy.load(path) == policy
    content = json.loads(path.read_text())
    assert content["version"] == "1.1.0"
    assert content["layers"][:2] == [
        {"name": "a", "weight_bits": 8, "act_bits": 8, "adc_bits": 6},
        {"name": "b", "weight_bits": 4, "act_bits": 5},
    ]
    plain.save(path)
    assert json.loads(path.read_text())["version"] == "1.0.0"
    path.write_text(json.dumps(CHOOSING))
    assert Policy.load(path) == policy
    path.write_text(json.dumps(list(CHOOSING.values())))
    assert Policy.load(path).bind(list(CHOOSING)) == policy
    with pytest.raises(ValueError, match=r"\.npy holds .* alone, and row 0 chooses 6-bit converters: save it as"):
        policy.save(tmp_path / "p.npy")


def test_choices_of_uniform_and_replaced_policies(tmp_path: Path) -> None:
    policy = Policy.uniform(4, 4, adc_bits=6, mapping="offset")
    assert policy.bind(["x", "y"], first_last_bits=8).rows() == [(8, 8, 6, "offset")] * 2
    policy.save(tmp_path / "p.json")
    assert Policy.load(tmp_path / "p.json") == policy != Policy.uniform(4, 4)
    assert repr(policy) == "Policy.uniform(4, 4, 6, 'offset')"
    named = Policy(CHOOSING)
    assert named.replace({"a": (2, 2), "c": (2, 3, 5)}).rows() == [
        (2, 2, 6),
        (4, 5),
        (2, 3, 5),
        (1, 1, 4, "differential_row"),
    ]
    assert named.bind(["d", "c", "b", "a"]).rows() == list(reversed(CHOOSING.values()))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((4, 4, 0), "adc_bits must be null or an integer from 1 to 16, got 0"),
        ((4, 4, 17), "adc_bits must be null or an integer from 1 to 16, got 17"),
        ((4, 4, True), "adc_bits must be null or an integer from 1 to 16, got True"),
        ((4, 4, "offset"), "adc_bits must be null or an integer from 1 to 16, got 'offset'"),
        (
            (4, 4, 4, "column"),
            "mapping must be null or one of differential_column, differential_row, offset, got 'column'",
        ),
        ((4, 4, 4, ["offset"]), r"mapping must be null or one of .*, got \['offset'\]"),
    ],
)
def test_impossible_choices(row: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=f"layer 'fc': {reason}"):
        Policy({"fc": row})
