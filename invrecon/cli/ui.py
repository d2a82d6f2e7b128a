"""`invrecon ui`: what the commands do, on a page in the browser."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from invrecon.cli import options
from invrecon.cli.batch import load
from invrecon.cli.boundary import say
from invrecon.cli.command import CODES, command
from invrecon.cli.interrupt import end_on_interrupt
from invrecon.cli.output import Output, put
from invrecon.settings import AutoGuidance, Settings, settings_of


@command(
    examples=[
        "invrecon ui",
        "invrecon ui --model sd15 --port 8000",
        "invrecon ui --host 0.0.0.0",
    ],
    codes={
        1: CODES[1].partition(", or ")[2],
        2: "wrong usage: a bad option or model, or a port that is taken",
        130: "ended by Ctrl-C",
        143: "ended by SIGTERM",
    },
    without=["batch_size", *settings_of(AutoGuidance)],
)
def ui(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where the page is served. Any address but 127.0.0.1 lets others on the network use it.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port of the page. Change it where that is taken.")
    ] = 7860,
    metadata: options.Metadata = True,
    *,
    settings: Settings,
) -> int:
    """Open a page in the browser on which photos are reconstructed, edited, imagined from and verified.

    The page is on this machine alone, and asks no other machine for anything. Options of settings say what
    its fields start from. Needs the extra `ui`: pip install 'invrecon[ui]'.
    """
    from invrecon.ui.serve import check_ready, is_private, serve

    check_ready(host, port)
    if not is_private(host):
        say(
            f"warning: --host {host} lets everyone who reaches this machine over the network use the page, "
            "without a password"
        )
    model = load(settings, Output())
    with _interruptible():
        serve(model, settings, host, port, _tell, metadata)
    return 0


def _tell(url: str) -> None:
    put(f"Open {url} in a browser. Ctrl-C ends it.")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM raise an exception in the block, so that the photos there are removed."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        end_on_interrupt()


def _end(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_IGN)
    say("ended by SIGTERM")
    raise SystemExit(128 + signum)
