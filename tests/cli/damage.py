"""Damaged seed files, drawn at random: `reconstruct` and `verify` must end in a result or in lines that say
what is wrong, never in another error, and leave no half of a file.

usage: python -m tests.cli.damage [COUNT] [FIRST_SEED]      prints what came out, and the seeds that failed;
    exits 1 if any did
"""

import copy
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import invrecon.models
from invrecon import EditSettings, Settings, edit, invert, save_seed
from invrecon.cli.app import app
from invrecon.models import load_model
from tests import checkpoints

VALUES = (
    None, True, 0, -1, 3, 64, 2**70, 10**400, 1.5, 1e30, float("nan"), float("inf"), "", "x",
    "float16", "dpm++", "epsilon", "\0", "\ud800", "\x1b[2J\n", "a" * 100_000,
    "../../x", [], [1, "a"], {}, {"a": 1}, [[]] * 3,
)  # fmt: skip


class Original(NamedTuple):
    """A seed file, and what it belongs to."""

    seed: Path
    photo: Path
    model: str


def originals(out):
    """With and without guidance, a sampler's memory, half precision and an edit's mask; and of flow
    matching.
    """
    photo, mask = out / "photo.png", out / "mask.png"
    gradient = Image.linear_gradient("L").resize((80, 64))
    gradient.convert("RGB").save(photo)
    gradient.save(mask)
    mini = load_model("mini", device="cpu")
    flow = str(checkpoints.save(out / "sd3", checkpoints.stable_diffusion_3, mini.pipeline.tokenizer))
    models = {
        "flow": load_model(flow, device="cpu"),
        "half": load_model("mini", device="cpu", dtype="bfloat16"),
    }
    quick = {"size": 64, "fit": "crop", "num_inference_steps": 3, "boost": False}
    guided = {"prompt": "a photo", "guidance_scale": 2.0}
    recipes = {"plain": {}, "guided": guided, "memory": {"sampler": "dpm++"}, "half": {}, "flow": {}}
    seeds = {
        name: invert(photo, models.get(name, mini), Settings(**quick, **recipe)).seed
        for name, recipe in recipes.items()
    }
    edits = edit(photo, mini, EditSettings(to="a red photo"), Settings(**quick, **guided), mask=mask)
    seeds["edited"] = edits.edits[0].seed
    made = []
    for name, seed in seeds.items():
        save_seed(seed, out / f"{name}.seed.safetensors")
        made.append(Original(out / f"{name}.seed.safetensors", photo, flow if name == "flow" else "mini"))
    return made


