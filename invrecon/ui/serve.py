"""The server of the page: on this machine alone, unless another host is given."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from invrecon.cluster.task import Save
from invrecon.errors import UsageError
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model

_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"
"""What keeps the browser from asking any other machine for anything, whatever Gradio's pages say."""


def check_ready(host: str, port: int) -> None:
    """Raises UsageError where Gradio isn't installed, or the page can't be served there."""
    if importlib.util.find_spec("gradio") is None:
        raise UsageError("the page needs Gradio: pip install 'invrecon[ui]'")
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        cause = str(getattr(error, "strerror", None) or error).partition(" (while ")[0]
        raise UsageError(
            f"can't listen on {host}, port {port} ({cause}); choose another --port or --host"
        ) from error


def is_private(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    model: Model,
    settings: Settings,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    metadata: bool = True,
) -> None:
    """Serves the page until the program is interrupted; photos and results are gone then.

    Args:
        settings: what the page's fields start from.
        on_ready: called with the page's address as soon as it is there.
        metadata: whether pictures say of themselves how they were made.
    """
    with TemporaryDirectory(prefix="invrecon-ui-") as folder:
        _restrain_gradio(folder, host)
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from invrecon.ui.page import CSS, THEME, build_page
        from invrecon.ui.tab import Desk

        desk = Desk(model, settings, Path(folder), Save(overwrite=True, metadata=metadata))
        page = build_page(desk)
        # Other sites' names can be made to lead here, by which their scripts would reach a private page.
        names = [host, "localhost"] if is_private(host) else ["*"]
        trusted = Middleware(TrustedHostMiddleware, allowed_hosts=names)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                footer_links=[],
                theme=THEME,
                css=CSS,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                app_kwargs={"middleware": [trusted, Middleware(_WithPolicy)]},
            )
            on_ready(address)
            threading.Event().wait()
        finally:
            desk.jobs.cancel()
            page.close(verbose=False)


def _restrain_gradio(folder: str, host: str) -> None:
    """Keeps Gradio from telling its makers of its use, from keeping photos, and from asking a proxy for its
    own page. It reads these when it is imported.
    """
    bypassed = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": folder,
        "no_proxy": ",".join(filter(None, [bypassed, host, "localhost"])),
    }


class _WithPolicy:
    """Adds the content security policy to every answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy)
