"""Learnt words: what the pipeline writes out is what counts, for spans, weights and the longest prompt."""

import pytest
import torch

from invrecon import load_model
from invrecon.errors import UsageError
from invrecon.models.quiet import quiet
from invrecon.settings import Recipe
from tests import checkpoints

LEARNT = "a photo of <cat-toy> on grass"


def taught(pipeline, tokenizer="tokenizer", encoder="text_encoder", vectors=3):
    text = getattr(pipeline, encoder)
    rows = text.get_input_embeddings().weight[:vectors].detach().clone()
    with quiet():
        pipeline.load_textual_inversion(
            {"<cat-toy>": rows}, tokenizer=getattr(pipeline, tokenizer), text_encoder=text
        )
        pipeline.load_textual_inversion(
            {"MyStyle": rows[:1]}, tokenizer=getattr(pipeline, tokenizer), text_encoder=text
        )
    return pipeline


@pytest.fixture
def model(tmp_path):
    def make(tokenizer):
        return taught(checkpoints.stable_diffusion(tokenizer))

    tokenizer = load_model("mini", device="cpu").pipeline.tokenizer  # one of its own: it is taught words
    return load_model(str(checkpoints.save(tmp_path / "m", make, tokenizer)), device="cpu")


def spelt(model, prompt):
    """The tokens that the text encoder gets, word by word."""
    pipeline = model.pipeline
    tokenizer = pipeline.tokenizer
    ids = tokenizer(pipeline.maybe_convert_prompt(prompt, tokenizer)).input_ids
    words = model.words(prompt)
    return {
        word: tokenizer.convert_ids_to_tokens([ids[place] for place in span])
        for word, span in zip(words.words, words.spans, strict=True)
    }


def test_a_learnt_word_of_three_vectors_spans_three_places(model):
    assert spelt(model, LEARNT) == {
        "a": ["a</w>"],
        "photo": ["photo</w>"],
        "of": ["of</w>"],
        "<cat-toy>": ["<cat-toy>", "<cat-toy>_1", "<cat-toy>_2"],
        "on": ["on</w>"],
        "grass": ["grass</w>"],
    }


def test_a_learnt_word_keeps_its_capitals(model):
    """It is one token, where the same letters in small ones would be several."""
    assert [len(span) for span in model.words("a MyStyle photo").spans] == [1, 1, 1]


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [
        ("<cat-toy>, on", [4, 1]),
        ("(<cat-toy>) on <cat-toy>", [5, 1, 3]),
        ("<cat-toy> a <cat-toy>", [3, 1, 3]),
        ("a <cat", [1, 2]),
        ("<cat-toy>s", [4]),
    ],
)
def test_learnt_words_that_touch_others_span_all_of_their_tokens(model, prompt, lengths):
    """Punctuation, a second word, and one whose name begins another's, which can't stand beside it."""
    pipeline = model.pipeline
    rows = pipeline.text_encoder.get_input_embeddings().weight[:2].detach().clone()
    with quiet():
        pipeline.load_textual_inversion({"<cat": rows})
    with pytest.raises(UsageError, match=r"run together.*leave out one whose name begins another's"):
        model.words("a <cat-toy> and a <cat")
    spans = model.words(prompt).spans
    assert [len(span) for span in spans] == lengths
    ids = pipeline.tokenizer(pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer)).input_ids
    assert [place for span in spans for place in span] == list(range(1, len(ids) - 1))


def teach(model, **vectors):
    rows = model.pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    with quiet():
        for word, number in vectors.items():
            model.pipeline.load_textual_inversion({word.replace("_", "<cat-toy>"): rows[:number]})


@pytest.mark.parametrize(
    ("prompt", "one", "other"),
    [
        ("a <cat-toy> and a <cat-toy>2", "<cat-toy>", "<cat-toy>2"),
        ("<cat-toy>2<cat-toy>", "<cat-toy>", "<cat-toy>2"),
        ("a zat, a zatfish", "zat", "zatfish"),
    ],
)
def test_learnt_words_that_would_be_mixed_up_are_refused_until_one_stands_alone(model, prompt, one, other):
    """Whose name begins another's: the stock pipeline writes its vectors into the other's name."""
    teach(model, _2=2, zat=2, zatfish=1)
    said = f"learnt words of the {{}}, since '{one}' is part of '{other}': use one of them alone"
    for prompts, name in (((prompt, ""), "prompt"), (("", prompt), "negative prompt")):
        with pytest.raises(UsageError) as caught:
            model.check_prompts(*prompts)
        assert str(caught.value).endswith(said.format(name))
    for alone in (one, other, f"{one} {one}", f"{one}7"):
        model.check_prompts(alone, alone)


