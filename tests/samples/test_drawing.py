import math

import numpy as np
import pytest

from rsseg_cli.samples.canvas import Canvas
from rsseg_cli.samples.noise import band_noise
from rsseg_cli.samples.sensor import BANDS, Sensor, expose, majority
from rsseg_cli.samples.streams import Kind, stream

DULL = Sensor(("nir", "red"), 0.5, 0.2, (1.0, 1.0, 1.0, 0.5), (0.0, 0.0, 0.0, 0.0), 1.0, 0.0, 0.0, 0.0, 0.0)


def test_outline_covers_its_area() -> None:
    canvas = Canvas.blank(200, 0.1, 0)
    _, mask = canvas.inside(((-5.0, -4.0), (5.0, -4.0), (0.0, 6.0)))
    assert mask.sum() * 0.01 == pytest.approx(50.0, rel=0.01)


def test_outline_beyond_the_canvas_is_cut_off() -> None:
    canvas = Canvas.blank(200, 0.1, 0)
    window, mask = canvas.inside(((-500.0, -3.0), (500.0, -3.0), (500.0, 400.0), (-500.0, 400.0)))
    assert mask.shape == canvas.material[window].shape
    assert mask.sum() * 0.01 == pytest.approx(20.0 * 13.0, rel=0.01)
    _, nothing = canvas.inside(((50.0, 50.0), (60.0, 50.0), (60.0, 60.0)))
    assert not nothing.any()


@pytest.mark.parametrize(("shortest_m", "longest_m"), [(0.5, 2.0), (15.0, 80.0)])
def test_noise_has_waves_of_the_given_lengths(shortest_m: float, longest_m: float) -> None:
    field = band_noise((512, 512), 0.5, shortest_m, longest_m, np.random.default_rng(1))
    power = np.abs(np.fft.rfft(field - field.mean(), axis=1)) ** 2
    frequency = np.fft.rfftfreq(512, 0.5)
    inside = (frequency > 0.2 / longest_m) & (frequency < 1.5 / shortest_m)
    assert field.std() == pytest.approx(1.0, abs=0.1)
    assert power[:, inside].sum() > 0.85 * power.sum()


def test_streams_of_different_kinds_and_places_differ() -> None:
    draws = {float(stream(1, kind, place).uniform()) for kind in Kind for place in (-2, -1, 0, 1, 2)}
    assert len(draws) == len(Kind) * 5
    assert stream(1, Kind.TREES, -3).uniform() == stream(1, Kind.TREES, -3).uniform()


def test_sensor_orders_and_scales_bands() -> None:
    reflectance = np.stack([np.full((40, 40), 0.1 * (1 + number), np.float32) for number in range(len(BANDS))])
    image = expose(DULL, reflectance, np.random.default_rng(1))
    assert image.shape == (2, 20, 20)
    assert (image[0] == round(0.4 * 0.5 * 255)).all()
    assert (image[1] == math.ceil(0.1 * 255)).all()


def test_labels_take_the_commonest_class() -> None:
    fine = np.array([[1, 1, 4, 4], [1, 3, 4, 4], [5, 2, 0, 0], [2, 2, 0, 3]], np.uint8)
    np.testing.assert_array_equal(majority(fine), [[1, 4], [2, 0]])
