from collections.abc import Sequence

import pytest

from rsseg_cli.samples import SamplePair, SampleScene, SampleSeries, draw_all_series, draw_pair, draw_samples


@pytest.fixture(scope="session")
def scenes() -> Sequence[SampleScene]:
    """The committed scenes, drawn once."""
    return tuple(draw_samples())


@pytest.fixture(scope="session")
def source(scenes: Sequence[SampleScene]) -> Sequence[SampleScene]:
    return [scene for scene in scenes if scene.domain == "source"]


@pytest.fixture(scope="session")
def target(scenes: Sequence[SampleScene]) -> Sequence[SampleScene]:
    return [scene for scene in scenes if scene.domain == "target"]


@pytest.fixture(scope="session")
def pair() -> SamplePair:
    """The committed pair, drawn once."""
    return draw_pair()


@pytest.fixture(scope="session")
def series() -> Sequence[SampleSeries]:
    """The committed series, source and target, drawn once."""
    return tuple(draw_all_series())
