"""What `finetune` refuses, by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from torch import nn

import cimq

DATA = [(nets.images(4), torch.arange(4))]


def prepared(hardware: str = "paper") -> nn.Module:
    return cimq.prepare(nets.randomise(nets.SmallCnn()), hardware=hardware, example_inputs=DATA[0][0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 1.5}, TypeError, "epochs must be a whole number, got 1.5"),
        ({"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'"),
        ({"lr": 0.0}, ValueError, "lr must be above 0, got 0.0"),
        ({"weight_decay": -1e-4}, ValueError, "weight_decay must be at least 0"),
        ({"momentum": 1.5}, ValueError, r"momentum must lie in 0\.\.1, got 1.5"),
        ({"label_smoothing": 2.0}, ValueError, r"label_smoothing must lie in 0\.\.1"),
        ({"temperature": 0.0}, ValueError, "temperature must be above 0"),
        ({"dampening": float("nan")}, ValueError, "dampening must be at least 0, got nan"),
        ({"max_grad_norm": -1.0}, ValueError, "max_grad_norm must be above 0"),
        ({"bn_batches": -1}, ValueError, "bn_batches must be at least 0"),
        ({"teacher": "resnet"}, TypeError, "teacher must be an nn.Module, got str"),
        ({"loss_fn": lambda output, target: output}, TypeError, r"loss_fn must give one number.*got shape \[4, 4\]"),
        ({"loss_fn": lambda output, target: 1.0}, TypeError, "loss_fn must give one number.*got float"),
    ],
)
def test_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"finetune: {message}"):
        cimq.finetune(prepared(), DATA, **{"epochs": 1, **options})


def test_models() -> None:
    q = prepared()
    with pytest.raises(TypeError, match=r"model must be an nn\.Module, got int"):
        cimq.finetune(5, DATA, epochs=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the model is converted"):
        cimq.finetune(cimq.convert(q), DATA, epochs=1)
    with pytest.raises(ValueError, match="no parameter of SmallCnn requires a gradient"):
        cimq.finetune(q.requires_grad_(False), DATA, epochs=1)


def test_loaders_for_one_pass() -> None:
    with pytest.raises(TypeError, match=r"several times.*got generator"):
        cimq.finetune(prepared(), (batch for batch in DATA), epochs=1)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"state\.pt cannot be read as a checkpoint"):
        cimq.finetune(prepared(), DATA, epochs=1, checkpoint=file, resume=True)
    torch.save({"model": {}}, file)
    with pytest.raises(ValueError, match=r"state\.pt is no checkpoint of finetune: it lacks bits, history, optimizer"):
        cimq.finetune(prepared(), DATA, epochs=1, checkpoint=file, resume=True)
    cimq.finetune(prepared(), DATA, epochs=1, checkpoint=file)
    with pytest.raises(ValueError, match=r"state\.pt is of another model or kind of machine"):
        cimq.finetune(prepared("rram-wan2022"), DATA, epochs=2, checkpoint=file, resume=True)


def test_a_checkpoint_of_other_options_is_named(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    cimq.finetune(prepared(), DATA, epochs=1, lr=np.float64(0.1), checkpoint=file)  # a number that pickles as NumPy's
    q = prepared()
    with pytest.warns(cimq.CimqWarning, match=r"with epochs 1 \(now 2\), lr 0\.1 \(now 0\.02\): tr") as caught:
        history = cimq.finetune(q, DATA, epochs=2, lr=0.02, bn_batches=1, checkpoint=file, resume=True)
    assert len(caught) == 1
    assert history[0].lr > 0.02 > history[1].lr > 0  # what is given now applies from there on
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cimq.finetune(q, DATA, epochs=2, lr=0.02, checkpoint=file, resume=True)
    with pytest.warns(
        cimq.CimqWarning, match=r"epochs 2 \(now 3\), amp None \(now fp16\), freeze_bn_epochs 0 \(now 1\)"
    ):
        cimq.finetune(q, DATA, epochs=3, lr=0.02, amp="fp16", freeze_bn_epochs=1, checkpoint=file, resume=True)


def test_a_checkpoint_of_another_policy_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    trained = prepared()
    cimq.finetune(trained, DATA, epochs=1, checkpoint=file)
    other = prepared()
    cimq.set_policy(other, cimq.Policy({**cimq.quantization.get_policy(other), "conv2": (4, 3)}))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"another policy: 1 layers had other bits, 'conv2' W8A8 and now W4A3; set the"
    ):
        cimq.finetune(other, DATA, epochs=2, checkpoint=file, resume=True)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_the_distillation_loss_is_left_out_where_features_alone_teach() -> None:
    """Outputs of another kind than the teacher's are then no obstacle."""
    teacher = nets.randomise(nets.SmallCnn(classes=7))
    (epoch,) = cimq.finetune(
        prepared(), DATA, epochs=1, teacher=teacher, distill_weight=0.0, distill_features=["conv2"]
    )
    assert epoch.loss > 0
