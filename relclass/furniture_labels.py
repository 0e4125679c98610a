"""The words by which page furniture is known, in the six languages served.

Written with Persian letters and marks as they should be; matched against folded text, where the
variants that scrapers, keyboards and typists leave are one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_FOLDS = (
    ("ي", "ی"), ("ى", "ی"), ("ك", "ک"), ("أ", "ا"), ("إ", "ا"), ("آ", "ا"), ("ة", "ه"), ("İ", "i"),
)  # fmt: skip
_LATIN_FOLDS = (("ə", "e"), ("ş", "s"), ("ı", "i"), ("ğ", "g"), ("ö", "o"), ("ü", "u"), ("ç", "c"))


def fold(text: str) -> str:
    """Fold exchanged letters and upper case; every character keeps its place."""
    for letter, folded in _FOLDS:
        text = text.replace(letter, folded)
    text = text.lower()
    for letter, folded in _LATIN_FOLDS:
        text = text.replace(letter, folded)
    return text


def label_pattern(labels: str) -> str:
    """Make a pattern of labels parted by "|", the longest first.

    Spaces may be lost or halved; "#" stands for a digit.
    """
    words = sorted(fold(labels).split("|"), key=len, reverse=True)
    patterns = (re.escape(word).replace("\\#", "\\d") for word in words)
    return "|".join(pattern.replace("\\ ", "[\\s\u200c]*+") for pattern in patterns)


CODE = (
    "کد خبر|کد مطلب|کد یادداشت|شناسه خبر|شناسه مطلب|شماره خبر|رمز الخبر|رقم الخبر|خبر کودو"
    "|xəbər kodu|haber kodu|news id|news code|story code|код новости"
)
DATE = (
    "تاریخ انتشار|تاریخ خبر|تاریخ درج|تاریخ|زمان انتشار|تاریخ النشر|نشر فی|نشر بتاریخ"
    "|dərc olunub|yayın tarihi|yayınlanma tarihi|yayınlanma|son güncelleme|güncelleme|tarix|tarih"
    "|published on|published|last updated|updated|date|дата публикации|опубликовано|дата"
)
SOURCE = "منبع|ماخذ|المصدر|mənbə|qaynaq|kaynak|source|источник"
END = (
    "انتهای پیام|انتهای خبر|انتهای گزارش|پایان پیام|پایان خبر|پایان مطلب|end of message|end item"
    "|конец сообщения"
)
# Followed by a colon and a name. A reporter's question has one too, but is longer.
BYLINE = (
    "خبرنگار|دبیر|دبیر سرویس|مترجم|نویسنده|عکاس|عکس|تنظیم|ویراستار|مراسل|المحرر"
    "|müəllif|haber|muhabir|foto|reporter|editor|author|by|автор|фото|редактор"
)

# These rule the rest of their line, whatever it says.
OPEN: Mapping[str, str] = {
    "read_more": (
        "بیشتر بخوانید|بیشتر بخوان|بیشتر ببینید|همچنین بخوانید|همچنین ببینید"
        "|همچنین مطالب زیر را بخوانید|مطالب زیر را بخوانید"
        "|اقرا ایضا|اقرا المزید|شاهد ایضا|مواضیع ذات صله|اخبار ذات صله|الاکثر قراءه|رابط الخبر"
        "|read more|read also|also read|see also|related stories"
        "|devamını oku|haberin devamı|ilgili haberler|ilgili haber|ilginizi çekebilir"
        "|ətraflı oxu|oxşar xəbərlər|digər xəbərlər|həmçinin oxuyun|читайте также|читать далее"
        "|داها چوخ اوخویون"
    ),
    "share": (
        "به اشتراک بگذارید|شارک الخبر|شارک المقال|شارک هذا الخبر|شارک هذا المقال"
        "|شارک هذا الموضوع|شارک هذه الصفحه|share this article|share this story"
        "|ما را در تلگرام|عضویت در کانال|عضویت در خبرنامه|للاشتراک فی القناه|اشترک فی القناه"
        "|اشترک فی قناتنا|اشترک فی قناه|اشترک فی النشره|اشترک فی نشرتنا|follow us"
        "|bizi izləyin|bizi takip edin|подписывайтесь"
    ),
    "copyright": (
        "©|copyright ©|copyright (c)|copyright ####|all rights reserved|کپی مطالب|حقوق النشر"
        "|کلیه حقوق این|کلیه حقوق محفوظ|کلیه حقوق مادی|کلیه حقوق معنوی|کلیه حقوق متعلق"
        "|کلیه حقوق سایت|کلیه حقوق وب سایت|کلیه حقوق مطالب|تمامی حقوق این|تمامی حقوق محفوظ"
        "|تمامی حقوق مادی|تمامی حقوق معنوی|تمامی حقوق متعلق|تمامی حقوق سایت"
        "|تمامی حقوق وب سایت|تمامی حقوق مطالب"
        "|جمیع الحقوق محفوظه|materialdan istifadə|bütün hüquqlar qorunur|tüm hakları saklıdır"
        "|все права защищены|фото из открытых источников"
    ),
    "comments": (
        "گزارش خطا|ثبت نظر|اضف تعلیق|leave a comment|post a comment|hata bildir|нашли ошибку"
        "|оставить комментарий"
    ),
    "advert": "reklam=|reklam blokunu bağla|شماره گزارش تخلف",
    "script": "$(|function(|window.|document.|googletag|<script|var api",
}
# These too, where a colon or an arrow follows: without it they are ordinary words.
OPEN_WITH_COLON: Mapping[str, str] = {
    "read_more": (
        "اخبار مرتبط|خبرهای مرتبط|مطالب مرتبط|related news|related articles"
        "|oxuyun|related|more|پربازدیدترین|للمزید|مقالات اخری|по теме|популярное|در همین رابطه"
    ),
    "tags": (
        "برچسب ها|برچسب|کلید واژه ها|کلید واژه|کلمات کلیدی|واژه های کلیدی|الکلمات المفتاحیه"
        "|کلمات مفتاحیه|وسوم|tags|keywords|teqlər|açar sözlər|etiketler|теги|ключевые слова"
    ),
    "share": "اشتراک گذاری|شارک|شارک هذا|paylaş|paylaşın|share|поделиться|کانالا قوشولون",
    "copyright": "copyright",
    "comments": "نظر شما|دیدگاه شما|ارسال نظر",
    "advert": "تبلیغات|آگهی|اعلان|reklam|advertisement|реклама",
}
# Buttons and counters: furniture where a line has nothing else.
WIDGET = (
    "چاپ خبر|چاپ|کد|پرینت|ارسال به دوستان|ارسال نظر|لینک کوتاه خبر|لینک کوتاه|کپی لینک"
    "|دیدگاه ها|دیدگاه|عکس|نظرات|بازدید|تعداد بازدید|نفر پسندیدند|پسندیدم|گزارش تصویری"
    "|تحریریه|اشتراک گذاری|عضو شوید"
    "|نسخه للطباعه|طباعه|ارسل لصدیق|تعلیقات|تعلیق|فیسبوک|تویتر|واتساب|تلگرام|اینستاگرام"
    "|facebook|twitter|whatsapp|telegram|instagram|linkedin|youtube|e-mail|email|print|share|tweet"
    "|comments|comment|views|yorumlar|yorum yap|yorum|yazdır|abone ol|bəyən|oxunub|baxış sayı|baxış"
    "|okunma|paylaş|kez okundu|bu haber toplam|devamı|reklam|advertisement|просмотров|просмотры"
    "|комментарии|комментариев|печать|کانالا قوشولون|کپی شد|بازنشر با ذکر منبع مجاز است"
)
WEEKDAY = (
    "شنبه|یکشنبه|یک شنبه|دوشنبه|دو شنبه|سه شنبه|چهارشنبه|چهار شنبه|پنجشنبه|پنج شنبه|جمعه"
    "|السبت|الاحد|الاثنین|الثلاثاء|الاربعاء|الخمیس|الجمعه|ساعت|الساعه"
    "|monday|tuesday|wednesday|thursday|friday|saturday|sunday"
    "|pazartesi|salı|çarşamba|perşembe|cuma|cumartesi|pazar|saat"
    "|понедельник|вторник|среда|четверг|пятница|суббота|воскресенье"
)
