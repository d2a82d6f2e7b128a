"""Single .safetensors files: what they say of themselves, what they lack, and what isn't a checkpoint at
all."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from invrecon.models import load_model, single_file, tokenizers
from invrecon.models import locate as locating
from invrecon.settings import Recipe
from tests import checkpoints
from tests.models.weights import configure, copy, refused, rewrite, without
from tests.single_file import save_single_file

KINDS = {
    "sd1": checkpoints.stable_diffusion,
    "sd2": checkpoints.stable_diffusion,
    "sdxl": checkpoints.stable_diffusion_xl,
}


@pytest.fixture(scope="module")
def folders(mini, tmp_path_factory):
    out = tmp_path_factory.mktemp("folders")
    return {kind: checkpoints.save(out / kind, make, mini.pipeline.tokenizer) for kind, make in KINDS.items()}


def single(folder, path, kind="sd1"):
    return save_single_file(load_model(str(folder), device="cpu").pipeline, path, second=kind == "sd2")


@pytest.fixture
def file(folders, tmp_path):
    (tmp_path / "files").mkdir()
    return single(folders["sd1"], tmp_path / "files" / "m.safetensors")


def same(a, b):
    parts = [part for part in ("unet", "vae", "text_encoder", "text_encoder_2") if hasattr(a.pipeline, part)]
    return all(
        torch.equal(x, y)
        for part in parts
        for x, y in zip(
            getattr(a.pipeline, part).state_dict().values(),
            getattr(b.pipeline, part).state_dict().values(),
            strict=True,
        )
    )


def prediction(model, prompt):
    """Of the first step, at 64 pixels."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    recipe = Recipe(prompt, num_inference_steps=2, width=64, height=64)
    return model.denoiser(recipe)(latents, model.schedule(recipe).timesteps[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_every_layout_arrives(folders, tmp_path, kind):
    path = single(folders[kind], tmp_path / "m.safetensors", kind)
    ours, theirs = (
        load_model(str(path), "cpu", base=str(folders[kind])),
        load_model(str(folders[kind]), "cpu"),
    )
    assert same(ours, theirs)
    torch.testing.assert_close(prediction(ours, "a red apple"), prediction(theirs, "a red apple"))


@pytest.mark.parametrize("part", ["first_stage_model", "cond_stage_model"])
def test_parts_that_a_file_lacks_come_from_the_base_and_count_for_the_fingerprint(
    folders, file, tmp_path, part
):
    whole = load_model(str(file), device="cpu", base=str(folders["sd1"]))
    rewrite(file, without(part))
    ours = load_model(str(file), device="cpu", base=str(folders["sd1"]))
    assert same(ours, whole)
    other = copy(folders["sd1"], tmp_path / "other")
    name = "vae" if part.startswith("first") else "text_encoder"
    rewrite(other / name, lambda weights: {key: value + 0.01 for key, value in weights.items()})
    theirs = load_model(str(file), device="cpu", base=str(other))
    assert not same(ours, theirs)
    assert len({whole.fingerprint, ours.fingerprint, theirs.fingerprint}) == 3


def test_a_unet_alone_under_either_set_of_names(folders, file, tmp_path):
    whole = load_model(str(file), device="cpu", base=str(folders["sd1"]))
    prefix = "model.diffusion_model."
    rewrite(file, lambda w: {n.removeprefix(prefix): v for n, v in w.items() if n.startswith(prefix)})
    assert same(load_model(str(file), device="cpu", base=str(folders["sd1"])), whole)
    own = next((folders["sd1"] / "unet").glob("*.safetensors"))
    (tmp_path / "x.safetensors").write_bytes(own.read_bytes())
    assert same(load_model(str(tmp_path / "x.safetensors"), device="cpu", base=str(folders["sd1"])), whole)
    assert "--base" in refused(tmp_path / "x.safetensors")


FACTS = [
    (("v_pred",), {}, "v_prediction", False),
    (("v_pred", "ztsnr"), {}, "v_prediction", True),
    ((), {"modelspec.prediction_type": "v"}, "v_prediction", False),
    ((), {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    ((), {}, "epsilon", False),
]


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize(("keys", "metadata", "prediction", "zero"), FACTS)
def test_what_a_file_says_of_its_weights_wins_over_the_base(
    folders, tmp_path, kind, keys, metadata, prediction, zero
):
    path = single(folders[kind], tmp_path / "m.safetensors", kind)
    save_file(load_file(path) | {key: torch.zeros(0) for key in keys}, path, metadata=metadata or None)
    model = load_model(str(path), device="cpu", base=str(folders[kind]))
    scheduler = model.scheduler("ddim")
    assert model.prediction("ddim") == prediction
    assert scheduler.config.rescale_betas_zero_snr == zero
    assert (scheduler.alphas_cumprod[-1].item() < 1e-6) == zero


def test_an_epsilon_file_under_a_v_prediction_base(folders, file, tmp_path):
    base = copy(folders["sd1"], tmp_path / "base")
    configure(base / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    assert load_model(str(file), device="cpu", base=str(base)).prediction("auto") == "v_prediction"
    save_file(load_file(file), file, metadata={"modelspec.prediction_type": "epsilon"})
    assert load_model(str(file), device="cpu", base=str(base)).prediction("auto") == "epsilon"


def test_the_prediction_type_reaches_schedulers_that_know_none(folders, file, tmp_path):
    base = copy(folders["sd1"], tmp_path / "base")
    configure(base / "scheduler" / "scheduler_config.json", _class_name="PNDMScheduler", skip_prk_steps=True)
    configure(base / "model_index.json", scheduler=["diffusers", "PNDMScheduler"])
    rewrite(file, lambda weights: weights | {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)})
    model = load_model(str(file), device="cpu", base=str(base))
    assert (model.sampler_name("auto"), model.prediction("auto")) == ("ddim", "v_prediction")
    assert model.scheduler("auto").config.rescale_betas_zero_snr


def test_contradictions_and_what_can_t_be_inverted_are_refused(folders, file):
    weights = load_file(file)
    save_file(weights | {"v_pred": torch.zeros(0)}, file, metadata={"modelspec.prediction_type": "epsilon"})
    assert "epsilon and v_prediction" in refused(file, base=str(folders["sd1"]))
    save_file(weights, file, metadata={"modelspec.prediction_type": "score"})
    assert "'score'" in refused(file, base=str(folders["sd1"]))
    save_file(weights | {"edm_mean": torch.zeros(4), "edm_std": torch.zeros(4)}, file)
    assert "EDM" in refused(file, base=str(folders["sd1"]))


def test_a_lora_in_the_file_and_a_base_of_another_family_are_told(folders, file):
    said = refused(file, base=str(folders["sdxl"]))
    assert "label_emb.0.0.weight" in said
    assert "same architecture with --base" in said
    rewrite(file, lambda w: w | {"lora_te_text_model_encoder_layers_0.lora_down.weight": torch.zeros(2, 2)})
    assert "has a LoRA beside its weights" in refused(file, base=str(folders["sd1"]))


def test_weights_that_have_no_place_are_not_dropped_in_silence(folders, file):
    rewrite(file, lambda w: w | {"model.diffusion_model.time_embed.cond_proj.weight": torch.zeros(64, 16)})
    assert "cond_proj" in (said := refused(file, base=str(folders["sd1"])))
    assert "another architecture" in said
    rewrite(file, lambda w: {("scaled_fp8" if "cond_proj" in n else n): v for n, v in w.items()})
    assert "quantised" in refused(file, base=str(folders["sd1"]))


OTHERS = {
    "a LoRA": {"lora_unet_down_blocks_1_attentions_0_to_q.lora_down.weight": (4, 32)},
    "a LoRA ": {"unet.down_blocks.1.attentions.0.to_q.lora_A.weight": (4, 32)},
    "a learnt word": {"emb_params": (4, 32)},
    "a learnt word ": {"clip_l": (2, 768), "clip_g": (2, 1280)},
    "perhaps a learnt word": {"<cat-toy>": (32,)},
    "a ControlNet": {"control_model.input_blocks.0.0.weight": (4, 4, 3, 3)},
    "a ControlNet ": {
        "controlnet_cond_embedding.conv_in.weight": (4, 3, 3, 3),
        "down_blocks.0.resnets.0.time_emb_proj.weight": (4, 4),
    },
    "an autoencoder alone": {"first_stage_model.encoder.conv_in.weight": (4, 4, 3, 3)},
    "an autoencoder alone ": {"decoder.conv_in.weight": (4, 4, 3, 3), "encoder.conv_in.weight": (4, 4, 3, 3)},
    "a text encoder alone": {"text_model.embeddings.token_embedding.weight": (4, 4)},
    "an inpainting checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": (16, 9, 3, 3)},
    "Flux": {
        "double_blocks.0.img_attn.qkv.weight": (4, 4),
        "double_blocks.0.img_attn.norm.key_norm.scale": (4,),
    },
    "not a checkpoint that is known": {"a": (1,), "b": (1,)},
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_checkpoint_is_told_by_its_names(tmp_path, what):
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in OTHERS[what].items()}, path)
    assert what.strip() in refused(path)


def test_a_seed_file_is_told_and_a_truncated_file_too(file, tmp_path):
    save_file({"latents": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"invrecon": "{}"})
    assert "is a seed file" in refused(tmp_path / "x.safetensors")
    file.write_bytes(file.read_bytes()[:4000])
    assert "not a whole .safetensors file" in refused(file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_file_needs_no_base(folders, tmp_path, monkeypatch, kind):
    """With small layouts in place of the real ones, since the networks are small."""
    layouts = tmp_path / "layouts"
    for part in copy(folders[kind], layouts / kind).rglob("*"):
        if part.suffix in (".safetensors", ".txt") or part.name in ("vocab.json", "tokenizer.json"):
            part.unlink()
    (layouts / "clip_merges.txt.xz").write_bytes((tokenizers.LAYOUTS / "clip_merges.txt.xz").read_bytes())
    for part in ("text_encoder", "text_encoder_2")[: 1 + (kind == "sdxl")]:
        configure(layouts / kind / part / "config.json", vocab_size=49408)
    (tmp_path / "models").mkdir()
    path = single(folders[kind], tmp_path / "models" / "m.safetensors", kind)
    rewrite(
        path,
        lambda w: {
            n: v.repeat(49408 // len(v) + 1, 1)[:49408] if "token_emb" in n else v for n, v in w.items()
        },
    )
    from invrecon.models import checkpoint

    for module in (tokenizers, locating, checkpoint):
        monkeypatch.setattr(module, "LAYOUTS", layouts)
    monkeypatch.setitem(single_file.BY_CONTEXT, 64 if kind == "sdxl" else 32, kind)
    model = load_model(str(path), device="cpu")
    assert model.pipeline.tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert prediction(model, "a photo of a cat").isfinite().all()
    rewrite(path, without("first_stage_model"))
    assert "has no vae" in (said := refused(path))
    assert "--base" in said


COUNTS = {
    "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}


@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind in COUNTS for part in COUNTS[kind]])
def test_the_layouts_have_as_many_parameters_as_the_published_networks(kind, part):
    from invrecon.models.checkpoint import Checkpoint
    from invrecon.models.parts import class_of

    folder = tokenizers.LAYOUTS / kind
    cls = class_of(*Checkpoint(kind, folder).parts[part])
    with torch.device("meta"):
        if part.startswith("text"):
            network = cls(cls.config_class.from_pretrained(folder / part))
        else:
            network = cls.from_config(cls.load_config(folder / part))
    assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[kind][part]


def test_the_spread_of_one_weight_tells_stable_diffusion_2_s_prediction_type(tmp_path, monkeypatch):
    """As ComfyUI has it, for files that say nothing of themselves."""
    name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    marks = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(2, 1024),
    }
    from diffusers import DDIMScheduler

    for spread, told in ((0.2, "v_prediction"), (0.02, "epsilon")):
        save_file(marks | {name: torch.randn(320) * spread}, tmp_path / "x.safetensors")
        file = single_file.SingleFile.read(tmp_path / "x.safetensors")
        assert file.kind == "sd2"
        assert file.corrected(DDIMScheduler(), guess=True).config.prediction_type == told
        assert file.corrected(DDIMScheduler(), guess=False).config.prediction_type == "epsilon"


REFERENCE = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "An astronaut riding a horse on Mars, 4K!": [550, 18376, 6765, 320, 4558, 525, 7496, 267, 275, 330, 256],
    "don't walk 2024 km/h": [847, 713, 2374, 273, 271, 273, 275, 4590, 270, 327],
    "ein Fußgänger": [24524, 665, 127, 253, 70, 42787, 1502],
    "猫の写真": [163, 234, 104, 21575, 44653, 33440, 509],
    "🙂 a smile": [14860, 320, 3490],
    "!!! (masterpiece:1.2), [ugly]": [995, 263, 12066, 281, 272, 269, 273, 2361, 314, 8159, 316],
    "they're we've I'll he'd": [889, 982, 649, 1200, 328, 1342, 797, 1896],
    "e\u0301  cafe\u0301\n": [4166, 15304],
    "": [],
}
"""Ids of openai/CLIP's SimpleTokenizer, without the special ones at both ends."""


@pytest.mark.parametrize("text", REFERENCE)
def test_the_tokenizer_gives_the_ids_of_openai_s(text):
    """Those of Stable Diffusion 2, and of XL's second encoder, pad with "!", and so read each "!" as
    padding."""
    for kind in ("sd1", "sd2"):
        tokenizer = tokenizers.bundled_tokenizer(tokenizers.LAYOUTS / kind / "tokenizer")
        if kind == "sd1" or "!" not in text:
            assert tokenizer(text).input_ids == [49406, *REFERENCE[text], 49407]


def test_a_tokenizer_made_of_the_merges_is_one_read_from_files(tmp_path):
    """transformers has no ftfy, so that curly quotes stay; it reads them the same from a folder."""
    vocabulary, merges = tokenizers.clip_vocabulary()
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    ours = tokenizers.bundled_tokenizer(tokenizers.LAYOUTS / "sd1" / "tokenizer")
    for text in (*REFERENCE, "“naïve” café — İstanbul ａ", "<|endoftext|> x", "\u200b"):
        assert ours(text).input_ids == theirs(text).input_ids


def test_the_padding_is_that_of_the_published_tokenizers():
    pads = {"sd1/tokenizer": 49407, "sd2/tokenizer": 0, "sdxl/tokenizer": 49407, "sdxl/tokenizer_2": 0}
    for name, pad in pads.items():
        tokenizer = tokenizers.bundled_tokenizer(tokenizers.LAYOUTS / name)
        assert (tokenizer.pad_token_id, tokenizer.model_max_length, len(tokenizer)) == (pad, 77, 49408)
        assert tokenizer("", padding="max_length").input_ids == [49406, 49407, *[pad] * 75]