@pytest.mark.parametrize(("written", "learnt"), [("a <CAT-toy>", "<cat-toy>"), ("ZAT", "zat")])
def test_a_learnt_word_of_several_vectors_in_other_capitals_is_refused_with_its_own(model, written, learnt):
    """The tokenizer knows it, the stock pipeline doesn't write out its other vectors."""
    teach(model, zat=2)
    with pytest.raises(UsageError, match=f"in other letters: write it as '{learnt}'"):
        model.check_prompts(written, "")
    model.check_prompts(learnt, "a MyStyle photo")


@pytest.mark.parametrize(
    "prompt", ["", "a  cat,\tsitting", "naïve café — “dog”", "don't walk 2024 km/h", "İstanbul x"]
)
def test_the_spans_of_plain_prompts_cover_every_token(model, prompt):
    words, ids = model.words(prompt), model.pipeline.tokenizer(prompt).input_ids
    assert [place for span in words.spans for place in span] == list(range(1, len(ids) - 1))


def test_the_longest_prompt_is_counted_on_what_is_written_out(model):
    fits = " ".join(["a"] * 27 + ["<cat-toy>"])
    model.check_prompts(fits, fits)
    for prompt, negative in ((f"{fits} on", ""), ("", f"{fits} on")):
        with pytest.raises(UsageError, match="has 31 tokens, the text encoder takes 30"):
            model.check_prompts(prompt, negative)


def xl(tmp_path, *taught_parts):
    def make(tokenizer):
        pipeline = checkpoints.stable_diffusion_xl(tokenizer)
        pipeline.tokenizer_2 = load_model("mini", device="cpu").pipeline.tokenizer
        for number, vectors in taught_parts:
            taught(pipeline, f"tokenizer{number}", f"text_encoder{number}", vectors)
        return pipeline

    tokenizer = load_model("mini", device="cpu").pipeline.tokenizer
    return load_model(str(checkpoints.save(tmp_path / "xl", make, tokenizer)), device="cpu")


def test_both_tokenizers_of_sdxl_count(tmp_path):
    alike = xl(tmp_path / "alike", ("", 3), ("_2", 3))
    assert [len(span) for span in alike.words(LEARNT).spans] == [1, 1, 1, 3, 1, 1]
    second = xl(tmp_path / "second", ("_2", 3))
    with pytest.raises(UsageError, match="different tokens"):
        second.words(LEARNT)
    first = xl(tmp_path / "first", ("", 3))
    with pytest.raises(UsageError, match="the text encoder takes 30"):
        first.check_prompts(" ".join(["a"] * 28 + ["<cat-toy>"]), "")
    denoiser = alike.denoiser(Recipe(LEARNT, width=64, height=64))
    assert torch.isfinite(denoiser(torch.randn(1, 4, 8, 8), 500)).all()


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ("a " * 28 + "<cat-toy> on", "a a a"),
        ("".join(f"{n} Red,  " for n in range(100, 112)), "105 Red,"),
        ("a " * 27 + "<cat-toy> on", "toy>"),
    ],
)
def test_a_prompt_that_is_too_long_fits_once_it_ends_where_it_is_told_to(model, prompt, kept):
    """In the user's own words: a learnt word of three vectors goes whole."""
    with pytest.raises(UsageError, match="takes 30: end it after") as caught:
        model.check_prompts(prompt, "")
    end = str(caught.value).rpartition("after ")[2].strip("'")
    assert end.endswith(kept)
    place = prompt.rindex(end) + len(end)
    model.check_prompts(prompt[:place], "")
    with pytest.raises(UsageError):
        model.check_prompts(prompt[:place] + " " + prompt[place:].split()[0], "")


def test_a_first_word_that_is_too_long_alone(model):
    with pytest.raises(UsageError, match="takes 30: shorten its first word"):
        model.check_prompts("xyz" * 99 + " on", "")
