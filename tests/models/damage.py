"""Damaged checkpoints, drawn at random: loading and checking one must end in a result or in one line, never
in another error.

usage: python -m tests.models.damage [COUNT] [FIRST_SEED]      prints what came out, and the seeds that
    failed; exits 1 if any did
"""

import json
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from invrecon import Settings
from invrecon.errors import InvreconError
from invrecon.models import load_model
from invrecon.pipeline.checkup import check
from tests import checkpoints

VALUES = (None, 0, -1, 1e30, float("nan"), "x", [], {}, True, [1, "a"], 2**70, 3)


def originals(out):
    """Folders of three families, and one of a variant."""
    tokenizer = load_model("mini", device="cpu").pipeline.tokenizer
    kinds = {
        "sd": checkpoints.stable_diffusion,
        "sdxl": checkpoints.stable_diffusion_xl,
        "flux": checkpoints.flux,
    }
    return [checkpoints.save(out / name, make, tokenizer) for name, make in kinds.items()]


def truncate(rng, path):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size or 1)])


def empty(rng, path):
    path.write_bytes(b"")


def remove(rng, path):
    path.unlink()


def flip(rng, path):
    data = bytearray(path.read_bytes())
    for _ in range(8):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def swap(rng, path):
    """The bytes of another file of the checkpoint."""
    others = [other for other in path.parents[1].rglob("*") if other.is_file() and other != path]
    path.write_bytes(rng.choice(sorted(others)).read_bytes())


def directory(rng, path):
    path.unlink()
    path.mkdir()


def spoil_weights(rng, path):
    """Some weights missing, not finite, of another type, shape or name."""
    weights = load_file(path)
    name = rng.choice(sorted(weights))
    value = weights[name]
    kind = rng.choice(("drop", "nan", "huge", "int", "flat", "cut", "rename", "complex", "double"))
    if kind in ("drop", "rename"):
        del weights[name]
    new = {
        "nan": lambda: torch.full_like(value, float("nan")),
        "huge": lambda: value * 1e30,
        "int": lambda: value.to(torch.int8),
        "flat": lambda: value.flatten(),
        "cut": lambda: value[:1].clone(),
        "rename": lambda: value,
        "complex": lambda: value.to(torch.complex64),
        "double": lambda: value.double(),
    }.get(kind)
    if new:
        weights["else." + name if kind == "rename" else name] = new()
    save_file(weights, path, metadata={"format": "pt"})


def spoil_json(rng, path):
    """One value of another type, or gone."""
    table = json.loads(path.read_text())
    if not isinstance(table, dict) or not table:
        return truncate(rng, path)
    name = rng.choice(sorted(table))
    if rng.random() < 0.3:
        del table[name]
    else:
        table[name] = rng.choice(VALUES)
    return path.write_text(json.dumps(table))


def damage(folder, rng):
    """Damages one to two files of a checkpoint. Returns what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = rng.choice(files)
        ways = [truncate, empty, remove, flip, swap, directory]
        ways += [spoil_weights] * 8 if path.suffix == ".safetensors" else []
        ways += [spoil_json] * 12 if path.suffix == ".json" else []
        way = rng.choice(ways)
        try:
            way(rng, path)
        except Exception:  # the second damage may meet what the first left
            truncate(rng, path)
        done.append(f"{way.__name__} {path.relative_to(folder)}")
    return ", ".join(done)


def trial(folders, seed, out):
    """(what was done, what came out): "works", the error's line, or "FAILED" with the traceback."""
    rng = random.Random(seed)
    source = rng.choice(folders)
    folder = Path(shutil.copytree(source, out / "m"))
    done = f"{source.name}: {damage(folder, rng)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(load_model(str(folder), device="cpu"), Settings())
        return done, "works"
    except InvreconError as error:
        return done, "FAILED: more than one line" if "\n" in str(error) else str(error).replace(
            str(folder), "M"
        )
    except Exception:
        return done, "FAILED: " + traceback.format_exc()
    finally:
        shutil.rmtree(folder)


def main(count=300, first=0):
    with tempfile.TemporaryDirectory() as place:
        folders, results = originals(Path(place)), {}
        for seed in range(first, first + count):
            results[seed] = trial(folders, seed, Path(place))
            print(seed, *results[seed], sep=" | ", flush=True)
    failed = [seed for seed, (_, result) in results.items() if result.startswith("FAILED")]
    kinds = Counter(
        "works" if result == "works" else "failed" if result.startswith("FAILED") else "one line"
        for _, result in results.values()
    )
    print(dict(kinds), "failed seeds:", failed)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
