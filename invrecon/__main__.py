"""The program `invrecon`, and `python -m invrecon`."""

from invrecon.cli.interrupt import end_on_interrupt, leave


def main() -> None:
    """Runs the program on the arguments of this process; Ctrl-C ends it from the first moment to the last."""
    end_on_interrupt()
    from invrecon.cli.app import main as run

    try:
        run()
    except SystemExit as end:
        leave(end.code)
    leave(0)


if __name__ == "__main__":
    main()
