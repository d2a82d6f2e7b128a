import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Timer

import pytest

from tests.ui.page import PATIENCE


@contextmanager
def served(folder, *options, ignoring=False, ends_by=signal.SIGINT):
    """Where a page is served by `invrecon ui`, small and quick; nothing of it is left when a signal ends it.

    Args:
        ignoring: whether SIGINT is ignored from the start, as in what a shell starts in the background.
    """
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio, which the extra `ui` installs")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    command = [sys.executable, "-m", "invrecon", "ui", "--port", port]
    command += ["--steps", "4", "--size", "64", "--no-boost", "--device", "cpu", *options]
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (folder / "stderr").open("w+") as stderr, _sigint(ignoring):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    watch = Timer(PATIENCE, process.kill)  # so that a page that never comes is a failure, and no hang
    watch.start()
    with process:
        try:
            line = process.stdout.readline()
            watch.cancel()
            assert line, f"the page hasn't come within {PATIENCE} seconds, or the program has ended"
            assert line == f"Open http://127.0.0.1:{port}/ in a browser. Ctrl-C ends it.\n"
            yield line.split()[1]
            assert list(folder.glob("invrecon-ui-*"))
            process.send_signal(ends_by)
            assert process.wait(PATIENCE) == 128 + ends_by
            told = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}[ends_by]
            assert (folder / "stderr").read_text() == f"invrecon: {told}\n"
            assert not list(folder.glob("invrecon-ui-*"))
        finally:
            watch.cancel()
            process.kill()


@contextmanager
def _sigint(ignored):
    """What is started meanwhile ignores SIGINT, or doesn't, whatever this process does."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of `mini`; Ctrl-C ends it."""
    with served(tmp_path_factory.mktemp("page")) as address:
        yield address
