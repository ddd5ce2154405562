"""cimq._C.Reinforce: the binding; the mathematics is tested in tests/csrc/agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from cimq._C import CimqError, Reinforce, leave_one_out_advantages

MASKS = [[True, True, True], [True, False, True, True], [False, True]]


def rewards(batch: list[list[int]]) -> list[float]:
    return [float(actions[0] == 1) + 0.5 * float(actions[1] == 0) for actions in batch]


def train(agent: Reinforce, updates: int) -> None:
    for _ in range(updates):
        batch = agent.sample(8)
        agent.update(batch, rewards(batch))


def test_it_learns_the_best_choice() -> None:
    agent = Reinforce(MASKS, seed=1)
    train(agent, 80)
    assert agent.greedy() == [1, 0, 1]
    assert agent.updates == 80
    assert agent.episode == 640


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_inside_modes_without_gradients(mode: Any) -> None:
    plain = Reinforce(MASKS, seed=1)
    train(plain, 5)
    with mode():
        agent = Reinforce(MASKS, seed=1)
        train(agent, 5)
        assert not torch.is_grad_enabled()
    train(plain, 1)
    train(agent, 1)
    assert agent.state() == plain.state()


def test_state_survives_json_exactly() -> None:
    first = Reinforce(MASKS, seed=7)
    train(first, 3)
    second = Reinforce(MASKS, seed=7)
    second.load_state(json.loads(json.dumps(first.state())))
    train(first, 4)
    train(second, 4)
    assert second.state() == first.state()


def test_warm_start_and_exploration_shape_the_probabilities() -> None:
    agent = Reinforce(MASKS, logits=[[0.0, 3.0, 0.0], [0.0, 9.0, 0.0, 0.0], [0.0, 0.0]])
    assert agent.greedy()[0] == 1
    assert agent.probabilities()[1] == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    agent.exploration = 1.0
    assert agent.probabilities()[0] == pytest.approx([1 / 3] * 3)


def test_it_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    train(Reinforce(MASKS, seed=2), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_advantages() -> None:
    assert leave_one_out_advantages([0.0, 1.0], 10.0) == pytest.approx([-2.0, 2.0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda agent: Reinforce([]), "at least one head"),
        (lambda agent: Reinforce([[True], [False, False]]), "head 1 must allow at least one of its 2 choices"),
        (lambda agent: agent.update([[1, 0, 1]] * 2, [0.0, float("nan")]), "reward 1 must be finite"),
        (lambda agent: agent.update([[1, 0, 1]] * 2, [0.0]), "one reward per episode"),
        (lambda agent: agent.load_state({}), "lacks the key 'episode'"),
        (lambda agent: agent.load_state({**agent.state(), "episode": "3"}), "state['episode'] has the wrong type"),
    ],
)
def test_errors_say_what_must_hold(make: Any, words: str) -> None:
    with pytest.raises(CimqError) as caught:
        make(Reinforce(MASKS))
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
