"""The highest rung: a short training for a policy alone, measured on data that the search never saw."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from cimq.policy import Policy
from cimq.policy_search.chips import CONFIRMATION_CHIP, on_chips
from cimq.policy_search.confirmation import Confirmed
from cimq.policy_search.data import HeldBatches, Splits
from cimq.policy_search.evaluators.output_distance import OutputDistance
from cimq.policy_search.functions import UserFunctions
from cimq.policy_search.settings import SearchSettings
from cimq.policy_search.space import Pairs
from cimq.quantization import reestimate_bn, set_policy
from cimq.torch_tools.batches import kept_random_state
from cimq.torch_tools.forward import default_forward
from cimq.torch_tools.modes import in_evaluation
from cimq.training import finetune

# For the batch statistics at the end: fewer than finetune's 50, which would take as long as half of the training.
NORM_BATCHES = 20


class ShortTraining:
    """Trains copies of a prepared model.

    Args:
        prepared: Prepared and calibrated; is not changed.
        teacher: The fp32 model.
        splits: Train and confirmation set.
        statistics: Training batches for batch statistics, where nothing is trained.
        settings: Epochs (0 trains nothing), learning rate, seed.
        functions: Loss, metric and forward pass.
    """

    def __init__(
        self,
        prepared: nn.Module,
        teacher: nn.Module,
        splits: Splits,
        statistics: HeldBatches,
        settings: SearchSettings,
        functions: UserFunctions,
    ) -> None:
        self._prepared = prepared
        self._teacher = teacher
        self._splits = splits
        self._statistics = statistics
        self._functions = functions
        self._seed = settings.seed
        self._options: dict[str, Any] = {
            "epochs": settings.finetune_epochs,
            "lr": settings.finetune_lr,
            "seed": settings.seed,
            # What the default loss trains on are class scores, so the fp32 model can teach; a loss of the user's may
            # want other outputs.
            "teacher": teacher if functions.loss is None else None,
            "loss_fn": functions.loss,
            "forward_fn": functions.forward,
            "bn_batches": NORM_BATCHES,
            "progress": False,
        }

    def train(self, policy: Pairs) -> tuple[Confirmed, dict[str, Tensor]]:
        """What the confirmation set says of a policy after training, and the weights that it has then."""
        train: Iterable[Any] = self._splits.train
        network = self._under(policy)
        with kept_random_state(network, self._seed, [train]):
            if self._options["epochs"] > 0:
                finetune(network, train, **self._options)
            else:
                reestimate_bn(network, self._statistics, forward_fn=self._functions.forward)
            network.eval()
            confirmed = self._confirmed(network)
        return confirmed, {name: value.cpu() for name, value in network.state_dict().items()}

    def model(self, policy: Pairs, state: dict[str, Tensor]) -> nn.Module:
        """The model that `train` has trained, from its weights."""
        network = self._under(policy).eval()
        network.load_state_dict(state)
        return network

    def _under(self, policy: Pairs) -> nn.Module:
        network = copy.deepcopy(self._prepared)
        set_policy(network, Policy.from_pairs(policy))
        return network

    def _confirmed(self, network: nn.Module) -> Confirmed:
        forward, confirm = self._functions.forward or default_forward, self._splits.confirm
        with in_evaluation(self._teacher):
            # Made batch by batch: the outputs for a whole set may be large.
            distance = OutputDistance(forward(self._teacher, batch) for batch in confirm)
            with on_chips(network, confirm, CONFIRMATION_CHIP) as batches:
                accuracy, scores = self._functions.scored(network, batches, distance.see)
        return Confirmed(accuracy, distance.mean, scores)
