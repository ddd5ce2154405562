"""SearchSpace: what may be chosen, and what one policy is called."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cimq
from cimq._C import Reinforce
from cimq.cost_model import LayerShape, latency
from cimq.policy import Policy
from cimq.policy_search import SearchSpace

SHAPES = [
    LayerShape("first", "conv2d", 64, 147, 100),
    LayerShape("narrow", "conv2d", 64, 576, 50),
    LayerShape("wide", "conv2d", 200, 576, 50),
    LayerShape("last", "linear", 10, 200, 1),
]


def test_defaults_fix_the_ends_and_drop_dominated_widths() -> None:
    space = SearchSpace(SHAPES)
    ends = [space.slots[0], space.slots[-1]]
    assert all(slot.weight_choices == (8,) and slot.act_choices == (8,) for slot in ends)
    assert space.slots[1].weight_choices == (8,)  # 64 outputs fill one array with any width up to 8
    assert space.slots[2].weight_choices == (4, 8)  # cells of 4 bits
    assert space.slots[2].act_choices == tuple(range(2, 9))
    assert space.size == 7 * 2 * 7


def test_dominance_holds_for_every_pair() -> None:
    space = SearchSpace(SHAPES, "paper-2b", bits=(1, 8), first_last_bits=None)
    for slot in space.slots:
        for pair, kept in slot.canonical.items():
            assert kept[0] >= pair[0]
            assert kept[1] >= pair[1]
            assert slot.cost[kept] <= slot.cost[pair]
            assert slot.canonical[kept] == kept
        for w, a in set(slot.canonical.values()):
            rivals = [p for p in slot.cost if p != (w, a) and p[0] >= w and p[1] >= a]
            assert all(slot.cost[p] > slot.cost[w, a] for p in rivals)


def test_activation_widths_collapse_with_multi_bit_drivers() -> None:
    from cimq.hardware import Hardware

    space = SearchSpace(SHAPES, Hardware.preset("paper").replace(dac_bits=4))
    assert space.slots[2].act_choices == (4, 8)


@given(st.lists(st.tuples(st.integers(2, 8), st.integers(2, 8)), min_size=4, max_size=4))
def test_canonical_policies_cost_no_more_and_are_fixed_points(pairs: list[tuple[int, int]]) -> None:
    space = SearchSpace(SHAPES, first_last_bits=None)
    key = space.canonical(pairs)
    assert space.time_us(key) <= space.time_us(pairs)
    assert space.canonical(key) == key
    assert all(k[0] >= p[0] and k[1] >= p[1] for k, p in zip(key, pairs, strict=True))


def test_time_and_speedup_are_those_of_latency() -> None:
    space = SearchSpace(SHAPES)
    pairs = [(8, 8), (8, 3), (4, 5), (8, 8)]
    report = latency(SHAPES, Policy.from_pairs(pairs), "paper")
    assert space.time_us(pairs) == report.time_us
    assert space.speedup(pairs) == report.speedup
    assert space.policy(pairs)["wide"] == (4, 5)


def test_agents_choices_decode_to_canonical_policies() -> None:
    space = SearchSpace(SHAPES, bits=(2, 6))
    drawn = [space.decode(actions) for actions in Reinforce(space.masks, seed=1).sample(2000)]
    assert all(space.canonical(pairs) == pairs for pairs in drawn)
    assert all(pairs[0] == pairs[-1] == (8, 8) for pairs in drawn)
    assert all(2 <= bit <= 6 for pairs in drawn for pair in pairs[1:-1] for bit in pair)
    assert len(set(drawn)) == len(list(itertools.product(*[s.weight_choices for s in space.slots]))) * 5 * 5


def test_groups_share_their_bits() -> None:
    space = SearchSpace(SHAPES, groups=[["narrow", "wi*"]])
    assert [slot.layers for slot in space.slots] == [(0,), (1, 2), (3,)]
    assert space.slots[1].weight_choices == (4, 8)
    assert space.canonical([(8, 8), (3, 4), (3, 4), (8, 8)])[1:3] == ((4, 4), (4, 4))
    with pytest.raises(ValueError, match="layer 'wide' may not have"):
        space.canonical([(8, 8), (3, 4), (4, 4), (8, 8)])
    assert SearchSpace(SHAPES, groups=[["first", "narrow"]]).slots[0].act_choices == (8,)


def test_whole_cells() -> None:
    space = SearchSpace(SHAPES, "paper-2b", weight_multiple_of_cell=True)
    assert space.weight_widths == (2, 4, 6, 8)
    assert not space.contains([(8, 8), (3, 4), (4, 4), (8, 8)])


def test_uniform_keeps_fixed_layers() -> None:
    assert SearchSpace(SHAPES).uniform(4, 5) == ((8, 8), (4, 5), (4, 5), (8, 8))
    assert SearchSpace(SHAPES, first_last_bits=None).uniform(4, 5) == ((4, 5),) * 4


def test_logits_fall_with_distance() -> None:
    space = SearchSpace(SHAPES)
    logits = space.logits_near(space.uniform(4, 5), 0.5, 1.0)
    assert logits[4][2:5] == [0.0, -0.5, -1.0]
    assert logits[5][2:5] == [-1.0, 0.0, -1.0]
    assert math.isclose(sum(Reinforce(space.masks, logits=logits).probabilities()[5]), 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": (5, 4)}, "1 <= smallest <= largest <= 8"),
        ({"bits": (2, 9)}, "1 <= smallest <= largest <= 8"),
        ({"bits": (2,)}, "pair (smallest, largest)"),
        ({"first_last_bits": 9}, "first_last_bits must be None or 1 to 8"),
        ({"bits": (2, 3), "weight_multiple_of_cell": True}, "leaves no width of 2..3 with 4-bit cells"),
        ({"groups": [["nothing"]]}, "no layer is called 'nothing'"),
        ({"groups": [["wide"], ["w*"]]}, "'wide' is in two groups"),
    ],
)
def test_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SearchSpace(SHAPES, **options)
    assert words in str(caught.value)


def test_errors_of_policies() -> None:
    space = SearchSpace(SHAPES)
    with pytest.raises(ValueError, match="4 rows of bits, got 1"):
        space.time_us([(8, 8)])
    with pytest.raises(ValueError, match="no layer"):
        SearchSpace([])
    with pytest.raises(TypeError, match="lists of layer names"):
        SearchSpace(SHAPES, groups=["wide"])


def test_nothing_to_choose_is_refused_or_said() -> None:
    two = SHAPES[:2]
    with pytest.raises(ValueError, match="first_last_bits=8 fixes the bits of all 2 layers; pass first_last_bits=None"):
        SearchSpace(two).check_choice()
    grouped = SearchSpace(SHAPES[:3], groups=[[shape.name for shape in SHAPES[:3]]])
    with pytest.raises(ValueError, match="first_last_bits=8 fixes the bits of all 3 layers"):
        grouped.check_choice()
    with pytest.raises(ValueError, match=r"bits=\(8, 8\) with first_last_bits=None"):
        SearchSpace(SHAPES, bits=(8, 8), first_last_bits=None).check_choice()
    huge = cimq.Hardware.preset("paper").replace(rows=4096, cols=4096, dac_bits=8)
    with pytest.warns(cimq.CimqWarning, match="fewer bits make none of the 4 layers faster"):
        SearchSpace(SHAPES, huge).check_choice()
    SearchSpace(two, first_last_bits=None).check_choice()
    SearchSpace(SHAPES).check_choice()