def change_bytes(rng, path):
    """Bytes changed, cut out, added or doubled, most often in the header; or the end cut off."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 8))):
        at, length = rng.randrange(rng.choice((8, 4000, len(data)))), rng.choice((1, 1, 4, 64))
        data[at : at + length] = rng.choice(
            (rng.randbytes(length), b"", bytes(length), data[at : at + length] * 2)
        )
    if rng.random() < 0.2:
        del data[rng.randrange(len(data) or 1) :]
    path.write_bytes(data)


def change_text(rng, path):
    """The header as text: cut off, nested deeply, no object."""
    text = _header(path)
    deep = "[" * 50_000 + "]" * 50_000
    texts = (text[: rng.randrange(len(text))], "", "7", "[]", "null", deep, f'{{"format": {deep}}}', text * 2)
    _rewrite(path, rng.choice(texts))


def change_header(rng, path):
    """Some values of the header, at any depth: gone, or others in their place."""
    header = json.loads(_header(path))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        table, key = header, rng.choice(sorted(header))
        while table[key] and isinstance(table[key], dict | list) and rng.random() < 0.8:
            table = table[key]
            key = rng.choice(sorted(table)) if isinstance(table, dict) else rng.randrange(len(table))
        if rng.random() < 0.2:
            del table[key]
        else:
            table[key] = rng.choice((*VALUES, copy.deepcopy(rng.choice(list(header.values())))))
    _rewrite(path, json.dumps(header))


def change_tensors(rng, path):
    """A tensor gone, of another type, shape, size or value; or one more."""
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    value = tensors.pop(name)
    new = {
        "drop": dict,
        "rename": lambda: {"x": value},
        "mask": lambda: {
            name: value,
            "mask": torch.full((64, 64), 7, dtype=rng.choice((torch.uint8, torch.int8))),
        },
        "type": lambda: {
            name: value.to(rng.choice((torch.float16, torch.int64, torch.bool, torch.float8_e4m3fn)))
        },
        "nan": lambda: {name: value.float() * float("nan")},
        "huge": lambda: {name: value.float() * 1e30},
        "zero": lambda: {name: torch.zeros_like(value)},
        "flat": lambda: {name: value.flatten()},
        "cut": lambda: {name: value[..., :-1].clone()},
        "none": lambda: {name: value[..., :0].clone()},
        "twice": lambda: {name: value.repeat(*[1] * (value.ndim - 1), 2)},
        "alike": lambda: {each: torch.cat([value, value], 1) for each in ("latents", "image_latents")},
    }
    _rewrite(path, _header(path), tensors | new[rng.choice(sorted(new))]())


WAYS = (change_bytes, change_text, *[change_header] * 6, change_tensors, change_tensors)


def _header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()["invrecon"]


def _rewrite(path, text, tensors=None):
    save_file(tensors or load_file(path), path, metadata={"invrecon": text})


kept = lru_cache(load_model)
"""Commands load a model each time; trials share it."""


def end(command, out):
    """What a command ends with: "works", its one line, or "FAILED" with what is wrong."""
    with mock.patch.object(invrecon.models, "load_model", kept), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(app, [*command, "--json", "--device", "cpu"])
    if not isinstance(done.exception, SystemExit | None):
        return "FAILED: " + "".join(traceback.format_exception(done.exception))
    lines, left = done.stderr.splitlines(), sorted(os.listdir(out)) if out.exists() else []
    try:
        rows = [json.loads(line, parse_constant=_refuse) for line in done.stdout.splitlines()]
    except ValueError:
        return f"FAILED: printed no JSON: {done.stdout!r:.2000}"
    sentences = all(
        line.startswith("invrecon: ") and line.isprintable() and len(line) < 1000 for line in lines
    )
    whole = done.exit_code in (1, 2) and not left and len(lines) == 1 and "x.seed.safetensors" in lines[0]
    if done.exit_code == 0:
        whole = len(rows) == 1 and left == (["x.recon.png"] if "reconstruct" in command else [])
    if not whole or not sentences or "internal error" in done.stderr:
        return f"FAILED: code {done.exit_code}, left {left}, printed {rows} and {done.stderr!r:.2000}"
    return lines[0] if done.exit_code else "works"


def _refuse(constant):
    raise ValueError(constant)


def trial(files, seed, folder):
    """What was done to a seed file, and what both commands end with."""
    rng = random.Random(seed)
    original, way = rng.choice(files), rng.choice(WAYS)
    place = Path(tempfile.mkdtemp(dir=folder))
    path = place / "x.seed.safetensors"
    path.write_bytes(original.seed.read_bytes())
    way(rng, path)
    commands = {
        "made": ["reconstruct", path, "--out", place / "made"],
        "none": ["verify", path, original.photo],
    }
    ends = [
        end([*map(str, command), "--model", original.model], place / out) for out, command in commands.items()
    ]
    shutil.rmtree(place)
    return f"{original.seed.name}: {way.__name__}", *(each.replace(f"{place}/", "") for each in ends)


def main(count=1000, first=0):
    ends, failed = Counter(), []
    with tempfile.TemporaryDirectory() as place:
        files = originals(Path(place))
        for seed in range(first, first + count):
            done, *results = trial(files, seed, place)
            print(seed, done, *results, sep=" | ", flush=True)
            kinds = [
                "failed" if each.startswith("FAILED") else "works" if each == "works" else "one line"
                for each in results
            ]
            ends.update(kinds)
            failed += [seed] if "failed" in kinds else []
    print(dict(ends), "failed seeds:", failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
