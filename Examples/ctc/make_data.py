"""Makes the frames, targets and expected losses beside this file: lines of handwritten digits, read column by column.

pip install -r requirements.txt && python make_data.py

Every line is a row of images of the UCI digits with narrow gaps between. A classifier sees a window of eight columns
about each column and says which digit is centred in it, or that none is, which is CTC's blank.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
BLANK = 10
SIZE = 8
Array = np.ndarray


def line(images: Array, digits: Array, random: np.random.Generator) -> tuple[Array, list[int]]:
    """An image of a line, and the first column of each of its digits."""
    columns, starts = [np.zeros((SIZE, SIZE // 2))], []
    for digit in digits:
        starts.append(sum(part.shape[1] for part in columns))
        columns += [images[digit], np.zeros((SIZE, random.integers(0, 3)))]
    columns.append(np.zeros((SIZE, SIZE // 2)))
    return np.concatenate(columns, axis=1), starts


def windows(image: Array) -> Array:
    """Every window of eight columns, as rows."""
    return np.stack([image[:, x : x + SIZE].ravel() for x in range(image.shape[1] - SIZE + 1)])


def main() -> None:
    digits = load_digits()
    random = np.random.default_rng(5)
    half = len(digits.images) // 2

    rows, classes = [], []
    for _ in range(200):
        chosen = random.integers(0, half, 6)
        image, starts = line(digits.images, chosen, random)
        label = np.full(image.shape[1] - SIZE + 1, BLANK)
        for digit, start in zip(digits.target[chosen], starts, strict=True):
            label[start - 1 : start + 2] = digit
        rows.append(windows(image))
        classes.append(label)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(np.concatenate(rows), np.concatenate(classes))

    # Lines of images that the classifier has not seen.
    lines, targets = [], []
    for _ in range(24):
        chosen = random.integers(half, len(digits.images), random.integers(3, 8))
        lines.append(classifier.decision_function(windows(line(digits.images, chosen, random)[0])).astype(np.float32))
        targets.append(digits.target[chosen])
    time, width = max(map(len, lines)), max(map(len, targets))
    # What follows a length is not read, and says so.
    logits = np.full((len(lines), time, BLANK + 1), np.nan, np.float32)
    padded = np.full((len(lines), width), -1)
    for row, (frames, target) in enumerate(zip(lines, targets, strict=True)):
        logits[row, : len(frames)], padded[row, : len(target)] = frames, target

    losses = [
        F.ctc_loss(
            F.log_softmax(torch.from_numpy(frames).double(), 1),
            torch.from_numpy(target),
            (len(frames),),
            (len(target),),
            blank=BLANK,
            reduction="none",
        ).item()
        for frames, target in zip(lines, targets, strict=True)
    ]
    expected = {
        "cost": float(np.mean([loss / len(target) for loss, target in zip(losses, targets, strict=True)])),
        "losses": losses,
        "source": "torch.nn.functional.ctc_loss in float64, each line by itself",
        "versions": {module.__name__: module.__version__.split("+")[0] for module in (np, sklearn, torch)},
    }
    np.save(HERE / "logits.npy", logits)
    np.save(HERE / "targets.npy", padded)
    np.save(HERE / "input-lengths.npy", np.array([len(frames) for frames in lines]))
    np.save(HERE / "target-lengths.npy", np.array([len(target) for target in targets]))
    (HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    print(f"{len(lines)} lines of up to {time} frames and {width} digits, cost {expected['cost']}")


if __name__ == "__main__":
    main()
