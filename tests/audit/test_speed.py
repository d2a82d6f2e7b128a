"""Speed: the report's arithmetic is right."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from invrecon.audit.speed.benchmark import Benchmark, TimedMethod
from invrecon.audit.speed.clock import count_operations
from invrecon.audit.speed.measurement import Round, Timing, measure, speeds_of
from invrecon.core.schedule import Schedule

SCHEDULE = Schedule([3, 2, 1], [1.0] * 3, [0.1] * 3)


class Hand:
    """A clock that stands still until it is moved on, and a denoiser that takes a second for each of its
    latents.
    """

    now = 0.0

    def __call__(self):
        return self.now

    def denoiser(self, latents, timestep):
        self.now += len(latents)
        return latents @ latents

    def product(self, clock):
        self.now += 7
        return 4.0, 800.0


def test_ratios_overhead_and_rates_follow_from_the_clock():
    hand = Hand()

    def slow(denoiser, latents):  # two evaluations a step, and a quarter of the time beside them
        for _ in range(6):
            denoiser(latents, 1)
        hand.now += 2 * len(latents)

    def plain(denoiser, latents):
        hand.now += 4 * len(latents)

    benchmark = Benchmark(
        hand.denoiser,
        SCHEDULE,
        torch.ones(2, 1, 4, 4),
        [TimedMethod("DDIM", None, plain), TimedMethod("LBO", 0.1, slow)],
        hand,
        hand.product,
    )
    floor, ddim, ours = list(measure(benchmark, [2], repeats=2))
    assert [floor.seconds, ddim.seconds, ours.seconds] == [6.0, 8.0, 16.0]
    assert [floor.to_floor, ddim.to_floor, ours.to_floor] == pytest.approx([1.0, 8 / 6, 16 / 6])
    assert [floor.to_ddim, ddim.to_ddim, ours.to_ddim] == pytest.approx([6 / 8, 1.0, 2.0])
    assert (ours.overhead, ours.evaluations_per_step, ours.photos_per_second) == pytest.approx(
        (0.25, 2.0, 2 / 16)
    )
    assert (ddim.overhead, floor.overhead, ours.spread) == (None, None, 0.0)
    operations = 2 * 2 * 4**3  # two products of 4 x 4
    assert (floor.tflops, floor.product_share) == pytest.approx((operations / 2 / 1e12, operations / 2 / 200))


def test_a_round_in_which_all_was_slow_changes_no_ratio():
    benchmark = Benchmark(
        None, SCHEDULE, None, [TimedMethod("DDIM", None, None), TimedMethod("LBO", 0.1, None)], None, None
    )
    rounds = [
        Round(pace, [Timing(3 * pace, 0, 0, None), Timing(9 * pace, 6 * pace, 6, 5.0)], 1 / pace)
        for pace in (1.0, 50.0, 2.0)
    ]
    floor, _, ours = speeds_of(benchmark, 1, rounds, operations=1.0)
    assert (ours.to_ddim, ours.to_floor, ours.overhead) == pytest.approx((3.0, 3.0, 1 / 3))
    assert floor.product_share == pytest.approx(1.0)
    assert (ours.seconds, ours.spread, ours.peak_bytes) == (18.0, 49 * 9 / 18, 5.0)


def test_operations_of_fused_attention_are_counted():
    heads = torch.randn(1, 2, 16, 8)
    assert count_operations(lambda z, t: scaled_dot_product_attention(z, z, z), heads, 1.0) == 2 * 2 * (
        2 * 16 * 16 * 8
    )
