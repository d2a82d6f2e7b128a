"""A CLIP tokenizer with a vocabulary of its own: byte pairs learnt from the captions."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 32


def learn(captions: Iterable[str], folder: Path, vocab_size: int = 2000) -> CLIPTokenizer:
    """Learns byte pairs and writes vocab.json and merges.txt, the files that `CLIPTokenizer` reads, into
    `folder`.

    Letters come first in the vocabulary, so that any text at all can be said, in pieces if need be.
    """
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(
        Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""),
        behavior="removed",
        invert=True,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    merges = _merges(tokenizer)
    vocabulary = (
        alphabet + [f"{letter}</w>" for letter in alphabet] + [merge.replace(" ", "") for merge in merges]
    )
    vocabulary = [*dict.fromkeys(vocabulary), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    _write({token: i for i, token in enumerate(vocabulary)}, merges, folder)
    return load(folder)


def load(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `learn` wrote."""
    return CLIPTokenizer.from_pretrained(
        folder, model_max_length=MAX_LENGTH, bos_token=START, eos_token=END, unk_token=END, pad_token=END
    )


def save_for_older(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes vocab.json and merges.txt, without which transformers 4 reads no tokenizer, beside version 5's
    tokenizer.json.
    """
    vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]))
    _write(vocabulary, _merges(tokenizer.backend_tokenizer), folder)


def _merges(tokenizer: Tokenizer) -> list[str]:
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def _write(vocabulary: dict[str, int], merges: list[str], folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
