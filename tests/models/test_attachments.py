"""LoRAs and learnt words beside a checkpoint: by the formula, by the stock pipeline, and refused where they
don't fit."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from invrecon import EditSettings, Settings, edit, invert, load_model, load_seed, save_seed
from invrecon.errors import InputError, ModelError, UsageError
from invrecon.models import learnt_words, model_contents
from invrecon.models.lora import Lora
from invrecon.models.quiet import quiet
from invrecon.pipeline.header import sampling_header
from invrecon.seedfile import Seed
from invrecon.settings import Recipe
from invrecon.settings.checkpoint import read_lora
from tests import checkpoints, loras
from tests.models.roundtrip import decoded, fidelity

KINDS = {"sd": StableDiffusionPipeline, "xl": StableDiffusionXLPipeline}
ENCODERS = {"sd": ["text_encoder"], "xl": ["text_encoder", "text_encoder_2"]}
RECIPE = Recipe("a photo", num_inference_steps=6, width=64, height=64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tokenizer = load_model("mini", device="cpu").pipeline.tokenizer
    makers = {"sd": checkpoints.stable_diffusion, "xl": checkpoints.stable_diffusion_xl}
    return {name: checkpoints.save(root / name, make, tokenizer) for name, make in makers.items()}


def stock(folders, name):
    with quiet():
        pipe = KINDS[name].from_pretrained(folders[name])
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def hat(folders, tmp_path_factory):
    """A strong LoRA of kohya's format for the U-Net and the text encoder."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("loras") / "hat.safetensors"
    loras.kohya(stock(folders, "sd"), path, ["unet", "text_encoder"])
    return path


def load(folders, name="sd", **options):
    return load_model(str(folders[name]), device="cpu", **options)


