"""Configs are checked against the signatures they call."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from eo_adapt.signature import check, fits, locate


@pytest.mark.parametrize(
    ("value", "hint", "fine"),
    [
        (1, int, True), (True, int, False), (1.0, int, False), (1, float, True), ("1", float, False),
        (True, float, False),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False), (None, int | None, True),
        ("x", int | None, False),
        ([1, 2], list[int], True), ([1, "2"], list[int], False), ("ab", list[str], False), ({}, dict[str, int], True),
        (1, bool, False), (3, str, False), (object(), Any, True),
    ],
)  # fmt: skip
def test_fits(value: Any, hint: Any, fine: bool) -> None:
    assert fits(value, hint) is fine


CORAL = {"_target_": "eo_adapt.align.coral.CORAL"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({**CORAL, "wieght": 1.0}, "no option 'wieght'; did you mean 'weight'"),
        ({**CORAL, "weight": "much"}, "must be a number; got 'much'"),
        ({**CORAL, "norm": "papr"}, r"one of \['paper', 'mean'\]"),
        ({"_target_": "eo_adapt.align.stack.Stack"}, r"lacks \['parts'\]"),
        ({"parts": [{**CORAL, "estimator": "none"}]}, r"at parts\[0\]"),
    ],
)
def test_what_is_wrong_is_said(node: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check(node)


def test_only_trusted_targets() -> None:
    with pytest.raises(ValueError, match="not allowed"):
        locate("os.system")
