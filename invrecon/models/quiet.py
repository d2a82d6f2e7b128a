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

    def silent(_record: logging.LogRecord) -> bool:
        return False

    handlers: list[logging.Handler] = []
    for library in (diffusers_logging, transformers_logging):
        handlers += library.get_logger().handlers
        library.disable_progress_bar()
    for handler in handlers:  # the loggers' levels would do, but setting one takes a millisecond
        handler.addFilter(silent)
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
        for handler in handlers:
            handler.removeFilter(silent)
        for library in (diffusers_logging, transformers_logging):
            library.enable_progress_bar()
