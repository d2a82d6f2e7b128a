"""The mathematics of editing, on denoisers and prompts small enough to know the answer."""

from itertools import pairwise

import pytest
import torch

from invrecon.core.editing.attention import Heads, Site
from invrecon.core.editing.branches import Mode, edit, trace
from invrecon.core.editing.flowedit import flowedit
from invrecon.core.editing.guided_filter import by_colour, guided_filter
from invrecon.core.editing.injection import Injection, Recorded
from invrecon.core.editing.locality import (
    attention_mask,
    change_map,
    difference_mask,
    forget,
    latent_mask,
    otsu,
    recolour,
)
from invrecon.core.editing.masactrl import MutualSelfAttention
from invrecon.core.editing.p2p import PromptToPrompt, token_weights
from invrecon.core.editing.sdedit import sdedit
from invrecon.core.editing.words import Words, align, things
from invrecon.core.sampling import generate
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions
from invrecon.errors import ModelError
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule

LENGTH = 12
CROSS, SELF = Site("up.attn2", True, 0.9), Site("up.attn1", False, 0.9)


class Attention:
    watcher = None


class Looking:
    """A denoiser with one cross-attention layer: two tokens, of which the left and the right half of the
    picture look at one each. Its predictions are `left` higher in the left half.
    """

    def __init__(self, attention, left=0.0):
        self.attention, self.gaussian, self.left = attention, GaussianDenoiser(), left

    def __call__(self, latents, timestep):
        if self.attention.watcher:
            left = (torch.arange(8).repeat(8) < 4).float()
            query = torch.stack((left, 1 - left), -1)[None, None] * 9
            key = torch.zeros(1, 1, LENGTH, 2)
            key[0, 0, 2, 0] = key[0, 0, 5, 1] = 1
            self.attention.watcher(CROSS, Heads(query, key, torch.zeros_like(key)))
        return self.gaussian(latents, timestep) + self.left * (torch.arange(8) < 4)


def words(prompt: str) -> Words:
    split = prompt.split()
    return Words(split, [range(place, place + 1) for place in range(1, len(split) + 1)], LENGTH)


def heads(seed: int, batch: int = 1, places: int = 16, tokens: int = LENGTH) -> Heads:
    make = torch.Generator().manual_seed(seed)
    return Heads(*(torch.randn(batch, 2, count, 4, generator=make) for count in (places, tokens, tokens)))


@pytest.fixture
def seed():
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_source_branch_is_plain_generation(seed):
    schedule = ddim_schedule(10)
    trajectory = trace(CurvedDenoiser(), schedule, seed).trajectory
    assert len(trajectory) == 11
    assert torch.equal(trajectory[-1], generate(CurvedDenoiser(), schedule, seed))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_sdedit_under_the_same_denoiser_is_the_source_and_at_0_under_any(seed, strength):
    schedule, source = ddim_schedule(10), CurvedDenoiser()
    branch = trace(source, schedule, seed)
    trajectory = branch.trajectory
    assert torch.equal(edit(branch, source, sdedit(strength), Attention()), trajectory[-1])
    other = edit(branch, GaussianDenoiser(2.0), sdedit(strength), Attention())
    assert torch.equal(other, trajectory[-1]) == (strength == 0)


def test_outside_of_the_mask_the_target_is_the_source(seed):
    schedule, source = ddim_schedule(10), CurvedDenoiser()
    branch = trace(source, schedule, seed)
    trajectory = branch.trajectory
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    edited = edit(branch, GaussianDenoiser(2.0), Mode(), Attention(), mask=mask)
    assert torch.equal(edited[..., 4:], trajectory[-1][..., 4:])
    assert (edited - trajectory[-1])[..., :4].abs().min() > 0.01


def test_a_forgotten_seed_has_no_mean_inside_the_mask_and_is_the_same_outside(seed):
    mask = torch.zeros(1, 1, 8, 8, dtype=seed.dtype)
    mask[..., :4] = 1
    forgotten = forget(seed, mask, 1.0)
    torch.testing.assert_close(forgotten[..., :4].mean((-2, -1)), torch.zeros(1, 4, dtype=seed.dtype))
    assert torch.equal(forgotten[..., 4:], seed[..., 4:])
    assert torch.equal(forget(seed, mask, 0.0), seed)


