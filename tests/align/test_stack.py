"""A stack: every moment reaches every part, in the order given."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.coral import CORAL
from eo_adapt.align.csn import CSN, DomainNorm
from eo_adapt.align.dann import DANN
from eo_adapt.align.groupdro import GroupDRO
from eo_adapt.align.mldg import MLDG
from eo_adapt.align.stack import RAMPS, Stack
from eo_adapt.align.target_only import TargetOnly

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


class Logged(Alignment):
    """Writes down what it is asked to do."""

    def __init__(self, name: str, log: list[str], weight: float = 1.0) -> None:
        super().__init__(weight)
        self.name, self.log = name, log

    def attach(self, model, setup):
        self.log.append(f"attach {self.name} {setup.width} {setup.domains}")

    def edit(self, sources, targets, step):
        return tuple(x + self.name for x in sources), tuple(x + self.name for x in targets)

    @contextmanager
    def scope(self, domain):
        self.log.append(f"enter {self.name} {domain}")
        try:
            yield
        finally:
            self.log.append(f"leave {self.name}")

    def loss(self, sources, targets, step):
        return {"term": torch.tensor(1.0), "other": torch.tensor(10.0)}

    def after_step(self, model):
        self.log.append(f"after {self.name}")

    def export(self, model, domain):
        return nn.Sequential(model, nn.Flatten()) if self.name == "a" else nn.Sequential(model, nn.Identity())


class Weighs(Alignment):
    def class_weights(self, recall):
        return 1 - recall


class Predicts(Alignment):
    learns_at_test = True

    def __init__(self, answer: float) -> None:
        super().__init__()
        self.answer = answer

    def predict(self, model, inputs):
        return torch.tensor(self.answer)


class NeedsPlace(Alignment):
    needs = frozenset({"lonlat"})


class NeedsDays(Alignment):
    needs = frozenset({"days", "labels"})


def two(log: list[str]) -> Stack:
    return Stack({"first": Logged("a", log), "second": Logged("b", log)})


def test_moments_reach_the_parts_in_order():
    log: list[str] = []
    stack = two(log)
    stack.attach(nn.Identity(), Setup(7, 2, 1))
    stack.after_step(nn.Identity())
    assert log == ["attach a 7 3", "attach b 7 3", "after a", "after b"]
    assert [name for name, _ in stack.named()] == ["first", "second"]


def test_scopes_are_nested_and_left_on_errors():
    log: list[str] = []
    with pytest.raises(ZeroDivisionError), two(log).scope(2):
        raise ZeroDivisionError
    assert log == ["enter a 2", "enter b 2", "leave b", "leave a"]


def test_edits_are_chained():
    assert two([]).edit(("s", "r"), ("t",), STEP) == (("sab", "rab"), ("tab",))


def test_terms_are_named_by_part_and_weighed_once_each():
    stack = Stack({"x": Logged("a", [], weight=2.0), "y": Logged("a", [], weight=0.5)})
    terms = {name: term.item() for name, term in stack((), (), STEP).items()}
    assert terms == {"x/term": 2.0, "x/other": 20.0, "y/term": 0.5, "y/other": 5.0}


def test_nested_stacks_name_the_whole_way():
    stack = Stack({"outer": Stack({"inner": Logged("a", [], weight=3.0)})})
    assert {k: v.item() for k, v in stack((), (), STEP).items()} == {"outer/inner/term": 3.0, "outer/inner/other": 30.0}


def test_needs_are_the_union():
    stack = Stack({"place": NeedsPlace(), "days": NeedsDays(), "a": Weighs()})
    assert stack.needs == {"lonlat", "days", "labels"}
    assert not stack.needs_target
    assert not stack.learns_at_test
    assert Stack({"a": Weighs(), "coral": CORAL()}).needs_target
    assert Stack({"csn": CSN(), "tent": Predicts(1.0)}).learns_at_test


def test_class_weights_multiply():
    recall = torch.tensor([0.5, 0.75])
    assert Stack({"csn": CSN()}).class_weights(recall) is None
    assert torch.equal(Stack({"csn": CSN(), "a": Weighs()}).class_weights(recall), torch.tensor([0.5, 0.25]))
    assert torch.equal(Stack({"a": Weighs(), "b": Weighs()}).class_weights(recall), torch.tensor([0.25, 0.0625]))


def test_the_part_that_predicts_does():
    class Net(nn.Module):
        def forward(self, x):
            return x, x + 1

    inputs = torch.zeros(2)
    assert Stack({"two": Predicts(2.0), "coral": CORAL()}).predict(Net(), inputs) == 2.0
    with pytest.raises(ValueError, match=r"\['one', 'two'\] each predict in their own way"):
        Stack({"one": Predicts(1.0), "two": Predicts(2.0)})
    assert torch.equal(Stack({"coral": CORAL()}).predict(Net(), inputs), inputs + 1)
    inner = Stack({"coral": CORAL()})
    assert torch.equal(Stack({"one": Predicts(1.0), "inner": inner}).predict(Net(), inputs), torch.tensor(1.0))
    assert Stack({"inner": Stack({"two": Predicts(2.0)})}).predict(Net(), inputs) == 2.0


def test_export_is_chained():
    exported = two([]).export(nn.Linear(2, 2), 0)
    assert [type(x).__name__ for x in exported.modules()] == [
        "Sequential",
        "Sequential",
        "Linear",
        "Flatten",
        "Identity",
    ]


class Doubles(Alignment):
    def adjust(self, logits):
        return 2 * logits


def test_every_part_adjusts_what_is_predicted():
    class Net(nn.Module):
        def forward(self, x):
            return x, x + 1

    stack = Stack({"one": Doubles(), "coral": CORAL(), "two": Doubles()})
    assert torch.equal(stack.predict(Net(), torch.zeros(2)), torch.full((2,), 4.0))
    assert torch.equal(
        Stack({"one": Doubles(), "own": Predicts(3.0)}).predict(Net(), torch.zeros(2)), torch.tensor(6.0)
    )


class Copies(Alignment):
    place = "copies"


def test_what_swaps_layers_comes_before_what_copies_the_network():
    Stack({"csn": CSN(), "teacher": Copies()})
    with pytest.raises(ValueError, match="put csn before teacher"):
        Stack({"teacher": Copies(), "csn": CSN()})


def test_weights_and_ramps_are_factors_on_a_parts_own_weight():
    stack = Stack({"x": Logged("a", [], weight=2.0), "y": Logged("a", [])}, {"x": 0.5}, {"y": "linear"})
    terms = {name: term.item() for name, term in stack((), (), STEP).items()}
    assert terms == pytest.approx(
        {"x/term": 1.0, "x/other": 10.0, "y/term": STEP.progress, "y/other": 10 * STEP.progress}
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"weights": {"z": 1.0}}, r"names \['z'\]; the parts are \['x'\]"),
        ({"weights": {"x": -1.0}}, "weights.x must be a finite number"),
        ({"weights": {"x": float("nan")}}, "weights.x must be a finite number"),
        ({"weights": {"x": float("inf")}}, "weights.x must be a finite number"),
        ({"ramps": {"x": "cubic"}}, "ramps.x must be one of .*sigmoid.*got 'cubic'"),
    ],
)
def test_impossible_factors_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        Stack({"x": CORAL()}, **given)


@pytest.mark.parametrize("name", RAMPS)
def test_ramps_grow_from_at_least_0_to_1(name):
    values = [RAMPS[name](p / 20) for p in range(21)]
    assert values == sorted(values)
    assert min(values) >= 0
    assert values[-1] == pytest.approx(1, abs=1e-4)


def test_an_oracle_does_not_stack():
    with pytest.raises(ValueError, match=r"\['upper'\] use target labels"):
        Stack({"csn": CSN(), "upper": TargetOnly()})


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Stack({})


def test_parts_parameters_belong_to_the_stack():
    stack = Stack({"dann": DANN(hidden=3), "coral": CORAL()})
    stack.attach(nn.Identity(), Setup(4))
    assert sum(p.numel() for p in stack.parameters()) == (4 * 3 + 3) + (3 * 2 + 2)
    assert all(name.startswith("parts.dann.critic.") for name in stack.state_dict())


def test_csn_coral_dann_together():
    def view(x: Tensor, domain: int) -> View:
        return View(x, x, None, domain)

    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    stack = Stack({"csn": CSN(), "coral": CORAL(weight=2.0), "dann": DANN()})
    stack.attach(net, Setup(4))
    views = []
    for domain in (0, 1):
        with stack.scope(domain):
            views.append(view(net(torch.randn(8, 3) + domain), domain))
    terms = stack((views[0],), (views[1],), STEP)
    assert terms.keys() == {"coral/coral", "dann/domain"}
    torch.testing.assert_close(terms["coral/coral"], 2 * CORAL(1.0)((views[0],), (views[1],), STEP)["coral"])
    net.eval()
    with stack.scope(1):
        expected = net(torch.ones(1, 3))
    exported = stack.export(net, 1)
    assert not any(isinstance(module, DomainNorm) for module in exported.modules())
    assert torch.equal(exported(torch.ones(1, 3)), expected)


def test_shares_of_the_task_loss_sum_to_one_at_most():
    """Two methods that replace the task loss would leave it with a negative weight."""
    with pytest.raises(ValueError, match=r"weights of \['groupdro', 'mldg'\] are shares .*groupdro=0\.5"):
        Stack({"groupdro": GroupDRO(), "mldg": MLDG()})
    with pytest.raises(ValueError, match=r"may sum to 1 at most; they are \{'mldg': 1\.5\}"):
        Stack({"mldg": MLDG()}, {"mldg": 1.5})
    Stack({"groupdro": GroupDRO(0.5), "mldg": MLDG()}, {"mldg": 0.5})
