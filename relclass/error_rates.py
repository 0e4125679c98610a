"""How a model errs on ordinary news: what shares of an archive are corrected by.

The labelled test passages were picked for being hard, so a model errs on them more often than on
the press at large. How many passages it marks wrongly is therefore measured on a random sample;
the few passages there that do have a topic are joined by those of the test part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relclass.dataset import to_arrays
from relclass.metrics import precision_recall_f1, specificity
from relclass.models.base import Classifier
from relclass.records import LabelledPassage


def measure_error_rates(
    classifier: Classifier,
    sample: Sequence[LabelledPassage],
    test: Sequence[LabelledPassage] = (),
) -> dict[str, dict[str, float]]:
    """Measure a model against passages that it was not trained on.

    Parameters
    ----------
    sample : drawn at random from news like what will be labelled.
    test : more passages, however drawn; only those that have a topic count, for its sensitivity.

    Returns
    -------
    Topic to "sensitivity" and "specificity", as `relclass.summary.ErrorRates` takes them. A topic
    for which one is unknown, or with which the model does no better than chance, is left out.

    Raises
    ------
    ValueError
        If the sample is empty.
    """
    if not sample:
        raise ValueError("Got an empty sample but expected passages.")
    texts, languages, y_true, _ = to_arrays([*sample, *test], classifier.codebook)
    y_pred = classifier.predict(texts, languages)
    sensitivities = precision_recall_f1(y_true, y_pred)[1]
    specificities = specificity(y_true[: len(sample)], y_pred[: len(sample)])
    rates = np.stack([sensitivities, specificities]).astype(float)
    return {
        topic: {"sensitivity": float(rates[0, column]), "specificity": float(rates[1, column])}
        for column, topic in enumerate(classifier.topics)
        if rates[:, column].sum() > 1  # not so where one is NaN
    }
