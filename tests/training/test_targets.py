"""What the default loss and the default metric accept, at every function that uses them."""

from __future__ import annotations

import copy
import warnings
from collections import UserDict
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cimq
from cimq.torch_tools.batches import batch_size, split_batch, to_device
from cimq.training.targets import class_targets, is_class_scores

CLASSES = 4
Y = torch.arange(12) % CLASSES
# Right for 9 of the 12 samples.
SCORES = F.one_hot(torch.where(torch.arange(12) < 9, Y, (Y + 1) % CLASSES), CLASSES).float()

# The same classes in every form that is accepted.
_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "int64": lambda y: y,
    "int32": lambda y: y.int(),
    "uint8": lambda y: y.to(torch.uint8),
    "column": lambda y: y[:, None],
    "int32 column": lambda y: y.int()[:, None],
    "one-hot": lambda y: F.one_hot(y, CLASSES),
    "one-hot bool": lambda y: F.one_hot(y, CLASSES).bool(),
    "one-hot float": lambda y: F.one_hot(y, CLASSES).float(),
    "one-hot half": lambda y: F.one_hot(y, CLASSES).half(),
    "smoothed": lambda y: 0.9 * F.one_hot(y, CLASSES).float() + 0.1 / CLASSES,
}


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 2)])
def test_the_same_classes_in_every_form(form: str, shape: tuple[int, ...]) -> None:
    y, scores = Y, SCORES
    for length in shape:
        y, scores = y[..., None].repeat_interleave(length, -1), scores[..., None].repeat_interleave(length, -1)
    target = _FORMS[form](y)
    if "one-hot" in form or form == "smoothed":
        target = target.movedim(-1, 1)
    assert cimq.evaluate(nn.Identity(), [(scores, target)]) == 9 / 12
    loss = class_targets(scores, target, "loss").cross_entropy(label_smoothing=0.1)
    smoothed = 0.1 if form == "smoothed" else 0.0
    wanted = F.cross_entropy(scores, y, label_smoothing=1 - (1 - smoothed) * 0.9)
    assert float(loss) == pytest.approx(float(wanted), rel=2e-3 if form == "one-hot half" else 1e-6)


def test_scores_that_are_no_numbers_have_no_class() -> None:
    nothing = torch.full((12, CLASSES), torch.nan)
    assert cimq.evaluate(nn.Identity(), [(nothing, torch.zeros(12).long())]) == 0.0
    some = torch.where(torch.arange(12)[:, None] < 3, nothing, SCORES)
    assert cimq.evaluate(nn.Identity(), [(some, Y)]) == pytest.approx(6 / 12)


def test_bool_classes() -> None:
    target = torch.tensor([True, False, True])
    assert cimq.evaluate(nn.Identity(), [(torch.tensor([[0.0, 1.0]] * 3), target)]) == pytest.approx(2 / 3)


_N = 12
_BAD: dict[str, tuple[Tensor, Any, str]] = {
    "one column of logits": (torch.rand(_N, 1), torch.randint(0, 2, (_N, 1)).float(), "one column"),
    "one column, classes": (torch.rand(_N, 1), torch.zeros(_N, dtype=torch.long), "one column"),
    "no column": (torch.rand(_N), torch.zeros(_N, dtype=torch.long), "two classes or more"),
    "segmentation of one column": (torch.rand(_N, 1, 3, 3), torch.zeros(_N, 3, 3, dtype=torch.long), "one column"),
    "values": (torch.rand(_N, 3), torch.rand(_N, 3) + 1, "sum 1"),
    "several classes at once": (torch.rand(_N, 3), torch.tensor([[1.0, 1.0, 0.0]] * _N), "several classes at once"),
    "several classes, integers": (torch.rand(_N, 3), torch.tensor([[1, 1, 0]] * _N), "several classes at once"),
    "negative, with the sum 1": (torch.rand(_N, 3), torch.tensor([[1.0, 1.0, -1.0]] * _N), "not negative"),
    "NaN": (torch.rand(_N, 3), torch.full((_N, 3), float("nan")), "sum 1"),
    "classes in floating point": (torch.rand(_N, 3), torch.zeros(_N), r"target\.long\(\)"),
    "a column of values": (torch.rand(_N, 3), torch.rand(_N, 1), "integers"),
    "too large": (torch.rand(_N, 3), torch.full((_N,), 3), r"classes in 0\.\.2"),
    "negative": (torch.rand(_N, 3), torch.full((_N,), -1), r"classes in 0\.\.2"),
    "another number of samples": (torch.rand(_N, 3), torch.zeros(1, dtype=torch.long), r"targets \[N"),
    "a row": (torch.rand(_N, 3), torch.zeros(1, _N, dtype=torch.long), r"targets \[N"),
    "classes in the last dimension": (torch.rand(_N, 7, 3), torch.zeros(_N, 7, dtype=torch.long), "forward_fn"),
    "pixels that are left": (torch.rand(_N, 3, 1, 1), torch.zeros(_N, dtype=torch.long), "forward_fn"),
    "no target": (torch.rand(_N, 3), None, "got none"),
    "a list": (torch.rand(_N, 3), [0] * _N, "got list"),
    "complex": (torch.rand(_N, 3), torch.zeros(_N, dtype=torch.complex64), "needs classes"),
}


