"""Files are replaced whole; what cannot be replaced is written to."""

import os
import threading

from nasbench.files import write_text


def test_a_pipe_stays_a_pipe(tmp_path):
    """As `--out /dev/null`, which a rename would make a regular file."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text")
    reader.join()
    assert read == ["text"]
    assert pipe.is_fifo()


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    file = tmp_path / "file"
    write_text(file, "old")
    with file.open() as before:
        write_text(file, "new")
        assert before.read() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]
