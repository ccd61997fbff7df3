"""Writes the fixtures beside this file: losses and gradients from PyTorch autograd in float64.

    pip install -r requirements.txt && python generate.py [LOSS ...]

Each `<loss>.json` holds `{"loss", "source", "cases"}`; a case holds its `options` and `inputs`, and what an
evaluation must yield: `cost`, `sum`, `denominator`, the weighted per-sample `losses` and the `gradients` by role.
A tensor is `{"shape", "data"}` in row-major order. Numbers that JSON lacks are the strings "inf", "-inf" and "nan".
Class indices, sample weights of a row-wise loss and class weights have one axis; the weights of an element-wise
loss have the shape of its predictions, or one column to be broadcast.

Every input is exact in float32, so that one fixture serves both precisions. Where the decisions of this project
differ from PyTorch they are written out here, in one place each:

- a denominator of 0 gives cost 0 and gradient 0 (PyTorch: NaN);
- a sample of weight 0 is silent, even if it holds NaN (PyTorch: 0 * NaN);
- 0 * log 0 is 0 in every cross-entropy and divergence (PyTorch: NaN for -inf log-probabilities);
- binary cross-entropy at an infinite logit on the right side is 0 (PyTorch: NaN);
- `mean` divides by the weights' sum in every loss (PyTorch: only in cross-entropy);
- smoothing over a logit of -inf costs +inf; a row of -inf alone, or one with +inf, is NaN, as in PyTorch;
- the subgradient at every kink is 0.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Inputs = dict[str, Tensor]
Options = dict[str, Any]
INF = math.inf
NAN = math.nan
HERE = Path(__file__).parent

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


@dataclass
class Case:
    name: str
    inputs: Inputs
    options: Options = field(default_factory=dict)
    golden: dict[str, float] = field(default_factory=dict)
    """Published values, which the computed ones must meet."""


@dataclass(frozen=True)
class Loss:
    name: str
    evaluate: Callable[[Inputs, Options], Evaluation]
    cases: Callable[[], Iterable[Case]]


@dataclass
class Evaluation:
    """What a loss leaves to the reduction: weighted losses, and the count and weight of what contributes."""

    losses: Tensor
    weight: float
    count: float
    rows: int


# MARK: - Reduction, shared by every loss


def denominator(evaluation: Evaluation, reduction: str) -> float:
    return {
        "mean": evaluation.weight,
        "meanOverCount": evaluation.count,
        "batchMean": float(evaluation.rows),
        "sum": 1.0,
    }[reduction]


def evaluated(loss: Loss, case: Case) -> dict[str, Any]:
    differentiable = {
        role: case.inputs[role].clone().requires_grad_()
        for role in ("predictions", "logits", "probabilities", "log-probabilities", "target-logits")
        if role in case.inputs
    }
    evaluation = loss.evaluate(case.inputs | differentiable, case.options)
    divisor = denominator(evaluation, case.options["reduction"])
    total = evaluation.losses.sum()
    cost = total / divisor if divisor != 0 else total * 0
    gradients = torch.autograd.grad(cost, list(differentiable.values()), allow_unused=True)
    result = {"cost": cost.item(), "sum": total.item(), "denominator": divisor}
    if divisor == 0:
        result["cost"] = 0.0
        gradients = tuple(torch.zeros_like(x) for x in differentiable.values())
    for key, value in case.golden.items():
        if not math.isclose(result[key], value, rel_tol=1e-9):
            raise AssertionError(f"{loss.name}, {case.name}: {key} is {result[key]}, published is {value}")
    return (
        {"name": case.name, "options": case.options, "inputs": {r: encoded(x) for r, x in case.inputs.items()}}
        | {key: number(value) for key, value in result.items()}
        | {
            "losses": encoded(evaluation.losses.detach()),
            "gradients": {role: encoded(g) for role, g in zip(differentiable, gradients, strict=True)},
        }
    )


# MARK: - Element-wise losses


def element_wise(
    formula: Callable[[Tensor, Tensor, Options], Tensor], role: str = "predictions"
) -> Callable[[Inputs, Options], Evaluation]:
    """The evaluation of a loss given element by element, with weights per element or per row."""

    def evaluate(inputs: Inputs, options: Options) -> Evaluation:
        source = "probabilities" if "probabilities" in inputs else role
        x, t = inputs[source], inputs["targets"]
        w = inputs.get("weights", torch.ones(1, 1)).expand(x.shape)
        silent = w == 0
        # The harmless value must replace the data before the formula: NaN survives a mask applied after it.
        x, t = torch.where(silent, 0.5, x), torch.where(silent, 1.0, t)
        losses = torch.where(silent, 0.0, w * formula(x, t, options | {"source": source}))
        return Evaluation(losses, w.sum().item(), float(x.numel()), x.shape[0])

    return evaluate


def log_cosh(x: Tensor, t: Tensor, _: Options) -> Tensor:
    e = x - t
    # Neither form alone is exact to the last digits: one cancels near 0, the other overflows.
    small = 0.5 * torch.log1p(torch.sinh(e.clamp(-1, 1)) ** 2)
    large = e.abs() + torch.log1p(torch.exp(-2 * e.abs())) - math.log(2)
    return torch.where(e.abs() < 1, small, large)


def quantile(x: Tensor, t: Tensor, options: Options) -> Tensor:
    q = options["quantile"]
    return q * F.relu(t - x) + (1 - q) * F.relu(x - t)


def poisson(x: Tensor, t: Tensor, options: Options) -> Tensor:
    return F.poisson_nll_loss(
        x, t, log_input=options["logInput"], full=options.get("full", False), eps=1e-8, reduction="none"
    )


def hinge(x: Tensor, t: Tensor, _: Options) -> Tensor:
    return F.relu(1 - t * x)


def product(coefficient: Tensor, value: Tensor) -> Tensor:
    """The product in which 0 wins over infinity."""
    return torch.where(coefficient == 0, 0.0, coefficient * value)


class BinaryCrossEntropyFromProbabilities(torch.autograd.Function):
    """PyTorch's clamps (logs at -100, the slope's divisor at 1e-12) with a weight on the positive part."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, y: Tensor, q: float) -> Tensor:
        ctx.save_for_backward(p, y)
        ctx.q = q
        return -(q * y * p.log().clamp(min=-100) + (1 - y) * torch.log1p(-p).clamp(min=-100))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        p, y = ctx.saved_tensors
        slope = ((1 - y) * p - ctx.q * y * (1 - p)) / (p * (1 - p)).clamp(min=1e-12)
        return upstream * slope, None, None


