"""The program `invrecon`, and `python -m invrecon`."""

from invrecon.cli.interrupt import end_on_interrupt


def main() -> None:
    """Runs the program on the arguments of this process; Ctrl-C ends it from the first moment on."""
    end_on_interrupt()
    from invrecon.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
