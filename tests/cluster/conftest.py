from tests.cli.conftest import fake, folder  # noqa: F401
