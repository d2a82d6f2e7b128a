"""A batch gives each sample what it would get alone, and makes none pay for another."""

import math
import time

import pytest
import torch
from torch import Tensor

from invrecon.core import ilb
from invrecon.core.lbo import invert, invert_batch
from invrecon.core.sampling import generate
from invrecon.models.memory import fitting
from invrecon.models.precision import Rescued
from invrecon.solve import STRATEGIES, Outcome, Read, converse, read
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule
from tests.test_samplers import SCHEDULERS, network, noise, read_schedule

STEPS = 10


class Watched:
    """A denoiser that notes the timestep and the rows of each call."""

    def __init__(self, denoiser):
        self.denoiser, self.calls = denoiser, []

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        self.calls.append((timestep, len(latents)))
        return self.denoiser(latents, timestep)


class Uneven:
    """Samples whose first latent is high are further from affine, and so take longer."""

    def __init__(self):
        self.curved, self.gaussian = CurvedDenoiser(2.5), GaussianDenoiser()

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        hard = torch.sigmoid(8 * latents[:, :1, :1, :1])
        return torch.lerp(self.gaussian(latents, timestep), self.curved(latents, timestep), hard)


@pytest.fixture
def samples() -> Tensor:
    """Four samples, alike in nothing: sizes, means, and how hard `Uneven` makes them."""
    z = torch.randn(4, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = z * torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64).view(-1, 1, 1, 1)
    z[:, 0, 0, 0] = torch.tensor([-2.0, 2.0, -2.0, 2.0])
    return z


def evaluations(found) -> list[int]:
    return [record.evaluations for record in found.records]


@pytest.mark.parametrize("solver", sorted(STRATEGIES))
def test_each_sample_of_a_batch_has_the_seed_known_in_closed_form(solver, samples):
    denoiser, schedule = GaussianDenoiser(), ddim_schedule(STEPS)
    found = invert_batch(denoiser, schedule, samples, solver=solver, rtol=1e-10, max_evaluations=400)
    seeds = torch.cat([one.latents for one in found])
    torch.testing.assert_close(seeds, denoiser.exact_seed(schedule, samples), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "options", [{}, {"solver": "adam"}, {"mean_evaluations": 4}, {"rtol": 1e-8}], ids=str
)
def test_a_sample_s_records_are_those_it_has_alone(options, samples):
    denoiser, schedule = Uneven(), ddim_schedule(STEPS)
    alone = [invert(denoiser, schedule, one, **options) for one in samples.split(1)]
    batch = invert_batch(denoiser, schedule, samples, **options)
    for mine, theirs in zip(batch, alone, strict=True):
        assert evaluations(mine) == evaluations(theirs)
        assert [record.outcome for record in mine.records] == [record.outcome for record in theirs.records]
        assert [record.residual for record in mine.records] == pytest.approx(
            [record.residual for record in theirs.records], rel=1e-3
        )
        torch.testing.assert_close(mine.latents, theirs.latents, rtol=1e-6, atol=1e-8)
    assert len({sum(evaluations(one)) for one in batch}) > 1 or "mean_evaluations" in options


def test_a_sample_that_has_solved_a_step_is_evaluated_no_more(samples):
    watched = Watched(Uneven())
    found = invert_batch(watched, ddim_schedule(STEPS), samples)
    assert sum(rows for _, rows in watched.calls) == sum(sum(evaluations(one)) for one in found)
    for record_of_each in zip(*(one.records for one in found), strict=True):
        at_this_step = [rows for timestep, rows in watched.calls if timestep == record_of_each[0].timestep]
        needs = [record.evaluations for record in record_of_each]
        assert at_this_step == [sum(need > call for need in needs) for call in range(max(needs))]


def test_several_samples_are_never_taken_for_one(samples):
    with pytest.raises(ValueError, match="`invert_batch` takes several"):
        invert(CurvedDenoiser(), ddim_schedule(STEPS), samples)


