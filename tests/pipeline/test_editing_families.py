"""Edits on the shapes of many families, with small random weights: with the source's prompt every mode gives
the reconstruction back, with another it doesn't."""

from dataclasses import replace

import pytest
import torch

from invrecon import EditSettings, Model, Settings, edit, load_seed, save_seed
from invrecon.core.editing import branches
from invrecon.core.editing.branches import SourceBranch, trace
from invrecon.core.editing.injection import injection
from invrecon.errors import ModelError, UsageError
from invrecon.metrics import latent_fidelity
from invrecon.models.values import check_injectable, hooked, picture_tokens
from invrecon.settings import GUIDANCE
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make

ALL = CLASSIC | CONDITIONED | NEW
SMALL = {"height": 64, "width": 96, "num_inference_steps": 6}
QUICK = Settings(boost=False, rtol=1e-3)
PROMPTED = ("sd 3", "flux dev")  # with text encoders; the others are given embeddings
FLOWS = ("flux dev", "sd 3", "z-image", "qwen")
MODES = ("swap", "sdedit", "inject", "flowedit")
EVERYWHERE = injection(0.0, 1.0, 0.0, 1.0)


def model_of(name, guided=False):
    pipe, call = make(ALL[name], guided)
    own_size = name in ("auraflow", "hidream")
    return Model.from_pipeline(pipe, **call | ({"num_inference_steps": 6} if own_size else SMALL))


def source_of(model):
    """The denoiser, the schedule and a trajectory from random noise."""
    denoiser, schedule = model.base.denoiser_and_schedule()
    seed = torch.randn(1, *denoiser.forms.shape, generator=torch.Generator().manual_seed(1))
    return SourceBranch(denoiser, schedule, trace(denoiser, schedule, seed).trajectory)


def other_prompt(denoiser, tokens):
    """The same under random embeddings of so many tokens; guidance leads away from the old ones."""
    make_noise = torch.Generator().manual_seed(5)

    def like(value):
        if isinstance(value, list):
            return [like(one) for one in value]
        if not value.is_floating_point() or value.ndim == 1:
            return torch.ones(1, tokens, dtype=value.dtype)
        return torch.randn(*value.shape[:-2], tokens, value.shape[-1], generator=make_noise)

    names = [name for name in denoiser.runner.call if name.startswith("prompt_embeds")]
    return denoiser.given(**{name: like(denoiser.runner.call[name]) for name in names})


def injected(model, source, target, mode=EVERYWHERE, keys=False):
    """Image latents of an edit under other values."""
    with hooked(model.network, source.denoiser, target, keys) as (hooks, ours, theirs):
        return branches.edit(replace(source, denoiser=ours), theirs, mode, hooks)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FLOWS)
def test_the_identity_edit_is_the_reconstruction(name, mode, photo):
    """With the guidance that is the default, and without."""
    model = model_of(name)
    prompt = "a red apple" if name in PROMPTED else ""
    edits = [EditSettings(prompt, mode=mode, guidance_scale=scale) for scale in (model.no_guidance, None)]
    done = edit(photo, model, edits, QUICK)
    assert min(one.change_db for one in done.edits) > 80
    assert done.edits[1].settings.guidance_scale == (1.0 if name == "flux dev" else GUIDANCE)
    assert (done.inversion is None) == (done.edits[0].seed is None) == (mode == "flowedit")


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("name", ["sd", "sd 3", "flux dev", "z-image", "qwen", "flux.2", "sana", "hidream"])
def test_injection_under_the_same_prompt_gives_the_source_s_latents(name, keys):
    model = model_of(name)
    source = source_of(model)
    with torch.no_grad():
        again = injected(model, source, source.denoiser, keys=keys)
    assert latent_fidelity(source.trajectory[-1], again) > 100


