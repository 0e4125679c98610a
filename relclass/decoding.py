"""Bytes -> text: byte order marks, UTF-8, UTF-16, then the code pages of these languages.

A code page is chosen by how many common words it makes: Persian in windows-1256 read as
windows-1251 is Cyrillic of the right frequencies, but no Russian.
"""

from __future__ import annotations

import codecs
import re

from relclass.errors import DataError
from relclass.language import MAX_CHARS, count_common_words

HEAD_BYTES = 256 * 1024
"""How much of a stream its encoding is told by."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CODE_PAGES = ("cp1256", "cp1251", "cp1254", "koi8_r", "iso8859_6", "cp1252")
# Pages that declare the first are in the second (https://encoding.spec.whatwg.org/#names-and-labels).
_DECLARED = {"ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254"}
_SURE_WORDS = 3
"""So many common words show that a page is not in the code page it declares."""
_BINARY = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive or an Office document",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x1f\x8b": "a gzip file (name it .gz)",
    b"\x28\xb5\x2f\xfd": "a zstd file (name it .zst)",
    b"PAR1": "a Parquet file (name it .parquet)",
    b"SQLite format 3": "an SQLite database",
}
_CONTROLS = bytes(code for code in range(32) if code not in (0, 9, 10, 11, 12, 13, 27, 28, 29, 30))
# Scripts mixed in one word, direction marks inside one, capitals behind small letters, Icelandic
# (which is what Turkish looks like in windows-1252).
_GARBLED = re.compile(
    r"[a-zA-ZÀ-ɏ][\u0400-\u04ff\u0600-\u06ff\u200e\u200f]|[\u0400-\u04ff\u0600-\u06ff][a-zA-ZÀ-ɏ]"
    r"|[а-я][А-Я]|[ÐÞÝðþý]|[\x80-\x9f\ufffd]"
)
_PLAUSIBLE = re.compile(r"[\s\x20-\x7e\u00a0-\u02af\u0400-\u052f\u0600-\u06ff\u2000-\u206f]")


def decode(data: bytes, encoding: str | None = None) -> str:
    """Decode a whole file.

    Parameters
    ----------
    data : nothing is removed but a byte order mark.
    encoding : as `detect_encoding` gives it; detected if None.

    Raises
    ------
    DataError
        If the bytes are no text, or broken text: the reason names the first bad byte.
    """
    encoding = detect_encoding(data[:HEAD_BYTES]) if encoding is None else encoding
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(explain(error, encoding)) from error


def explain(error: UnicodeDecodeError, encoding: str) -> str:
    """Say what is wrong with bytes that are not in the encoding they should be in."""
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    bad = error.object[error.start : error.start + 4].hex(" ")
    return (
        f"invalid {name} at byte {error.start} ({bad}: {error.reason}); was it cut,"
        " or pasted from files of two encodings?"
    )


def detect_encoding(head: bytes, *, declared: str | None = None) -> str:
    """Tell the encoding of a file from its first bytes.

    Parameters
    ----------
    head : up to `HEAD_BYTES`; its last character may be cut.
    declared : what the file says of itself, believed where the bytes are not UTF-8 and no code
        page of these languages makes clearly more words of them.

    Returns
    -------
    A codec's name; "utf-8" also where a text that is clearly UTF-8 has broken bytes in it.

    Raises
    ------
    DataError
        If the bytes are not text.
    """
    for magic, what in _BINARY.items():
        if head.startswith(magic):
            raise DataError(f"the file is {what}, not text")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\x00" in head:
        for name in ("utf-16-le", "utf-16-be"):
            if _is_utf16(head, name):
                return name
    if len(head.translate(None, _CONTROLS)) < 0.9 * len(head):
        raise DataError("the file is binary, not text")
    if _is_utf8(head):
        return "utf-8"
    return _detect_code_page(head, _find_codec(declared) if declared else None)


def _is_utf16(head: bytes, name: str) -> bool:
    text = head[: len(head) // 2 * 2].decode(name, errors="replace")
    return len(_PLAUSIBLE.findall(text)) > 0.9 * len(text)


def _is_utf8(head: bytes) -> bool:
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(head)
    n_broken = text.count("\ufffd") - head.count("\ufffd".encode())
    n_right = sum(map("\x7f".__lt__, text)) - n_broken
    return n_broken <= 0.5 * n_right  # in a code page few letters make right sequences


def _find_codec(declared: str) -> str | None:
    """Find the codec of a declared code page; None if none could read a page that says so."""
    try:
        is_superset = b"<\xe0".decode(declared, errors="replace").startswith("<")  # of ASCII
        name = codecs.lookup(declared).name
    except (LookupError, UnicodeError):  # "rot13" is a codec, but not of bytes
        return None
    # Bytes in UTF-8 do not get here, and after an ASCII tag they are in no other UTF.
    return _DECLARED.get(name, declared) if is_superset and not name.startswith("utf") else None


def _detect_code_page(head: bytes, declared: str | None) -> str:
    words = b" ".join(word for word in head.split() if not word.isascii())  # what they differ in
    evidence = {name: _plausibility(words.decode(name, errors="replace")) for name in _CODE_PAGES}
    best, second = sorted(evidence, key=evidence.__getitem__, reverse=True)[:2]
    if declared and (
        evidence[best] < _SURE_WORDS
        or evidence[best] <= _plausibility(words.decode(declared, errors="replace"))
    ):
        return declared
    if evidence[best] > evidence[second]:
        return best
    import charset_normalizer

    guess = charset_normalizer.from_bytes(head, cp_isolation=list(_CODE_PAGES)).best()
    if guess is None:
        raise DataError("the file is not text in any known encoding; convert it to UTF-8")
    return guess.encoding


def _plausibility(text: str) -> float:
    return count_common_words(text) - 0.5 * len(_GARBLED.findall(text[:MAX_CHARS]))
