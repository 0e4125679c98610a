import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relclass.config import NormalizeSettings
from relclass.errors import MissingExtraError
from relclass.normalize import ZWNJ, _hazm_normalizer, normalize

LANGUAGES = ("fa", "ar", "az", "tr", "en", "ru", "other")
DEFAULT = NormalizeSettings()
NOTHING = NormalizeSettings(letters=False, spaces=False)
EVERYTHING = NormalizeSettings(digits=True, marks=True, compounds=True, half_spaces="drop")

characters = st.one_of(
    st.characters(exclude_categories=[]),  # lone surrogates too
    st.sampled_from("يىكةۀیکەہھأإؤئآٱـ۱۲١٢٫\u064b\u064e\u0651\u0653\u0654\u0670ﷺﻻﰀﱞﹱﷲ\ufcf2"),
    st.sampled_from(" \n\t\r\0\x1c\x85\u2028\u00a0\u00ad\u200b\u200c\u200d\u200e\u202e\ufeff¬"),
    st.sampled_from("abiIıİ.@/:-12\u0307\u0327"),
)
words = st.sampled_from(
    ["رئیس", "جمهور", "رییس", "می", "نمی", "رود", "کشور", "ها", "های", "تر", "حمل", "و", "نقل",
     "گفته", "اند", "هم", "مرز", "میشود", "شده", "است", "https://a.ir/ب", "۱۲", "x", "،", "ه"]
)  # fmt: skip
texts = st.one_of(
    st.text(characters),
    st.lists(words, max_size=12).flatmap(
        lambda chosen: st.lists(
            st.sampled_from(["", " ", ZWNJ, "  ", "\n"]),
            min_size=len(chosen),
            max_size=len(chosen),
        ).map(lambda gaps: "".join(w + g for w, g in zip(chosen, gaps, strict=True)))
    ),
)
some_settings = st.builds(
    NormalizeSettings,
    letters=st.booleans(),
    digits=st.booleans(),
    marks=st.booleans(),
    spaces=st.booleans(),
    half_spaces=st.sampled_from(["keep", "space", "drop"]),
    compounds=st.booleans(),
)


def letters_of(text):
    """Letters but tatweel, ligatures spread out, accents apart."""
    return [char for char in unicodedata.normalize("NFKD", text) if char.isalpha() and char != "ـ"]


# --- properties ---


@given(texts, st.sampled_from(LANGUAGES), some_settings)
@settings(max_examples=500, deadline=None)
def test_running_twice_changes_nothing(text, language, chosen):
    once = normalize(text, language, chosen)
    assert normalize(once, language, chosen) == once


@given(texts, st.sampled_from(["az", "tr", "en", "ru", "other", "ar"]), some_settings)
@settings(max_examples=300, deadline=None)
def test_outside_persian_every_letter_stays_in_its_place(text, language, chosen):
    same = str.maketrans("یکہھيكىةە", "يكههيكيهه")  # forms of one letter
    before = [char.translate(same) for char in letters_of(text)]
    after = [char.translate(same) for char in letters_of(normalize(text, language, chosen))]
    assert after == before


@given(texts, some_settings)
@settings(max_examples=300, deadline=None)
def test_in_persian_no_letter_is_lost(text, chosen):
    assert len(letters_of(normalize(text, "fa", chosen))) == len(letters_of(text))


@given(texts, st.sampled_from(LANGUAGES), some_settings)
@settings(max_examples=300, deadline=None)
def test_what_comes_out_can_always_be_encoded(text, language, chosen):
    normalize(text, language, chosen).encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(LANGUAGES))
def test_with_every_step_off_a_text_stays_as_it_is(text, language):
    assert normalize(text, language, NOTHING) == text


# --- letters, digits, marks ---


def test_persian_gets_persian_letters():
    assert normalize("رئيس هيأت كنسولي", "fa", DEFAULT) == "رئیس هیأت کنسولی"
    assert normalize("علي عليرضايى", "fa", DEFAULT) == "علی علیرضایی"


def test_the_ways_to_write_izafe_after_heh_meet():
    forms = {"خانۀ ما", "خانهٔ ما", "خانه ما", "خانة ما"}
    assert {normalize(form, "fa", DEFAULT) for form in forms} == {"خانه ما"}


def test_arabic_keeps_its_letters_and_its_tanwin():
    text = "أكّد الوزير أيضاً أنّ الحدود مفتوحة حتى إشعارٍ آخر"
    assert normalize(text, "ar", DEFAULT) == text


def test_arabic_typed_on_a_persian_keyboard_gets_arabic_letters():
    assert normalize("الحکومة الإیرانیة", "ar", DEFAULT) == "الحكومة الإيرانية"


