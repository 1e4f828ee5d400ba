"""Networks built again from their description."""

from dataclasses import replace

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.kept import rebuild
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.st_dasegnet import Settings, adapted

PLAIN = Architecture("tiny", ("red", "green", "nir"), 4)


def test_one_network_comes_back_as_one() -> None:
    assert isinstance(rebuild(PLAIN), SegmentationNetwork)


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(universal=False), Settings(gates=False, attention="plain"), Settings(one_encoder=True)],
)
def test_two_students_come_back_with_all_their_parts(settings: Settings) -> None:
    first = adapted(build(PLAIN), settings).eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    again = rebuild(Architecture.from_json(first.architecture.as_json())).eval()
    again.load_state_dict(first.state_dict())
    bands = torch.randn(1, 3, 64, 64)
    assert torch.equal(first(bands), again(bands))


@pytest.mark.parametrize("students", ["[1]", "no", '{"gates": true}', '{"gates": 1}'])
def test_a_description_that_is_not_known_is_refused(students: str) -> None:
    with pytest.raises(ModelError, match="not known"):
        rebuild(replace(PLAIN, students=students))