def test_a_recoloured_seed_has_the_mean_of_the_picture_that_the_target_leads_to(seed):
    """A denoiser of pictures that are 2 everywhere takes a_T 2 of any latents for the picture's part."""
    schedule = ddim_schedule(10)
    denoiser = GaussianDenoiser(2.0, 0.0)
    first = transitions(denoiser, schedule)[0]
    mask = torch.zeros(1, 1, 8, 8, dtype=seed.dtype)
    mask[..., :4] = 1
    recoloured = recolour(seed, mask, 1.0, first)
    signal = denoiser.abar[schedule.timesteps[0]].item() ** 0.5
    means = recoloured[..., :4].mean((-2, -1))
    torch.testing.assert_close(means, torch.full_like(means, 2 * signal), rtol=0.01, atol=0)
    spread = [part[..., :4] - part[..., :4].mean((-2, -1), keepdim=True) for part in (recoloured, seed)]
    torch.testing.assert_close(*spread)
    assert torch.equal(recoloured[..., 4:], seed[..., 4:])
    assert torch.equal(recolour(seed, mask, 0.0, first), seed)


def test_a_mask_by_colour_takes_all_of_a_ground_of_which_it_knew_the_most():
    picture = torch.full((1, 3, 16, 16), -0.5)
    picture[:, 2] = 0.7
    picture[..., 6:10, 6:10] = 0.9  # an object in the middle
    ground = (picture[:, :1] < 0).float()
    coarse = ground.clone()
    coarse[..., :8, 6:10] = 0  # the ground above it is missed
    coarse[..., 9, 7:9] = 1  # and some of the object taken for ground
    assert torch.equal(by_colour(coarse, picture), ground)


def test_equal_prompts_align_token_by_token():
    alignment = align(words("a red apple"), words("a red apple"))
    assert torch.equal(alignment.matrix, torch.eye(LENGTH))
    assert alignment.share.min() == 1


def test_a_word_in_the_place_of_another_takes_its_attention_or_looks_for_itself():
    old, new = words("a red apple"), words("a green apple")
    assert torch.equal(align(old, new).matrix, torch.eye(LENGTH))
    refined = align(old, new, replace=False)
    assert refined.share.tolist() == [float(place != 2) for place in range(LENGTH)]


def test_words_of_different_lengths_share_their_attention_and_the_rest_moves_up():
    old = Words(["a", "cat"], [range(1, 2), range(2, 3)], LENGTH)
    new = Words(["a", "tabby"], [range(1, 2), range(2, 4)], LENGTH)
    matrix = align(old, new).matrix
    assert matrix[2, 2:4].tolist() == [0.5, 0.5]
    assert matrix[3, 4] == matrix[0, 0] == 1
    assert (matrix.sum(1)[:-1] == 1).all()


def test_a_new_word_has_no_counterpart():
    alignment = align(words("an apple"), words("an old apple"))
    assert alignment.share[2] == 0
    assert alignment.matrix[2, 3] == 1


@pytest.mark.parametrize(
    ("old", "new", "changed", "kept"),
    [
        ("a red apple on a blue background", "a red apple on a green background", ([7], [7]), ([3], [3])),
        ("an apple", "a green apple", ([2], [3]), ([], [])),
        ("a photo of a cat", "a photo of a dog on grass", ([5], [5, 7]), ([], [])),
        ("a cat with a hat", "a cat", ([5], []), ([2], [2])),
        ("", "a cat", ([], [2]), ([], [])),
        ("a cat", "a cat", ([], []), ([2], [2])),
    ],
)
def test_things_that_change_and_that_stay(old, new, changed, kept):
    found = things(words(old), words(new))
    assert tuple([span.start for span in each.changed] for each in found) == changed
    assert tuple([span.start for span in each.kept] for each in found) == kept


@pytest.mark.parametrize("site", [CROSS, SELF])
def test_prompt_to_prompt_takes_the_source_s_attention_and_the_target_s_values(site):
    source, target = heads(0), heads(1)
    ones = torch.ones(LENGTH)
    control = PromptToPrompt(align(words("a cat"), words("a dog")), ones, cross_steps=0.5, self_steps=0.5)
    torch.testing.assert_close(control(0.0, site, source, target), source.probabilities() @ target.value)
    torch.testing.assert_close(control(0.5, site, source, target), target.attend())
    torch.testing.assert_close(control(0.0, site, target, target), target.attend())
    assert control.steers(0.4)
    assert not control.steers(0.5)


def test_under_guidance_only_the_branch_with_the_prompt_takes_over_cross_attention():
    source, target = heads(0), heads(1, batch=2)
    control = PromptToPrompt(align(words("a cat"), words("a dog")), torch.ones(LENGTH), 1.0, 1.0)
    output = control(0.0, CROSS, source, target)
    torch.testing.assert_close(output[:1], target.attend()[:1])
    torch.testing.assert_close(output[1:], source.probabilities() @ target.value[1:])


