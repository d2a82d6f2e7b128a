"""Files that are there whole or not at all, also where two processes write the same."""

import errno
import os
import threading

import pytest

from invrecon.errors import InvreconError
from invrecon.writing import remove_unfinished, replacing


def write(path, text, overwrite=True):
    with replacing(path, overwrite) as partial:
        partial.write_text(text)


def test_a_file_is_replaced_unless_it_is_to_be_kept(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write(path, "one", overwrite=False)
    write(path, "two")
    with pytest.raises(InvreconError) as caught:
        write(path, "three", overwrite=False)
    assert str(caught.value).startswith(f"{path} has come to be meanwhile")
    assert "--force" in str(caught.value)
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_write_at_once_one_succeeds(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path, start, won, lost = tmp_path / "a.txt", threading.Barrier(8), [], []

    def run(number):
        try:
            with replacing(path, overwrite=False) as partial:
                partial.write_text(str(number))
                start.wait()
            won.append(number)
        except InvreconError:
            lost.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert path.read_text() == str(won[0])
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_nothing_is_left_of_a_file_that_isn_t_finished(tmp_path, overwrite):
    def fail():
        with replacing(tmp_path / "a.txt", overwrite) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == []


def test_what_is_begun_can_be_removed_before_the_process_ends(tmp_path):
    (tmp_path / "old.txt").write_text("whole")

    def end_early():
        with replacing(tmp_path / "a.txt") as partial:
            partial.write_text("half")
            remove_unfinished()
            assert os.listdir(tmp_path) == ["old.txt"]

    with pytest.raises(InvreconError, match="can't be written"):
        end_early()
