"""Short runs of :mod:`tests.tools.chaos`, with all its faults: every answer is explained.

A run that fails prints its seed and leaves its databases: go on with ``python -m tests.tools.chaos
--seconds 60 --seed N``.
"""

from __future__ import annotations

import pytest

from ..tools import chaos


@pytest.mark.long
@pytest.mark.faketime
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_acknowledged_is_lost(seed: int):
    totals = chaos.run(20, seed)
    assert totals.problems == []
    assert totals.lost == 0
    assert sum(totals.faults.values()) > 3
    assert totals.acknowledged() > 50


@pytest.mark.plants
@pytest.mark.parametrize("plant", chaos.PLANTS)
def test_the_lack_of_a_safeguard_is_found(plant: str):
    found = (chaos.run(60, seed, plant=plant).problems for seed in range(1, 11))
    assert any(found)