def test_south_azerbaijani_gets_persian_letters_and_keeps_its_own():
    assert normalize("گؤروش ائتديلر، كؤرپو آچيلدي", "az", DEFAULT) == "گؤروش ائتدیلر، کؤرپو آچیلدی"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("chosen", [DEFAULT, EVERYTHING])
@pytest.mark.parametrize(
    "text",
    [
        "2023-cü ildə İrəvan, Iğdır, ılıq və iş",
        "https://example.org/a_b?q=1&x=%DB%B1#top",
        "info@example.org",
        "Şuşa–Ağdam yolu: 3,5 km",
        "ÖTV'nin İstanbul'daki payı",
    ],
)
def test_latin_text_is_left_alone_in_every_language(text, language, chosen):
    assert normalize(text, language, chosen) == text


def test_an_accent_apart_from_its_letter_joins_it_and_dotted_i_stays():
    assert normalize("Iı İi S\u0327us\u0327a и\u0306од", "tr", DEFAULT) == "Iı İi Şuşa йод"
    assert normalize("i\u0307", "az", DEFAULT) == "i\u0307"


@pytest.mark.parametrize("language", ["fa", "ar", "az"])
def test_presentation_forms_and_tatweel_are_folded(language):
    assert normalize("ﻻ ﺳﻼﻡ ســـلام", language, DEFAULT) == "لا سلام سلام"


def test_a_marks_own_form_brings_no_space():
    assert normalize("شيئ\ufe70ا", "ar", DEFAULT) == "شيئ\u064bا"


def test_digits_become_latin_where_asked():
    text = "۱۲٫۵ درصد در ١٤٠٠ و 2021"
    assert normalize(text, "fa", NormalizeSettings(digits=True)) == "12.5 درصد در 1400 و 2021"
    assert normalize(text, "fa", DEFAULT) == text


def test_short_vowels_go_where_asked_and_tanwin_stays():
    marks = NormalizeSettings(marks=True)
    assert normalize("مُحَمَّد رسماً كتابٌ", "ar", marks) == "محمد رسماً كتابٌ"
    assert normalize("کِشتی فعلاً", "fa", marks) == "کشتی فعلاً"
    assert normalize("كُتُب", "ar", DEFAULT) == "كُتُب"


@pytest.mark.parametrize("form", ["\ufcf2", "\ufc5e"])
def test_short_vowels_go_from_presentation_forms_too(form):
    chosen = NormalizeSettings(marks=True)
    once = normalize(f"محم{form}د", "ar", chosen)
    assert normalize(once, "ar", chosen) == once
    assert not set(once) & set("\u064e\u0651")
    assert set(normalize(f"محم{form}د", "ar", DEFAULT)) & {"\u0651"}


# --- spaces ---


@pytest.mark.parametrize("language", LANGUAGES)
def test_spaces_of_every_kind_are_folded_and_line_ends_kept(language):
    text = "\ufeff  one\u00a0\u2003two\t\tthree \r\n\n four\u2028five\u3000 "
    assert normalize(text, language, DEFAULT) == "one two three\nfour\nfive"


@pytest.mark.parametrize("language", LANGUAGES)
def test_nul_directions_and_surrogates_have_a_defined_end(language):
    assert normalize("oil\0gas\x1b", language, DEFAULT) == "oil gas"
    assert normalize("\u202eoil\u202c \u2067gas\u2069\u200f", language, DEFAULT) == "oil gas"
    assert normalize("oil \ud800 gas", language, DEFAULT) == "oil \ufffd gas"
    assert normalize("oil \udfff", language, NOTHING) == "oil \ufffd"


def test_quotes_from_a_wrong_decoding_are_mended():
    assert normalize("Türkiye\x92nin \x93yolu\x94", "tr", DEFAULT) == "Türkiye’nin “yolu”"


@pytest.mark.parametrize("stand_in", ["\u200c", "\u200c\u200c", "\u00ad", "\u200b", "\u200d", "¬"])
def test_what_stood_for_a_half_space_becomes_one(stand_in):
    assert normalize(f"می{stand_in}رود", "fa", DEFAULT) == f"می{ZWNJ}رود"


def test_a_half_space_that_parts_no_letters_goes():
    text = f"{ZWNJ}می{ZWNJ} رود {ZWNJ}،{ZWNJ}۱۲{ZWNJ}ساله{ZWNJ}."
    assert normalize(text, "fa", DEFAULT) == f"می رود ،۱۲{ZWNJ}ساله."


def test_joiners_go_where_a_script_has_no_use_for_them_and_stay_elsewhere():
    assert normalize(f"Ba{ZWNJ}ku", "en", DEFAULT) == "Baku"
    assert normalize(f"الس{ZWNJ}لام", "ar", DEFAULT) == "السلام"
    assert normalize("क्\u200dष", "other", DEFAULT) == "क्\u200dष"