def prediction(model):
    shape = (1, model.latent_channels, *[64 // model.downsampling] * 2)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return model.denoiser(RECIPE)(noise, model.schedule(RECIPE).timesteps[2])


@pytest.mark.parametrize("form", loras.FORMATS)
@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_lora_changes_the_weights_by_its_formula(folders, tmp_path, name, texts, form):
    torch.manual_seed(2)
    parts = ["unet", *(ENCODERS[name] if texts else [])]
    pipe, path = stock(folders, name), tmp_path / "x.safetensors"
    changes = loras.FORMATS[form](pipe, path, parts)
    loras.merge(pipe, changes, 0.7)
    with quiet():
        pipe.save_pretrained(tmp_path / "merged")
    ours, plain = (prediction(load(folders, name, lora=lora)) for lora in ([f"{path}:0.7"], []))
    merged = prediction(load_model(str(tmp_path / "merged"), device="cpu"))
    assert fidelity(merged, ours) > 80
    assert fidelity(merged, plain) < 20


@pytest.mark.parametrize("make", [checkpoints.stable_diffusion_3, checkpoints.flux])
def test_a_lora_of_a_transformer_does_too(mini, tmp_path, make):
    torch.manual_seed(3)
    folder, path = checkpoints.save(tmp_path / "m", make, mini.pipeline.tokenizer), tmp_path / "x.safetensors"
    pipe = load_model(str(folder), device="cpu").pipeline
    loras.merge(pipe, loras.peft(pipe, path, ["transformer", "text_encoder"]), 0.7)
    with quiet():
        pipe.save_pretrained(tmp_path / "merged")
    ours, plain = (
        prediction(load_model(str(folder), device="cpu", lora=lora)) for lora in ([f"{path}:0.7"], [])
    )
    merged = prediction(load_model(str(tmp_path / "merged"), device="cpu"))
    assert fidelity(merged, ours) > 80
    assert fidelity(merged, plain) < 40


@pytest.mark.parametrize(("form", "weight"), [("kohya", 1.5), ("peft", 0.6)])
@pytest.mark.parametrize("name", KINDS)
def test_the_stock_pipeline_with_the_same_lora_regenerates_and_without_does_not(
    folders, photo, tmp_path, name, form, weight
):
    torch.manual_seed(4)
    path = tmp_path / "x.safetensors"
    loras.FORMATS[form](stock(folders, name), path, ["unet", *ENCODERS[name]])
    model = load(folders, name, lora=[f"{path}:{weight}"])
    settings = Settings(prompt="a photo", num_inference_steps=4, rtol=2e-4, size="64x64", fit="crop")
    seed = invert(photo, model, settings).seed
    found = []
    for given in (True, False):
        pipe = stock(folders, name)
        if given:
            with quiet():
                pipe.load_lora_weights(str(path), adapter_name="x")
            pipe.set_adapters(["x"], [weight])
        pipe.scheduler = model.scheduler("auto")
        with quiet(), decoded(pipe) as seen:
            pipe(**model.denoiser(seed.recipe).call(seed.latents), output_type="pt")
        found.append(fidelity(seed.image_latents, seen[-1] * pipe.vae.config.scaling_factor))
    assert found[0] > 60
    assert found[1] < 50, found


def seed_of(model):
    header = sampling_header(model, RECIPE, model.schedule(RECIPE))
    return Seed(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), header)


def test_a_seed_is_refused_under_other_loras_and_taken_by_the_cure(folders, hat, tmp_path):
    torch.manual_seed(5)
    other = tmp_path / "other.safetensors"
    loras.peft(stock(folders, "sd"), other, ["unet"])
    seed = seed_of(load(folders, lora=[f"{hat}:0.8"]))
    noted = seed.header["identity"]["attachments"]["lora 1"]
    assert (noted["file"], noted["weight"]) == ("hat.safetensors", 0.8)
    then = f"made with lora 1 hat.safetensors:0.8 ({noted['sha256'][:8]}), and the model has "
    cases = {
        f"{then}none now": [],
        f"{then}hat.safetensors:1 (": [str(hat)],
        f"{then}other.safetensors:0.8 (": [f"{other}:0.8"],
        f"{then}other.safetensors:1 (": [str(other), f"{hat}:0.8"],
        "made with lora 2 none, and the model has other.safetensors:0.1": [f"{hat}:0.8", f"{other}:0.1"],
    }
    for said, given in cases.items():
        with pytest.raises(InputError) as caught:
            load(folders, lora=given).call(seed)
        assert said in str(caught.value)
        assert str(caught.value).endswith("give --lora hat.safetensors:0.8")
    renamed = shutil.copy(hat, tmp_path / "renamed.safetensors")
    assert "latents" in load(folders, lora=[f"{renamed}:0.8"]).call(seed)
    with pytest.raises(InputError, match=r"made with lora 1 none.*leave out --lora and --embedding"):
        load(folders, lora=[str(hat)]).call(seed_of(load(folders)))


def test_a_seed_file_with_damaged_attachments_is_refused(folders, hat, tmp_path):
    seed, path = seed_of(load(folders, lora=[str(hat)])), tmp_path / "a.seed.safetensors"
    for change in ({"weight": "x"}, {"weight": None}, {"sha256": 1}, {"file": 1}, {"scales": [1]}):
        identity = seed.header["identity"]
        attachments = {"lora 1": identity["attachments"]["lora 1"] | change}
        header = seed.header | {"identity": identity | {"attachments": attachments}}
        save_seed(Seed(seed.latents, seed.image_latents, header), path)
        with pytest.raises(InputError, match="'identity' is not as it should be"):
            load_seed(path)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("hat.safetensors", ("hat.safetensors", 1.0)),
        ("hat.safetensors:0.8", ("hat.safetensors", 0.8)),
        (r"C:\models\hat.safetensors", (r"C:\models\hat.safetensors", 1.0)),
        (r"C:\models\hat.safetensors:-.5", (r"C:\models\hat.safetensors", -0.5)),
        ("a:1:hat.safetensors", ("a:1:hat.safetensors", 1.0)),
        ("a:1:2e-1", ("a:1", 0.2)),
        ("hat:", ("hat:", 1.0)),
    ],
)
def test_only_a_number_after_the_last_colon_is_a_weight(text, read):
    assert read_lora(text) == read


@pytest.mark.parametrize("weight", ["nan", "inf", "-Infinity", "1e999", "101"])
def test_a_weight_is_a_finite_number(weight):
    with pytest.raises(UsageError, match=f"between -100 and 100, not {weight}"):
        Settings(lora=[f"hat.safetensors:{weight}"])


