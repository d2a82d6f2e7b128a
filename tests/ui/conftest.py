import importlib.util
import os
import signal
import socket
import subprocess
import sys
from threading import Timer

import pytest

from tests.ui.page import PATIENCE


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a page is served by `invrecon ui`, small and quick; nothing of it is left when Ctrl-C ends it."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio, which the extra `ui` installs")
    folder = tmp_path_factory.mktemp("page")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    command = [sys.executable, "-m", "invrecon", "ui", "--port", port]
    command += ["--steps", "4", "--size", "64", "--no-boost", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        watch = Timer(PATIENCE, process.kill)  # so that a page that never comes is a failure, and no hang
        watch.start()
        try:
            line = process.stdout.readline()
            watch.cancel()
            assert line, f"the page hasn't come within {PATIENCE} seconds, or the program has ended"
            assert line == f"Open http://127.0.0.1:{port}/ in a browser. Ctrl-C ends it.\n"
            yield line.split()[1]
            assert list(folder.glob("invrecon-ui-*"))
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            assert not list(folder.glob("invrecon-ui-*"))
        finally:
            watch.cancel()
            process.kill()
