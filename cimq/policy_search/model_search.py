"""`search`: from a trained model to a mixed-precision one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import nn

from cimq.hardware import Hardware, resolve
from cimq.policy_search.chips import shared_out
from cimq.policy_search.data import split_loaders
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.result import SearchResult
from cimq.policy_search.run import run_search
from cimq.policy_search.settings import SearchSettings, seconds_allowed
from cimq.torch_tools.batches import ForwardFn, kept_random_state


def search(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    val_loader: Iterable[Any] | None = None,
    hardware: Hardware | str | Path = "paper",
    max_accuracy_drop: float | None = None,
    min_speedup: float | None = None,
    strategy: str = "thompson",
    objective: str = "latency",
    pipeline: str = "closed_form",
    duplication: str | None = None,
    evaluations: int | None = None,
    time_budget: str | float | timedelta | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int | str | None = None,
    threads: int | None = None,
    loss_fn: Any = None,
    metric_fn: Any = None,
    forward_fn: ForwardFn | None = None,
    shared_epochs: int | None = None,
    shared_weights: str | Path | None = None,
    train_batches: int | None = None,
    finetune_epochs: int = 1,
    finetune_batches: int | None = 60,
    finetune_lr: float = 0.01,
    finalists: int | None = None,
    batch: int = 8,
    bits: tuple[int, int] = (2, 8),
    adc_bits: tuple[int, int] | None = None,
    mappings: Sequence[str] | None = None,
    first_last_bits: int | None = 8,
    weight_multiple_of_cell: bool = False,
    groups: Sequence[Sequence[str]] = (),
    exclude: Iterable[str] | str = (),
    calibration_batches: int = 8,
    bn_batches: int = 4,
    search_samples: int = 2000,
    rung_policies: int = 0,
    pareto: int = 0,
    progress: bool = True,
) -> SearchResult:
    """Finds bits per layer that make a model fast on a crossbar machine, and trains it with them.

    It prepares and calibrates a copy of the model, trains one set of weights that serves all policies, measures what
    candidates do to its outputs, trains the best of them and the uniform policies near the target shortly from those
    weights, and returns the fastest that satisfies

        accuracy >= accuracy of 8 bits everywhere after the same training - max_accuracy_drop

    or, with `min_speedup`, the most accurate that satisfies

        speed-up over 8 bits everywhere >= min_speedup

    on data that the search never saw. `model` and the random state of Python, NumPy and torch (and of the loaders' own
    generators) stay as they are. The same seed gives the same result, interrupted or not and whoever measures, with the
    same `threads` (and those of this process, for the shared weights) on the same kind of processor: PyTorch adds
    floats in an order that depends on both, and trained weights then differ in their last bits. docs/search.md has the
    method.

    Args:
        model: A trained fp32 model.
        loader: Training data: a DataLoader or batches `(x, target)`, lists or dicts.
        val_loader: Data that the model was not trained on; one half measures candidates, the other the final pick.
            None: 10 % + 10 % of the data set of `loader` are held out, with a warning.
        hardware: The crossbar machine: a Hardware, a preset's name or a file.
        max_accuracy_drop: As a fraction: 0.01 is one percentage point (or in units of `metric_fn`). None: 0.01, unless
            there is a `min_speedup`.
        min_speedup: A budget on cost in place of `max_accuracy_drop`: how many times as fast as 8 bits everywhere the
            policy must be at least (`result.speedup`); of another `objective`, how many times less it must need
            (`result.gain`).
        objective: What is to be small: "latency", "energy" (`cimq.energy`; the machine must describe energies, as the
            presets "isaac" and "puma" do) or "energy_delay", their product.
        pipeline: The program whose time and energy are meant, by the compiler's names: "closed_form" (one crossbar,
            written for every tile: the paper's model), "stationary" (tiles stay where they fit) or "pipelined" (layers
            overlap), both on `hardware.resources.crossbars`. Times are then those of `cimq compile --pipeline`, to the
            picosecond, and speed-ups are against 8 bits everywhere under the same pipeline. The model must be one that
            `cimq.export` takes.
        duplication: How copies of layers are chosen, as for `cimq.compile`: the name of a rule. None: "any" for the
            pipeline "pipelined", else "none".
        strategy: "auto" (what measures best: docs/search.md), "thompson" (learns what bits and pairs of layers cost),
            "pairwise" (the same, pairs are measured first), "knapsack" (of sensitivities, no learning), "evolution",
            "reinforce", "random" or "uniform".
        evaluations: Policies measured on the search-validation set, baselines and sensitivities included (a sensitivity
            is measured on a quarter of the set, and counts as such). None: 100, or as many as `time_budget` allows.
        time_budget: The time that the search may take, in place of `evaluations`: "2h", "90m", "45s", seconds, or a
            `timedelta`. A few steps are timed, and `evaluations`, `shared_epochs`, `train_batches` and `finalists` are
            chosen where they are None (`result.plan`). It is an estimate, not a limit.
        seed: Of the split, the agent and training.
        out: Folder for `evaluations.jsonl`, `shared.pt` (the shared weights), `result.json`, `policy.json`. None writes
            nothing.
        resume: Continue the search in `out`; its settings must be the same (but for `workers`, `finalists`, `pareto`).
            What was measured is not measured again.
        workers: Who measures and trains candidates, side by side: None: this process, one after the other; a number of
            local processes (the call must then be under `if __name__ == "__main__":`); or the address of a Ray cluster
            ("auto", "HOST:PORT", "ray://HOST:PORT") on whose machines cimq is installed. Model, loaders and functions
            are sent to them (pickled). The result does not depend on it.
        threads: Threads of PyTorch that each candidate is measured and trained with. None: 1 with `workers`, else those
            of this process; of a search that is resumed those that it had.
        loss_fn: `loss_fn(output, target)` for training; None is cross-entropy with `model` as the teacher, for the
            outputs and targets that `finetune` names.
        metric_fn: `metric_fn(output, target)`, mean of a batch, larger is better; None is top-1 accuracy, for the same.
        forward_fn: `forward_fn(model, batch)` runs the model; None: on the inputs of the batch.
        shared_epochs: Epochs of the training of the shared weights, with bits drawn anew for every step and layer; 0:
            candidates are measured with the weights of `model`. None: 3, or by `time_budget`.
        shared_weights: The `shared.pt` of an earlier search of the same model, on whatever machine of the same kind
            (mapping, converter), which is taken in place of training; bits that it did not train are as they are.
        train_batches: Batches of an epoch, of the shared weights and of the short trainings; None: all, or by
            `time_budget`.
        finetune_epochs: Epochs of the short training, on the training part; 0 trains nothing.
        finetune_batches: Batches of such an epoch at most; None: all. The shared weights are trained already.
        finetune_lr: Its learning rate.
        finalists: How many candidates are trained at most. None: 4, or by `time_budget`.
        batch: Policies that a strategy proposes at a time, and then learns from.
        bits: Smallest and largest width.
        adc_bits: Smallest and largest bits of a layer's conversions, which it then chooses as well; None: those of the
            machine. With objective "energy" or "energy_delay" alone: the closed-form latency does not see them.
        mappings: Names of mappings that a layer may choose; None: that of the machine.
        first_last_bits: Width of the first and the last layer, which are then as the machine otherwise; None leaves
            them free.
        weight_multiple_of_cell: Only weight widths that fill whole cells.
        groups: Lists of layer names (or glob patterns) that share their bits.
        exclude: Glob patterns of layers that stay fp32.
        calibration_batches: Training batches that activation scales are taken from.
        bn_batches: Training batches that batch statistics are re-estimated on for every candidate.
        search_samples: Largest size of the search-validation set that is split off.
        rung_policies: Policies that are trained shortly for the rank correlation of training with what is cheaper
            (`result.rungs`); 16 decide by which rung candidates are ranked. 0: only those that are trained anyway.
        pareto: Policies along the front that are trained shortly and confirmed at the end (`result.pareto_models`).
        progress: Show a progress bar.

    Returns:
        The result; `.policy`, `.model`, `.pareto`, `.evaluations`, `.baselines`, `.save`, `.report`.

    Raises:
        TypeError: For arguments of another type; also as below.
        ValueError: For settings out of range or that leave nothing to choose, a `min_speedup` that no policy has (names
            the largest there is), data that cannot be split, a log that cannot be resumed, and outputs or targets that
            the default loss or metric is not for: a `loss_fn` and a `metric_fn` are then needed.
        KeyboardInterrupt: By Ctrl-C while nothing is trained that is what was asked for, or by a second one; else
            the best so far is returned, with a warning and `result.interrupted`. What is in `out` can be resumed.

    Example:
        >>> result = cimq.search(model, loader, out="runs/mine")  # doctest: +SKIP
        >>> cimq.export(result.model, "runs/mine/model.cimq", sample_input=x)  # doctest: +SKIP
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"search takes an nn.Module, got {type(model).__name__}")
    settings = SearchSettings(
        hardware=resolve(hardware),
        max_accuracy_drop=0.01 if max_accuracy_drop is None and min_speedup is None else max_accuracy_drop,
        min_speedup=min_speedup, strategy=strategy, objective=objective, pipeline=pipeline,
        duplication=duplication, evaluations=evaluations,
        time_budget=seconds_allowed(evaluations, time_budget), seed=seed, out=out, resume=resume, workers=workers,
        threads=threads, shared_epochs=0 if shared_weights is not None and shared_epochs is None else shared_epochs,
        shared_weights=shared_weights, train_batches=train_batches, finetune_epochs=finetune_epochs,
        finetune_batches=finetune_batches,
        finetune_lr=finetune_lr, finalists=finalists, batch=batch, bits=bits, adc_bits=adc_bits,
        mappings=mappings, first_last_bits=first_last_bits,
        weight_multiple_of_cell=weight_multiple_of_cell, groups=groups, exclude=exclude,
        calibration_batches=calibration_batches, bn_batches=bn_batches, search_samples=search_samples,
        progress=progress, rung_policies=rung_policies, pareto=pareto,
    )  # fmt: skip
    functions = UserFunctions(loss_fn, metric_fn, forward_fn)
    # Transforms of the data may draw: what is held out is then a function of the seed as well.
    with kept_random_state(model, seed, [loader, val_loader]):
        splits = split_loaders(loader, val_loader, seed=seed, search_samples=search_samples)
        if settings.hardware.varies:
            splits = shared_out(splits)
    return run_search(model, splits, settings, functions)