def test_steps_are_taken_side_by_side(samples):
    watched = Watched(Uneven())
    invert_batch(watched, ddim_schedule(STEPS), samples)
    timesteps = [timestep for timestep, _ in watched.calls]
    assert timesteps == sorted(timesteps)


def test_gradients_are_taken_sample_by_sample(samples):
    watched = Watched(Uneven())
    invert_batch(watched, ddim_schedule(STEPS), samples, solver="adam")
    assert [rows for _, rows in watched.calls] == [4] + [1] * (
        len(watched.calls) - 1
    )  # the first, plain prediction has no gradient


@pytest.mark.parametrize("harm", [math.nan, math.inf, 1e6])
def test_a_sample_that_goes_astray_leaves_the_others_untouched(harm, samples):
    schedule, good = ddim_schedule(STEPS), Uneven()

    def denoiser(latents: Tensor, timestep: int) -> Tensor:
        bad = (latents[:, 1:2, :1, :1].abs() > 50).to(latents.dtype)
        harmed = harm * latents if timestep > 500 else torch.zeros_like(latents)
        return torch.where(bad.bool(), harmed, good(latents, timestep))

    wild = samples.clone()
    wild[2, 1, 0, 0] = 1000.0
    found = invert_batch(denoiser, schedule, wild)
    assert found[2].latents.isfinite().all()
    assert any(record.outcome is not Outcome.CONVERGED for record in found[2].records)
    for number in (0, 1, 3):
        alone = invert(good, schedule, samples[number : number + 1])
        assert evaluations(found[number]) == evaluations(alone)
        torch.testing.assert_close(found[number].latents, alone.latents, rtol=1e-6, atol=1e-8)


def test_a_warm_start_is_each_sample_s_own(samples):
    denoiser, schedule = Uneven(), ddim_schedule(STEPS)
    cold = invert_batch(denoiser, schedule, samples)
    again = invert_batch(denoiser, schedule, samples, warm=[cold[0], None, cold[2], cold[3]])
    assert evaluations(again[1]) == evaluations(cold[1])
    for number in (0, 2, 3):
        assert sum(evaluations(again[number])) < sum(evaluations(cold[number]))


@pytest.mark.parametrize("name", ["dpm++", "dpm++, karras", "euler, karras"])
def test_other_samplers_are_inverted_in_batches_too(name):
    schedule, image_latents = (
        read_schedule(SCHEDULERS[name], 8),
        torch.cat([noise(1), 0.2 * noise(2), 3 * noise(3)]).double(),
    )
    watched = Watched(network)
    found = invert_batch(watched, schedule, image_latents, rtol=1e-6, max_evaluations=100)
    assert sum(rows for _, rows in watched.calls) == sum(sum(evaluations(one)) for one in found)
    assert [evaluations(one) for one in found] == [
        evaluations(invert(network, schedule, one, rtol=1e-6, max_evaluations=100))
        for one in image_latents.split(1)
    ]
    back = generate(network, schedule, torch.cat([one.latents for one in found]))
    assert ((back - image_latents).flatten(1).norm(dim=1) < 1e-6 * image_latents.flatten(1).norm(dim=1)).all()


def test_numbers_are_read_for_all_samples_at_once(samples, monkeypatch):
    """One transfer from the device for each call of the network, and one for each step's end, however many samples there are."""
    transfers, tolist, schedule = [], Tensor.tolist, ddim_schedule(STEPS)
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: (transfers.append(len(tensor)), tolist(tensor))[1])
    monkeypatch.setattr(Tensor, "item", lambda tensor: pytest.fail("read a number by itself"))
    monkeypatch.setattr(Tensor, "__bool__", lambda tensor: pytest.fail("read a truth by itself"))
    watched = Watched(CurvedDenoiser(0.1))
    monkeypatch.setattr(watched.denoiser.gaussian, "abar", tolist(watched.denoiser.gaussian.abar))
    monkeypatch.setattr(watched.denoiser.gaussian, "affine", lambda timestep: (0.3, 0.1))
    same = samples[:1].expand(4, -1, -1, -1)
    invert_batch(watched, schedule, same)
    assert (
        len(transfers) == len(watched.calls) - 1 + STEPS + 1
    )  # the first prediction reads nothing; the sizes are read before