@pytest.mark.parametrize("kind", _BAD)
def test_what_is_refused(kind: str) -> None:
    output, target, message = _BAD[kind]
    with pytest.raises((TypeError, ValueError), match=message) as metric:
        cimq.evaluate(nn.Identity(), [{"input": output, "labels": target}])
    assert "top-1 accuracy" in str(metric.value)
    assert "metric_fn" in str(metric.value)
    with pytest.raises(type(metric.value), match=message) as loss:
        class_targets(output, target, "loss")
    assert "cross-entropy" in str(loss.value)
    assert "loss_fn" in str(loss.value)
    assert not is_class_scores(output, target)
    assert cimq.evaluate(nn.Identity(), [{"input": output, "labels": target}], lambda out, y: 0.25) == 0.25


class Head(nn.Module):
    """Scores as they are for quantised layers that add nothing to them."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.middle = nn.Linear(8, 8)
        self.last = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.norm(self.first(x)).relu()).relu())


def _prepared(outputs: int, hardware: Any = "paper") -> nn.Module:
    return cimq.prepare(Head(outputs), cimq.Policy.uniform(4, 4), hardware, example_inputs=torch.rand(12, 6))


_REFUSED_TARGETS = {
    "one column": (1, torch.rand(_N, 1)),
    "one column, labels": (1, torch.arange(_N) % 2),
    "several classes at once": (4, torch.randint(0, 2, (_N, 4)).float() + torch.eye(4)[0]),
    "values": (4, torch.rand(_N, 4) + 1),
    "classes in floating point": (4, (torch.arange(_N) % 4).float()),
    "out of range": (4, torch.arange(_N)),
}


@pytest.mark.parametrize("kind", _REFUSED_TARGETS)
@pytest.mark.parametrize("teacher", [False, True])
def test_finetune_refuses_before_it_changes_anything(kind: str, teacher: bool) -> None:
    outputs, target = _REFUSED_TARGETS[kind]
    q, data = _prepared(outputs), [(torch.rand(_N, 6), target)] * 3
    before = {key: value.clone() for key, value in q.state_dict().items()}
    options: dict[str, Any] = {"teacher": Head(outputs)} if teacher else {}
    with pytest.raises((TypeError, ValueError), match="loss_fn"):
        cimq.finetune(q, data, epochs=2, progress=False, **options)
    with pytest.raises((TypeError, ValueError), match="metric_fn"):
        cimq.finetune(q, data, epochs=2, val_loader=data, loss_fn=lambda out, y: out.sum(), progress=False, **options)
    assert all(torch.equal(value, before[key]) for key, value in q.state_dict().items())
    cimq.finetune(
        q, data, epochs=1, loss_fn=lambda out, y: out.square().mean(), val_loader=data, progress=False,
        metric_fn=lambda out, y: 1.0,
    )  # fmt: skip


def test_binary_loss_trains_and_is_measured_with_functions_of_its_own() -> None:
    x = torch.randn(256, 6)
    y = (x[:, :1] > 0).float()
    q = cimq.prepare(Head(1), example_inputs=x)
    history = cimq.finetune(
        q, [(x, y)] * 8, epochs=4, lr=0.1, loss_fn=F.binary_cross_entropy_with_logits, val_loader=[(x, y)],
        metric_fn=lambda out, target: ((out > 0) == (target > 0.5)).float().mean(), progress=False,
    )  # fmt: skip
    assert history[-1].metric is not None
    assert history[-1].metric > 0.9


def test_distillation_needs_classes() -> None:
    """A softmax over one column is always 1: its loss is 0, and half of what the user's loss weighs was lost."""
    q, data = _prepared(1), [(torch.rand(_N, 6), torch.rand(_N, 1))]
    options: dict[str, Any] = {"epochs": 1, "loss_fn": F.mse_loss, "teacher": Head(1), "progress": False}
    with pytest.raises(ValueError, match="distill_weight=0"):
        cimq.finetune(q, data, **options)
    cimq.finetune(q, data, distill_weight=0.0, distill_features=["first"], **options)
    with pytest.raises(ValueError, match="same shape from model and teacher"):
        cimq.finetune(_prepared(4), [(torch.rand(_N, 6), Y)], epochs=1, teacher=Head(2), progress=False)


