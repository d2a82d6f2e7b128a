"""The hub, by its own client against a small server on 127.0.0.1: what is fetched, kept, and told when it
fails."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from invrecon.models.cards import cards
from invrecon.models.hub import sentence
from tests import checkpoints

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FETCH = """
import sys
from invrecon.errors import ModelError
from invrecon.models import load_model, model_folder
for line in sys.stdin:
    name, revision, variant = line.rstrip("\\n").split("|")
    try:
        print(model_folder(name, revision, variant), flush=True)
    except ModelError as error:
        print("ModelError:", error, flush=True)
"""


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    return checkpoints.save(
        tmp_path_factory.mktemp("sd"), checkpoints.stable_diffusion, mini.pipeline.tokenizer
    )


@contextmanager
def hub(folder):
    command = [sys.executable, str(Path(__file__).parent / "hub_server.py"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.stdin.close()


def ask(address, cache, *questions, **environment):
    """What `model_folder(name, revision, variant)` gives, in a process of its own: the client reads its
    environment at import."""
    local = {
        "HF_ENDPOINT": address,
        "HF_HUB_CACHE": str(cache),
        "HF_HOME": str(cache),
        "NO_PROXY": "127.0.0.1",
    }
    env = (
        {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | local | environment
    )
    text = "".join("|".join((*question, "", "", "")[:3]) + "\n" for question in questions)
    done = subprocess.run(
        [sys.executable, "-c", FETCH], input=text, capture_output=True, text=True, env=env, check=False
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(questions), done.stderr
    return lines


def test_a_checkpoint_is_fetched_kept_and_used_offline(folder, tmp_path):
    questions = [("someone/tiny",), ("someone/tiny", "main"), ("someone/tiny", COMMIT)]
    with hub(folder) as address:
        fetched = ask(
            address,
            tmp_path,
            *questions,
            ("someone/tiny", "v9"),
            ("someone/else",),
            ("someone/tiny", "", "fp16"),
        )
    assert len(set(fetched[:3])) == 1
    there = Path(fetched[0])
    for path in folder.rglob("*"):
        assert path.is_dir() or (there / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert "someone/tiny has no revision 'v9'" in fetched[3]
    assert "someone/else is no folder here and no model on the hub" in fetched[4]
    assert "no weights of the variant 'fp16'" in fetched[5]
    assert ask(address, tmp_path, questions[0]) == [fetched[0]]  # the server is gone: the cache is enough
    offline = ask(address, tmp_path, questions[0], ("someone/else",), HF_HUB_OFFLINE="1")
    assert offline[0] == fetched[0]
    assert "HF_HUB_OFFLINE" in offline[1]


def test_a_repository_in_another_layout_and_a_network_that_is_not_there(folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({}))
    with hub(tmp_path / "other") as address:
        assert "no model_index.json" in ask(address, tmp_path / "cache", ("someone/tiny",))[0]
    assert "the hub can't be reached" in ask(address, tmp_path / "cache", ("someone/tiny",))[0]


ERRORS = [
    (401, "GatedRepo", "accept its licence"),
    (403, "GatedRepo", "accept its licence"),
    (401, "RepoNotFound", "no model on the hub"),
    (404, "RepoNotFound", "no model on the hub"),
    (401, "Unauthorized", "hf auth login"),
    (403, "Forbidden", "403"),
    (404, "RevisionNotFound", "no revision 'main'"),
]


def test_each_error_has_a_line_of_its_own(folder, tmp_path):
    names = [f"someone/error-{status}-{code}" for status, code, _ in ERRORS]
    with hub(folder) as address:
        lines = ask(address, tmp_path, *((name,) for name in names))
    for name, line, (_, _, words) in zip(names, lines, ERRORS, strict=True):
        assert line.startswith(f"ModelError: {name} ")
        assert words in line


def test_causes_count_and_not_what_they_are_wrapped_in():
    def wrapped(cause):
        outer = OSError("Cannot load model o/n: model is not cached locally and an error occurred")
        outer.__cause__ = cause
        return sentence(outer, "o/n")

    assert "the disk is full" in wrapped(OSError(28, "No space left on device"))
    assert "can't be written" in wrapped(PermissionError(13, "denied", "/x"))
    assert "can't be reached" in wrapped(type("ConnectError", (Exception,), {})("name resolution"))
    assert wrapped(ValueError("something\nelse")) == "o/n can't be fetched from the hub: something"


def test_every_card_says_where_it_is():
    gone = (
        "stabilityai/stable-diffusion-2-1",
        "stabilityai/stable-diffusion-2-1-base",
        "runwayml/stable-diffusion-v1-5",
    )
    for name, card in cards().items():
        assert card.hub not in gone, name
        assert not card.seen or card.hub