@pytest.mark.parametrize("name", ["qwen", "z-image", "flux.2 klein"])
@torch.no_grad()
def test_a_prompt_of_another_length_is_drawn_to_the_source_by_its_values(name):
    model = model_of(name)
    source = source_of(model)
    target = other_prompt(source.denoiser, 40)
    none = injection(0.0, 0.0, 0.0, 1.0)
    free, half, whole = (
        injected(model, source, target, mode) for mode in (none, injection(0, 1, 0.5, 1), EVERYWHERE)
    )
    assert torch.equal(free, trace(target, source.schedule, source.trajectory[0]).trajectory[-1])
    distances = [(latents - source.trajectory[-1]).norm().item() for latents in (free, half, whole)]
    assert min(distances) > 0
    assert len(set(distances)) == 3


@pytest.mark.parametrize("name", ["flux.2 klein", "ovis", "z-image"])
@torch.no_grad()
def test_only_the_picture_s_values_are_replaced(name):
    model = model_of(name)
    source = source_of(model)
    target = other_prompt(source.denoiser, 40)
    seen = []

    def note(module, args, output):
        seen.append((args[0], output))

    with hooked(model.network, source.denoiser, target, keys=False) as (hooks, ours, theirs):
        last = [one for one in theirs.masks if one in ours.masks][-1]
        module = model.network.get_submodule(last)
        handle = module.register_forward_hook(note)
        branches.edit(replace(source, denoiser=ours, schedule=source.schedule), theirs, EVERYWHERE, hooks)
        handle.remove()
    (_, first), (given, second) = seen[:2]
    before, after = first[0, ours.masks[last][0][0]], second[0, theirs.masks[last][0][0]]
    own = module(given)
    text = ~theirs.masks[last][0]
    width = own.shape[-1]
    values = slice(0, width)
    if last.endswith("to_qkv_mlp_proj"):
        inner = model.network.get_submodule(last.rpartition(".")[0]).inner_dim
        values = slice(2 * inner, 3 * inner)
    torch.testing.assert_close(after[:, values], before[:, values])
    torch.testing.assert_close(second[text], own[text])
    others = [channel for channel in range(width) if not values.start <= channel < values.stop]
    torch.testing.assert_close(second[..., others], own[..., others])
    assert not torch.allclose(own[~text][:, values], after[:, values])


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("name", ["sd", "chroma"])
@torch.no_grad()
def test_fused_projections_give_what_single_ones_do(name, keys):
    model = model_of(name)
    source = source_of(model)
    target = other_prompt(source.denoiser, 7)
    single = injected(model, source, target, keys=keys)
    model.network.fuse_qkv_projections()
    fused = injected(model, source, target, keys=keys)
    plain = trace(target, source.schedule, source.trajectory[0]).trajectory[-1]
    assert latent_fidelity(single, fused) > 110 > 90 > latent_fidelity(plain, fused)


@pytest.mark.parametrize("name", ["qwen", "sana", "z-image", "krea 2"])
@torch.no_grad()
def test_guided_calls_and_batches_are_matched_one_by_one_or_get_the_one_there_is(name):
    model = model_of(name, guided=True)
    guided = source_of(model)
    again = injected(model, guided, guided.denoiser)
    assert latent_fidelity(guided.trajectory[-1], again) > 100
    plain = replace(guided, denoiser=guided.denoiser.unguided())
    trajectory = trace(plain.denoiser, plain.schedule, guided.trajectory[0]).trajectory
    plain = replace(plain, trajectory=trajectory)
    call = guided.denoiser.runner.call
    same = {f"negative_{key}": value for key, value in call.items() if key.startswith("prompt_")}
    again = injected(model, plain, guided.denoiser.given(**same))
    assert latent_fidelity(trajectory[-1], again) > 100


