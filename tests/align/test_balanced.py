"""Balanced task loss: weights by hand, pseudo-label shares, and rare classes that are found."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.balanced import Balanced

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(sources: int = 1, targets: int = 1, classes: int = 3, **options) -> Balanced:
    align = Balanced(**options)
    align.attach(nn.Linear(1, 1), Setup(3, sources, targets, classes))
    return align


def labelled(*labels: int, domain: int = 0) -> View:
    logits = torch.randn(len(labels), 3)
    return View(logits, logits, None, domain, torch.tensor(labels))


def predicted(*guesses: int) -> View:
    logits = 5.0 * F.one_hot(torch.tensor(guesses), 3)
    return View(logits, logits, None, 1)


def weighted(view: View, weights: Tensor) -> Tensor:
    return (weights[view.labels] * F.cross_entropy(view.logits, view.labels, reduction="none")).mean()


def test_task_loss_plus_the_term_has_equal_class_shares():
    align, view = attached(), labelled(0, 0, 0, 0, 0, 0, 1, 1, 2, 2)
    term = align((view,), (), STEP)["balanced"]
    weights = torch.tensor([1 / 1.8, 1 / 0.6, 1 / 0.6])
    torch.testing.assert_close(align.weights(), weights)
    torch.testing.assert_close(F.cross_entropy(view.logits, view.labels) + term, weighted(view, weights))
    by_class = [F.cross_entropy(view.logits[view.labels == k], view.labels[view.labels == k]) for k in range(3)]
    torch.testing.assert_close(F.cross_entropy(view.logits, view.labels) + term, sum(by_class) / 3)


def test_equal_shares_are_left_alone():
    assert attached()((labelled(0, 1, 2, 2, 1, 0),), (), STEP)["balanced"].item() == pytest.approx(0, abs=1e-6)


def test_shares_are_those_of_all_steps_and_change_after_each():
    align = attached()
    align((labelled(0, 0, 0, 1),), (), STEP)
    state = {k: v.clone() for k, v in align.state_dict().items()}
    assert not state["_seen"].any()
    align.after_step(nn.Identity())
    assert align.state_dict()["_seen"].tolist() == [0.75, 0.25, 0.0]
    torch.testing.assert_close(align.weights(), torch.tensor([2 / 3, 2.0, 1.0]))  # the third is not seen yet
    align((labelled(2, 2, 2, 2),), (), STEP)
    torch.testing.assert_close(align.weights(), torch.tensor([1 / 3 / 0.375, 1 / 3 / 0.125, 1 / 3 / 0.5]))


def test_micro_batches_count_as_one_step():
    split, whole = attached(), attached()
    for view in (labelled(0, 0, 1, 1), labelled(0, 0, 2, 1)):
        split((view,), (), STEP)
    whole((labelled(0, 0, 1, 1, 0, 0, 2, 1),), (), STEP)
    torch.testing.assert_close(split.weights(), whole.weights())


def test_domains_count_alike_whatever_their_size():
    align = attached(2)
    align((labelled(0, 0, 0, 0, 0, 0, 0, 0), labelled(1, 2, domain=1)), (), STEP)
    torch.testing.assert_close(align.weights(), torch.tensor([2 / 3, 4 / 3, 4 / 3]))


def test_a_rare_class_does_not_rule():
    align = attached(max_weight=4.0)
    align((labelled(*[0] * 98, 1, 2),), (), STEP)
    torch.testing.assert_close(align.weights(), torch.tensor([1 / 2.94, 4.0, 4.0]))


def test_pseudo_goes_to_the_shares_of_the_targets_predictions():
    align = attached(pseudo=True, smooth=0.0)
    view = labelled(0, 0, 1, 1, 2, 2)
    align((view,), (predicted(0, 0, 0, 1),), STEP)
    weights = torch.tensor([0.75, 0.25, 0.0]) * 3
    torch.testing.assert_close(align.weights(), weights)
    smoothed = attached(pseudo=True, smooth=0.3)
    smoothed((view,), (predicted(0, 0, 0, 1),), STEP)
    torch.testing.assert_close(smoothed.weights(), 0.7 * weights + 0.3)


def test_pseudo_shares_are_a_running_mean():
    align = attached(pseudo=True, smooth=0.0, momentum=0.9)
    for guesses in ((0, 0), (1, 1), (1, 2)):
        align((labelled(0, 1, 2),), (predicted(*guesses),), STEP)
        align.after_step(nn.Identity())
    running = 0.1 * (0.81 * torch.tensor([1.0, 0, 0]) + 0.9 * torch.tensor([0, 1.0, 0]) + torch.tensor([0, 0.5, 0.5]))
    torch.testing.assert_close(align.weights(), 3 * running / running.sum())


def test_no_gradient_flows_through_the_pseudo_labels():
    align, target = attached(pseudo=True), torch.randn(6, 3, requires_grad=True)
    source = torch.randn(4, 3, requires_grad=True)
    view = View(source, source, None, 0, torch.tensor([0, 0, 0, 1]))
    term = align((view,), (View(target, target, None, 1),), STEP)["balanced"]
    ours, theirs = torch.autograd.grad(term, [source, target], allow_unused=True)
    assert ours.abs().max() > 0
    assert theirs is None


def test_maps_with_unknown_pixels():
    align = attached()
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(-1, 3, (2, 4, 4))
    term = align((View(logits, logits, None, 0, labels),), (), STEP)["balanced"]
    known = labels.flatten() >= 0
    rows, flat = logits.movedim(1, -1).reshape(-1, 3)[known], labels.flatten()[known]
    torch.testing.assert_close(attached()((View(rows, rows, None, 0, flat),), (), STEP)["balanced"], term)
    assert term.abs() > 1e-4


def test_a_rare_class_is_found_more_often():
    x = torch.cat([torch.randn(190, 2), torch.randn(10, 2) + 1.3])
    y = torch.cat([torch.zeros(190), torch.ones(10)]).long()
    recalls = []
    for align in (None, Balanced()):
        torch.manual_seed(0)
        net = nn.Linear(2, 2)
        if align:
            align.attach(net, Setup(2, 1, 0, 2))
        optimiser = torch.optim.Adam(net.parameters(), 0.05)
        for _ in range(200):
            loss = F.cross_entropy(net(x), y)
            if align:
                loss = loss + align((View(x, net(x), x, 0, y),), (), STEP)["balanced"]
                align.after_step(net)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        guess = net(x).argmax(1)
        recalls.append([(guess[y == k] == k).float().mean().item() for k in (0, 1)])
    (common, rare), (common_now, rare_now) = recalls
    assert rare_now > rare + 0.3
    assert common_now < common  # that is its price
    assert rare_now + common_now > rare + common


LABELS = ([0, 0, 0, 0, 1], [1, 2]), ([0, 1, 1], [0, 0, 0, 2])  # of two sources, in each process
GUESSES = [0, 1, 1], [2, 2, 2, 2, 0]


def two_steps(ranks: list[int]) -> Tensor:
    """Weights after a step on the samples of these processes, and in the next."""
    align = attached(2, 1, pseudo=True, momentum=0.5)
    views = tuple(labelled(*(k for rank in ranks for k in LABELS[rank][d]), domain=d) for d in range(2))
    found = []
    for _ in range(2):
        align(views, (predicted(*(k for rank in ranks for k in GUESSES[rank])),), STEP)
        found.append(align.weights())
        align.after_step(nn.Identity())
    return torch.stack(found)


def work(rank: int, folder: str) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(two_steps([rank]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_count_the_labels_of_both(tmp_path):
    torch.multiprocessing.spawn(work, (str(tmp_path),), 2)
    together = two_steps([0, 1])
    assert not torch.allclose(two_steps([0]), together, atol=0.1)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), together)


def test_what_it_needs():
    with pytest.raises(ValueError, match=r"Setup\.classes must be at least 2"):
        Balanced().attach(nn.Linear(1, 1), Setup(4))
    attached(targets=0)
    with pytest.raises(ValueError, match="needs a target domain"):
        attached(targets=0, pseudo=True)
    assert not Balanced().needs_target


@pytest.mark.parametrize("options", [{"momentum": 1.0}, {"smooth": -0.1}, {"smooth": 1.1}, {"max_weight": 0.5}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Balanced(**options)
