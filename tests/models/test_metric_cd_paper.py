"""Metric-CD as released: the numbers of its parts, and what the whole makes of a pair."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from rsseg_models import metric_cd_paper
from rsseg_models.change_features import Extractor, open_extractor
from rsseg_models.errors import ModelError
from rsseg_models.metric_cd_paper import (
    Generator,
    Level,
    MetricCdPaper,
    Settings,
    ValidNorm,
    check,
    detect,
    feature_levels,
    image_level,
    information,
    linear_terms,
    losses,
    polynomial_terms,
    prepare,
    regressed,
    similarity,
    standardised,
)
from rsseg_models.network import count_parameters
from rsseg_models.optimise import Report
from torch import Tensor, nn

TOY_CHANGE, TOY_DISTANCE = torch.tensor([[0.9, 0.2, 0.6, 0.4]]), torch.tensor([[2.0, 0.5, 1.0, 0.1]])
QUICK = Settings(steps=2)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def everywhere(*size: int) -> Tensor:
    return torch.ones(*size, dtype=torch.bool)


def extractor(bands: int = 3) -> Extractor:
    return open_extractor("random", [str(number) for number in range(bands)])


def pair(side: int = 32, bands: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Before, after and what changed: a square, under other light."""
    before = drawn(bands, side, side)
    before = nn.functional.avg_pool2d(before, 5, 1, 2) * 200
    changed = torch.zeros(side, side, dtype=torch.bool)
    changed[side // 4 : side // 2, side // 4 : side // 2] = True
    after = 1.2 * before + 10 + drawn(bands, side, side, seed=1)
    after[:, changed] = 160 + 20 * drawn(bands, int(changed.sum()), seed=2)
    return before, after, changed


def toy(change: Tensor, distance: Tensor) -> dict[str, Tensor]:
    """All terms of free pixels (1, K) whose whole distance is that of the image."""
    image = Level(1, distance, everywhere(*distance.shape))
    return losses(change, image, [replace(image, distance=torch.zeros_like(distance))])


# 1. Radiometry.


def test_a_linear_pair_is_made_equal() -> None:
    x = drawn(500, 4, dtype=torch.float64) * 3000
    y = x @ drawn(4, 3, seed=1, dtype=torch.float64) + torch.tensor([5.0, -3.0, 100.0])
    assert (regressed(x, y, linear_terms) - y).abs().max() < 1e-10 * y.abs().max()


def test_chronochrome_leaves_a_residual_that_knows_nothing_of_the_first_date() -> None:
    x, y = drawn(70_000, 3, dtype=torch.float64), drawn(70_000, 3, seed=1, dtype=torch.float64)
    y = y + x.square()
    residual = regressed(x, y, linear_terms) - y
    assert residual.mean(dim=0).abs().max() < 1e-10
    assert ((x - x.mean(dim=0)).T @ residual / len(x)).abs().max() < 1e-10
    both = torch.cov(torch.cat([x, y], dim=1).T)
    formula = (both[3:, :3] @ torch.linalg.inv(both[:3, :3]) @ (x - x.mean(dim=0)).T).T + y.mean(dim=0)
    torch.testing.assert_close(residual + y, formula, atol=1e-10, rtol=0)


def test_bands_that_repeat_each_other_do_no_harm() -> None:
    x = drawn(100, 1, dtype=torch.float64).repeat(1, 3)
    torch.testing.assert_close(regressed(x, 2 * x, polynomial_terms), 2 * x, atol=1e-9, rtol=0)


def test_polynomial_terms_are_eleven_of_three_bands() -> None:
    x = torch.tensor([[2.0, 3.0, 5.0]])
    assert sorted(polynomial_terms(x)[0].tolist()) == sorted([2, 3, 5, 1, 4, 6, 10, 9, 15, 25, 30])
    assert [polynomial_terms(torch.ones(1, bands)).shape[1] for bands in (1, 2, 4, 13)] == [3, 6, 15, 105]


def test_the_polynomial_regression_of_a_date_on_itself_changes_nothing() -> None:
    x = drawn(1000, 3, dtype=torch.float64)
    assert (regressed(x, x, polynomial_terms) - x).abs().max() < 1e-6


def test_the_order_of_bands_does_not_matter() -> None:
    before, after, _ = pair()
    order = [2, 0, 1]
    for settings in (Settings(), Settings(norm="joint")):
        straight = prepare(before, after, everywhere(32, 32), settings)
        turned = prepare(before[order], after[order], everywhere(32, 32), settings)
        for date, same in zip(straight, turned, strict=True):
            torch.testing.assert_close(date[order], same, atol=1e-5, rtol=0)


def test_dates_are_scaled_apart_or_together() -> None:
    before, after = drawn(2, 20, 20), 10 + 5 * drawn(2, 20, 20, seed=1)
    plain = Settings(cc=False, pcc=False)
    one, other = prepare(before, after, everywhere(20, 20), plain)
    assert [float(v) for v in (one.min(), one.max(), other.min(), other.max())] == [0, 1, 0, 1]
    one, other = prepare(before, after, everywhere(20, 20), replace(plain, norm="joint"))
    assert one.max() < 0.1 < 0.6 < other.min()
    torch.testing.assert_close(one[0] / one[0].max(), before[0] / before[0].max(), atol=0.1, rtol=0)


# 2. Distances.


def test_features_are_standardised_over_what_is_valid() -> None:
    level = drawn(5, 9, 7) * 100
    level[3] = 4.2  # flat: rounding must not be blown up to a feature
    valid = drawn(9, 7, seed=1) > 0.4
    level[:, ~valid] = 1e6
    seen = standardised(level, valid)[:, valid]
    assert seen[3].abs().max() == 0
    others = seen[[0, 1, 2, 4]]
    torch.testing.assert_close(others.mean(dim=1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(others.std(dim=1, correction=0), torch.ones(4), atol=1e-5, rtol=0)


def test_levels_have_whole_cells_also_of_odd_sizes() -> None:
    before, after = drawn(1, 3, 37, 22), drawn(1, 3, 37, 22, seed=1)
    valid = everywhere(37, 22)
    valid[5, 6] = False
    levels = feature_levels(before, after, valid, open_extractor("vgg16", "abc"))
    assert [tuple(level.distance.shape) for level in levels] == [(37, 22), (18, 11), (9, 5)]
    assert [(~level.valid).nonzero().tolist() for level in levels] == [[[5, 6]], [[2, 3]], [[1, 1]]]


@pytest.mark.parametrize("gains", [(1.3, 1.3), (0.7, 1.2)])
def test_a_gain_leaves_the_distance_of_features(gains: tuple[float, float]) -> None:
    """Of kernels without offset, as random ones are."""
    features = open_extractor("vgg16", "abc")
    before, after, valid = drawn(1, 3, 16, 16), drawn(1, 3, 16, 16, seed=1), everywhere(16, 16)
    plain = feature_levels(before, after, valid, features)
    for level, other in zip(plain, feature_levels(before * gains[0], after * gains[1], valid, features), strict=True):
        torch.testing.assert_close(level.distance, other.distance, atol=1e-4, rtol=0)


# 3. The generator.


def test_the_generator_has_the_parameters_of_the_paper() -> None:
    assert count_parameters(Generator(3)) == 604_706
    assert count_parameters(Generator(3, outputs=1)) == 604_417


@torch.no_grad()
def test_it_gives_values_between_0_and_1() -> None:
    change = Generator(5, blocks=4)(100 * drawn(1, 5, 12, 9))
    assert change.shape == (1, 2, 12, 9)
    assert 0 < change.min() < change.max() < 1


def test_it_sees_67_pixels_around_one() -> None:
    """By its gradient in double: what comes through 67 corners is far too little for a float32."""
    network = Generator(1, width=1).double().eval()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.ndim > 1 else 0.0)
    for module in network.modules():
        if isinstance(module, ValidNorm):
            nn.init.ones_(module.weight)
    x = torch.zeros(1, 1, 147, 147, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, 73, 73].backward()
    assert x.grad is not None
    rows, columns = x.grad[0, 0].nonzero().T
    assert [int(v) for v in (rows.min(), rows.max(), columns.min(), columns.max())] == [73 - 67, 73 + 67] * 2


def test_batch_norm_takes_the_statistics_of_valid_pixels() -> None:
    x = drawn(1, 4, 6, 6)
    plain, ours = nn.BatchNorm2d(4), ValidNorm(4)
    for norm in (plain, ours):
        nn.init.constant_(norm.weight, 1.5)
        nn.init.constant_(norm.bias, 0.3)
    torch.testing.assert_close(ours(x, everywhere(6, 6)), plain(x))
    valid = everywhere(6, 6)
    valid[:, 4:] = False
    x[..., 4:] = 1e3
    torch.testing.assert_close(ours(x, valid)[..., :4], plain(x[..., :4]), atol=1e-5, rtol=1e-5)
    assert not ours(x, valid)[..., 4:].any()


@pytest.mark.parametrize("mask", [None, drawn(10, 10) > 0.3])
def test_making_maps_again_changes_no_gradient(mask: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for _ in range(2):
        torch.manual_seed(0)
        network = Generator(3, blocks=6)
        network(drawn(1, 3, 10, 10), mask)[:, 0].square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
        monkeypatch.setattr(metric_cd_paper, "checkpoint", lambda run, *given, **options: run(*given))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_step_keeps_a_fifth_of_the_maps() -> None:
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network = Generator(3)
        change = network(drawn(1, 3, 32, 32))
    assert change.requires_grad
    # Four maps of 32 channels a block, 16 kB a pixel, would be kept; one of every fourth block is.
    assert sum(kept.values()) / 32**2 < 16_384 / 5


# 4. Losses.


def test_losses_of_four_pixels() -> None:
    terms = {name: float(term) for name, term in toy(TOY_CHANGE, TOY_DISTANCE).items()}
    assert terms == pytest.approx(
        {
            "image_similarity": 0.115,
            "image_dissimilarity": -0.6,
            "feature_similarity": 0,
            "feature_dissimilarity": 0,
            "information": 0.2925 - 0.25,
        },
        abs=1e-7,
    )


def written_information(p: Tensor) -> Tensor:
    """With all its logarithms."""
    a, b = torch.where(p > 0.5, p**2, 0).mean(), torch.where(p <= 0.5, (1 - p) ** 2, 0).mean()
    total = a.exp() + b.exp()
    return (a.exp() / total).log() - (b.exp() / total).log()


def test_information_is_what_the_paper_writes() -> None:
    p = drawn(1, 1000, dtype=torch.float64)
    assert float(information(p, everywhere(1, 1000))) == pytest.approx(float(written_information(p)), abs=1e-7)


def test_coarse_levels_take_the_first_pixel_of_a_cell() -> None:
    change = torch.zeros(5, 7)
    change[0, 4] = 0.8
    distance = torch.zeros(2, 3)
    distance[0, 2] = 6.0
    _, dissimilar = similarity(change, Level(2, distance, everywhere(2, 3)))
    assert float(dissimilar) == pytest.approx(-0.8 * 6 / 6)


def test_pixels_without_a_value_have_no_part() -> None:
    image = Level(1, torch.cat([TOY_DISTANCE, torch.full((1, 2), torch.nan)], dim=1), everywhere(1, 6))
    image.valid[0, 4:] = False
    change = torch.cat([TOY_CHANGE, torch.ones(1, 2)], dim=1)
    terms = losses(change, image, [Level(1, torch.zeros(1, 6), image.valid)])
    for name, term in toy(TOY_CHANGE, TOY_DISTANCE).items():
        torch.testing.assert_close(terms[name], term)


def test_equal_dates_are_best_called_unchanged() -> None:
    same = drawn(1, 3, 16, 16)
    valid = everywhere(16, 16)
    image, levels = image_level(same, same, valid), feature_levels(same, same, valid, extractor())
    totals = []
    for change in (torch.zeros(16, 16), torch.ones(16, 16), drawn(16, 16)):
        terms = losses(change, image, levels)
        assert [float(terms[name]) for name in terms if name != "information"] == [0, 0, 0, 0]
        totals.append(float(terms["information"]))
    assert totals[0] == min(totals) == -1


def test_a_half_is_unchanged_and_decisions_pass_no_gradient() -> None:
    p = torch.tensor([[0.5, 0.9, 0.2]], requires_grad=True)
    d = torch.tensor([[1.0, 3.0, 0.4]])
    terms = toy(p, d)
    assert terms["image_dissimilarity"].item() == pytest.approx(-0.9 * 3 / 3)
    torch.stack(list(terms.values())).sum().backward()
    assert p.grad is not None
    # d/dp of -p d + p^2 where changed, of q d - q^2 where not, and nothing else.
    expected = torch.tensor([[-1 + 2 * 0.5, -3 + 2 * 0.9, -0.4 + 2 * 0.8]]) / 3
    torch.testing.assert_close(p.grad, expected)


def test_free_pixels_end_where_the_formula_says() -> None:
    cases = torch.tensor(
        [  # distance, start, end
            [0.5, 0.95, 0.0],
            [0.5, 0.6, 0.0],
            [0.5, 0.1, 0.0],
            [1.2, 0.9, 0.6],
            [1.2, 0.1, 0.0],
            [1.5, 0.9, 0.75],
            [1.5, 0.1, 0.0],
            [1.5, 0.4, 0.75],
            [2.5, 0.9, 1.0],
            [2.5, 0.3, 1.0],
            [2.5, 0.01, 1.0],
        ]
    )
    distance, start, end = (column[None] for column in cases.T)
    p = start.clone().requires_grad_()
    for _ in range(1500):
        (gradient,) = torch.autograd.grad(torch.stack(list(toy(p, distance).values())).sum() * len(cases), p)
        with torch.no_grad():
            p.sub_(0.005 * gradient).clamp_(0, 1)
    torch.testing.assert_close(p.detach(), end, atol=2e-3, rtol=0)


# 5. The whole.


def normalised(level: Tensor) -> Tensor:
    return (level - level.mean(dim=(2, 3), keepdim=True)) / (level.std(dim=(2, 3), correction=0, keepdim=True) + 1e-9)


def released(network: Generator, one: Tensor, other: Tensor, features: Extractor, steps: int) -> Tensor:
    """The loop as it was released: features of both dates in every step, means over all elements of a level."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    for _ in range(steps):
        p = network((one - other).abs())[:, :1]
        loss = written_information(p)
        levels = [normalised(a) - normalised(b) for a, b in zip(features(one), features(other), strict=True)]
        for stride, apart in zip((1, 1, 2, 4), (one - other, *levels), strict=True):
            change = p[..., ::stride, ::stride]
            m, n = (change > 0.5).detach(), (change <= 0.5).detach()
            loss = loss + ((1 - change) * n * apart).abs().mean() - (change * m * apart).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network((one - other).abs())[0, 0].detach()


def test_features_made_once_give_the_map_of_features_made_in_every_step() -> None:
    """In double, because Adam turns the rounding of small gradients into steps of full length."""
    before, after, _ = pair(24)
    one, other = (date[None].double() for date in prepare(before, after, everywhere(24, 24), Settings()))
    features = extractor()
    assert isinstance(features, nn.Module)
    features.double()
    torch.manual_seed(0)
    network = Generator(3).double()
    expected = released(copy.deepcopy(network), one, other, features, 4)
    detector = MetricCdPaper(network, (one, other), everywhere(24, 24), features, Settings())
    for number in range(4):
        detector.step(detector.scene, number)
    assert (expected - 0.5).abs().max() > 0.2
    torch.testing.assert_close(detector.probability(), expected, atol=1e-8, rtol=0)


def test_a_new_square_is_found_without_a_label() -> None:
    before, after, changed = pair(40)
    reports: list[Report] = []
    found = detect(before, after, everywhere(40, 40), extractor(), Settings(steps=10), report=reports.append)
    assert found[changed].mean() > 0.7
    assert found[~changed].mean() < found[changed].mean() - 0.2
    totals = [sum(value for name, value in done.losses.items() if not name.endswith("_share")) for done in reports]
    assert [done.step for done in reports] == list(range(1, 11))
    assert totals[-1] < totals[0]
    shares = [(done.losses["changed_share"], done.losses["flipped_share"]) for done in reports]
    assert shares[0][0] == shares[0][1]
    # From step to step the share moves by no more than what flips.
    assert all(abs(now[0] - then[0]) <= now[1] + 1e-6 for then, now in pairwise(shares))
    assert shares[-1][1] < 0.1


def test_the_seed_decides_alone() -> None:
    before, after, _ = pair(16)
    maps = []
    for seed in (3, 3, 4):
        torch.rand(len(maps) + 1)
        maps.append(detect(before, after, everywhere(16, 16), extractor(), QUICK, seed=seed))
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("bands", [1, 4])
def test_any_number_of_bands(bands: int) -> None:
    before, after, _ = pair(16, bands)
    assert detect(before, after, everywhere(16, 16), extractor(bands), QUICK).shape == (16, 16)


@pytest.mark.parametrize("settings", [QUICK, replace(QUICK, jitter=True), replace(QUICK, norm="joint", cc=False)])
def test_values_where_there_is_nothing_do_not_matter(settings: Settings) -> None:
    before, after, _ = pair(20)
    valid = everywhere(20, 20)
    valid[:6, :9] = False
    plain = detect(before, after, valid, extractor(), settings)
    before[:, 1, 1], after[:, 2, 2], before[:, 3, 3] = 1e6, -1e6, torch.nan
    other = detect(before, after, valid, extractor(), settings)
    assert torch.equal(plain.isnan(), ~valid)
    assert torch.equal(plain[valid], other[valid])


def test_a_pixel_that_is_no_number_is_nothing() -> None:
    before, after, _ = pair(16)
    before[1, 4, 5] = torch.nan
    found = detect(before, after, everywhere(16, 16), extractor(), QUICK)
    assert found.isnan().nonzero().tolist() == [[4, 5]]


def test_equal_or_flat_dates_are_no_trouble() -> None:
    flat = torch.full((3, 16, 16), 7.0)
    for before, after in ((drawn(3, 16, 16), drawn(3, 16, 16)), (flat, flat), (flat, flat + 1)):
        assert detect(before, after, everywhere(16, 16), extractor(), QUICK).isfinite().all()


def test_a_single_pixel_is_enough() -> None:
    valid = ~everywhere(16, 16)
    valid[5, 6] = True
    found = detect(drawn(3, 16, 16), drawn(3, 16, 16, seed=1), valid, extractor(), replace(QUICK, jitter=True))
    assert found.isfinite().nonzero().tolist() == [[5, 6]]


def test_jitter_compares_different_dates() -> None:
    """Released, the term compared a date with itself and was always 0."""
    before, after, _ = pair(16)
    reports: list[Report] = []
    settings = replace(QUICK, jitter=True)
    detect(before, after, everywhere(16, 16), extractor(), settings, report=reports.append)
    terms = [(done.losses["jitter_similarity"], done.losses["jitter_dissimilarity"]) for done in reports]
    assert all(abs(one) + abs(other) > 0.1 for one, other in terms)


def test_no_truth_goes_in() -> None:
    taken: Sequence[str] = [*inspect.signature(detect).parameters, *inspect.signature(MetricCdPaper).parameters]
    assert set(taken) == {
        *("before", "after", "valid", "features", "settings", "seed", "device", "report"),
        *("network", "dates"),
    }


def test_a_pair_too_large_for_memory_is_refused_with_a_figure() -> None:
    check(everywhere(1000, 1500), Settings())
    with pytest.raises(ModelError, match=r"1500 x 1000 pixels need about 6\.0 GB.*use metric-cd,.*memory_gb above 5"):
        check(everywhere(1000, 1500), Settings(memory_gb=5))


def test_what_cannot_be_worked_on_is_refused() -> None:
    with pytest.raises(ModelError, match="7 x 20 pixels are too few"):
        check(everywhere(20, 7), Settings())
    with pytest.raises(ModelError, match="no pixel has values in both dates"):
        detect(torch.full((3, 16, 16), torch.nan), drawn(3, 16, 16), everywhere(16, 16), extractor(), QUICK)


@pytest.mark.parametrize(
    ("name", "value"), [("norm", "none"), ("steps", 0), ("threshold", 1.5), ("learning_rate", -1.0), ("memory_gb", -1)]
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"{name} = {value}"):
        replace(Settings(), **{name: value})