def refused(folders, name="sd", **options):
    with pytest.raises((ModelError, UsageError)) as caught:
        load(folders, name, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


DAMAGES = {
    "96 of its 120 weights": lambda w: {k.replace("down_blocks_1", "down_blocks_7"): v for k, v in w.items()},
    "0 of its 2 weights": lambda w: {f"transformer.x.lora_{k}.weight": torch.ones(4, 4) for k in "AB"},
    "0 of its 2 weights ": lambda w: {f"mid_block.x.lora_{k}.weight": torch.ones(4, 4) for k in "AB"},
    "120 of its 121 weights": lambda w: (
        w | {"lora_unet_mid_block_attentions_0_proj_in.dora_scale": torch.ones(1)}
    ),
    "doesn't fit StableDiffusionPipeline ('lora_": lambda w: {
        k: v for k, v in w.items() if "fc1.lora_up" not in k
    },
    "aren't finite": lambda w: {k: v / 0 for k, v in w.items()},
    "quantised": lambda w: {k: v.to(torch.int8) for k, v in w.items()},
    "of unknown kind (a), not a LoRA": lambda w: {"a": torch.ones(1), "b": torch.ones(1)},
    "a learnt word, not a LoRA: give it with --embedding": lambda w: {"emb_params": torch.ones(1, 32)},
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_lora_that_is_no_whole_one_for_this_model_is_refused_in_a_line(folders, hat, tmp_path, said):
    path = tmp_path / "x.safetensors"
    save_file(DAMAGES[said](load_file(hat)), path)
    assert said.strip() in refused(folders, lora=[str(path)])


def test_loras_of_other_families_pickles_and_cut_files_are_refused_in_a_line(folders, hat, tmp_path):
    xl = tmp_path / "xl.safetensors"
    loras.kohya(stock(folders, "xl"), xl, ["unet", *ENCODERS["xl"]])
    assert "doesn't fit StableDiffusionPipeline" in refused(folders, lora=[str(xl)])
    assert "doesn't fit StableDiffusionXLPipeline" in refused(folders, "xl", lora=[str(hat)])
    torch.save({}, tmp_path / "x.pt")
    assert "is a pickle" in refused(folders, lora=[str(tmp_path / "x.pt")])
    assert "is a pickle" in refused(folders, embedding=[str(tmp_path / "x.pt")])
    (tmp_path / "cut.safetensors").write_bytes(hat.read_bytes()[:-9])
    assert "not a whole .safetensors file" in refused(folders, lora=[str(tmp_path / "cut.safetensors")])
    assert "no .safetensors file" in refused(folders, lora=[str(tmp_path / "nosuch.safetensors")])
    with pytest.raises(ModelError, match=r"a LoRA.*with --lora"):
        load_model(str(hat), device="cpu")


def test_the_same_lora_twice_is_refused_and_the_cure_is_their_sum(folders, hat, tmp_path):
    copy = shutil.copy(hat, tmp_path / "copy.safetensors")
    assert f"give it once, as --lora {hat}:0.75" in refused(folders, lora=[f"{hat}:0.5", f"{copy}:0.25"])
    load(folders, lora=[f"{hat}:0.75"])


def test_what_resume_goes_by_knows_the_files(folders, hat, tmp_path):
    plain, with_hat = (model_contents(str(folders["sd"]), lora=lora) for lora in ([], [str(hat)]))
    changed = tmp_path / "hat.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(hat).items()}, changed)
    assert len({plain, with_hat, model_contents(str(folders["sd"]), lora=[str(changed)])}) == 3


def test_scales_in_metadata_are_noted_for_programs_that_don_t_read_them(folders, hat, tmp_path):
    path = tmp_path / "x.safetensors"
    loras.peft(stock(folders, "sd"), path, ["unet"])
    assert Lora(path, 1.0).scales == {"unet": 2.0}
    assert Lora(hat, 1.0).scales is None
    told = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"mid": 1}}
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": json.dumps(told)})
    assert Lora(path, 1.0).scales == {"unet": None}


def word(path, vectors):
    save_file(vectors, path)
    return str(path)


def test_a_learnt_word_of_three_vectors_is_masked_and_weighed_as_one(folders, photo, tmp_path):
    torch.manual_seed(6)
    path = word(tmp_path / "cat.safetensors", {"<cat-toy>": torch.randn(3, 32)})
    assert learnt_words([path]) == {path: "<cat-toy>"}
    model = load(folders, embedding=[path])
    assert [len(span) for span in model.words("a <cat-toy> on grass").spans] == [1, 3, 1, 1]
    settings = Settings(prompt="a <cat-toy> on grass", num_inference_steps=2, size="64x64", fit="crop")
    to = {"to": "a <cat-toy> on grass", "guidance_scale": 2.0, "negative_prompt": ""}
    weighed = [EditSettings(**to, weights=weights) for weights in ({}, {"<cat-toy>": 3.0}, {"grass": 3.0})]
    edits = edit(photo, model, weighed, settings).edits
    changes = [one.change_db for one in edits]
    assert len(set(changes)) == 3
    masked = EditSettings(to="a photo on grass", auto_mask=True, guidance_scale=2.0)
    [one] = edit(photo, model, masked, settings).edits
    assert one.mask is not None