def binary_cross_entropy(x: Tensor, t: Tensor, options: Options) -> Tensor:
    q, smoothing = options.get("positiveWeight", 1.0), options.get("labelSmoothing", 0.0)
    y = t * (1 - smoothing) + smoothing / 2
    if options["source"] == "probabilities":
        return BinaryCrossEntropyFromProbabilities.apply(x, y, q)
    return product(1 - y, -F.logsigmoid(-x)) + product(q * y, -F.logsigmoid(x))


def focal(x: Tensor, t: Tensor, options: Options) -> Tensor:
    """`torchvision.ops.sigmoid_focal_loss`, with 1 - p_t formed without cancellation."""
    entropy = binary_cross_entropy(x, t, {"source": "logits"})
    miss = t * torch.sigmoid(-x) + (1 - t) * torch.sigmoid(x)
    loss = entropy * miss ** options["gamma"]
    alpha = options.get("alpha", -1.0)
    return loss * (alpha * t + (1 - alpha) * (1 - t)) if alpha >= 0 else loss


# MARK: - Row-wise losses


def scattered(contributing: Tensor, x: Tensor, weighted_losses: Callable[[], Tensor]) -> Tensor:
    """The losses of the contributing rows among zeros: no NaN can pass from a row that was never evaluated."""
    if not contributing.any():
        return torch.where(torch.isfinite(x), x, 0.0).sum(1) * 0
    return torch.zeros(x.shape[0]).index_put((contributing.nonzero()[:, 0],), weighted_losses())


def softmax_cross_entropy(inputs: Inputs, options: Options) -> Evaluation:
    x, t = inputs["logits"], inputs["targets"]
    rows, columns = x.shape
    sample = inputs.get("weights", torch.ones(rows))
    by_class = inputs.get("class-weights", torch.ones(columns))
    has_indices = not t.is_floating_point()
    kept = t != options["ignoreIndex"] if "ignoreIndex" in options else torch.ones(rows, dtype=torch.bool)
    contributing = kept & (sample != 0)

    losses = scattered(
        contributing,
        x,
        lambda: sample[contributing] * softmax_row_losses(x[contributing], t[contributing], by_class, options),
    )
    weight = sample[kept] * by_class[t[kept]] if has_indices else sample
    return Evaluation(losses, weight.sum().item(), float(kept.sum()), rows)


def softmax_row_losses(x: Tensor, t: Tensor, by_class: Tensor, options: Options) -> Tensor:
    smoothing, columns = options.get("labelSmoothing", 0.0), x.shape[1]
    if "softCap" in options:
        x = options["softCap"] * torch.tanh(x / options["softCap"])
    log_p = F.log_softmax(x, dim=1)
    indices = not t.is_floating_point()
    t = F.one_hot(t, columns).to(x.dtype) if indices else t
    t = t * (1 - smoothing) + smoothing / columns
    row = product(by_class * t, -log_p).sum(1)
    # A masked product hides NaN of a row without normaliser.
    row = torch.where(torch.isnan(log_p).any(1), log_p.sum(1), row)
    if "zLoss" in options:
        row = row + options["zLoss"] * torch.logsumexp(x, 1) ** 2
    return row


