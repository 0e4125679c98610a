"""Tiny random checkpoints of the architectures that configs/ names, with tokenizers of our own."""

from __future__ import annotations

from pathlib import Path

SENTENCES = [
    "وزیر نفت گفت خط لوله گاز تا پایان سال آماده می‌شود.",
    "کامیون‌ها در مرز آستارا ساعت‌ها در صف ماندند.",
    "رزمایش مشترک در نزدیکی رود ارس برگزار شد.",
    "نمایشگاه کتاب امروز در تبریز گشایش یافت.",
    "أعلنت الوزارة عن زيادة صادرات الغاز هذا العام.",
    "توقفت الشاحنات عند المعبر الحدودي منذ الصباح.",
    "Sərhəd keçid məntəqəsində yük maşınları gözləyir.",
    "Boru hattı gelecek yıl tamamlanacak.",
    "The railway link will carry more freight next year.",
    "Учения прошли у границы на этой неделе.",
]
TOPICS = ("security", "transit", "energy", "karabakh")
ARCHITECTURES = ("bert", "xlm-roberta", "deberta-v2")
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}


def write_tiny_encoder(folder: Path, architecture: str) -> Path:
    """Write a 2-layer random checkpoint of transformers' own classes for an architecture."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        DebertaV2Config,
        DebertaV2Model,
        XLMRobertaConfig,
        XLMRobertaModel,
    )

    torch.manual_seed(0)
    tokenizer = _TOKENIZERS[architecture]()
    shape = _SHAPE | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if architecture == "bert":
        model = BertModel(BertConfig(**shape))
    elif architecture == "xlm-roberta":
        model = XLMRobertaModel(XLMRobertaConfig(**shape, type_vocab_size=1))
    else:
        relative = {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
        }
        model = DebertaV2Model(DebertaV2Config(**shape, **relative))
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _pieces(before_word: str, inside_word: str) -> list[str]:
    """Cut the words into threes of letters, then single letters; the same in every process.

    Trained tokenizers break ties by a hash that differs from process to process.
    """
    pieces = (
        (inside_word if start else before_word) + word[start : start + size]
        for size in (3, 1)
        for word in " ".join(SENTENCES).split()
        for start in range(0, len(word), size)
    )
    return list(dict.fromkeys(pieces))


def _wordpiece():
    from transformers import BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *_pieces("", "##")]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return BertTokenizer(vocab=vocab, do_lower_case=False, strip_accents=False)


def _unigram_pieces(special: list[str]) -> list[tuple[str, float]]:
    pieces = _pieces("\N{LOWER ONE EIGHTH BLOCK}", "")
    scored = [(piece, float(len(piece)) - 9) for piece in pieces]
    return [*((piece, 0.0) for piece in special), *scored]


def _xlm_roberta():
    from transformers import XLMRobertaTokenizer

    pieces = _unigram_pieces(["<s>", "<pad>", "</s>", "<unk>"])
    return XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)])


def _deberta():
    from transformers import DebertaV2Tokenizer

    return DebertaV2Tokenizer(vocab=_unigram_pieces(["[PAD]", "[CLS]", "[SEP]", "[UNK]"]))


_TOKENIZERS = {"bert": _wordpiece, "xlm-roberta": _xlm_roberta, "deberta-v2": _deberta}