def test_a_learnt_word_is_the_stock_pipeline_s(folders, tmp_path):
    """And its seed is refused where the word is missing; the vectors differ from the plain words'."""
    torch.manual_seed(7)
    vectors = torch.randn(2, 32)
    path = word(tmp_path / "stylex.safetensors", {"emb_params": vectors})
    pipe = stock(folders, "sd")
    with quiet():
        pipe.load_textual_inversion(vectors, token="stylex")
        theirs = pipe.encode_prompt("a stylex photo", "cpu", 1, False)[0]
        ours, plain = (
            load(folders, embedding=given).pipeline.encode_prompt("a stylex photo", "cpu", 1, False)[0]
            for given in ([path], [])
        )
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, plain, atol=0.1)
    attachments = load(folders, embedding=[path]).identity()["attachments"]
    assert attachments["embedding 1"]["word"] == "stylex"


def test_both_encoders_of_sdxl_learn_a_word(folders, tmp_path):
    path = word(tmp_path / "toy9.safetensors", {"clip_l": torch.randn(2, 32), "clip_g": torch.randn(2, 32)})
    model = load(folders, "xl", embedding=[path])
    assert [len(span) for span in model.words("a toy9 photo").spans] == [1, 2, 1]
    assert "has vectors for text_encoder and text_encoder_2" in refused(folders, embedding=[path])
    single = word(tmp_path / "one.safetensors", {"<x>": torch.randn(32)})
    assert "has vectors for text_encoder, and" in refused(folders, "xl", embedding=[single])


WORDS = {
    "width 32": ("stylex", {"emb_params": torch.ones(2, 64)}),
    "has the word 'photo' already: rename the file": ("photo", {"emb_params": torch.ones(2, 32)}),
    "the tokenizer has the word 'a' already: save it under another": ("x", {"a": torch.ones(2, 32)}),
    "a word has no spaces: rename the file": ("two words", {"emb_params": torch.ones(2, 32)}),
    "aren't finite": ("stylex", {"emb_params": torch.full((2, 32), torch.inf)}),
    "a prompt has at most": ("stylex", {"emb_params": torch.ones(2000, 32)}),
    "shape [0, 32]": ("stylex", {"emb_params": torch.ones(0, 32)}),
    "of unknown kind (a), not a learnt word": ("stylex", {"a": torch.ones(32), "b": torch.ones(32)}),
    "a LoRA, not a learnt word: give it": (
        "x",
        {f"y.lora_{k}.weight": torch.ones(1) for k in "AB"},
    ),
}


@pytest.mark.parametrize("said", WORDS)
def test_a_learnt_word_that_can_t_be_taught_is_refused_in_a_line(folders, tmp_path, said):
    name, vectors = WORDS[said]
    path = word(tmp_path / f"{name}.safetensors", vectors)
    assert said in refused(folders, embedding=[path])


def test_a_word_that_is_taken_can_be_taught_under_the_name_that_the_error_gives(folders, tmp_path):
    path = word(tmp_path / "photo.safetensors", {"emb_params": torch.randn(2, 32)})
    cure = refused(folders, embedding=[path]).rpartition("to ")[2].removesuffix(" say")
    assert cure == "<photo>.safetensors"
    shutil.move(path, tmp_path / cure)
    model = load(folders, embedding=[str(tmp_path / cure)])
    assert [len(span) for span in model.words("a <photo> photo").spans] == [1, 2, 1]


def test_two_files_for_one_word_and_one_file_twice_are_refused(folders, tmp_path):
    paths = [word(tmp_path / f"{n}.safetensors", {"<x>": torch.randn(32)}) for n in "ab"]
    assert "two learnt words are '<x>'" in refused(folders, embedding=paths)
    assert "give it once, as --embedding" in refused(folders, embedding=[paths[0], paths[0]])