def kl_divergence(inputs: Inputs, options: Options) -> Evaluation:
    x = inputs["logits"] if "logits" in inputs else inputs["log-probabilities"]
    rows = x.shape[0]
    sample = inputs.get("weights", torch.ones(rows))
    contributing = sample != 0
    kept = {role: value[contributing] for role, value in inputs.items()}
    losses = scattered(contributing, x, lambda: kept.get("weights", 1.0) * kl_row_losses(kept, options))
    # Each of the n×K terms counts as a sample, as PyTorch's `mean` has it; `batchMean` divides by the rows.
    columns = x.shape[1]
    return Evaluation(losses, sample.sum().item() * columns, float(rows * columns), rows)


def kl_row_losses(inputs: Inputs, options: Options) -> Tensor:
    """T² · Σ p (log p - log q); targets given as probabilities or logs are taken as they are, without T."""
    temperature = options.get("temperature", 1.0)
    if "logits" in inputs:
        log_q = F.log_softmax(inputs["logits"] / temperature, dim=1)
    else:
        log_q = inputs["log-probabilities"]
    if "target-logits" in inputs:
        log_p = F.log_softmax(inputs["target-logits"] / temperature, dim=1)
        p = log_p.exp()
    elif options.get("logTargets", False):
        log_p = inputs["targets"]
        p = log_p.exp()
    else:
        p = inputs["targets"]
        log_p = p.log()
    absent = p == 0
    difference = torch.where(absent, 0.0, log_p) - torch.where(absent, 0.0, log_q)
    return temperature**2 * torch.where(absent, 0.0, p * difference).sum(1)


# MARK: - Inputs


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([20260, seed])


def grid(values: np.ndarray, step: float = 2.0**-9) -> Tensor:
    """Rounded to a binary grid: exact in float32, and short as a decimal."""
    return torch.from_numpy(np.round(np.asarray(values) / step) * step)


def float32(values: Tensor) -> Tensor:
    return values.to(torch.float32).to(torch.float64)


def normal(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return grid(scale * generator(seed).standard_normal(shape))


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0, step: float = 2.0**-9) -> Tensor:
    return grid(generator(seed).uniform(low, high, shape), step)


def positive_weights(seed: int, *shape: int) -> Tensor:
    return uniform(seed, *shape, low=0.25, high=3.0, step=2.0**-4)


def distributions(seed: int, rows: int, columns: int) -> Tensor:
    return float32(torch.softmax(normal(seed, rows, columns, scale=2.0), 1))


def indices(seed: int, rows: int, columns: int) -> Tensor:
    return torch.from_numpy(generator(seed).integers(0, columns, rows))


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# MARK: - Cases of element-wise losses

REDUCTIONS = ["mean", "meanOverCount", "sum", "batchMean"]
SHAPES = [(1, 1), (3, 5), (4, 17), (2, 33)]


def element_wise_cases(
    make: Callable[[int, int, int], Inputs], options: list[Options], role: str = "predictions"
) -> Iterable[Case]:
    """Every option at every shape, and every reduction with every form of weights."""
    for seed, (chosen, (r, c)) in enumerate(itertools.product(options, SHAPES)):
        label = " ".join(f"{k} {v}" for k, v in chosen.items())
        yield Case(f"{r}x{c} {label}".strip(), make(seed, r, c), chosen | {"reduction": "mean"})
    for seed, reduction in enumerate(REDUCTIONS):
        inputs = make(100 + seed, 3, 5)
        chosen = options[seed % len(options)] | {"reduction": reduction}
        yield Case(f"{reduction}, no weights", inputs, chosen)
        for kind, shape in {"element": (3, 5), "row": (3, 1)}.items():
            weights = {"weights": positive_weights(200 + seed, *shape)}
            yield Case(f"{reduction}, weight per {kind}", inputs | weights, chosen)
    base = options[0] | {"reduction": "mean"}
    silenced = make(300, 3, 5)
    silenced[role][1, :] = NAN
    yield Case("H18: row weight 0 silences NaN", silenced | {"weights": torch.tensor([[1.0], [0.0], [2.0]])}, base)
    silenced = make(301, 2, 3)
    silenced[role][0, 1] = NAN
    yield Case("H18: element weight 0 silences NaN", silenced | {"weights": matrix([1, 0, 2], [0.5, 1, 1])}, base)
    yield Case("weights sum to 0", make(302, 2, 3) | {"weights": torch.zeros(2, 3)}, base)
    for reduction in ("mean", "sum"):
        yield Case(f"H12: no rows, {reduction}", make(303, 0, 3), base | {"reduction": reduction})


