"""Makes logits.npy, labels.npy and expected.json: a classifier of the UCI digits, judged by scikit-learn.

pip install -r requirements.txt && python make_data.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import scipy
import sklearn
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent


def main() -> None:
    digits = load_digits()
    train, _, train_labels, _ = train_test_split(digits.data, digits.target, test_size=0.5, random_state=0)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(train, train_labels)

    # Half of the rows were seen in training: the cost is of real logits, not a claim on the classifier.
    logits = classifier.decision_function(digits.data).astype(np.float32)
    labels = digits.target.astype(np.int64)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    expected = {
        "cost": float(log_loss(labels, probabilities)),
        "rows": len(labels),
        "columns": logits.shape[1],
        "accuracy": float(accuracy_score(labels, logits.argmax(axis=1))),
        "source": "sklearn.metrics.log_loss of the softmax in float64 of logits.npy",
        "versions": {module.__name__: module.__version__ for module in (np, scipy, sklearn)},
    }
    np.save(HERE / "logits.npy", logits)
    np.save(HERE / "labels.npy", labels)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    print(f"cost {expected['cost']}, accuracy {expected['accuracy']:.4f}")


if __name__ == "__main__":
    main()
