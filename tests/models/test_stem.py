"""A first layer for any bands."""

import pytest
import torch
from rsseg_models.stem import RGB, adapt_stem, bands_by_mean

# One kernel of one pixel: red counts 1, green 2, blue 6; their mean is 3.
WEIGHT = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)


def numbers(*bands: str) -> list[float]:
    return adapt_stem(WEIGHT, bands).flatten().tolist()


def test_red_green_blue_stay_as_they_are() -> None:
    assert numbers(*RGB) == [1, 2, 6]


def test_bands_go_by_name_and_not_by_place() -> None:
    assert numbers("blue", "GREEN", "red") == [6, 2, 1]


def test_unknown_bands_get_the_mean_and_all_are_scaled() -> None:
    assert numbers("nir", "red", "green", "blue", "swir", "height") == [1.5, 0.5, 1, 3, 1.5, 1.5]


def test_one_band_gets_three_times_the_mean() -> None:
    assert numbers("pan") == [9]


def test_equal_bands_answer_as_rgb_did() -> None:
    assert sum(numbers("a", "b", "c", "d", "e")) == pytest.approx(9)


def test_weights_may_be_in_another_order() -> None:
    assert adapt_stem(WEIGHT, RGB, ("blue", "green", "red")).flatten().tolist() == [6, 2, 1]


def test_the_bands_that_start_from_the_mean_are_named() -> None:
    assert bands_by_mean(["nir", "Red", "dsm"]) == ("nir", "dsm")


@pytest.mark.parametrize("shape", [(4, 1, 3, 3), (3, 3), (4, 6, 3, 3)])
def test_other_kernels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="RGB kernels"):
        adapt_stem(torch.zeros(shape), RGB)


def test_an_order_names_each_colour_once() -> None:
    with pytest.raises(ValueError, match="once each"):
        adapt_stem(WEIGHT, RGB, ("red", "red", "blue"))
