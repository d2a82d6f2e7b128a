"""`invrecon ui` before its page is there: what it refuses, and what it warns of."""

import importlib.util
import socket

import pytest
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.ui import serve


@pytest.fixture
def served(fake, monkeypatch):
    """What the page would have been served with, without Gradio."""
    calls = []
    monkeypatch.setattr(serve, "serve", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return calls


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def run(*arguments):
    return CliRunner().invoke(app, ["ui", *arguments])


def test_without_gradio_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run()
    assert result.exit_code == 2
    assert result.stderr == "invrecon: the page needs Gradio: pip install 'invrecon[ui]'\n"


def test_a_port_that_is_taken_is_told_and_another_one_does(served):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run("--port", str(port))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"invrecon: can't listen on 127.0.0.1, port {port} (")
    assert result.stderr.endswith("); choose another --port or --host\n")
    assert not served
    assert run("--port", str(free_port())).exit_code == 0
    assert len(served) == 1


def test_a_host_that_is_not_there_is_told(served):
    result = run("--host", "192.0.2.1")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert not served


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_a_host_that_others_reach_is_warned_of(served, host, warned):
    result = run("--host", host, "--port", str(free_port()), "--steps", "7")
    assert result.exit_code == 0
    assert ("warning: --host 0.0.0.0 lets everyone" in result.stderr) == warned
    _, settings, *_ = served[0]
    assert settings.num_inference_steps == 7
    assert served[0][2] == host


def test_pictures_say_nothing_of_themselves_where_that_is_asked_for(served):
    for option, metadata in (("--metadata", True), ("--no-metadata", False)):
        assert run("--port", str(free_port()), option).exit_code == 0
        assert served.pop()[-1] is metadata


@pytest.mark.parametrize(
    ("host", "private"), [("127.0.0.2", True), ("::1", True), ("::", False), ("example.org", False)]
)
def test_private_hosts(host, private):
    assert serve.is_private(host) == private
