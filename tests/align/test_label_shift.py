"""Label shift: offsets, weights and temperature against formulas, export and state, priors and options."""

import io
from contextlib import nullcontext

import pytest
import torch
from quick import QUICK
from torch import nn
from unequal import EQUAL, Net, answers, draw

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.label_shift import LabelShift, Shifted, resolve
from eo_adapt.assemble import build_task
from eo_adapt.registry import config
from eo_adapt.train import as_plain


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_classifier_that_knows_nothing_adjusts_nothing_even_if_predictions_differ():
    class Guesses(Net):
        def forward(self, x):
            return x, torch.nn.functional.one_hot(x[:, 0].long(), 3).float()

    net, align = Guesses(), LabelShift()
    align.attach(net, Setup(8, 1, 1, 3))
    x, y = torch.randint(3, (300, 1)).float(), torch.randint(3, (300,))
    align.settle(net, {0: [(x, y)]}, {1: [torch.randint(2, (300, 1)).float()]})
    assert not align._offsets.any()
    trusting = LabelShift(guard=0.0)
    trusting.attach(net, Setup(8, 1, 1, 3))
    trusting.settle(net, {0: [(x, y)]}, {1: [torch.randint(2, (300, 1)).float()]})
    assert trusting._offsets.any()


def calm() -> tuple[Net, LabelShift]:
    """A network that needs no temperature, adjusted by known shares."""
    net, align = Net(), LabelShift(estimator="known", priors=[0.2, 0.5, 0.3], calibrate=False)
    align.attach(net, Setup(8, 2, 2, 3))
    x = torch.randn(100, 2)
    align.settle(net.eval(), {0: [(x, torch.arange(100) % 2)], 1: [(x, torch.full((100,), 2))]}, {2: [], 3: []})
    return net, align


def test_the_offset_is_the_log_ratio_of_shares_and_sources_have_none():
    net, align = calm()
    x = torch.randn(7, 2)
    expected = net(x)[1] + torch.log(torch.tensor([0.2 / 0.25, 0.5 / 0.25, 0.3 / 0.5]))
    for target in (2, 3):
        torch.testing.assert_close(answers(net, align, x, target), expected)
    for source in (0, 1):
        assert torch.equal(answers(net, align, x, source), net(x)[1])


def test_an_over_confident_network_gets_the_same_odds():
    class Loud(Net):
        def forward(self, x):
            features, logits = super().forward(x)
            return features, 3 * logits

    found = []
    for kind in (Net, Loud):
        torch.manual_seed(1)
        align = LabelShift(estimator="known", priors=[0.2, 0.5, 0.3])
        net = kind()
        align.attach(net, Setup(8, 1, 1, 3))
        align.settle(net.eval(), {0: [draw(EQUAL, 300)]}, {1: []})
        found.append(answers(net, align, draw(EQUAL, 200)[0]).argmax(1))
    assert torch.equal(*found)


def test_the_ratio_is_bounded():
    net, align = Net(), LabelShift(estimator="known", priors=[1, 0, 0], max_ratio=2.0, calibrate=False)
    align.attach(net, Setup(8, 1, 1, 3))
    align.settle(net, {0: [(torch.randn(90, 2), torch.arange(90) % 3)]}, {1: []})
    assert align._offsets[1].exp().tolist() == pytest.approx([2.0, 0.5, 0.5])
    assert align.shares(1).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("how", ["reweight", "both"])
def test_weights_start_at_1_average_1_and_follow_the_targets(how):
    align, net = LabelShift(estimator="known", priors=[0.2, 0.5, 0.3], how=how, calibrate=False), Net()
    align.attach(net, Setup(8, 1, 2, 3))
    x, y = torch.randn(100, 2), torch.arange(100) % 2
    y[:50] = 2
    f, z = net(x)
    step = Step(net, nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)
    views = ((View(f, z, x, 0, y),), ())
    assert align(*views, step)["reweighted"] == 0
    align.settle(net, {0: [(x, y)]}, {1: [], 2: []})
    assert align._weights.tolist() == pytest.approx([0.8, 2.0, 0.6])
    each = nn.functional.cross_entropy(z, y, reduction="none")
    weighted = (align._weights[y] * each).mean()
    torch.testing.assert_close(step.criterion(z, y) + align(*views, step)["reweighted"], weighted)
    assert align._offsets.any().item() is (how == "both")
    # What training has learnt by now is not added a second time.
    align.settle(net, {0: [(x, y)]}, {1: [], 2: []})
    torch.testing.assert_close(align._offsets, torch.zeros(3, 3), atol=1e-6, rtol=0)


def test_the_term_is_only_there_where_training_is_reweighted():
    net, align = calm()
    f, z = net(torch.randn(4, 2))
    step = Step(net, nn.CrossEntropyLoss(), align.scope, 0.5)
    assert align((View(f, z, None, 0, torch.zeros(4, dtype=torch.long)),), (), step) == {}


def test_export_adds_the_offset_to_the_last_bias():
    net, align = calm()
    x = torch.randn(6, 2)
    for domain in range(4):
        plain = align.export(net, domain)
        assert plain.state_dict().keys() == net.state_dict().keys()
        torch.testing.assert_close(plain(x)[1], answers(net, align, x, domain))
    assert not torch.equal(align.export(net, 2)(x)[1], net(x)[1])


