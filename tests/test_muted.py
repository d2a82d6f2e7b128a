"""What libraries print while results are."""

import sys

from invrecon.muted import stdout, stdout_for_results


def test_what_libraries_print_is_kept_from_results(capsys):
    with stdout_for_results():
        print("(raylet) a worker died")
        print("a row", file=stdout())
    print("another", file=stdout())
    told = capsys.readouterr()
    assert (told.out, told.err) == ("a row\nanother\n", "(raylet) a worker died\n")
    assert sys.stdout is stdout()
