from dataclasses import dataclass, replace

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.recipe import Recipe, autocast, between, one_of


@dataclass(frozen=True)
class Settings(Recipe):
    crops: int = between(1, 8, 4)
    rule: str = one_of("plain", "odd")
    noted: bool = False


@pytest.mark.parametrize(
    "right",
    [{}, {"crops": 1}, {"crops": 8}, {"rule": "odd"}, {"average": 0.0}, {"noted": True}, {"precision": "float32"}],
)
def test_what_lies_within_its_limits_is_taken(right: dict) -> None:
    assert replace(Settings(), **right) == Settings(**right)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"crops": 0}, "crops = 0: out of range; give between 1 and 8"),
        ({"crops": 9}, "crops = 9: out of range; give between 1 and 8"),
        ({"clip": -0.1}, "clip = -0.1: out of range; give between 0 and 1e\\+09"),
        ({"learning_rate": float("nan")}, "learning_rate = nan: out of range"),
        ({"rule": "even"}, "rule = even: not known; use plain or odd"),
        ({"precision": "float16"}, "precision = float16: not known; use auto or float32 or bfloat16"),
    ],
)
def test_the_rest_is_refused_with_what_would_be_taken(wrong: dict, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        Settings(**wrong)


@pytest.mark.parametrize(("precision", "found"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_a_network_computes_with_as_many_bits_as_were_set(precision: str, found: torch.dtype) -> None:
    with autocast(precision, "cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == found
