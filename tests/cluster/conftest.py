from tests.cli.conftest import fake, folder, interruptible  # noqa: F401
