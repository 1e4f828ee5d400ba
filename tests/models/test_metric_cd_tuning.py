"""Features that learn on the pair: they tell known changes better, and what was not to move does not."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from pairs import ground
from rsseg_models.change_features import Extractor, open_extractor
from rsseg_models.metric_cd import Settings
from rsseg_models.metric_cd_tuning import Crops, FeatureTuning, tune

SETTINGS = Settings(steps=30, tune=1e-4)
SIDE = 32


def crops(count: int = 6, seed: int = 0) -> Crops:
    """Squares of fields, alike at both dates but for noise and a patch of other ground; a corner does not count."""
    rng = np.random.default_rng(seed)
    before = np.stack([ground(SIDE, SIDE, seed=100 * seed + number) for number in range(count)]) / 160
    after = before + 0.05 * rng.standard_normal(before.shape)
    changed = np.zeros((count, SIDE, SIDE), bool)
    changed[:, 4:14, 5:16] = True
    after = np.where(changed[:, np.newaxis], np.roll(after, 1, axis=0), after)
    counted = np.ones_like(changed)
    counted[:, :3, :3] = False
    dates = np.stack([before, after], axis=1).astype(np.float32)
    return Crops(*map(torch.from_numpy, (dates, changed, counted)))


def extractor() -> Extractor:
    return open_extractor("random", ("red", "green", "blue"))


def weights(network: Extractor) -> torch.Tensor:
    assert isinstance(network, torch.nn.Module)
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_known_changes_are_told_better_on_squares_that_were_never_seen() -> None:
    given = extractor()
    before = copy.deepcopy(given)
    found = tune(given, crops(), crops(seed=1), SETTINGS)
    start, end = (FeatureTuning(each, crops(), crops(seed=1), SETTINGS) for each in (given, found.network.extractor))
    end.network.generator = found.network.generator
    assert end.error() < 0.9 * start.error()
    torch.testing.assert_close(weights(given), weights(before), rtol=0, atol=0)
    assert not torch.equal(weights(found.network.extractor), weights(given))


def test_features_add_to_what_the_generator_learns_alone() -> None:
    errors = []
    for rate in (0.0, SETTINGS.tune):
        found = tune(extractor(), crops(), crops(), replace(SETTINGS, tune=rate))
        method = FeatureTuning(extractor(), crops(), crops(), SETTINGS)
        method.network = found.network
        errors.append(method.error())
    assert errors[1] < errors[0]


def test_without_a_rate_features_stay() -> None:
    found = tune(extractor(), crops(), crops(seed=1), replace(SETTINGS, tune=0.0))
    torch.testing.assert_close(weights(found.network.extractor), weights(extractor()), rtol=0, atol=0)


def test_what_does_not_count_does_not_matter() -> None:
    """Values and changes in the corner, beyond what a cell looks around, leave what is learned."""
    plain = crops()
    other = replace(plain, changed=plain.changed | ~plain.counted)
    found = [tune(extractor(), each, each, replace(SETTINGS, steps=3)) for each in (plain, other)]
    torch.testing.assert_close(*(weights(each.network.extractor) for each in found), rtol=0, atol=0)


def test_the_seed_decides() -> None:
    few = replace(SETTINGS, steps=10)
    one, same, other = (
        weights(tune(extractor(), crops(), crops(seed=1), few, seed).network.extractor) for seed in (1, 1, 2)
    )
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("late", "stopped_by", "steps"), [(True, "minutes", 10), (False, "steps", 20)])
def test_it_stops_in_time(late: bool, stopped_by: str, steps: int) -> None:
    found = tune(extractor(), crops(), crops(seed=1), replace(SETTINGS, steps=20), is_late=lambda: late)
    assert (found.stopped_by, found.steps) == (stopped_by, steps)