def regression_inputs(seed: int, rows: int, columns: int) -> Inputs:
    return {"predictions": normal(seed, rows, columns), "targets": normal(1000 + seed, rows, columns, scale=2.0)}


def regression_cases(options: list[Options]) -> Iterable[Case]:
    yield from element_wise_cases(regression_inputs, options)
    for chosen in options:
        zeros = torch.zeros(1, 5)
        yield Case(
            "kink and its neighbours " + " ".join(map(str, chosen.values())),
            {"predictions": matrix([0.0, 2.0**-20, -(2.0**-20), 4096.0, -4096.0]), "targets": zeros},
            chosen | {"reduction": "mean"},
        )


def mean_absolute_error_cases() -> Iterable[Case]:
    yield from regression_cases([{}])
    yield infinite_error({})


def infinite_error(options: Options) -> Case:
    return Case(
        " ".join(["infinite predictions", *map(str, options.values())]),
        {"predictions": matrix([INF, -INF, 1.0]), "targets": torch.zeros(1, 3)},
        options | {"reduction": "sum"},
    )


def huber_cases(option: str) -> Iterable[Case]:
    values = [{option: v} for v in ((1.0, 1.5, 0.25) if option == "delta" else (1.0, 0.5, 2.0))]
    yield from regression_cases(values)
    for chosen in values:
        v = chosen[option]
        kinks = [v, -v, v + 2.0**-12, v - 2.0**-12, -v - 2.0**-12, -v + 2.0**-12, 0.0]
        inputs = {"predictions": matrix(kinks), "targets": torch.zeros(1, 7)}
        yield Case(f"kinks at {option} {v}", inputs, chosen | {"reduction": "sum"})
        yield infinite_error(chosen)


def smooth_l1_cases() -> Iterable[Case]:
    yield from huber_cases("beta")
    inputs = {"predictions": matrix([1.0, 2.0, -3.0]), "targets": matrix([1.0, 1.0, 1.0])}
    yield Case("H17: beta 0 is the absolute error", inputs, {"beta": 0.0, "reduction": "mean"})


def log_cosh_cases() -> Iterable[Case]:
    yield from regression_cases([{}])
    far = {"predictions": matrix([700.0]), "targets": matrix([0.0])}
    yield Case("no overflow at 700", far, {"reduction": "mean"}, {"cost": 700 - math.log(2)})
    small = {"predictions": matrix([2.0**-12, -(2.0**-6), 0.0, 1.0, -1.0]), "targets": torch.zeros(1, 5)}
    yield Case("small errors", small, {"reduction": "mean"})


def poisson_inputs(seed: int, rows: int, columns: int) -> Inputs:
    return {
        "predictions": uniform(seed, rows, columns, low=0.125, high=3.0),
        "targets": torch.from_numpy(generator(seed).poisson(2.0, (rows, columns)).astype(np.float64)),
    }


def poisson_cases() -> Iterable[Case]:
    forms = [{"logInput": log_input, "full": full} for log_input in (True, False) for full in (False, True)]
    yield from element_wise_cases(poisson_inputs, forms)
    edge = {"predictions": matrix([0.0, 1.0, 2.0, 1.0]), "targets": matrix([0.0, 1.0, 1.5, 1.0009765625])}
    for form in forms:
        yield Case(f"targets about 1, a rate of 0, {form}", edge, form | {"reduction": "sum"})


def hinge_inputs(seed: int, rows: int, columns: int) -> Inputs:
    signs = 2.0 * generator(seed + 500).integers(0, 2, (rows, columns)) - 1
    return {"predictions": normal(seed, rows, columns, scale=1.5), "targets": torch.from_numpy(signs)}


def hinge_cases() -> Iterable[Case]:
    yield from element_wise_cases(hinge_inputs, [{}])
    inputs = {"predictions": matrix([1.0, -1.0, -1.0, 1.0, 0.0]), "targets": matrix([1.0, -1.0, 1.0, -1.0, 1.0])}
    yield Case("exactly at the margin", inputs, {"reduction": "sum"})


def logit_inputs(seed: int, rows: int, columns: int) -> Inputs:
    hard = generator(seed + 600).integers(0, 2, (rows, columns)).astype(np.float64)
    soft = uniform(seed + 700, rows, columns)
    return {
        "logits": normal(seed, rows, columns, scale=3.0),
        "targets": soft if seed % 2 else torch.from_numpy(hard),
    }


