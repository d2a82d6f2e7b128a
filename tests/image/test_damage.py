"""Damaged files load or are refused."""

import random
import secrets
import subprocess
import sys

import pytest

from invrecon.errors import InputError
from tests.image.damage import damaged, originals
from tests.image.files import check_message, load


@pytest.fixture(scope="module")
def files():
    return originals()


@pytest.mark.parametrize("block", range(12))
def test_mutated_files_load_or_are_refused(tmp_path, block, files):
    loaded = 0
    for seed in range(25 * block, 25 * (block + 1)):
        try:
            photo = load(tmp_path, damaged(files[seed % len(files)], random.Random(seed)))
        except InputError as error:
            check_message(error, "photo")
        else:
            loaded += 1
            assert photo.rgb.mode == "RGB"
            assert photo.alpha is None or (photo.alpha.mode, photo.alpha.size) == ("L", photo.rgb.size)
    assert 0 < loaded < 25


def test_new_damage_in_silence_and_little_memory():
    """Other files in each run, in a process of their own: a decoder written in C may crash or print."""
    command = [sys.executable, "-m", "tests.image.damage", str(secrets.randbelow(2**32)), "50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), f"{' '.join(command[1:])}\n{done.stdout}{done.stderr}"
    assert "loaded" in done.stdout
    assert "refused" in done.stdout


def test_a_fault_is_told():
    """What load_photo should never raise is one line and exit code 1."""
    code = "import sys; from tests.image import damage; damage.load_photo = lambda path: 1 / 0;"
    command = [sys.executable, "-c", code + "sys.exit(damage.main(1, 3))"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "0: raised ZeroDivisionError" in done.stdout
