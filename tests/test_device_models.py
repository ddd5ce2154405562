"""Models on a device from `prepare` to `export`, against the same on the CPU.

On the CPU the tests compare with themselves; on an emulated device and on CUDA with the CPU: what is integers, and what
follows from them, to the bit; what is trained, within the bounds stated at each test.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devices import captured, each_device, runs_kernels
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import cimq
from cimq.errors import CimqWarning
from cimq.policy_search.journal import SETTINGS_NAME
from cimq.quantization import adc_diagnostics, layer_outputs, set_chip, set_hardware
from cimq.quantization.exact.exact_mode import defined_operations
from cimq.torch_tools.batches import kept_random_state, to_device

from device_network import LOSSY, NOISY, batches, network, on, sequential  # isort: skip

# What adding floats in another order may change: of scales, of trained weights after a few steps, relative to the
# largest of a tensor.
SCALE_BOUND = 1e-6
TRAINED_BOUND = 1e-3


@pytest.fixture(params=each_device())
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The last one of its kind, as what names none goes to the first. On an emulated one kernels of cimq must run.

    Convolutions of calibration and training are float32 there, not TF32, of which the bounds below know nothing.
    """
    kind = str(request.param)
    request.getfixturevalue("monkeypatch").setattr(torch.backends.cudnn, "allow_tf32", False)
    if kind == "cpu":
        yield torch.device("cpu")
        return
    last = torch.get_device_module(kind).device_count() - 1
    with runs_kernels(kind):
        yield torch.device(kind, last)
    if kind == "emulated":
        assert set(torch.ops.cimq_emulated.launch_devices()) == {last}


@pytest.fixture(scope="module")
def calibrated() -> nn.Module:
    """On the CPU."""
    q = cimq.prepare(network(), cimq.Policy.uniform(4, 4), LOSSY)
    cimq.calibrate(q, batches())
    return q.eval()


def prepared_on(device: torch.device, like: Any) -> nn.Module:
    """A model in the state of another, prepared on the device: one that is moved to a device of another package than
    torch has its own copy of a parameter in each of the modules that share it.
    """
    q = cimq.prepare(on(device, network()), cimq.Policy.uniform(4, 4), like.conv1.network_hardware)
    q.load_state_dict(like.state_dict())
    return q.eval()


def close(a: Tensor, b: Tensor, bound: float) -> bool:
    """Whether two tensors differ by no more than a share of the largest value."""
    a, b = a.double().cpu(), b.double().cpu()
    return bool((a - b).abs().max() <= bound * b.abs().max()) if a.numel() else True


def test_calibration_on_the_device_gives_the_scales_of_the_cpu(device: torch.device, calibrated: nn.Module) -> None:
    q = cimq.prepare(on(device, network()), cimq.Policy.uniform(4, 4), LOSSY)
    cimq.calibrate(q, batches())
    assert {tensor.device for tensor in q.state_dict().values()} == {device}
    state = calibrated.state_dict()
    for name, value in q.state_dict().items():
        assert close(value, state[name], SCALE_BOUND), name
    assert cimq.quantization.get_policy(q) == cimq.quantization.get_policy(calibrated)


def test_evaluation_and_conversion_have_the_bits_of_the_cpu(device: torch.device, calibrated: nn.Module) -> None:
    q, x = on(device, calibrated), batches()[0][0]
    with torch.no_grad():
        expected = calibrated(x)
        y = q(x.to(device))
        assert y.device == device
        assert torch.equal(y.cpu(), expected)
        converted = cimq.convert(q, sample_input=x.to(device))
        assert {tensor.device for tensor in converted.state_dict().values()} == {device}
        assert torch.equal(converted(x.to(device)).cpu(), expected)
    integers = layer_outputs(converted, x.to(device))
    for name, wanted in layer_outputs(cimq.convert(calibrated), x).items():
        assert torch.equal(integers[name].cpu(), wanted), name
    assert cimq.evaluate(converted, batches(2)) == cimq.evaluate(calibrated, batches(2))