PLACES = {  # name: of the last layer's tokens, how many there are before the picture's, and of the picture's
    "sd": (0, 6 * 4), "sd 3": (0, 6 * 4), "flux dev": (512, 6 * 4), "z-image": (0, 16 * 24),
    "qwen": (0, 16 * 24), "qwen 2.1": (7, 16 * 24), "flux.2": (7, 32 * 48), "chroma": (7, 16 * 24),
    "auraflow": (15, 16 * 24), "lumina 2": (7, 16 * 24), "cogview4": (16, 16 * 24), "sana": (0, 32 * 48),
    "hidream": (0, 16 * 24), "krea 2": (7, 16 * 24), "ernie": (0, 32 * 48), "longcat": (7, 16 * 24),
    "hunyuan": (0, 32 * 48), "pixart": (0, 16 * 24),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_the_picture_s_tokens_are_found(name):
    model = model_of(name)
    denoiser, _ = model.base.denoiser_and_schedule()
    [mask] = list(picture_tokens(model.network, denoiser).values())[-1][0]
    first, _ = PLACES[name]
    count = int(mask.sum())
    height, width = denoiser.forms.shape[-2:]
    assert mask[first : first + count].all()
    assert not mask[first + count :].any()
    assert any(count * patch**2 == height * width for patch in (1, 2, 4))


def test_a_network_without_values_of_its_own_is_refused_in_one_line():
    with pytest.raises(ModelError, match=r"has no to_v of its own for the picture.*: use --mode swap$"):
        check_injectable(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@torch.no_grad()
def test_branches_of_another_number_are_refused_in_one_line():
    model = model_of("pag", guided=True)
    source = source_of(model)
    with pytest.raises(ModelError, match=r"evaluates photo and edit differently .*: use --mode swap"):
        injected(model, replace(source, denoiser=source.denoiser.unguided()), source.denoiser)


@pytest.mark.parametrize("mode", MODES)
def test_another_prompt_changes_the_picture_and_its_mask_comes_from_the_predictions(mode, photo):
    model = model_of("sd 3")
    edits = [
        EditSettings(text, mode=mode, auto_mask=True, guidance_scale=1.0)
        for text in ("a blue photo of apple", "a red apple")
    ]
    other, same = edit(photo, model, edits, QUICK).edits
    assert other.mask.getextrema()[1] == 255
    assert same.mask.getextrema() == (255, 255)
    assert other.change_db < same.change_db
    assert same.change_db > 90


def test_flowedit_needs_no_seed_of_a_photo_and_repeats_from_a_seed_file(photo, tmp_path):
    model = model_of("flux dev")
    wanted = EditSettings("a blue photo", mode="flowedit", guidance_scale=1.0, n_avg=2)
    first, again, other = (
        edit(photo, model, one, QUICK).edits[0] for one in (wanted, wanted, replace(wanted, noise_seed=1))
    )
    assert first.seed is None
    assert first.square == again.square != other.square
    mixed = edit(photo, model, [replace(wanted, mode="swap"), wanted], QUICK)
    assert mixed.inversion is not None
    save_seed(mixed.edits[1].seed, tmp_path / "x.seed.safetensors")
    assert load_seed(tmp_path / "x.seed.safetensors").header["edit"] == wanted.header()
    assert edit(tmp_path / "x.seed.safetensors", model).edits[0].square == mixed.edits[1].square


def test_flowedit_is_refused_where_the_network_predicts_the_noise(photo, mini):
    message = r"needs a flow model, and mini isn't one \(its network predicts epsilon\): use --mode p2p"
    with pytest.raises(UsageError, match=message):
        edit(photo, mini, EditSettings("a pear", mode="flowedit"), QUICK)


@pytest.mark.parametrize("mode", ["p2p", "masactrl"])
def test_what_needs_a_u_net_is_refused_before_the_inversion_and_inject_is_the_cure(mode, photo):
    model = model_of("flux dev")
    with pytest.raises((UsageError, ModelError), match="use --mode inject or swap"):
        edit(photo, model, EditSettings("a pear", mode=mode, guidance_scale=1.0), QUICK)
    assert edit(photo, model, EditSettings("a pear", mode="inject", guidance_scale=1.0), QUICK).edits[0].seed
