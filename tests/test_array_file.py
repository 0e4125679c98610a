import numpy as np
import pytest

from relclass.errors import ModelError
from relclass.models.array_file import read_arrays, write_arrays

CONTENT = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "terms": "گاز\nqaz\n"}


def test_arrays_and_text_come_back_as_they_were(tmp_path):
    write_arrays(tmp_path / "a.safetensors", CONTENT)
    copy = read_arrays(tmp_path / "a.safetensors")
    assert copy.keys() == CONTENT.keys()
    np.testing.assert_array_equal(copy["weights"], CONTENT["weights"])
    assert copy["terms"] == CONTENT["terms"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    write_arrays(tmp_path / "a.safetensors", CONTENT)
    write_arrays(tmp_path / "b.safetensors", dict(reversed(CONTENT.items())))
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"\x80\x04\x95pickle"])
def test_another_kind_of_file_is_refused(raw, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(raw)
    with pytest.raises(ModelError, match="not a safetensors file of ours"):
        read_arrays(tmp_path / "a.safetensors")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"text:terms": np.array([0xFF, 0xFE], dtype=np.uint8)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="not a safetensors file of ours"):
        read_arrays(tmp_path / "a.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"a\.safetensors: missing"):
        read_arrays(tmp_path / "a.safetensors")