def test_export_wraps_where_the_last_layer_does_not_make_the_logits():
    class Late(Net):
        def __init__(self):
            super().__init__()
            self.auxiliary = nn.Linear(8, 3)  # the last to be registered, and not the head

    net, align = Late(), LabelShift(estimator="known", priors=[0.2, 0.5, 0.3])
    align.attach(net, Setup(8, 1, 1, 3))
    align.settle(net, {0: [draw(EQUAL, 60)]}, {1: []})
    plain, x = align.export(net, 1), torch.randn(6, 2)
    assert isinstance(plain, Shifted)
    features, logits = plain(x)
    assert torch.equal(logits, answers(net, align, x))
    assert torch.equal(features, net(x)[0])
    assert torch.equal(plain.network.auxiliary.bias, net.auxiliary.bias)


def test_maps_are_adjusted_pixel_by_pixel_and_thinned():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(2, 3, 1)

        def forward(self, x):
            return x, self.head(x)

    net, align = Dense(), LabelShift(max_rows=40, guard=0.0)
    align.attach(net, Setup(2, 1, 1, 3))
    x, labels = torch.randn(4, 2, 8, 8), torch.randint(-1, 3, (4, 8, 8))
    align.settle(net, {0: [(x, labels)]}, {1: [x + 1]})
    out = answers(net, align, x)
    torch.testing.assert_close(out, net(x)[1] + align._offsets[1].view(3, 1, 1))
    torch.testing.assert_close(align.export(net, 1)(x)[1], out)
    assert align._offsets[1].any()


def test_state_survives_saving():
    net, align = calm()
    file = io.BytesIO()
    torch.save(align.state_dict(), file)
    file.seek(0)
    twin = LabelShift()
    twin.attach(net, Setup(8, 2, 2, 3))
    twin.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(5, 2)
    assert torch.equal(answers(net, twin, x, 2), answers(net, align, x, 2))
    assert torch.equal(twin.export(net, 2)(x)[1], align.export(net, 2)(x)[1])


def test_outside_of_a_scope_it_asks_for_one():
    net, align = calm()
    with pytest.raises(RuntimeError, match=r"LabelShift answers by domain .*alignment\.scope\(domain\)"):
        align.predict(net, torch.randn(3, 2))


def test_priors_by_order_name_and_number():
    expected = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    names = ("wheat", "maize", "2")
    by_name = {"maize": 50, "2": 30, "wheat": 20}
    for priors in ([2, 5, 3], by_name, {0: 0.2, "1": 0.5, "2": 0.3}):
        torch.testing.assert_close(resolve(priors, 3, names), expected)
    torch.testing.assert_close(resolve({0: 1, 1: 2.5, 2: 1.5}, 3, ()), expected)


@pytest.mark.parametrize(
    ("priors", "says"),
    [
        ([0.5, 0.5], "one share for each of the 3 classes"),
        ({"wheat": 1.0, "maize": 0.0}, "one share for each of the 3 classes .*rice"),
        ({"wheat": 1.0, "rye": 0.0}, r"names \['rye'\]; the classes are \['wheat', 'maize', 'rice'\]"),
        ({"wheat": 1.0, "maize": 0.0, "0": 0.0, "rice": 1.0}, "one share for each"),
        ([0.5, 0.6, -0.1], "finite numbers >= 0"),
        ([0.5, 0.6, float("nan")], "finite numbers >= 0"),
        ([0, 0, 0], "not all 0"),
    ],
)
def test_impossible_priors_are_refused_when_attached(priors, says):
    align = LabelShift(estimator="known", priors=priors)
    with pytest.raises(ValueError, match=says):
        align.attach(Net(), Setup(8, 1, 1, 3, ("wheat", "maize", "rice")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"estimator": "bsse"}, "label_shift.estimator must be one of"),
        ({"how": "weigh"}, "label_shift.how must be one of"),
        ({"estimator": "known"}, "priors goes with estimator=known"),
        ({"priors": [1, 1]}, "priors goes with estimator=known"),
        ({"guard": -1.0}, r"label_shift\.guard must be a finite number >= 0; got -1"),
        ({"max_ratio": 0.5}, r"max_ratio must be a finite number >= 1; got 0\.5"),
        ({"max_rows": 0}, r"max_rows must be a whole number >= 1; got 0"),
    ],
)
def test_impossible_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        LabelShift(**options)


def test_what_it_needs():
    with pytest.raises(ValueError, match="needs a target domain"):
        LabelShift().attach(Net(), Setup(8, 2, 0, 3))
    with pytest.raises(ValueError, match=r"Setup\.classes must be at least 2"):
        LabelShift().attach(Net(), Setup(8))
    align = LabelShift()
    align.attach(Net(), Setup(8, 1, 1, 3))
    with pytest.raises(ValueError, match="labelled source-validation samples; there are none"):
        align.settle(Net(), {0: []}, {1: [torch.randn(3, 2)]})
    with pytest.raises(ValueError, match="unlabelled target samples; there are none"):
        align.settle(Net(), {0: [draw(EQUAL, 9)]}, {1: []})


def test_priors_by_name_reach_the_method_from_the_command_line():
    names = build_task(as_plain(config("method=source_only", *QUICK)))[1].legend.names
    given = [f"method.priors.{name}={1 + number}" for number, name in enumerate(names)]
    task, _ = build_task(as_plain(config("method=label_shift", "method.estimator=known", *given, *QUICK)))
    total = sum(range(1, len(names) + 1))
    torch.testing.assert_close(task.alignment._known, torch.arange(1, len(names) + 1, dtype=torch.float64) / total)
    with pytest.raises(ValueError, match=rf"names \['hops'\]; the classes are \['{names[0]}'"):
        build_task(as_plain(config("method=label_shift", "method.estimator=known", "method.priors.hops=1", *QUICK)))
