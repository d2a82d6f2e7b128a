"""What is seen of an input before a model loads."""

from pathlib import Path

from invrecon.errors import InputError
from invrecon.formats import check_seed_header, is_seed_file


def check_input(source: Path) -> None:
    """Raises InputError or OSError where an input isn't a file that can be opened."""
    if source.is_dir():
        raise InputError("is a folder; give the photos in it instead")
    if source.exists() and not source.is_file():
        raise InputError("isn't a regular file; copy it into one first")
    source.open("rb").close()


def check_header(source: Path) -> None:
    """Raises InputError or OSError where the first bytes of an input are those of no photo and no seed
    file.
    """
    from invrecon.image import check_photo_file

    (check_seed_header if is_seed_file(source) else check_photo_file)(source)