def test_talks_are_answered_together_and_return_in_order():
    def talk(rounds: int):
        total = 0.0
        for number in range(rounds):
            [value] = yield Read(torch.tensor([float(number)]))
            total += value
        return total

    asked = []

    def answer(questions):
        asked.append(sorted(questions))
        return read(questions)

    assert converse([talk(3), talk(0), talk(1)], answer) == [3.0, 0.0, 0.0]
    assert asked == [[0, 2], [0], [0]]


def test_boosting_photos_together_is_boosting_each(samples):
    """Inversions and regenerations are shared; each photo has its own rounds, and its own best."""
    schedule, denoiser = ddim_schedule(5), CurvedDenoiser()
    mixing = torch.linalg.qr(
        torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )[0]
    photos = torch.randn(4, 12, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).split(
        1
    )
    inverted: list[int] = []

    def decode(latents: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", mixing, latents)

    def work(number: int):
        def score(latents: Tensor) -> float:
            return -10 * math.log10(ilb.squared_error(decode(latents), photos[number]).item() / 4)

        budget = ilb.Budget(rounds=number, decoder_steps=10)
        return (
            decode,
            samples[number : number + 1],
            photos[number],
            score,
            {"proximal_weight": 0.05, "budget": budget},
        )

    def answer(asked):
        latents = {n: q.image_latents for n, q in asked.items() if isinstance(q, ilb.Inverting)}
        if latents:
            inverted.append(len(latents))
            warm = [asked[n].warm for n in latents]
            return dict(
                zip(
                    latents,
                    invert_batch(denoiser, schedule, torch.cat(list(latents.values())), warm=warm),
                    strict=True,
                )
            )
        return dict(
            zip(
                asked,
                generate(denoiser, schedule, torch.cat([q.latents for q in asked.values()])).split(1),
                strict=True,
            )
        )

    works = [work(number) for number in range(4)]
    batch = converse([ilb.boosting(*arguments, **options) for *arguments, options in works], answer)
    assert inverted == [4, 3, 2, 1]
    for found, (*arguments, options) in zip(batch, works, strict=True):
        alone = ilb.boost(
            lambda z, warm: invert(denoiser, schedule, z, warm=warm),
            lambda z: generate(denoiser, schedule, z),
            *arguments,
            **options,
        )
        assert [done.psnr for done in found.rounds] == pytest.approx(
            [done.psnr for done in alone.rounds], abs=1e-3
        )
        assert [done.evaluations for done in found.rounds] == [done.evaluations for done in alone.rounds]


def test_half_precision_is_rescued_by_the_sample():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))

        def forward(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
            return (self.weight * latents.to(self.weight.dtype) / 3 * 30000).float()

    halved = Network()
    rescued = Rescued(halved, halved)
    latents, condition = torch.tensor([0.07313, 20.0, math.nan]).view(3, 1, 1, 1), torch.zeros(3, 1, 1)
    with torch.no_grad():
        half, full, lost = rescued(latents, 7, condition).flatten().tolist()
        assert half == halved(latents[:1], 7, condition).item() != pytest.approx(731.3, rel=1e-6)
        assert full == pytest.approx(200000)
        assert math.isnan(lost)
        assert rescued.rescued == {7}


def test_automatic_batches_are_of_one_photo_where_there_is_no_cuda_and_nothing_is_run_to_find_out():
    assert fitting(torch.device("cpu"), lambda: pytest.fail("was run"), 16) == 1


def test_memory_decides_on_cuda(monkeypatch):
    """Half of 24 GB free, where one evaluation takes 2 GB beyond the weights: 6."""
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3e9)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 5e9)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (24e9, 80e9))
    for most, size in ((16, 6), (4, 4)):
        assert fitting(torch.device("cuda"), time.monotonic, most) == size
