"""`search`: from a trained model to a mixed-precision one."""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import cimq
from cimq.cost_model.sources import latency
from cimq.hardware import Hardware, resolve
from cimq.policy import Policy
from cimq.policy_search.data import HeldBatches, split_loaders
from cimq.policy_search.evaluator import ModelEvaluator
from cimq.policy_search.flow import Outcome, run_flow
from cimq.policy_search.log import EvaluationLog
from cimq.policy_search.result import Baseline, SearchResult
from cimq.policy_search.space import Pairs, SearchSpace
from cimq.policy_search.strategies import STRATEGIES, StrategyOptions
from cimq.policy_search.trials import Trials
from cimq.quantization import calibrate, layer_shapes, prepare, reestimate_bn, set_policy
from cimq.torch_tools.batches import ForwardFn, kept_random_state, split_batch
from cimq.training.targets import Use, check_first_batch


def search(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    val_loader: Iterable[Any] | None = None,
    hardware: Hardware | str | Path = "paper",
    max_accuracy_drop: float = 0.01,
    strategy: str = "reinforce",
    evaluations: int = 200,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    loss_fn: Any = None,
    metric_fn: Any = None,
    forward_fn: ForwardFn | None = None,
    finetune_epochs: int = 1,
    finetune_lr: float = 0.01,
    finalists: int = 4,
    batch: int = 8,
    bits: tuple[int, int] = (2, 8),
    first_last_bits: int | None = 8,
    weight_multiple_of_cell: bool = False,
    groups: Sequence[Sequence[str]] = (),
    exclude: Iterable[str] | str = (),
    calibration_batches: int = 8,
    bn_batches: int = 4,
    search_samples: int = 2000,
    progress: bool = True,
) -> SearchResult:
    """Finds bits per layer that make a model fast on a crossbar machine, and trains it with them.

    It prepares and calibrates a copy of the model, trains the uniform policies that it must beat, searches, trains the
    best candidates shortly and returns the fastest that satisfies

        accuracy >= accuracy of 8 bits everywhere after the same training - max_accuracy_drop

    on data that the search never saw. `model` and the random state of Python, NumPy and torch (and of the loaders' own
    generators) stay as they are. The same seed gives the same result, interrupted or not, with the same number of
    threads on the same kind of processor: PyTorch adds floats in an order that depends on both, and trained weights
    then differ in their last bits. docs/search.md has the method.

    Args:
        model: A trained fp32 model.
        loader: Training data: a DataLoader or batches `(x, target)`, lists or dicts.
        val_loader: Data that the model was not trained on; one half measures candidates, the other the final pick.
            None: 10 % + 10 % of the data set of `loader` are held out, with a warning.
        hardware: The crossbar machine: a Hardware, a preset's name or a file.
        max_accuracy_drop: As a fraction: 0.01 is one percentage point (or in units of `metric_fn`).
        strategy: "reinforce", "random" or "uniform".
        evaluations: Policies measured without training, baselines included.
        seed: Of the split, the agent and training.
        out: Folder for `evaluations.jsonl`, `result.json`, `policy.json`. None writes nothing.
        resume: Continue the search in `out`; its settings must be the same. What was measured is not measured again.
        workers: None or 1.
        loss_fn: `loss_fn(output, target)` for training; None is cross-entropy with `model` as the teacher, for the
            outputs and targets that `finetune` names.
        metric_fn: `metric_fn(output, target)`, mean of a batch, larger is better; None is top-1 accuracy, for the same.
        forward_fn: `forward_fn(model, batch)` runs the model; None: on the inputs of the batch.
        finetune_epochs: Epochs of the short training, on the training part; 0 trains nothing.
        finetune_lr: Its learning rate.
        finalists: How many candidates are trained at most.
        batch: Policies per update of the agent.
        bits: Smallest and largest width.
        first_last_bits: Width of the first and the last layer; None leaves them free.
        weight_multiple_of_cell: Only weight widths that fill whole cells.
        groups: Lists of layer names (or glob patterns) that share their bits.
        exclude: Glob patterns of layers that stay fp32.
        calibration_batches: Training batches that activation scales are taken from.
        bn_batches: Training batches that batch statistics are re-estimated on for every candidate.
        search_samples: Largest size of the search-validation set that is split off.
        progress: Show a progress bar.

    Returns:
        The result; `.policy`, `.model`, `.pareto`, `.evaluations`, `.baselines`, `.save`, `.report`.

    Raises:
        TypeError: For arguments of another type; also as below.
        ValueError: For settings out of range or that leave nothing to choose, data that cannot be split, a log that
            cannot be resumed, and outputs or targets that the default loss or metric is not for: a `loss_fn` and a
            `metric_fn` are then needed.
        KeyboardInterrupt: As usual; the log in `out` can be resumed.

    Example:
        >>> result = cimq.search(model, loader, out="runs/mine")  # doctest: +SKIP
        >>> cimq.export(result.model, "runs/mine/model.cimq", sample_input=x)  # doctest: +SKIP
    """
    start = time.perf_counter()
    _check(model, strategy, max_accuracy_drop, workers, finetune_epochs, finalists, batch)
    splits = split_loaders(loader, val_loader, seed=seed, search_samples=search_samples)

    uses: list[Use] = ["metric"] if metric_fn is None else []
    uses += ["loss"] if loss_fn is None and finetune_epochs > 0 else []
    # On validation data, which costs nothing: they are held in memory. Training meets its own before the first step.
    check_first_batch(model, splits.search, uses, forward_fn, "search: there is no data")

    machine = resolve(hardware)
    prepared = prepare(model, None, machine, exclude=exclude).eval()
    with kept_random_state(prepared, seed, [splits.train]):
        calibrate(prepared, splits.train, batches=calibration_batches, forward_fn=forward_fn)
        statistics = HeldBatches(itertools.islice(splits.train, max(1, bn_batches)), max(1, bn_batches))
    shapes = layer_shapes(prepared, _one_sample(statistics))
    space = SearchSpace(
        shapes,
        machine,
        bits=bits,
        first_last_bits=first_last_bits,
        weight_multiple_of_cell=weight_multiple_of_cell,
        groups=groups,
    )
    space.check_choice()
    settings = {
        "model": _fingerprint(model),
        "layers": [[s.name, s.outputs, s.inputs, s.invocations, s.repeats] for s in shapes],
        "hardware": machine.to_dict(),
        "samples": list(splits.samples),
        "strategy": strategy,
        "max_accuracy_drop": max_accuracy_drop,
        "evaluations": evaluations,
        "seed": seed,
        "finetune_epochs": finetune_epochs,
        "finetune_lr": finetune_lr,
        "batch": batch,
        "bits": list(bits),
        "first_last_bits": first_last_bits,
        "weight_multiple_of_cell": weight_multiple_of_cell,
        "groups": [list(group) for group in groups],
        "calibration_batches": calibration_batches,
        "bn_batches": bn_batches,
        "version": cimq.__version__,
    }

    def measure(network: nn.Module, batches: Iterable[Any]) -> float:
        return float(cimq.evaluate(network, batches, metric_fn, forward_fn=forward_fn, progress=False))

    evaluator = ModelEvaluator(prepared, splits.search, splits.samples[0], statistics, measure, forward_fn, seed)
    pristine = copy.deepcopy(prepared)
    bar = tqdm(total=evaluations, desc="search", unit="policy", disable=not progress)

    def train(pairs: Pairs) -> tuple[float, nn.Module]:
        bar.set_description(f"training {_named(pairs)}")
        network = copy.deepcopy(pristine)
        set_policy(network, Policy.from_pairs(pairs))
        with kept_random_state(network, seed, [splits.train]):
            if finetune_epochs > 0:
                cimq.finetune(
                    network,
                    splits.train,
                    epochs=finetune_epochs,
                    lr=finetune_lr,
                    # What the default loss trains on are class scores, so the fp32 model can teach; a loss of the
                    # user's may want other outputs.
                    teacher=model if loss_fn is None else None,
                    loss_fn=loss_fn,
                    forward_fn=forward_fn,
                    seed=seed,
                    progress=False,
                )
            else:
                reestimate_bn(network, statistics, forward_fn=forward_fn)
            network.eval()
            accuracy = measure(network, splits.confirm)
        bar.set_description("search")
        return accuracy, network

    log = EvaluationLog(out, settings, resume=resume)
    try:
        trials = Trials(space, evaluator, evaluations, log, bar)
        outcome = run_flow(
            trials,
            train,
            strategy=strategy,
            options=StrategyOptions(seed, batch, lambda pairs: evaluator.damage(pairs, space.widest)),
            max_accuracy_drop=max_accuracy_drop,
            finalists=finalists,
        )
        with kept_random_state(model, seed, [splits.confirm]):
            fp32 = measure(model, splits.confirm)
    finally:
        log.close()
        bar.close()

    policy = space.policy(outcome.chosen.policy)
    result = SearchResult(
        policy=policy,
        model=outcome.chosen.artefact,
        accuracy=outcome.chosen.accuracy,
        reference_accuracy=outcome.reference.accuracy,
        max_accuracy_drop=max_accuracy_drop,
        latency=latency(shapes, policy, machine),
        pareto=outcome.pareto,
        evaluations=trials.evaluations,
        baselines=_baselines(space, outcome, fp32),
        finalists=_finalists(space, outcome),
        search_tolerance=outcome.tolerance,
        strategy=strategy,
        seed=seed,
        model_name=type(model).__name__,
        seconds=time.perf_counter() - start,
        shapes=tuple(shapes),
    )
    if out is not None:
        result.save(out)
    return result