def test_a_converted_model_moves_from_device_to_device(device: torch.device, calibrated: nn.Module) -> None:
    x = batches()[0][0]
    converted = cimq.convert(calibrated)
    with torch.no_grad():
        expected = converted(x)
        moved = converted.to(device)
        assert torch.equal(moved(x.to(device)).cpu(), expected)
        again = copy.deepcopy(moved)
        assert torch.equal(again(x.to(device)).cpu(), expected)
        assert torch.equal(moved.cpu()(x), expected)


def test_export_writes_what_the_device_computes(device: torch.device, calibrated: nn.Module, tmp_path: Path) -> None:
    q, x = on(device, calibrated), batches()[0][0]
    bundle = cimq.export(q, tmp_path / "net.cimq", x.to(device))
    with torch.no_grad():
        assert torch.equal(bundle.run(x), q(x.to(device)).cpu())
    assert {tensor.device for tensor in q.state_dict().values()} == {device}


def test_training_on_the_device_is_that_of_the_cpu(device: torch.device, calibrated: nn.Module, tmp_path: Path) -> None:
    """Three steps; an interruption between epochs changes nothing."""

    def trained(on_device: torch.device, **options: Any) -> tuple[nn.Module, list[float]]:
        q = prepared_on(on_device, calibrated)
        history = cimq.finetune(
            q, batches(2), epochs=2, lr=0.05, teacher=on(on_device, network()), mixing=0.5, bn_batches=1, seed=3,
            progress=False, **options,
        )  # fmt: skip
        return q, [epoch.loss for epoch in history]

    cpu, losses = trained(torch.device("cpu"))
    q, found = trained(device)
    assert found == pytest.approx(losses, rel=TRAINED_BOUND)
    for name, value in q.state_dict().items():
        assert close(value, cpu.state_dict()[name], TRAINED_BOUND), name
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(device, checkpoint=checkpoint, val_loader=batches(1), metric_fn=_interrupting())
    again, _ = trained(device, checkpoint=checkpoint, resume=True)
    for name, value in again.state_dict().items():
        assert torch.equal(value, q.state_dict()[name]), name
    if device.type != "cpu":
        other = prepared_on(torch.device("cpu"), calibrated)
        with pytest.warns(CimqWarning, match=rf"was made on {device.type}, and the model is on cpu"):
            cimq.finetune(
                other, batches(2), epochs=2, lr=0.05, mixing=0.5, bn_batches=0, checkpoint=checkpoint, resume=True,
                progress=False,
            )  # fmt: skip