def test_weights_multiply_attention_and_weight_1_changes_nothing():
    target = heads(1)
    weights = token_weights(words("a red cat"), {"Red": 3.0})
    assert weights.tolist() == [1, 1, 3] + [1] * 9
    control = PromptToPrompt(align(words("a red cat"), words("a red cat")), weights, 0.0, 0.0)
    torch.testing.assert_close(
        control(0.9, CROSS, target, target), (target.probabilities() * weights) @ target.value
    )
    assert control.steers(0.9)
    assert torch.equal(token_weights(words("a red cat"), {"red": 1.0}), torch.ones(LENGTH))
    with pytest.raises(KeyError, match="dog"):
        token_weights(words("a red cat"), {"dog": 2.0})


def test_mutual_self_attention_begins_at_its_step_and_layer():
    source, target = heads(0, tokens=16), heads(1, batch=2, tokens=16)
    control = MutualSelfAttention(start_step=0.2, start_layer=0.5)
    mutual = control(0.5, SELF, source, target)
    torch.testing.assert_close(mutual[1:], Heads(target.query[1:], source.key, source.value).attend())
    torch.testing.assert_close(control(0.5, Site("down.attn1", False, 0.4), source, target), target.attend())
    torch.testing.assert_close(control(0.5, CROSS, source, target), target.attend())
    assert [control.steers(progress) for progress in (0.1, 0.2)] == [False, True]


@pytest.mark.parametrize("change", ["a plum on a pear", "a apple on a plum"])
def test_attention_parts_the_picture_and_predictions_tell_which_part_changes(seed, change):
    attention, schedule = Attention(), ddim_schedule(10)
    looking, changed = Looking(attention), Looking(attention, left=0.5)
    trajectory = trace(looking, schedule, seed).trajectory
    old, new = things(words("a apple on a pear"), words(change))
    mask = attention_mask([(looking, old), (changed, new)], schedule, trajectory, attention)
    assert mask[0, 0, 4].tolist() == pytest.approx([1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0])
    assert attention.watcher is None


def test_late_predictions_that_hardly_change_the_picture_tell_no_part(seed):
    """Early predictions differ in the left half, those of the second half of the steps thrice as much in the
    right one."""

    class Late(Looking):
        def __call__(self, latents, timestep):
            return super().__call__(latents, timestep) + 1.5 * (timestep < 500) * (torch.arange(8) >= 4)

    attention, schedule = Attention(), ddim_schedule(10)
    looking, changed = Looking(attention), Late(attention, left=0.5)
    trajectory = trace(looking, schedule, seed).trajectory
    old, new = things(words("a apple on a pear"), words("a plum on a pear"))
    mask = attention_mask([(looking, old), (changed, new)], schedule, trajectory, attention)
    assert mask[0, 0, 4].tolist() == pytest.approx([1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0])


def test_an_effect_is_what_a_step_s_prediction_adds_to_the_image(seed):
    schedule = ddim_schedule(5)
    for k, effect in enumerate(schedule.effects):
        once = lambda latents, t, k=k: torch.full_like(latents, t == schedule.timesteps[k])  # noqa: E731
        image, plain = (generate(each, schedule, seed) for each in (once, lambda z, _t: torch.zeros_like(z)))
        torch.testing.assert_close(image - plain, torch.full_like(seed, effect))


def test_where_no_thing_changes_the_mask_is_everywhere(seed):
    looking, schedule = Looking(Attention()), ddim_schedule(10)
    trajectory = trace(looking, schedule, seed).trajectory
    same = things(words("a apple"), words("a apple"))
    branches = [(looking, things) for things in same]
    assert attention_mask(branches, schedule, trajectory, looking.attention).min() == 1


def test_the_change_map_is_largest_where_predictions_differ():
    source = torch.zeros(2, 4, 8, 8)
    target = source.clone()
    target[:, :, :, :4] = torch.tensor([1.0, 5.0])[:, None, None, None]
    expected = [1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0]
    assert (change_map(source, target)[0, 0, 4] / 13**0.5).tolist() == pytest.approx(expected)
    assert change_map(source, source).max() == 0


def test_otsu_parts_two_heaps():
    assert 0.1 <= otsu(torch.tensor([0.0, 0.1, 0.1, 0.9, 1.0])) < 0.9


def test_the_guided_filter_moves_a_mask_s_border_to_the_picture_s_edge():
    picture = torch.zeros(1, 3, 32, 32)
    picture[..., 16:] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    rough = torch.zeros(1, 1, 32, 32)
    rough[..., 17:] = 1
    filtered = guided_filter(picture, rough, radius=6, eps=1e-4)
    assert (filtered[..., 16:] > 0.5).all()
    assert (filtered[..., :16] < 0.5).all()
    constant = guided_filter(picture, torch.full_like(rough, 0.3), radius=4, eps=1e-4)
    torch.testing.assert_close(constant, torch.full_like(rough, 0.3), atol=1e-4, rtol=0)


