import pytest
from hypothesis import given
from hypothesis import strategies as st

from relclass.decoding import decode, detect_encoding
from relclass.errors import DataError

PERSIAN = "وزير راه گفت كه اين پل تا پايان سال براي گذر كاميون ها آماده مي شود."
ARABIC = "وقال الوزير إن الجسر الجديد سيكون جاهزا قبل نهاية العام، مؤكدا أهمية التعاون."
TURKISH = "Bakan, yeni köprünün yıl sonuna kadar kamyonlar için hazır olacağını söyledi."
RUSSIAN = "Министр сообщил, что новый мост будет готов для грузовиков до конца года."


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1256"]
)
def test_persian_is_read_in_each_encoding_it_comes_in(encoding: str) -> None:
    assert decode(PERSIAN.encode(encoding)) == PERSIAN


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (ARABIC, "cp1256"),
        (ARABIC, "iso8859_6"),
        (TURKISH, "cp1254"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        ("The café owners of the city said that they were ready.", "cp1252"),
    ],
)
def test_a_code_page_is_told_by_the_words_it_makes(text: str, encoding: str) -> None:
    data = text.encode(encoding, errors="replace")
    assert decode(data) == data.decode(encoding)


def test_a_head_cut_inside_a_character_is_still_utf8() -> None:
    assert detect_encoding(PERSIAN.encode()[:-1][:31]) == "utf-8"


def test_a_declared_encoding_is_believed_only_where_the_bytes_are_not_utf8() -> None:
    assert detect_encoding("мост".encode("cp1251"), declared="windows-1251") == "windows-1251"
    assert detect_encoding("мост".encode(), declared="windows-1251") == "utf-8"
    assert detect_encoding(RUSSIAN.encode("cp1251"), declared="no-such-code") == "cp1251"


@pytest.mark.parametrize(
    "declared",
    ["undefined", "rot13", "base64", "idna", "punycode", "utf-7", "utf-16", "cp037", "utf-8",
     "iso-8859-1", "us-ascii", "iso-8859-6", "windows-1252"],
)  # fmt: skip
def test_a_false_declaration_does_not_spoil_persian(declared: str) -> None:
    assert detect_encoding(PERSIAN.encode("cp1256"), declared=declared) == "cp1256"


@pytest.mark.parametrize("declared", ["windows-1250", "cp1250"])
def test_a_declaration_is_believed_where_no_common_words_speak_against_it(declared: str) -> None:
    czech = "Nový most bude krásný, řekl slavný český ministr průmyslu."
    assert detect_encoding(czech.encode("cp1250"), declared=declared) == declared


def test_declared_latin_code_pages_are_read_as_browsers_read_them() -> None:
    turkish = f"“{TURKISH}”"
    encoding = detect_encoding(turkish.encode("cp1254"), declared="iso-8859-9")
    assert decode(turkish.encode("cp1254"), encoding) == turkish
    assert detect_encoding("“café”".encode("cp1252"), declared="iso-8859-1") == "cp1252"


def test_markup_before_the_words_does_not_hide_them() -> None:
    head = b"<script>var width = 1;</script>\n" * 100
    assert detect_encoding(head + RUSSIAN.encode("cp1251"), declared="iso-8859-1") == "cp1251"


def test_azerbaijani_in_utf16_without_a_mark_is_read() -> None:
    text = "Nazir deyib ki, yeni dəmir yolu xətti ilin sonuna qədər sərhədə çatacaq. " * 3
    text += "Əhməd əmisinə dəmirçi dədəsindən ən gözəl xəbərləri gətirdi."
    assert decode(text.encode("utf-16-le")) == text


def test_nul_bytes_do_not_make_utf8_into_utf16() -> None:
    assert decode(f"{PERSIAN}\x00{PERSIAN}".encode()) == f"{PERSIAN}\x00{PERSIAN}"


def test_broken_utf8_is_refused_with_the_place_of_the_first_bad_byte() -> None:
    data = PERSIAN.encode() + b"\xff\xfe" + PERSIAN.encode()
    with pytest.raises(DataError, match=rf"invalid UTF-8 at byte {len(PERSIAN.encode())} \(ff fe"):
        decode(data)


def test_a_cut_utf16_file_is_refused() -> None:
    with pytest.raises(DataError, match="invalid utf-16 at byte"):
        decode(PERSIAN.encode("utf-16")[:-1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7 ...", "is a PDF document, not text"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive or an Office document"),
        (bytes(range(1, 9)) * 20, "is binary, not text"),
    ],
)
def test_what_is_no_text_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(data)


# without U+0000: "0" and a zero byte are the letter 0 in UTF-16 as well
@given(st.text(st.characters(exclude_characters="\x00"), min_size=1))
def test_any_text_survives_utf8(text: str) -> None:
    data = text.encode("utf-8", errors="ignore")
    try:
        assert decode(data).lstrip("\ufeff") == data.decode().lstrip("\ufeff")
    except DataError as error:
        assert "not text" in str(error)


@pytest.mark.parametrize("place", range(0, 40, 7))
def test_a_stray_zero_byte_does_not_make_a_text_utf16(place: int) -> None:
    for text in ("وزیر نفت گفت خط لوله گاز آماده می‌شود.", "The pipeline will be ready next year."):
        broken = text[:place] + "\x00" + text[place:]
        assert decode(broken.encode()) == broken


@given(st.binary(max_size=200))
def test_any_bytes_are_either_text_or_a_data_error(data: bytes) -> None:
    try:
        assert isinstance(decode(data), str)
    except DataError as error:
        assert str(error)