def probability_inputs(seed: int, rows: int, columns: int) -> Inputs:
    return {
        "probabilities": uniform(seed, rows, columns, low=2.0**-8, high=1 - 2.0**-8),
        "targets": logit_inputs(seed, rows, columns)["targets"],
    }


def binary_cross_entropy_cases() -> Iterable[Case]:
    options = [{}, {"positiveWeight": 2.5}, {"labelSmoothing": 0.125}, {"positiveWeight": 0.5, "labelSmoothing": 0.1}]
    for role, make in {"logits": logit_inputs, "probabilities": probability_inputs}.items():
        for case in element_wise_cases(make, options, role):
            yield Case(f"{role}: {case.name}", case.inputs, case.options)
    sums = {"reduction": "sum"}
    far = {"logits": matrix([1000, -1000, 1000, -1000.0]), "targets": matrix([0, 1, 1, 0.0])}
    yield Case("H13: logits of 1000", far, sums, {"sum": 2000.0})
    far = {"logits": torch.full((1, 8), -50.0), "targets": torch.ones(1, 8)}
    yield Case("H13: a logit of -50 keeps its slope", far, {"reduction": "mean"}, {"cost": 50.0})
    infinite = {"logits": matrix([INF, -INF]), "targets": matrix([1.0, 0.0])}
    yield Case("H14: infinite logits, right label", infinite, sums, {"sum": 0.0})
    yield Case("H14: the same with a positive weight", infinite, sums | {"positiveWeight": 3.0}, {"sum": 0.0})
    wrong = {"logits": matrix([INF, -INF, INF]), "targets": matrix([0.0, 1.0, 0.5])}
    yield Case("H14: infinite logits, wrong label", wrong, sums, {"sum": INF})
    ends = {"probabilities": matrix([0.0, 1.0, 0.0, 1.0]), "targets": matrix([1.0, 0.0, 0.0, 1.0])}
    yield Case("H13: probabilities 0 and 1", ends, sums, {"sum": 200.0})


def focal_cases() -> Iterable[Case]:
    options = [
        {"alpha": 0.25, "gamma": 2.0},
        {"gamma": 1.5},
        {"alpha": 0.75, "gamma": 0.5},
        {"alpha": 0.5, "gamma": 0.0},
    ]
    yield from element_wise_cases(logit_inputs, options, "logits")
    far = {"logits": matrix([40, -40, 40, -40, 0.0]), "targets": matrix([0, 1, 1, 0, 1.0])}
    yield Case("well and badly classified", far, {"alpha": 0.25, "gamma": 2.0, "reduction": "sum"})


# MARK: - Cases of softmax cross-entropy

WIDTHS = [1, 2, 3, 7, 10, 16, 17, 31, 33, 100, 1000]
SOFTMAX_OPTIONS: dict[str, Options] = {
    "class weights": {},
    "sample weights": {},
    "smoothing": {"labelSmoothing": 0.1},
    "ignore index": {"ignoreIndex": -100},
    "z-loss": {"zLoss": 0.01},
    "soft cap": {"softCap": 5.0},
}


