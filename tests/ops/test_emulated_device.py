"""The emulated device itself: what it is to show cannot go unseen, and it serves torch as a device does."""

from __future__ import annotations

import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from devices import captured, launched, needs, runs_kernels
from torch import nn

import cimq
from cimq.ops import fake_quantize, quantize

pytestmark = needs("emulated")
SUPPORT = Path(__file__).resolve().parents[1] / "support"


def operands() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(33, device="emulated"), torch.tensor(0.5, device="emulated")


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    package = Path(cimq.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{SUPPORT}:{package}"}
    command = [sys.executable, "-c", f"import devices, torch, ctypes\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_kernels_that_run_are_counted() -> None:
    x, scale = operands()
    with runs_kernels("emulated", "quantize_values"):
        quantize(x, scale, -8, 7)
    assert launched() == ["quantize_values"]
    with pytest.raises(AssertionError, match="no kernel ran"), runs_kernels("emulated"):
        x.add(1)
    with pytest.raises(AssertionError, match="ran"), runs_kernels("emulated", "quantize_values"):
        fake_quantize(x, scale, -8, 7)


def test_an_operator_without_a_kernel_does_not_go_to_the_cpu() -> None:
    library = torch.library.Library("cimq", "FRAGMENT")
    library.define("of_the_cpu(Tensor x) -> Tensor")
    library.impl("of_the_cpu", lambda x: x + 1, "CPU")
    assert torch.ops.cimq.of_the_cpu(torch.ones(1)) == 2
    with pytest.raises(NotImplementedError, match=r"cimq::of_the_cpu has no kernel for the emulated device"):
        torch.ops.cimq.of_the_cpu(torch.ones(1, device="emulated"))


def test_every_operator_has_an_answer() -> None:
    dispatched = torch._C._dispatch_has_kernel_for_dispatch_key
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("cimq::")]
    for name in names:
        assert dispatched(name, "PrivateUse1") == dispatched(name, "CUDA"), name


def test_what_waits_is_refused_while_a_graph_is_captured() -> None:
    x, scale = operands()
    with captured("emulated"):
        y = fake_quantize(x, scale, -8, 7)
        (y.half() + 1).sum()  # what kernels of torch's own would compute
        for wait in (lambda: y.sum().item(), y.cpu, y.nonzero, lambda: y[y > 0], torch.emulated.synchronize):
            with pytest.raises(RuntimeError, match="waits for the device while a graph is captured"):
                wait()
    assert y.isfinite().all()


def test_fresh_memory_is_no_number() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert torch.empty(3, device="emulated", dtype=dtype).isnan().all()
    assert torch.empty(3, device="emulated", dtype=torch.int8).eq(-1).all()


def test_writes_beyond_a_block_and_after_its_end_are_found() -> None:
    ops = torch.ops.cimq_emulated
    ops.check_memory()
    x = torch.zeros(5, device="emulated")
    ops.write_byte(x.data_ptr() + 19)
    ops.check_memory()
    ops.write_byte(x.data_ptr() + 20)
    address = x.data_ptr()
    del x
    with pytest.raises(RuntimeError, match="something wrote beyond the end of a block of 20 bytes of emulated:0"):
        ops.check_memory()
    ops.write_byte(address)
    with pytest.raises(RuntimeError, match="something wrote to a block of 20 bytes of emulated:0 that was freed"):
        ops.check_memory()
    ops.check_memory()


def test_memory_is_given_back() -> None:
    before = torch.ops.cimq_emulated.blocks_and_bytes(1)
    x = torch.zeros(1000, device="emulated:1")
    assert torch.ops.cimq_emulated.blocks_and_bytes(1) == (before[0] + 1, before[1] + 4000)
    del x
    assert torch.ops.cimq_emulated.blocks_and_bytes(1) == before


def test_code_of_the_host_that_touches_the_device_ends() -> None:
    result = in_a_process("ctypes.string_at(torch.zeros(5, device='emulated:1').data_ptr(), 1)")
    assert result.returncode < 0
    assert "cimq: code of the host touched memory of emulated:1" in result.stderr


def test_a_kernel_on_another_device_than_its_memory_ends() -> None:
    code = "x = torch.zeros(5, device='emulated:1')\nread = torch.ops.cimq_emulated.read_byte\n"
    result = in_a_process(code + "print('own', read(x.data_ptr(), 1), flush=True)\nread(x.data_ptr(), 0)")
    assert result.stdout == "own 0\n"
    assert result.returncode < 0
    assert "cimq: a kernel on emulated:0 touched memory of emulated:1" in result.stderr


def test_operands_of_torch_must_be_on_one_device() -> None:
    x = torch.ones(3, device="emulated")
    for other in (torch.ones(3), torch.ones(3, device="emulated:1")):
        with pytest.raises(RuntimeError, match=r"(?i)expected all tensors to be on the same device"):
            x + other
    assert (torch.tensor(2.0) * x).device == x.device  # a number of the CPU
    assert torch.equal(x[torch.tensor([0, 2])].cpu(), torch.ones(2))


def test_networks_train_as_on_the_cpu() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(36),
        nn.Linear(36, 5),
    )
    x, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    losses = []
    for device in ("cpu", "emulated"):
        copied = copy.deepcopy(net).to(device)
        optimizer = torch.optim.Adam(copied.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(copied(x.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_networks_are_copied_and_stored() -> None:
    net = copy.deepcopy(nn.Linear(3, 2).to("emulated:1"))
    assert net.weight.device == torch.device("emulated:1")
    for content, weights_only in ((net.state_dict(), True), (net, False)):
        file = io.BytesIO()
        torch.save(content, file)
        for where, device in ((None, "emulated:1"), ("cpu", "cpu"), ("emulated:0", "emulated:0")):
            file.seek(0)
            loaded = torch.load(file, map_location=where, weights_only=weights_only)
            weight = (loaded if weights_only else loaded.state_dict())["weight"]
            assert weight.device == torch.device(device)
            assert torch.equal(weight.cpu(), net.weight.detach().cpu())


def test_random_numbers_are_the_device_s_own() -> None:
    torch.manual_seed(3)
    first = torch.randn(4, device="emulated")
    state = torch.emulated.get_rng_state("emulated:0")
    second = torch.rand(4, device="emulated")
    cpu = torch.randn(4)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(4), first.cpu())
    assert torch.equal(cpu, first.cpu())  # what was drawn on the device left the CPU's generator alone
    torch.emulated.set_rng_state(state, "emulated:0")
    assert torch.equal(torch.rand(4, device="emulated").cpu(), second.cpu())
    generator = torch.Generator("emulated").manual_seed(5)
    drawn = torch.rand(4, generator=generator, device="emulated")
    assert torch.equal(drawn.cpu(), torch.rand(4, generator=torch.Generator().manual_seed(5)))
    dropped = nn.functional.dropout(torch.ones(1000, device="emulated"), 0.25)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}


def test_autocast_computes_in_16_bits_what_cuda_does() -> None:
    x, linear = torch.randn(4, 6, device="emulated"), nn.Linear(6, 3, device="emulated")
    with torch.autocast("emulated", dtype=torch.bfloat16):
        y = linear(x)
        assert y.dtype == torch.bfloat16
        assert nn.functional.softmax(y, -1).dtype == torch.float32
        assert fake_quantize(y, torch.tensor(0.5, device="emulated"), -8, 7).dtype == torch.bfloat16
        with torch.autocast("emulated", enabled=False):
            assert linear(x).dtype == torch.float32
    y.float().sum().backward()
    assert linear.weight.grad.dtype == torch.float32


class InWorkers(torch.utils.data.Dataset[tuple[torch.Tensor, str]]):
    """What the processes of a data loader see of the device."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        error = ""
        try:
            torch.zeros(1, device="emulated")
        except (RuntimeError, ValueError) as refused:
            error = str(refused)
        return torch.full((2,), float(index)), error


def test_data_loaders_fork_beside_the_device() -> None:
    kept = torch.full((5,), 4.0, device="emulated")
    for x, errors in torch.utils.data.DataLoader(InWorkers(), num_workers=1, multiprocessing_context="fork"):
        assert "cannot be used in a process that was forked" in errors[0]
        kept += x.to("emulated")[0, 0]
    assert kept.tolist() == [7.0] * 5
    torch.ops.cimq_emulated.check_memory()
