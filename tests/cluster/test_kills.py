"""The driver of a run is killed at random moments; the same command does what is left."""

import pytest

from tests.cluster.killing import check_that_kills_lose_nothing

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("kind", ["here", "processes"])
def test_the_driver_dies_and_the_same_command_does_the_rest(folder, kind):
    check_that_kills_lose_nothing(kind, kills=2)