def _check(
    model: nn.Module,
    strategy: str,
    max_accuracy_drop: float,
    workers: int | None,
    finetune_epochs: int,
    finalists: int,
    batch: int,
) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"search takes an nn.Module, got {type(model).__name__}")
    if strategy not in STRATEGIES:
        raise ValueError(f"search: strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if workers not in (None, 1):
        raise ValueError(f"search: workers must be None or 1, evaluation is in this process only; got {workers!r}")
    if not (math.isfinite(max_accuracy_drop) and max_accuracy_drop >= 0):
        raise ValueError(f"search: max_accuracy_drop must be a fraction of at least 0, got {max_accuracy_drop!r}")
    if finetune_epochs < 0:
        raise ValueError(f"search: finetune_epochs must be at least 0, got {finetune_epochs!r}")
    if finalists < 0:
        raise ValueError(f"search: finalists must be at least 0, got {finalists!r}")
    if batch < 2:
        raise ValueError(f"search: batch must be at least 2 policies per update, got {batch!r}")


def _one_sample(statistics: HeldBatches) -> Any:
    """The inputs of a batch, for the shapes of the layers (which are counted per sample)."""
    for batch in statistics:
        return split_batch(batch)[0]
    raise ValueError("search: the loader is empty")


def _fingerprint(model: nn.Module) -> str:
    """Class and weights of a model."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _named(pairs: Pairs) -> str:
    return f"{pairs[0]}" if len(set(pairs)) == 1 else f"{len(set(pairs))} widths"


def _baselines(space: SearchSpace, outcome: Outcome, fp32: float) -> dict[str, Baseline]:
    trained = {entry.policy: entry.accuracy for entry in outcome.trained}
    found = {"fp32": Baseline("fp32", None, fp32, None, None, None)}
    for width, evaluation in outcome.baselines.items():
        name = f"uniform {width}-bit"
        found[name] = Baseline(
            name,
            space.policy(evaluation.policy),
            trained.get(evaluation.policy),
            evaluation.accuracy,
            evaluation.time_us,
            evaluation.speedup,
        )
    return found


def _finalists(space: SearchSpace, outcome: Outcome) -> list[Baseline]:
    uniform = {evaluation.policy for evaluation in outcome.baselines.values()}
    measured = {evaluation.policy: evaluation.accuracy for evaluation in outcome.pareto}
    return [
        Baseline(
            f"finalist {number}",
            space.policy(entry.policy),
            entry.accuracy,
            measured.get(entry.policy),
            space.time_us(entry.policy),
            space.speedup(entry.policy),
        )
        for number, entry in enumerate((e for e in outcome.trained if e.policy not in uniform), start=1)
    ]