def test_latents_that_a_mask_touches_and_those_beside_them_are_edited():
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :9] = 1  # all of the first column of latents, and one pixel of the second
    assert latent_mask(mask, (4, 4))[0, 0, 1].tolist() == [1, 1, 1, 0]
    assert latent_mask(torch.full((1, 1, 32, 32), 0.3), (4, 4)).unique().tolist() == pytest.approx([0.3])


SIGMAS = [1.0, 0.8, 0.5, 0.2, 0.0]
FLOW = Schedule(
    [1000 * sigma for sigma in SIGMAS[:-1]],
    [1.0] * 4,
    [b - a for a, b in pairwise(SIGMAS)],
)


def noise(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize(("strength", "sigma"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_flowedit_integrates_the_difference_of_velocities_over_the_last_steps(seed, strength, sigma):
    source, target = (lambda latents, _t, v=v: torch.full_like(latents, v) for v in (1.0, 3.0))
    edited = flowedit((source, target), FLOW, seed, strength, 1, noise())
    torch.testing.assert_close(edited, seed - 2.0 * sigma)


def test_flowedit_between_gaussians_moves_the_mean_whatever_the_noise(seed):
    """The velocity towards one point m is (x_t - m) / sigma: the difference is (z - x + m - m') / sigma."""
    source, target = (lambda latents, t, m=m: (latents - m) * 1000 / t for m in (0.0, 2.0))
    for n_avg in (1, 3):
        edited = flowedit((source, target), FLOW, seed, 1.0, n_avg, noise(n_avg))
        torch.testing.assert_close(edited, seed + 2.0)


def test_flowedit_under_the_same_denoiser_gives_the_latents_back_exactly_and_outside_a_mask_under_any(seed):
    one = lambda latents, t: torch.sin(latents) * t / 1000  # noqa: E731
    other = lambda latents, t: torch.cos(latents)  # noqa: E731
    assert torch.equal(flowedit((one, one), FLOW, seed, 1.0, 2, noise()), seed)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    edited = flowedit((one, other), FLOW, seed, 1.0, 1, noise(), mask=mask)
    assert torch.equal(edited[..., 4:], seed[..., 4:])
    assert (edited - seed)[..., :4].abs().min() > 0
    assert torch.equal(edited, flowedit((one, other), FLOW, seed, 1.0, 1, noise(), mask=mask))
    assert not torch.equal(edited, flowedit((one, other), FLOW, seed, 1.0, 1, noise(1), mask=mask))


def test_flowedit_refuses_steps_that_are_no_flow_s(seed):
    with pytest.raises(ValueError, match="flow"):
        flowedit((CurvedDenoiser(), CurvedDenoiser()), ddim_schedule(4), seed, 1.0, 1, noise())


def test_where_predictions_differ_is_the_mask(seed):
    class Left(CurvedDenoiser):
        def __call__(self, latents, timestep):
            left = torch.arange(8) < 4
            return super().__call__(latents, timestep) + left

    schedule = ddim_schedule(10)
    trajectory = trace(CurvedDenoiser(), schedule, seed).trajectory
    mask = difference_mask(CurvedDenoiser(), Left(), schedule, trajectory)
    assert mask[0, 0, 4].tolist() == pytest.approx([1, 1, 1, 2 / 3, 1 / 3, 0, 0, 0])
    assert difference_mask(CurvedDenoiser(), CurvedDenoiser(), schedule, trajectory).min() == 1


def test_values_are_injected_in_their_steps_and_layers_and_given_back_in_order():
    control = Injection(0.2, 0.5, 0.3, 0.6)
    assert [control.steers(progress) for progress in (0.1, 0.2, 0.4, 0.5)] == [False, True, True, False]
    ours, theirs = torch.zeros(3, 2), torch.ones(3, 2)
    for depth, taken in ((0.2, theirs), (0.3, ours), (0.5, ours), (0.6, theirs)):
        assert torch.equal(control(0.3, Site("x", False, depth), ours, theirs), taken)
    site, memory = Site("x", False, 0.0), Recorded()
    assert memory(site, ours) is ours
    assert all(torch.equal(memory.recall(site), ours) for _ in range(3))
    memory.finish()
    memory = Recorded()
    memory(site, ours)
    memory(site, theirs)
    assert torch.equal(memory.recall(site), ours)
    with pytest.raises(ModelError, match="differently"):
        memory.finish()
    assert torch.equal(memory.recall(site), theirs)
    memory.finish()
    with pytest.raises(ModelError, match="differently"):
        memory.recall(site)
