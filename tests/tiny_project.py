"""A small project on disk: codebook, articles of our own words, splits."""

from __future__ import annotations

import json
from pathlib import Path

from relclass.config import DataSettings
from relclass.dataset import make_splits

WORDS = {
    "security": ("رزمایش", "مرزبانی", "حمله پهپادی"),
    "transit": ("کامیون", "راه‌آهن", "گمرک"),
    "energy": ("خط لوله", "گاز", "نیروگاه"),
    "karabakh": ("قره‌باغ", "خانکندی", "شوشا"),
}
_PLACES = ("آستارا", "جلفا", "باکو", "تبریز", "اردبیل", "رشت", "خوی", "گنجه")
_VERBS = ("سخن گفت", "خبر داد", "دیدار کرد", "بازدید کرد", "گزارش داد", "هشدار داد")


def write_project(folder: Path, *, n_articles: int = 60) -> DataSettings:
    """Write the project's files and return the settings that read them."""
    topics = "".join(f"  - {{name: {name}, definition: {name}}}\n" for name in WORDS)
    (folder / "codebook.yaml").write_text(f'version: "1"\ntopics:\n{topics}', encoding="utf-8")
    lines = [json.dumps(_article(number), ensure_ascii=False) for number in range(n_articles)]
    (folder / "articles.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = DataSettings(
        codebook=folder / "codebook.yaml",
        authored=(folder / "articles.jsonl",),
        splits=folder / "splits.json",
    )
    make_splits(settings)
    return settings


def _article(number: int) -> dict[str, object]:
    names = list(WORDS)
    place, verb = _PLACES[number * 5 % 8], _VERBS[number * 7 % 6]
    passages = []
    for part in range(2):
        name = names[(number + part) % 4]
        word = WORDS[name][(number // 4) % 3]
        text = f"مقام شماره {number * 37 + part} در {place} درباره {word} {verb}."
        passages.append({"text": text, "topics": [name]})
    plain = f"هوای {place} در روز {number * 13} بارانی بود و مدرسه‌ها {verb.split()[0]}."
    passages.append({"text": plain, "topics": []})
    return {"id": f"t{number}", "lang": "fa", "title": place, "passages": passages}
