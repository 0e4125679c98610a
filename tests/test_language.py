import time

import pytest

from relclass.language import LANGUAGES, detect_language, detect_languages, normalize_code

TEXTS = {
    "fa": "وزیر راه گفت که خط آهن تازه تا پایان سال به مرز می‌رسد و برای حمل بار آماده می‌شود.",
    "ar": "وقال الوزير إن خط السكك الحديدية الجديد سيصل إلى الحدود قبل نهاية العام الجاري.",
    "az": "Nazir bildirib ki, yeni dəmir yolu xətti ilin sonuna qədər sərhədə çatacaq.",
    "tr": "Bakan, yeni demiryolu hattının yıl sonuna kadar sınıra ulaşacağını söyledi.",
    "en": "The minister said that the new railway would reach the border by the end of the year.",
    "ru": "Министр сообщил, что новая железная дорога дойдёт до границы к концу этого года.",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_each_language_served_is_told_from_one_sentence(language: str, text: str) -> None:
    assert detect_language(text) == language


def test_persian_with_arabic_letters_and_without_half_spaces_stays_persian() -> None:
    text = "وزير راه گفت كه خط آهن تازه تا پايان سال به مرز ميرسد و براي حمل بار آماده ميشود."
    assert detect_language(text) == "fa"


def test_azerbaijani_in_arabic_script_is_azerbaijani() -> None:
    text = "باکان بیلدیریب کی، یئنی دمیر یولو خطی ایلین سونونا قدر سرحده چاتاجاق و یوک داشییاجاق."
    assert detect_language(text) == "az"


def test_azerbaijani_without_its_marks_is_told_from_turkish() -> None:
    assert detect_language("Nazir deyib ki, yeni qatar xetti qonsu olkeye qeder uzadilib.") == "az"
    assert (
        detect_language("Bakan, yeni tren hattinin komsu ulkeye kadar uzandigini soyledi") == "tr"
    )


@pytest.mark.parametrize(
    "text",
    [
        "وزیر ریلوے نے کہا ہے کہ نئی لائن سال کے آخر تک سرحد تک پہنچ جائے گی۔",
        "Le ministre a déclaré que la nouvelle ligne de chemin de fer est prête pour les trains.",
        "Der Minister sagte, die neue Bahnstrecke werde bis zum Jahresende die Grenze erreichen.",
        "Міністр повідомив, що нова залізниця дійде до кордону наприкінці року, і її відкриють.",
        "მინისტრმა განაცხადა, რომ ახალი რკინიგზა საზღვრამდე წლის ბოლოს მივა.",
        "Նախարարն ասաց, որ նոր երկաթուղին կհասնի սահման մինչև տարեվերջ։",
        "部长表示新铁路将于年底通车。",
    ],
)
def test_other_languages_are_other(text: str) -> None:
    assert detect_language(text) == "other"


def test_a_short_passage_takes_the_language_of_its_article() -> None:
    assert detect_language("آذربایجان، قفقاز", fallback="ar") == "ar"
    assert detect_language("news.example.org", fallback="fa") == "fa"
    assert detect_language("Bakı – Tehran", fallback="tr") == "tr"


def test_a_clear_passage_does_not_take_the_fallback() -> None:
    assert detect_language(TEXTS["en"], fallback="fa") == "en"
    assert detect_language(TEXTS["ar"], fallback="fa") == "ar"


@pytest.mark.parametrize("text", ["", "   \n", "۱۲۳ / 456", "\x00\ud800\u202e", "😀 !!"])
def test_a_text_without_letters_takes_the_fallback_or_is_other(text: str) -> None:
    assert detect_language(text, fallback="fa") == "fa"
    assert detect_language(text) == "other"


def test_a_list_gives_the_same_as_one_by_one_and_only_known_codes() -> None:
    texts = [*TEXTS.values(), "", "Baku"]
    assert detect_languages(texts) == [detect_language(text) for text in texts]
    assert set(detect_languages(texts)) <= set(LANGUAGES)


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("fas", "fa"), ("pes", "fa"), ("فارسي", "fa"), ("عربی", "ar"), ("العربية", "ar"),
        ("az-Latn", "az"), ("Azərbaycan dili", "az"), ("Türkçe", "tr"), ("EN_us", "en"),
        ("русский", "ru"), ("fr", "other"),
        ("und", None), ("mul", None), ("unknown", None), ("N/A", None), ("-", None),
    ],
)  # fmt: skip
def test_codes_and_names_of_languages_are_read_as_others_write_them(
    code: str, language: str | None
) -> None:
    assert normalize_code(code) == language


def test_a_huge_text_costs_no_more_than_a_page() -> None:
    started = time.process_time()
    assert detect_language(TEXTS["fa"] * 100_000) == "fa"
    assert time.process_time() - started < 0.2
