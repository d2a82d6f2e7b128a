import signal

import pytest

from tests.cli.fakes import Pipeline


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INVRECON_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def fake(monkeypatch):
    import invrecon.models
    import invrecon.pipeline

    fake = Pipeline()
    monkeypatch.setattr(invrecon.models, "load_model", fake.load_model)
    monkeypatch.setattr(invrecon.pipeline, "invert_batch", fake.invert_batch)
    monkeypatch.setattr(invrecon.pipeline, "reconstruct_batch", fake.reconstruct_batch)
    monkeypatch.setattr(
        invrecon.pipeline,
        "batch_size",
        lambda _, settings: 1 if settings.batch_size == "auto" else settings.batch_size,
    )
    monkeypatch.setattr(invrecon.pipeline, "memory_line", lambda model, settings: "memory: enough")
    monkeypatch.setattr(invrecon.pipeline, "reconstruct", fake.reconstruct)
    monkeypatch.setattr(invrecon.pipeline, "boost", fake.boost)
    monkeypatch.setattr(invrecon.pipeline, "verify", fake.verify)
    return fake


@pytest.fixture
def interruptible():
    """Shells start programs in the background with SIGINT ignored, and their children inherit that."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)
