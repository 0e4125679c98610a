import pytest
from batch_stubs import SENTENCES, make_classifier


@pytest.mark.parametrize("method", ["predict_logits", "predict_proba", "predict", "predict_topics"])
def test_languages_of_another_length_than_the_texts_are_refused(method):
    with pytest.raises(ValueError, match="Got 1 languages for 2 texts but expected one for each"):
        getattr(make_classifier(), method)(SENTENCES[:2], ["fa"])