def _interrupting() -> Any:
    """A metric that ends the second epoch."""
    calls: list[int] = []

    def metric(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return (output.argmax(1) == target).float().mean()

    return metric


@pytest.mark.parametrize("read", ["none", "constant", "proportional"])
def test_training_on_cells_that_vary_and_chips(device: torch.device, calibrated: nn.Module, read: str) -> None:
    """Accuracies of several chips are those of the CPU, and a step of training meets the same cells and accesses."""
    cpu = copy.deepcopy(calibrated)
    noise = {"none": {}, "constant": {"sigma_levels": 0.1}, "proportional": {"sigma_ratio": 0.05}}[read]
    set_hardware(cpu, NOISY.replace(cell={"read": {"model": read, **noise}}))
    cimq.quantization.calibrate_converters(cpu, batches(1))
    q = prepared_on(device, cpu)
    expected = cimq.evaluate_chips(cpu, batches(2), chips=2)
    assert cimq.evaluate_chips(q, batches(2), chips=2).values == expected.values
    set_chip(q, 5)
    x, target = batches(1)[0]
    gradients = []
    for model in (cpu, q):
        model.train()
        where = next(model.parameters()).device
        for _ in range(2):
            nn.functional.cross_entropy(model(x.to(where)), target.to(where)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert int(model.conv1.noise_step) == 2
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        assert close(gradient, gradients[0][name], TRAINED_BOUND), name


def test_learned_converters_train(device: torch.device, calibrated: nn.Module) -> None:
    cpu = copy.deepcopy(calibrated)
    set_hardware(cpu, LOSSY.replace(adc={"bits": 5, "range": "learned"}))
    cimq.quantization.calibrate_converters(cpu, batches(1))
    q = prepared_on(device, cpu)
    for model in (cpu, q):
        cimq.finetune(model, batches(1), epochs=1, lr=0.05, bn_batches=0, progress=False)
        model.eval()
    for name, value in q.state_dict().items():
        assert close(value, cpu.state_dict()[name], TRAINED_BOUND), name
    q.load_state_dict(cpu.state_dict())
    x = batches(1)[0][0]
    with torch.no_grad():
        assert torch.equal(q(x.to(device)).cpu(), cpu(x))
        q.conv1.adc_lsb.mul_(1.5)
        cpu.conv1.adc_lsb.mul_(1.5)
        assert torch.equal(q(x.to(device)).cpu(), cpu(x))


def test_steps_of_a_fused_optimiser_are_those_that_are_used(device: torch.device, calibrated: nn.Module) -> None:
    """Of its writes torch keeps no count."""
    cpu = copy.deepcopy(calibrated)
    set_hardware(cpu, LOSSY.replace(adc={"bits": 5, "range": "learned"}))
    cimq.quantization.calibrate_converters(cpu, batches(1))
    q = prepared_on(device, cpu)
    x = batches(1)[0][0]
    with torch.no_grad():
        before = q(x.to(device)).cpu()
    steps = q.conv1.adc_lsb
    steps.grad = torch.full_like(steps, -1.0)
    counted = steps._version
    torch.optim.SGD([steps], lr=4.0, fused=True).step()
    assert steps._version == counted  # else this is a test of nothing
    cpu.load_state_dict(q.state_dict())
    with torch.no_grad():
        expected = cpu(x)
        assert not torch.equal(expected, before)
        assert torch.equal(q(x.to(device)).cpu(), expected)


@pytest.mark.parametrize("divisor", [0.7, np.float32(0.7), torch.tensor(0.7), torch.tensor(7)])
def test_evaluation_divides_by_every_kind_of_number(device: torch.device, divisor: Any) -> None:
    """On a GPU torch multiplies by the reciprocal, also of a tensor on the CPU: it must not see one."""
    seen: list[tuple[Any, ...]] = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.overloadpacket in (torch.ops.aten.div, torch.ops.aten.div_):
                seen.append(args)
            return func(*args, **(kwargs or {}))

    x = torch.linspace(-3, 3, 1001)
    on_device = x.to(device)
    with torch.no_grad(), defined_operations(), Seen():
        quotients = [on_device / divisor, torch.div(on_device, divisor), on_device.clone().div_(divisor)]
    assert len(seen) == len(quotients)
    for y in quotients:
        assert y.device == device
        assert torch.equal(y.cpu(), x / divisor)
    for _, other in seen:
        assert device.type == "cpu" or other.device == device
    cimq.ops.fake_quantize(on_device, torch.ones((), device=device), 0, 1)  # a kernel, as of the other tests


def test_ranges_that_somebody_changes_are_those_that_are_used(device: torch.device, calibrated: nn.Module) -> None:
    """In place, by another tensor, by a state that is loaded, and on another device in between."""
    x = batches(1)[0][0]
    cpu, on_device = cimq.convert(calibrated), cimq.convert(on(device, calibrated))

    def same() -> Tensor:
        with torch.no_grad():
            expected = cpu(x)
            assert torch.equal(on_device(x.to(device)).cpu(), expected)
        return expected

    seen = [same()]
    for model in (cpu, on_device):
        model.conv1.adc_lsb.mul_(4)
    seen.append(same())
    for model in (cpu, on_device):
        model.conv1.adc_lsb = model.conv1.adc_lsb / 8
    seen.append(same())
    state = {name: value * 3 if name.endswith("conv2.adc_lsb") else value for name, value in cpu.state_dict().items()}
    for model in (cpu, on_device):
        model.load_state_dict(state)
    seen.append(same())
    on_device.cpu()
    for model in (cpu, on_device):
        model.conv1.adc_lsb.mul_(3)
    on_device.to(device)
    seen.append(same())
    for before, after in itertools.pairwise(seen):
        assert not torch.equal(before, after)  # the changes were ones that show


def test_evaluation_waits_for_nothing_while_a_graph_is_captured(device: torch.device, calibrated: nn.Module) -> None:
    """Not for ranges of converters either, which lie on the device: of those there is a copy on the host."""
    x = batches(1)[0][0].to(device)
    q = on(device, calibrated)
    converted = cimq.convert(q)
    with torch.no_grad():
        for model in (q, converted):
            expected = model(x)
            with captured(device.type):
                y = model(x)
            assert torch.equal(y, expected)


def test_what_converters_and_layers_do_is_counted_alike(device: torch.device, calibrated: nn.Module) -> None:
    q = on(device, calibrated)
    for found_row, row in zip(adc_diagnostics(q, batches(1)), adc_diagnostics(calibrated, batches(1)), strict=True):
        assert found_row.layer == row.layer
        numbers = {name: value for name, value in vars(row).items() if name != "layer"}
        assert {name: getattr(found_row, name) for name in numbers} == pytest.approx(numbers, rel=1e-9)
    found, expected = cimq.doctor(q, batches(1), batches=1), cimq.doctor(calibrated, batches(1), batches=1)
    rows = {row.layer: row for row in found.rows}
    for row in expected.rows:
        assert rows[row.layer].sqnr_db == pytest.approx(row.sqnr_db, rel=1e-3)
        assert rows[row.layer].clipped_inputs == pytest.approx(row.clipped_inputs, abs=1e-6)


def test_a_search_runs_on_the_device_and_is_resumed(device: torch.device, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "val_loader": batches(4), "strategy": "random", "evaluations": 8, "finalists": 1, "shared_epochs": 1, "seed": 2,
        "finetune_batches": 2, "calibration_batches": 1, "bn_batches": 1, "first_last_bits": None, "progress": False,
        "max_accuracy_drop": 0.5, "hardware": "paper", "pareto": 1,
    }  # fmt: skip
    out = tmp_path / "run"
    model = on(device, sequential())
    result = cimq.search(model, batches(4), out=out, **options)
    reference = cimq.search(sequential(), batches(4), **options)
    costs = {evaluation.policy: evaluation.cost for evaluation in reference.evaluations}
    assert {evaluation.policy: evaluation.cost for evaluation in result.evaluations} == costs
    for found, wanted in zip(result.evaluations, reference.evaluations, strict=True):
        assert found.damage == pytest.approx(wanted.damage, rel=0.05, abs=1e-4)
    assert {tensor.device for tensor in result.model.state_dict().values()} == {device}
    assert {tensor.device for tensor in result.pareto_models[0].model.state_dict().values()} == {device}
    weights = torch.load(next((out / "trained").glob("*.pt")), weights_only=True)["model"]
    assert {tensor.device.type for tensor in weights.values()} == {"cpu"}  # read anywhere
    journal = (out / "evaluations.jsonl").read_text()
    again = cimq.search(model, batches(4), out=out, resume=True, **options)
    assert again.policy == result.policy
    assert (out / "evaluations.jsonl").read_text() == journal
    assert json.loads((out / SETTINGS_NAME).read_text())["device"] == device.type


def test_the_random_state_of_the_device_is_kept(device: torch.device) -> None:
    model = nn.Linear(2, 2).to(device)
    torch.manual_seed(7)
    expected = torch.rand(3, device=device)
    torch.manual_seed(7)
    drawn = []
    for _ in range(2):
        with kept_random_state(model, seed=1):
            drawn.append(torch.rand(3, device=device))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.rand(3, device=device), expected)
    cimq.ops.fake_quantize(expected, torch.ones((), device=device), 0, 1)  # a kernel, as of the other tests


def test_batches_of_every_form_go_to_the_device(device: torch.device, calibrated: nn.Module) -> None:
    x, y = batches(1)[0]
    q = on(device, calibrated)
    with torch.no_grad():
        expected = q(x.to(device))
        moved = to_device({"inputs": [x, (x, {"deep": x})], "text": "a"}, device)
        assert torch.equal(moved["inputs"][1][1]["deep"], x.to(device))
        back = to_device(moved, torch.device("cpu"))
        assert torch.equal(back["inputs"][1][0], x)
    for batch in ((x, y), [x, y], {"x": x, "labels": y}):
        assert cimq.evaluate(q, [batch]) == float((expected.argmax(1).cpu() == y).float().mean())
    assert cimq.evaluate(q, [(x.to(device), y.to(device))]) == cimq.evaluate(q, [(x, y)])