@pytest.mark.parametrize("given", [{}, {"loss_fn": F.mse_loss}, {"metric_fn": lambda out, y: -F.mse_loss(out, y)}])
def test_search_refuses_before_it_prepares(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = [(torch.rand(_N, 6), torch.rand(_N, 1))] * 4
    missing = {"loss_fn", "metric_fn"} - set(given)
    with monkeypatch.context() as patch:
        patch.setattr(
            import_module("cimq.policy_search.workbench"), "prepare", lambda *_, **__: pytest.fail("prepared")
        )
        with pytest.raises(ValueError, match="|".join(missing)):
            cimq.search(Head(1), data, val_loader=data, progress=False, **given)


def test_search_of_a_regression_has_functions_of_its_own() -> None:
    data = [(torch.rand(_N, 6), torch.rand(_N, 1))] * 4
    result = cimq.search(
        Head(1), data, val_loader=data, evaluations=6, progress=False, loss_fn=F.mse_loss, first_last_bits=None,
        metric_fn=lambda out, y: -F.mse_loss(out, y),
    )  # fmt: skip
    assert result.accuracy < 0


def test_evaluate_chips_refuses() -> None:
    q = _prepared(1, "rram-wan2022")
    with pytest.raises(ValueError, match="metric_fn"):
        cimq.evaluate_chips(q, [(torch.rand(_N, 6), torch.rand(_N, 1))], chips=2)


def test_doctor_needs_one_tensor_and_no_targets() -> None:
    q = _prepared(1)
    assert len(cimq.doctor(q, [(torch.rand(_N, 6), torch.rand(_N, 1))]).rows) == 3
    with pytest.raises(TypeError, match="doctor compares one tensor: pass forward_fn"):
        cimq.doctor(q, [torch.rand(_N, 6)], forward_fn=lambda model, batch: str(model(batch)))


def test_ignored_targets_weigh_nothing() -> None:
    """Mean over the elements that count, whatever batches they are in; of the loss of an epoch too."""
    scores, target = SCORES.clone(), Y.clone()
    target[[1, 2, 3, 4, 10]] = -100
    wanted = 5 / 7  # 0, 5..8 of 0, 5..9, 11
    for sizes in ([12], [6, 6], [1] * 12, [5, 7], [2, 3, 7]):  # some hold nothing that counts
        batches = list(zip(scores.split(sizes), target.split(sizes), strict=True))
        assert cimq.evaluate(nn.Identity(), batches) == float(torch.tensor(wanted))  # of any split the same
    with pytest.raises(ValueError, match="all are -100"):
        cimq.evaluate(nn.Identity(), [(scores, torch.full_like(target, -100))])

    q, x = _prepared(CLASSES), torch.rand(12, 6)
    losses = []
    for sizes in ([12], [5, 7], [1, 4, 7]):
        network = copy.deepcopy(q)
        network.norm.eval()
        data = list(zip(x.split(sizes), target.split(sizes), strict=True))
        losses.append(cimq.finetune(network, data, epochs=1, lr=1e-12, bn_batches=0, progress=False)[0].loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    with pytest.raises(ValueError, match="every target of the loader is -100"):
        cimq.finetune(q, [(x, torch.full_like(target, -100))], epochs=1, progress=False)


def test_mixing_with_other_forms_of_targets() -> None:
    x = torch.rand(_N, 6)
    found = []
    for target in (Y, Y[:, None], F.one_hot(Y, CLASSES), F.one_hot(Y, CLASSES).float()):
        torch.manual_seed(0)
        q = _prepared(CLASSES)
        found.append(cimq.finetune(q, [(x, target)], epochs=2, mixing=1.0, progress=False)[-1].loss)
    assert found == pytest.approx([found[0]] * 4, rel=1e-5)


class Named(nn.Module):
    def forward(self, inp: Tensor) -> Tensor:
        return inp


class _Token(NamedTuple):
    ids: Tensor
    mask: Tensor


def test_any_mapping_is_a_batch() -> None:
    batches = [UserDict(inp=SCORES[:11], labels=Y[:11]), UserDict(inp=SCORES[11:], labels=Y[11:])]
    assert cimq.evaluate(Named(), batches) == 9 / 12
    # Weighted by their samples with a metric of the user's own.
    assert cimq.evaluate(Named(), batches, lambda out, y: (out.argmax(1) == y).float().mean()) == pytest.approx(9 / 12)
    assert [batch_size(batch) for batch in batches] == [11, 1]
    assert batch_size({"scale": torch.tensor(2.0), "inp": SCORES}) == 12
    q = cimq.prepare(Wrapped(), example_inputs=UserDict(inp=torch.rand(8, 6)))
    data = [UserDict(inp=torch.rand(8, 6), labels=torch.arange(8) % 2)]
    cimq.finetune(q, data, epochs=1, val_loader=data, progress=False)
    cimq.doctor(q, data)


class Wrapped(nn.Module):
    """Inputs by keyword, and an output that is a mapping but no dict."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, inp: Tensor) -> Any:
        return UserDict(logits=self.fc(inp))


def test_what_moves_to_a_device() -> None:
    device = torch.device("meta")
    packed = nn.utils.rnn.pack_sequence([torch.rand(3, 2), torch.rand(1, 2)])
    value = {"a": UserDict(b=torch.rand(2)), "c": _Token(torch.rand(1), torch.rand(2)), "d": [torch.rand(1), "text"]}
    moved = to_device(value, device)
    assert moved["a"]["b"].device == device
    assert isinstance(moved["c"], _Token)
    assert moved["c"].mask.device == device
    assert moved["d"][0].device == device
    assert moved["d"][1] == "text"
    assert isinstance(to_device(packed, torch.device("cpu")), nn.utils.rnn.PackedSequence)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.rand(4, 6), torch.arange(4), torch.arange(4)), "a batch of 3 items is taken as 2 inputs and, last"),
        ({"x": torch.rand(4, 6), "labels": torch.arange(4), "index": torch.arange(4)}, "the inputs of a batch are x"),
        ({"labels": torch.arange(4)}, "the inputs of a batch are none"),
    ],
)
def test_batches_that_the_model_does_not_take(batch: Any, message: str) -> None:
    q = _prepared(CLASSES)
    for call in (
        lambda: cimq.evaluate(q, [batch]),
        lambda: cimq.calibrate(q, [batch]),
        lambda: cimq.finetune(q, [batch], epochs=1, progress=False),
        lambda: cimq.doctor(q, [batch]),
        lambda: cimq.reestimate_bn(q, [batch]),
        lambda: cimq.search(Head(CLASSES), [batch] * 4, val_loader=[batch] * 4, progress=False),
    ):
        with pytest.raises(TypeError, match=f"{message}.*Head does not take.*forward_fn"):
            call()


def test_an_error_inside_the_model_stays_what_it_is() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise TypeError("of the model's own")

    with pytest.raises(TypeError, match=r"^of the model's own$"):
        cimq.evaluate(Broken(), [(SCORES, Y)])


def test_batches_of_no_kind_say_what_forward_fn_can_do() -> None:
    with pytest.raises(TypeError, match="got object; forward_fn"):
        split_batch(object())


def test_a_metric_of_several_numbers_is_refused() -> None:
    with pytest.raises(TypeError, match="metric_fn must give one number"):
        cimq.evaluate(nn.Identity(), [(SCORES, Y)], lambda out, y: out.argmax(1) == y)


def test_a_validation_loader_that_is_used_up_is_refused() -> None:
    q, data = _prepared(CLASSES), [(torch.rand(_N, 6), Y)]
    with pytest.raises(TypeError, match="val_loader must be one that can be gone through several times"):
        cimq.finetune(q, data, epochs=1, val_loader=iter(data), progress=False)
    with pytest.raises(ValueError, match="val_loader is empty"):
        cimq.finetune(q, data, epochs=1, val_loader=[], metric_fn=lambda out, y: 1.0, progress=False)
    with pytest.raises(TypeError, match="search: loader must be one that can be gone through several times"):
        cimq.search(Head(CLASSES), iter(data), val_loader=data * 4, progress=False)


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __init__(self, labels: bool = True) -> None:
        self.x, self.labels = torch.rand(20, 6), labels

    def __iter__(self) -> Iterator[Any]:
        return iter([(x, i % CLASSES) if self.labels else x for i, x in enumerate(self.x)])


def test_streams_without_a_length() -> None:
    loader = torch.utils.data.DataLoader(Stream(), batch_size=6)
    q = cimq.prepare(Head(CLASSES), cimq.Policy.uniform(4, 4), "rram-wan2022")
    cimq.calibrate(q, loader)
    assert 0 <= cimq.evaluate(q, loader, progress=True) <= 1
    assert len(cimq.finetune(q, loader, epochs=2, val_loader=loader, progress=True)) == 2
    cimq.reestimate_bn(q, loader)
    cimq.doctor(q, loader)
    cimq.evaluate_chips(q, loader, chips=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cimq.CimqWarning)
        with pytest.raises(ValueError, match=r"the data set of loader must have a length .* give val_loader as well"):
            cimq.search(Head(CLASSES), loader, progress=False)
    with pytest.raises(ValueError, match="the data set of val_loader must have a length"):
        cimq.search(Head(CLASSES), loader, val_loader=loader, progress=False)
    held = [(torch.rand(10, 6), torch.arange(10) % CLASSES)] * 4
    result = cimq.search(Head(CLASSES), loader, val_loader=held, evaluations=6, first_last_bits=None, progress=False)
    assert 0 <= result.accuracy <= 1
