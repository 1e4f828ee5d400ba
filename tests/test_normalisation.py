"""Values that a network can make nothing of."""

import pytest

from rsseg_cli.normalisation import Normalisation, bands_unlike

KNOWN = Normalisation("robust", (100.0, 60.0), (40.0, 20.0))


@pytest.mark.parametrize(
    ("centres", "spreads", "unlike"),
    [
        ((100.0, 60.0), (40.0, 20.0), []),
        ((140.0, 30.0), (60.0, 5.0), []),  # another season
        ((100.0, 60.0), (2.0, 20.0), []),  # one band of water alone
        ((100.0, 61.0), (2.0, 1.0), [0, 1]),  # nothing to be seen in any
        ((0.3, 0.2), (0.1, 0.1), [0, 1]),  # reflectances for digital numbers
        ((100.0, 2100.0), (40.0, 20.0), [1]),
        ((100.0, 60.0), (40.0, 900.0), [1]),
    ],
)
def test_bands_in_other_units_are_found(centres: tuple, spreads: tuple, unlike: list[int]) -> None:
    assert bands_unlike(Normalisation("robust", centres, spreads), KNOWN) == unlike
