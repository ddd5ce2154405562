"""One search, from settings that are in order to its result."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import warnings
from contextlib import closing
from pathlib import Path

import torch
from torch import nn

from cimq.atomic_files import check_writable, remove_unfinished
from cimq.cost_model.closed_form import LatencyReport, closed_form
from cimq.cost_model.sources import energy, latency
from cimq.errors import CimqWarning
from cimq.policy import Policy
from cimq.policy_search.baselines import baselines_of, finalists_of, trained_of
from cimq.policy_search.budget import SENSITIVITY_SHARE, Budget
from cimq.policy_search.cost_limit import CostLimit
from cimq.policy_search.costs import Size
from cimq.policy_search.data import Splits
from cimq.policy_search.evaluators.racing import Racing
from cimq.policy_search.evaluators.side_by_side import SideBySide
from cimq.policy_search.flow import BASELINE_SHARE, Outcome, run_flow
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.goals import Fastest, Goal, MostAccurate
from cimq.policy_search.journal import LOG_NAME, SETTINGS_NAME, Journal, check_folder
from cimq.policy_search.pareto_models import FOLDER, forget_pareto_models, pareto_models_of
from cimq.policy_search.plan import PLAN_NAME, Plan, planned
from cimq.policy_search.progress import Progress
from cimq.policy_search.result import SearchResult
from cimq.policy_search.reward import AnyReward
from cimq.policy_search.rung_check import RungCheck
from cimq.policy_search.settings import SHARED_NAME, SearchSettings
from cimq.policy_search.space import SearchSpace
from cimq.policy_search.strategies import STRATEGIES, Strategy, StrategyTask
from cimq.policy_search.trained_policies import FOLDER_NAME, TrainedPolicies
from cimq.policy_search.trainings import TrainedModels, Trainings
from cimq.policy_search.trials import Trials
from cimq.policy_search.workbench import TRAINING, Workbench
from cimq.policy_search.workers import Pool
from cimq.policy_search.workers.opening import open_pool, places
from cimq.torch_tools.batches import device_of, kept_random_state
from cimq.torch_tools.threads import computing_threads


def run_search(model: nn.Module, splits: Splits, settings: SearchSettings, functions: UserFunctions) -> SearchResult:
    """Runs a search; see `cimq.search`.

    Args:
        model: The fp32 model.
        splits: The three sets.
        settings: Of the search.
        functions: Of the user.
    """
    start = time.perf_counter()
    if check_folder(settings.out, settings.resume) or settings.resume:
        _clean(settings.out)
    if settings.out is not None:
        _check_out(Path(settings.out))
        if not settings.resume:
            forget_pareto_models(settings.out)
    # On validation data, which costs nothing: they are held in memory. Training meets its own before the first step.
    functions.check(model, splits.search, trains=settings.finetune_epochs > 0 or settings.shared_epochs != 0)
    plan = planned(settings)
    sent = {
        "loader": splits.train, "val_loader": splits.confirm, "loss_fn": functions.loss, "metric_fn": functions.metric,
        "forward_fn": functions.forward,
    }  # fmt: skip
    with (
        computing_threads(plan.shared_threads),
        closing(Progress(settings.progress, by_damage=settings.min_speedup is not None)) as shown,
        closing(open_pool(settings.workers, plan.threads, model, sent)) as pool,
    ):
        bench = Workbench(model, splits, settings, functions)
        bench.space.check_choice()
        goal = _goal(settings, bench.space)
        side_by_side = min(settings.batch, places(pool, settings.workers, plan.threads))
        size, plan = plan.sized(
            settings, lambda: time.perf_counter() - start, lambda: bench.costs(plan.threads, side_by_side)
        )
        settings = settings.of_size(size)
        bench.shorten_epochs(settings.train_batches)
        threads = (plan.threads, plan.shared_threads)
        fields = settings.journal_fields(
            bench.shapes, splits.samples, splits.digests, _fingerprint(model), threads, device_of(model).type
        )
        fields |= {"functions": functions.names(), "training_data": splits.training_size()}
        if settings.out is not None:
            if size.shared_epochs > 0:
                _forget_shared_weights(Path(settings.out), settings.resume)
            plan.keep(settings.out, settings.resume)
        kept = TrainedPolicies(settings.out, fields, resume=settings.resume)
        pool.start()
        shown.say(f"search: {plan}")
        if plan.costs is not None:
            shown.plan(size, plan.costs, BASELINE_SHARE, settings.resume)
        with closing(Journal(settings.out, fields, resume=settings.resume)) as journal:
            outcome, trials, rungs = _searched(bench, pool, settings, goal, size, kept, journal, shown)
        with kept_random_state(model, settings.seed, [splits.confirm]):
            fp32 = functions.accuracy(model, splits.confirm)
    result = _result(model, bench, outcome, trials, rungs, settings, plan, fp32, time.perf_counter() - start)
    result = dataclasses.replace(result, fraction=functions.metric is None)
    if not bench.space.contains(outcome.chosen.policy):
        warnings.warn(
            f"search: no trained policy that obeys bits={settings.bits}, first_last_bits={settings.first_last_bits}, "
            f"weight_multiple_of_cell={settings.weight_multiple_of_cell} and groups satisfies max_accuracy_drop="
            f"{settings.max_accuracy_drop}; the result is 8 bits everywhere, which does not obey them",
            CimqWarning,
            stacklevel=3,
        )
    if settings.out is not None:
        result.save(settings.out)
    if result.interrupted:
        further = "" if settings.out is None else "; the same call with resume=True continues the search"
        warnings.warn(
            f"search: interrupted after {len(result.evaluations)} evaluations and {len(outcome.trained)} trainings; "
            f"the result is the best so far{further}",
            CimqWarning,
            stacklevel=3,
        )
    return result


def _searched(
    bench: Workbench,
    pool: Pool,
    settings: SearchSettings,
    goal: Goal,
    size: Size,
    kept: TrainedPolicies,
    journal: Journal,
    shown: Progress,
) -> tuple[Outcome, Trials, RungCheck]:
    """Shared weights, then the flow."""
    space = bench.space
    if settings.shared_weights is not None:
        bench.take_shared(Path(settings.shared_weights))
    elif size.shared_epochs > 0:
        checkpoint = None if settings.out is None else Path(settings.out) / SHARED_NAME
        bench.train_shared(size.shared_epochs, checkpoint, shown.stepped)
    pool.equip(bench.tools())
    budget = Budget(size.evaluations)
    rungs = bench.rung_check(budget, lambda tool: SideBySide(pool, tool))
    trials = Trials(space, rungs.ranker, budget, journal, shown, rungs.ranking)
    train = Trainings(pool, TRAINING, kept, bench.training.model, shown.training)

    def chosen_strategy(reward: AnyReward) -> Strategy:
        # Within a cost it is the least damage that is wanted, and no side of a target.
        if isinstance(rungs.ranker, Racing) and trials.evaluations and reward.limit is None and budget.left > 0:
            near = min(trials.evaluations, key=lambda e: abs(e.damage - reward.target))
            rungs.ranker.aim(reward.target, near.policy, near.damage)
            budget.spend(SENSITIVITY_SHARE)
        task = StrategyTask(space, budget, settings.seed, settings.batch, rungs.start, reward, rungs.sensitivity)
        return STRATEGIES[settings.strategy](task)

    outcome = run_flow(
        trials,
        train,
        goal=goal,
        strategy=chosen_strategy,
        batch=settings.batch,
        finalists=size.finalists,
        ahead=train.ahead,
        rungs=rungs,
        pareto=settings.pareto,
    )
    return outcome, trials, rungs


def _goal(settings: SearchSettings, space: SearchSpace) -> Goal:
    """What was asked for, one of two.

    Raises:
        ValueError: If no policy is within the budget.
    """
    if settings.min_speedup is not None:
        return MostAccurate(CostLimit(space, settings.min_speedup))
    return Fastest(settings.max_accuracy_drop or 0.0)


def _result(
    model: nn.Module,
    bench: Workbench,
    outcome: Outcome,
    trials: Trials,
    rungs: RungCheck,
    settings: SearchSettings,
    plan: Plan,
    fp32: float,
    seconds: float,
) -> SearchResult:
    policy = bench.space.policy(outcome.chosen.policy)
    trained = trained_of(bench.space, outcome)
    return SearchResult(
        policy=policy,
        model=outcome.chosen.artefact(),
        accuracy=outcome.chosen.accuracy,
        reference_accuracy=outcome.reference.accuracy,
        max_accuracy_drop=settings.max_accuracy_drop,
        min_speedup=settings.min_speedup,
        latency=_latency(bench, policy, settings),
        program=None if bench.programs is None else bench.programs.costs(outcome.chosen.policy),
        pareto=outcome.pareto,
        evaluations=trials.evaluations,
        baselines=baselines_of(bench.space, outcome, fp32),
        finalists=finalists_of(bench.space, outcome),
        target_damage=outcome.target if settings.min_speedup is None else None,
        strategy=settings.strategy,
        objective=settings.objective,
        energy=None if settings.objective == "latency" else energy(bench.shapes, policy, settings.hardware),
        seed=settings.seed,
        model_name=type(model).__name__,
        seconds=seconds,
        shapes=bench.shapes,
        confirmation=outcome.chosen.drop_from(outcome.reference),
        trained=trained,
        trained_models=TrainedModels(
            {row.name: entry.artefact for row, entry in zip(trained, outcome.trained, strict=True)}
        ),
        rungs=rungs.ladder.correlations,
        passed_over=rungs.passed_over,
        ranking=rungs.ranking,
        pareto_models=pareto_models_of(bench.space, outcome, bench.training.model, settings.out),
        interrupted=outcome.interrupted,
        plan=plan,
    )


def _latency(bench: Workbench, policy: Policy, settings: SearchSettings) -> LatencyReport:
    """Closed form; that it is about one crossbar is said where it is the search's cost."""
    if bench.programs is None:
        return latency(bench.shapes, policy, settings.hardware)
    return closed_form(bench.shapes, [policy[shape.name] for shape in bench.shapes], settings.hardware)


