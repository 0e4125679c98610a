import zipfile

import numpy as np
import pytest

from relclass.errors import ModelError
from relclass.models.skops_file import read_skops, write_skops


@pytest.fixture
def content():
    return {
        "terms": "نفت\nگاز",
        "ngrams": [1, 2],
        "weights": np.arange(6, dtype=np.float32).reshape(3, 2),
        "same": np.zeros(3),
    }


def test_what_is_written_is_read(content, tmp_path):
    write_skops(tmp_path / "a.skops", content)
    copy = read_skops(tmp_path / "a.skops", trusted=())
    assert copy["terms"] == content["terms"]
    assert copy["ngrams"] == [1, 2]
    assert copy["weights"].dtype == np.float32
    np.testing.assert_array_equal(copy["weights"], content["weights"])


def test_the_same_content_gives_the_same_bytes(content, tmp_path, monkeypatch):
    write_skops(tmp_path / "a.skops", content)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    copies = {key: np.copy(v) if isinstance(v, np.ndarray) else v for key, v in content.items()}
    write_skops(tmp_path / "b.skops", copies)
    assert (tmp_path / "a.skops").read_bytes() == (tmp_path / "b.skops").read_bytes()


def test_an_array_held_twice_is_read_twice(tmp_path):
    shared = np.arange(3)
    write_skops(tmp_path / "a.skops", {"first": shared, "second": shared})
    copy = read_skops(tmp_path / "a.skops", trusted=())
    np.testing.assert_array_equal(copy["first"], copy["second"])


def test_a_type_that_is_not_trusted_is_refused_before_it_is_made(tmp_path):
    import skops.io

    skops.io.dump({"weights": zipfile.ZipInfo("x")}, tmp_path / "a.skops")
    with pytest.raises(ModelError, match=r"not trusted: zipfile\.ZipInfo.*not opened"):
        read_skops(tmp_path / "a.skops", trusted=())


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04 cut", b"\x80\x04pickle."])
def test_what_is_no_skops_file_is_refused(raw, tmp_path):
    (tmp_path / "a.skops").write_bytes(raw)
    with pytest.raises(ModelError, match="not a skops file"):
        read_skops(tmp_path / "a.skops", trusted=())


def test_a_zip_that_is_no_skops_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.skops", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="not a skops file"):
        read_skops(tmp_path / "a.skops", trusted=())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"a\.skops: missing"):
        read_skops(tmp_path / "a.skops", trusted=())
