"""What hangs on a live pipeline is in its identity: whatever changes a prediction changes that too."""

from functools import partial

import diffusers
import pytest
import torch

from invrecon import Model
from invrecon.errors import InputError, ModelError
from invrecon.models.attached import attached
from invrecon.models.identity import differences, flat
from invrecon.models.quiet import quiet
from invrecon.pipeline.header import sampling_header
from invrecon.seedfile import Seed
from invrecon.settings import Settings
from tests import loras
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED, controlnet
from tests.models.pipelines import NEW, make

SMALL = {"height": 64, "width": 64, "num_inference_steps": 4}


@pytest.mark.parametrize("name", [*CLASSIC, *NEW])
def test_nothing_is_attached_to_a_plain_pipeline(name):
    assert attached(make((CLASSIC | NEW)[name])[0]) == {}


def with_lora(tmp_path, **options):
    torch.manual_seed(0)
    pipe, call = make(CLASSIC["sd"])
    loras.kohya(pipe, tmp_path / "hat.safetensors", ["unet", "text_encoder"], strength=0.1)
    with quiet():
        pipe.load_lora_weights(str(tmp_path / "hat.safetensors"), adapter_name="hat")
    return pipe, call


def with_ip_adapter(tmp_path):
    return make(CONDITIONED["ip-adapter"])


def with_pag(tmp_path):
    return make(CONDITIONED["pag"])


def with_control(tmp_path):
    return make(CONDITIONED["controlnet"])


def plain(tmp_path):
    return make(CLASSIC["sd"])


def fuse(pipe):
    pipe.fuse_lora()


def fuse_and_unload(pipe):
    pipe.fuse_lora()
    pipe.unload_lora_weights()


def scale_one_block(pipe):
    with quiet():
        pipe.set_adapters(["hat"], [{"unet": {"down": 0.5}}])


def control_anew(pipe):
    pipe.controlnet = controlnet()[0].controlnet


def switch_conditions(pipe):
    network = pipe.unet
    for layer in network.attn_processors.values():
        if hasattr(layer, "scale"):
            layer.scale = [0.4]


IP_SCALE = "unet.processors.IPAdapterAttnProcessor2_0.scale"
CHANGES = {
    "a weight of its own": (with_lora, lambda pipe: pipe.set_adapters(["hat"], [0.5]), "unet.adapters.hat"),
    "one block's": (with_lora, scale_one_block, "unet.adapters.hat"),
    "switched off": (with_lora, lambda pipe: pipe.disable_lora(), "unet.adapters.hat"),
    "fused": (with_lora, fuse, "unet.adapters.hat"),
    "fused and unloaded": (with_lora, fuse_and_unload, "unet.adapters.hat"),
    "unloaded": (with_lora, lambda pipe: pipe.unload_lora_weights(), "unet.adapters.hat"),
    "another ControlNet": (with_control, control_anew, "controlnet weights"),
    "IP-Adapter's scale": (
        with_ip_adapter,
        switch_conditions,
        "unet.processors.IPAdapterAttnProcessor2_0.scale",
    ),
    "PAG's layers": (with_pag, lambda pipe: pipe.set_pag_applied_layers("up"), "pipeline.pag_applied_layers"),
    "FreeU": (plain, lambda pipe: pipe.enable_freeu(0.9, 0.2, 1.5, 1.6), "unet.freeu.s1"),
}


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_what_changes_a_prediction_changes_the_identity(tmp_path, name):
    start, change, field = CHANGES[name]
    pipe, call = start(tmp_path)
    found = []
    for _ in range(2):
        model = Model.from_pipeline(pipe, **call | SMALL)
        recipe = model.settled(Settings()).recipe(64, 64)
        noise = torch.randn(1, model.latent_channels, *[64 // model.downsampling] * 2, generator=seeded())
        header = sampling_header(model, recipe, model.schedule(recipe))
        prediction = model.denoiser(recipe)(noise, header["timesteps"][1])
        found.append((prediction, header, Seed(noise, noise, header)))
        if len(found) == 1:
            with quiet():
                change(pipe)
    (before, then, seed), (after, now, _) = found
    if not name.startswith("fused"):  # which changes sums by rounding alone
        assert (before - after).square().mean() > 1e-6 * before.square().mean()
    assert differences(then["identity"], then["identity"]) == []
    assert field in [one.field for one in differences(then["identity"], now["identity"])]
    with pytest.raises(InputError, match=r"made with "):
        model.call(seed)


def seeded():
    return torch.Generator().manual_seed(0)


def test_the_error_names_the_adapter_and_its_weights(tmp_path):
    pipe, call = with_lora(tmp_path)
    pipe.set_adapters(["hat"], [0.8])
    model = Model.from_pipeline(pipe, **call | SMALL)
    recipe = model.settled(Settings()).recipe(64, 64)
    noise = torch.zeros(1, 4, 8, 8)
    seed = Seed(noise, noise, sampling_header(model, recipe, model.schedule(recipe)))
    assert flat(seed.header["identity"]["attachments"])["unet.adapters.hat"] == 0.8
    pipe.set_adapters(["hat"], [0.5])
    with pytest.raises(ModelError, match=r"adapters.hat was 0.8 when the model was made, and is 0.5 now"):
        model.identity()
    with pytest.raises(InputError, match=r"text_encoder.adapters.hat 0.8, and the model has 0.5 now.*set it"):
        Model.from_pipeline(pipe, **call | SMALL).call(seed)
    pipe.set_adapters(["hat"], [0.8])
    Model.from_pipeline(pipe, **call | SMALL).call(seed)


def test_several_controlnets_are_told_apart_by_their_configuration():
    pipe, call = make(CONDITIONED["controlnet"])
    nets = [pipe.controlnet, controlnet()[0].controlnet]
    pipe.controlnet = diffusers.models.controlnets.multicontrolnet.MultiControlNetModel(nets)
    model = partial(
        Model.from_pipeline,
        pipe,
        **call | SMALL | {"image": [call["image"]] * 2, "control_guidance_end": [0.5, 1.0]},
    )
    then = model().identity()
    nets[1].register_to_config(global_pool_conditions=True)
    assert [one.field for one in differences(then, model().identity())] == [
        "controlnet.1.global_pool_conditions"
    ]