def softmax_case(seed: int, rows: int, columns: int, targets: str, chosen: Iterable[str], reduction: str) -> Case:
    names = list(chosen)
    inputs: Inputs = {"logits": normal(seed, rows, columns, scale=3.0)}
    if targets == "indices":
        inputs["targets"] = indices(seed + 1, rows, columns)
        if "ignore index" in names:
            inputs["targets"][rows // 2] = -100
    else:
        inputs["targets"] = distributions(seed + 1, rows, columns)
    if "class weights" in names:
        inputs["class-weights"] = positive_weights(seed + 2, columns)
    if "sample weights" in names:
        inputs["weights"] = positive_weights(seed + 3, rows)
    options: Options = {"reduction": reduction}
    for name in names:
        options |= SOFTMAX_OPTIONS[name]
    label = f"{rows}x{columns} {targets}, {' + '.join(names) or 'plain'}, {reduction}"
    return Case(label, inputs, options)


def subsets(names: list[str]) -> Iterable[tuple[str, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(names, k) for k in range(len(names) + 1))


def softmax_cases() -> Iterable[Case]:
    every = list(SOFTMAX_OPTIONS)
    soft = [name for name in every if name != "ignore index"]
    for i, columns in enumerate(WIDTHS):
        rows = 2 if columns > 100 else 3 if columns > 33 else 9
        yield softmax_case(1000 + 10 * i, rows, columns, "indices", [], "mean")
        yield softmax_case(2000 + 10 * i, rows, columns, "indices", every, "mean")
        if columns <= 100:
            yield softmax_case(3000 + 10 * i, rows, columns, "probabilities", [], "mean")
        yield softmax_case(4000 + 10 * i, rows, columns, "probabilities", soft, "mean")
    for i, names in enumerate(subsets(every)):
        yield softmax_case(5000 + 10 * i, 4, 5, "indices", names, REDUCTIONS[i % 3])
    for i, names in enumerate(subsets(soft)):
        yield softmax_case(6000 + 10 * i, 3, 5, "probabilities", names, REDUCTIONS[i % 3])
    yield softmax_case(7000, 5, 4, "indices", ["sample weights"], "batchMean")
    yield softmax_case(7010, 5, 4, "probabilities", ["sample weights"], "batchMean")
    yield from softmax_golden_cases()
    yield from softmax_hard_cases()


def softmax_golden_cases() -> Iterable[Case]:
    x, w = matrix([1, 2, 3.0], [1, 2, 3.0], [0, 0, 0.0]), torch.tensor([1.0, 2.0, 4.0])
    ignoring = {"logits": x, "targets": torch.tensor([0, 2, -100])}
    options = {"ignoreIndex": -100, "reduction": "mean"}
    yield Case("golden: ignore index", ignoring, options, {"cost": 1.4076059644443806})
    ignoring = ignoring | {"class-weights": w}
    golden = {"sum": 4.038029822221902, "cost": 0.8076059644443804, "denominator": 5.0}
    yield Case("golden: class weights + ignore index", ignoring, options, golden)
    golden = {"sum": 4.09110962340709, "cost": 0.8182219246814179, "denominator": 5.0}
    yield Case("golden: H2 with smoothing too", ignoring, options | {"labelSmoothing": 0.1}, golden)
    y = torch.tensor([0, 2, 1])
    mean = {"reduction": "mean"}
    weighted = {"logits": x, "class-weights": w}
    yield Case("golden: weighted indices", weighted | {"targets": y}, mean, {"cost": 0.8907506285})
    one_hot = F.one_hot(y, 3).to(x.dtype)
    yield Case("golden: the same as probabilities", weighted | {"targets": one_hot}, mean, {"cost": 2.0784181332})


def softmax_hard_cases() -> Iterable[Case]:
    mean, ignore = {"reduction": "mean"}, {"ignoreIndex": -100}
    x = normal(8000, 2, 4)
    nowhere = torch.tensor([-100, -100])
    for reduction in REDUCTIONS[:3]:
        inputs = {"logits": x, "targets": nowhere}
        yield Case(f"H1: every row ignored, {reduction}", inputs, ignore | {"reduction": reduction})
    broken = x.clone()
    broken[1] = matrix([NAN, INF, -INF, 1.0])
    inputs = {"logits": broken, "targets": torch.tensor([1, -100])}
    yield Case("H1: an ignored row may hold anything", inputs, mean | ignore)
    inputs = {"logits": broken, "targets": torch.tensor([1, 2]), "weights": torch.tensor([1.5, 0.0])}
    yield Case("H18: a row of weight 0 may hold anything", inputs, mean)
    inputs = {"logits": broken, "targets": distributions(8001, 2, 4), "weights": torch.tensor([1.5, 0.0])}
    yield Case("H18: the same with probabilities", inputs, mean)
    options = mean | ignore | {"labelSmoothing": 0.2}
    w = positive_weights(8002, 4)
    alone = {"logits": x[:1], "targets": torch.tensor([3]), "class-weights": w}
    yield Case("H2: a row alone", alone, options)
    yield Case("H2: the row beside an ignored one", alone | {"logits": x, "targets": torch.tensor([3, -100])}, options)
    zero = torch.tensor([0.0, 1.0, 1.0, 1.0])
    inputs = {"logits": x, "targets": torch.tensor([0, 0]), "class-weights": zero}
    yield Case("H3: the weights of all rows' classes are 0", inputs, mean)
    inputs = inputs | {"targets": torch.tensor([0, 2])}
    yield Case("H3: one row's class weight is 0", inputs, mean)
    yield from masked_logit_cases()
    yield from offset_cases()
    for reduction in ("mean", "sum"):
        inputs = {"logits": torch.zeros(0, 3), "targets": torch.zeros(0, dtype=torch.int64)}
        yield Case(f"H12: no rows, {reduction}", inputs, {"reduction": reduction})


def masked_logit_cases() -> Iterable[Case]:
    mean = {"reduction": "mean"}
    x = matrix([-INF, 0.0, 0.0])
    golden = {"cost": math.log(2)}
    yield Case("H4: masked class, another label", {"logits": x, "targets": torch.tensor([1])}, mean, golden)
    yield Case("H4: masked class is the label", {"logits": x, "targets": torch.tensor([0])}, mean, {"cost": INF})
    yield Case("H4: probability 0 there", {"logits": x, "targets": matrix([0, 0.5, 0.5])}, mean, golden)
    yield Case("H4: probability there", {"logits": x, "targets": matrix([0.5, 0.5, 0])}, mean, {"cost": INF})
    smoothed = mean | {"labelSmoothing": 0.1}
    yield Case("H4: smoothing", {"logits": x, "targets": torch.tensor([1])}, smoothed, {"cost": INF})
    for name, row in {"every class masked": [-INF] * 3, "a logit of +inf": [0.0, INF, 0.0]}.items():
        inputs = {"logits": matrix(row, [1, 2, 3.0]), "targets": torch.tensor([1, 1])}
        yield Case(f"H4: {name}", inputs, mean)


def offset_cases() -> Iterable[Case]:
    mean = {"reduction": "mean"}
    for offset in (0.0, 1e4, 1e6, 1e8, -1e6):
        x = float32(matrix([2.0, -1.0]) + offset)
        yield Case(f"H5: offset {offset:g}", {"logits": x, "targets": torch.tensor([1])}, mean)
    x = float32(torch.full((1, 3), 1e8))
    yield Case(
        "H5: three equal logits of 1e8", {"logits": x, "targets": torch.tensor([1])}, mean, {"cost": math.log(3)}
    )
    x = float32(matrix([3e38, -3e38, 0.0]))
    yield Case(
        "H5: logits across the range of float32", {"logits": x, "targets": torch.tensor([0])}, mean, {"cost": 0.0}
    )


# MARK: - Cases of KL divergence


def log_distributions(seed: int, rows: int, columns: int) -> Tensor:
    return float32(F.log_softmax(normal(seed, rows, columns, scale=2.0), 1))


def kl_inputs(form: str, seed: int, rows: int, columns: int) -> tuple[Inputs, Options]:
    x, u = normal(seed, rows, columns, scale=2.0), normal(seed + 1, rows, columns, scale=2.0)
    log_q, p, log_p = (
        log_distributions(seed + 2, rows, columns),
        distributions(seed + 3, rows, columns),
        log_distributions(seed + 4, rows, columns),
    )
    return {
        "log-probabilities, probabilities": ({"log-probabilities": log_q, "targets": p}, {}),
        "log-probabilities, logs": ({"log-probabilities": log_q, "targets": log_p}, {"logTargets": True}),
        "log-probabilities, logits": ({"log-probabilities": log_q, "target-logits": u}, {}),
        "logits, probabilities": ({"logits": x, "targets": p}, {}),
        "logits, logs": ({"logits": x, "targets": log_p}, {"logTargets": True}),
        "logits, logits": ({"logits": x, "target-logits": u}, {}),
    }[form]


KL_FORMS = [f"{q}, {p}" for q in ("log-probabilities", "logits") for p in ("probabilities", "logs", "logits")]


def kl_cases() -> Iterable[Case]:
    for i, (form, columns) in enumerate(itertools.product(KL_FORMS, [1, 2, 5, 10, 16, 33])):
        inputs, options = kl_inputs(form, 10 * i, 3, columns)
        yield Case(f"{form} 3x{columns}", inputs, options | {"reduction": "batchMean"})
    for i, (form, reduction) in enumerate(itertools.product(KL_FORMS, REDUCTIONS)):
        inputs, options = kl_inputs(form, 1000 + 10 * i, 4, 3)
        inputs = inputs | {"weights": positive_weights(1000 + i, 4)}
        yield Case(f"{form}, weights, {reduction}", inputs, options | {"reduction": reduction})
    for i, (form, temperature) in enumerate(itertools.product(KL_FORMS[3:], [2.0, 0.5, 8.0])):
        inputs, options = kl_inputs(form, 2000 + 10 * i, 3, 7)
        yield Case(
            f"{form}, temperature {temperature}",
            inputs,
            options | {"temperature": temperature, "reduction": "batchMean"},
        )
    inputs, options = kl_inputs("logits, logits", 3000, 2, 300)
    yield Case("logits, logits 2x300", inputs, options | {"temperature": 2.0, "reduction": "batchMean"})
    yield from kl_hard_cases()


def kl_hard_cases() -> Iterable[Case]:
    batch = {"reduction": "batchMean"}
    p, half = matrix([0.0, 0.25, 0.75]), matrix([-1.0, -0.5, -2.0])
    yield Case("H15: a target of 0", {"log-probabilities": half, "targets": p}, batch)
    masked = matrix([-INF, -0.5, -1.0])
    yield Case("H15: a target of 0 where q is 0", {"log-probabilities": masked, "targets": p}, batch)
    possible = matrix([0.25, 0.25, 0.5])
    yield Case("H15: a target where q is 0", {"log-probabilities": masked, "targets": possible}, batch, {"cost": INF})
    logs = {"log-probabilities": half, "targets": matrix([-INF, -0.5, -1.0])}
    yield Case("H15: a log target of -inf", logs, batch | {"logTargets": True})
    logs = {"log-probabilities": masked, "targets": matrix([-INF, -0.5, -1.0])}
    yield Case("H15: a log target of -inf where q is 0", logs, batch | {"logTargets": True})
    masked_logits = {"logits": matrix([-INF, 1.0, 2.0]), "targets": p}
    yield Case("H15: a masked logit with target 0", masked_logits, batch)
    x = matrix([1.0, 2.0, 3.0, 4.0], [0.5, 0.0, -0.5, 1.0])
    yield Case("equal logits", {"logits": x, "target-logits": x + 0.0}, batch, {"cost": 0.0})
    shifted = {"logits": float32(x + 1e6), "target-logits": float32(2 * x - 1e6)}
    yield Case("logits with large offsets", shifted, batch)
    unnormalised = {"logits": x, "targets": matrix([1, 2, 0, 0.5], [0, 0, 0, 0.25])}
    yield Case("targets that do not sum to 1", unnormalised, batch)
    silenced = {"logits": matrix([1.0, 2.0], [NAN, INF]), "targets": matrix([0.5, 0.5], [NAN, 1.0])}
    yield Case(
        "H18: a row of weight 0 may hold anything",
        silenced | {"weights": torch.tensor([2.0, 0.0])},
        {"reduction": "mean"},
    )
    for reduction in ("batchMean", "sum"):
        yield Case(
            f"H12: no rows, {reduction}",
            {"logits": torch.zeros(0, 3), "targets": torch.zeros(0, 3)},
            {"reduction": reduction},
        )


# MARK: - Files

LOSSES = [
    Loss("mean-squared-error", element_wise(lambda x, t, _: (x - t) ** 2), lambda: regression_cases([{}])),
    Loss("mean-absolute-error", element_wise(lambda x, t, _: (x - t).abs()), mean_absolute_error_cases),
    Loss(
        "huber",
        element_wise(lambda x, t, o: F.huber_loss(x, t, delta=o["delta"], reduction="none")),
        lambda: huber_cases("delta"),
    ),
    Loss(
        "smooth-l1",
        element_wise(lambda x, t, o: F.smooth_l1_loss(x, t, beta=o["beta"], reduction="none")),
        smooth_l1_cases,
    ),
    Loss("log-cosh", element_wise(log_cosh), log_cosh_cases),
    Loss("quantile", element_wise(quantile), lambda: regression_cases([{"quantile": q} for q in (0.5, 0.9, 0.125)])),
    Loss("poisson", element_wise(poisson), poisson_cases),
    Loss("hinge", element_wise(hinge), hinge_cases),
    Loss("squared-hinge", element_wise(lambda x, t, o: hinge(x, t, o) ** 2), hinge_cases),
    Loss("binary-cross-entropy", element_wise(binary_cross_entropy, "logits"), binary_cross_entropy_cases),
    Loss("focal", element_wise(focal, "logits"), focal_cases),
    Loss("softmax-cross-entropy", softmax_cross_entropy, softmax_cases),
    Loss("kl-divergence", kl_divergence, kl_cases),
]


def number(value: float) -> float | int | str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def encoded(x: Tensor) -> dict[str, Any]:
    return {"shape": list(x.shape), "data": [number(v) for v in x.flatten().tolist()]}


def check_inputs(case: Case) -> None:
    for role, x in case.inputs.items():
        if x.is_floating_point() and not torch.equal(torch.nan_to_num(float32(x)), torch.nan_to_num(x)):
            raise AssertionError(f"{case.name}: {role} is not exact in float32")


def write(loss: Loss) -> None:
    cases = []
    for case in loss.cases():
        check_inputs(case)
        cases.append(evaluated(loss, case))
    names = [case["name"] for case in cases]
    if len(set(names)) != len(names):
        raise AssertionError(f"{loss.name}: two cases of one name: {[n for n in names if names.count(n) > 1]}")
    head = f'{{"loss":"{loss.name}","source":"torch {torch.__version__} in float64","cases":[\n'
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in cases)
    path = HERE / f"{loss.name}.json"
    path.write_text(f"{head}{lines}\n]}}\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    chosen = sys.argv[1:]
    unknown = set(chosen) - {loss.name for loss in LOSSES}
    if unknown:
        sys.exit(f"unknown loss: {', '.join(sorted(unknown))}")
    for loss in LOSSES:
        if not chosen or loss.name in chosen:
            write(loss)


if __name__ == "__main__":
    main()
