"""Other libraries' chatter, kept off the user's console."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps diffusers' and transformers' bars, notices and deprecations off the console while they are
    imported, load or run.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    verbosities = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            for category in (
                FutureWarning,
                DeprecationWarning,
            ):  # of names that will change in versions not yet out
                warnings.simplefilter("ignore", category)
            warnings.filterwarnings(
                "ignore", "User provided device_type of 'cuda'"
            )  # a CUDA build of torch without a GPU
            yield
    finally:
        for library, verbosity in zip((diffusers_logging, transformers_logging), verbosities, strict=True):
            library.set_verbosity(verbosity)
            library.enable_progress_bar()
