"""What operators remember: the right layer's program whatever happens to memory, bounded, and forgotten on demand."""

from __future__ import annotations

import threading
import time

import torch
from torch import Tensor

import cimq
from cimq import ops

LOSSY = cimq.Hardware.preset("paper").replace(rows=128, adc={"bits": 8})
BITS = {"weight_bits": 4, "act_bits": 4}


def mvm(x: Tensor, w: Tensor, **options: object) -> Tensor:
    return ops.crossbar_mvm(x, w, LOSSY, **BITS, **options)


def test_weights_changed_in_place_or_in_memory_used_again_get_their_own_program() -> None:
    x = torch.randint(0, 16, (3, 40), dtype=torch.uint8)
    w = torch.randint(-7, 8, (8, 40), dtype=torch.int8)
    for _ in range(50):
        w[torch.randint(8, ()), torch.randint(40, ())] = int(torch.randint(-7, 8, ()))
        assert torch.equal(mvm(x, w), mvm(x, w, backend="reference_cpp"))
    memory = torch.empty(320, dtype=torch.int8)
    for shape in ((8, 40), (4, 40), (2, 40)) * 10:
        fresh = memory[: shape[0] * shape[1]].copy_(torch.randint(-7, 8, (shape[0] * shape[1],))).view(shape)
        assert torch.equal(mvm(x, fresh), mvm(x, fresh, backend="reference_cpp"))


def test_the_middle_of_large_weights_counts() -> None:
    """The hash of large weights is one of samples."""
    x = torch.full((1, 3000), 15, dtype=torch.uint8)
    w = torch.zeros(64, 3000, dtype=torch.int8)
    for position in (0, 70, 1501, 2999):
        for output in (0, 33, 63):
            w.zero_()
            w[output, position] = 7
            y = ops.crossbar_mvm(x, w, "paper", **BITS, backend="sliced")
            assert (int(y.argmax()), int((y != 0).sum())) == (output, 1), (position, output)


def test_everything_that_is_remembered_is_bounded_and_forgotten() -> None:
    x, image = torch.randint(0, 16, (1, 4)), torch.randint(0, 16, (1, 1, 3, 3))
    w = torch.randint(-7, 8, (9000, 1, 4))
    right = mvm(x, w[0])
    for weight in w:
        mvm(x, weight)
    ops.crossbar_conv2d(image, torch.randint(-7, 8, (2, 1, 2, 2)), LOSSY, **BITS)
    ops.crossbar_mvm(x, w[0], "paper", **BITS)
    entries = torch.ops.cimq.cache_entries()
    assert entries["crossbar_mvm"] == 8192
    assert entries["crossbar_conv2d"] >= 1
    assert entries["hardware"] >= 2
    assert entries["proofs"] >= 1
    ops.clear_caches()
    assert set(torch.ops.cimq.cache_entries().values()) == {0}
    assert torch.equal(mvm(x, w[0]), right)


def test_the_ten_thousandth_layer_takes_as_long_as_the_first() -> None:
    x = torch.randint(0, 16, (4, 32))
    ops.clear_caches()

    def seconds(count: int) -> float:
        weights = torch.randint(-7, 8, (count, 8, 32)).unbind()
        start = time.process_time()
        for w in weights:
            mvm(x, w)
        return (time.process_time() - start) / count

    seconds(100)
    first = min(seconds(200) for _ in range(3))
    seconds(10000)
    assert min(seconds(200) for _ in range(3)) < 4 * first


def test_threads_share_the_caches_while_one_empties_them() -> None:
    x = torch.randint(0, 16, (2, 24), dtype=torch.uint8)
    weights = torch.randint(-7, 8, (12, 8, 24), dtype=torch.int8).unbind()
    wanted = [mvm(x, w) for w in weights]
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(300):
            index = (start + i) % len(weights)
            if not torch.equal(mvm(x, weights[index]), wanted[index]):
                wrong.append(index)
            if i % 50 == start:
                ops.clear_caches()

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