def _check_out(out: Path) -> None:
    """Finds out before long work whether files can be written there.

    Raises:
        OSError: If not; names the folder.
    """
    try:
        check_writable(out / LOG_NAME)
    except OSError as error:
        raise OSError(
            error.errno, f"search: out must be a folder that can be written to ({error.strerror})", str(out)
        ) from None


def _clean(out: str | Path | None) -> None:
    """Removes what a search that was killed left half written."""
    if out is not None:
        files = (
            SHARED_NAME,
            PLAN_NAME,
            LOG_NAME,
            SETTINGS_NAME,
            "result.json",
            "policy.json",
            f"{FOLDER_NAME}/*.pt",
            f"{FOLDER}/*.pt",
        )
        for name in files:
            remove_unfinished(Path(out, name))


def _forget_shared_weights(out: Path, resume: bool) -> None:
    """Removes those of an earlier search: one that is resumed before its first epoch has ended would go on from them.

    Raises:
        ValueError: If a search is to be resumed and nothing says which one they belong to.
    """
    path = out / SHARED_NAME
    if not resume:
        path.unlink(missing_ok=True)
    elif path.exists() and not (out / SETTINGS_NAME).exists():
        raise ValueError(
            f"search: {out / SETTINGS_NAME} is missing; without it the search that {path} belongs to cannot be "
            "resumed. Delete that file, or move it and give it as shared_weights"
        )


def _fingerprint(model: nn.Module) -> str:
    """Class and weights of a model."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