@pytest.mark.parametrize(("half_spaces", "gap"), [("keep", ZWNJ), ("space", " "), ("drop", "")])
def test_half_spaces_become_what_the_settings_say(half_spaces, gap):
    chosen = NormalizeSettings(half_spaces=half_spaces)
    assert normalize(f"می{ZWNJ}رود", "fa", chosen) == f"می{gap}رود"
    assert normalize(f"گئدیر{ZWNJ}لر", "az", chosen) == f"گئدیر{gap}لر"


# --- Persian compounds ---

PRESIDENTS = ["رئيس جمهور", "رئیس‌جمهور", "رئیسجمهور", "رییس جمهور", "رييس‌جمهور", "رئیس\u00adجمهور"]


@pytest.mark.parametrize(("half_spaces", "gap"), [("keep", ZWNJ), ("space", " "), ("drop", "")])
def test_the_spellings_of_a_compound_meet(half_spaces, gap):
    chosen = NormalizeSettings(half_spaces=half_spaces, compounds=True)
    met = {normalize(spelling, "fa", chosen) for spelling in PRESIDENTS}
    assert met == {f"رئیس{gap}جمهور"}


def test_without_compounds_spaced_and_glued_spellings_stay_apart():
    met = {normalize(s, "fa", NormalizeSettings(half_spaces="drop")) for s in PRESIDENTS[:3]}
    assert met == {"رئیس جمهور", "رئیسجمهور"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("حمل و نقل و گفت وگو", "حملونقل و گفتوگو"),
        ("کشور ها نمی خواهند", "کشورها نمیخواهند"),
        ("بزرگ تر، امن ترین", "بزرگتر، امنترین"),
        ("پیش ها", "پیشها"),
        ("در ماه می.", "در ماه می."),
        ("ترک ها آمدند", "ترکها آمدند"),
        ("هوای تر و تازه", "هوایتر و تازه"),  # the price: "تر" is also "moist"
        ("سهم کاری ندارد", "سهم کاری ندارد"),
    ],
)
def test_affixes_are_joined(text, expected):
    chosen = NormalizeSettings(half_spaces="drop", compounds=True)
    assert normalize(text, "fa", chosen) == expected


def test_compounds_are_persian_alone():
    text = "حمل و نقل ها"
    for language in ("ar", "az", "other"):
        assert normalize(text, language, NormalizeSettings(compounds=True)) == text


# --- hazm ---

HAZM = NormalizeSettings(hazm=True)


def test_hazm_spaces_persian_and_spares_what_is_not():
    pytest.importorskip("hazm")
    text = "رئیس جمهور می رود و کتاب ها را https://a.ir/می_رود 2023-cü x@y.ir «رسماً» 5.2 (A B)"
    expected = (
        f"رئیس{ZWNJ}جمهور می{ZWNJ}رود و کتاب{ZWNJ}ها را "
        "https://a.ir/می_رود 2023-cü x@y.ir «رسماً» 5.2 (A B)"
    )
    assert normalize(text, "fa", HAZM) == expected


@pytest.mark.parametrize("language", ["ar", "az", "tr", "en", "ru", "other"])
def test_hazm_never_sees_another_language(language, monkeypatch):
    monkeypatch.setattr("relclass.normalize._hazm_normalizer", None)
    normalize("می رود", language, HAZM)
    with pytest.raises(TypeError):
        normalize("می رود", "fa", HAZM)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_hazm_moves_spaces_alone_and_settles(text):
    pytest.importorskip("hazm")
    plain, spaced = (normalize(text, "fa", chosen) for chosen in (DEFAULT, HAZM))
    assert plain.replace(" ", "").replace(ZWNJ, "") == spaced.replace(" ", "").replace(ZWNJ, "")
    assert normalize(spaced, "fa", HAZM) == spaced


def test_without_hazm_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hazm", None)
    _hazm_normalizer.cache_clear()
    with pytest.raises(MissingExtraError, match=r"hazm is not installed.*\.\[persian\]"):
        normalize("می رود", "fa", HAZM)


# --- time ---


@pytest.mark.parametrize("chosen", [EVERYTHING, HAZM], ids=["everything", "hazm"])
@pytest.mark.parametrize(
    "unit", ["سلام", "می", "میشود ", "\u200c ", " ", "a@", "http://", "ا\u0653", "\u200c", "1."]
)
def test_a_megabyte_without_a_break_takes_seconds(unit, chosen):
    if chosen.hazm:
        pytest.importorskip("hazm")
        normalize("سلام دنیا", "fa", chosen)  # its word lists are loaded once
    text = unit * (500_000 // len(unit))  # a megabyte in UTF-8 for Persian
    start = time.process_time()
    normalize(text, "fa", chosen)
    assert time.process_time() - start < 8
