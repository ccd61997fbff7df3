import BatchLoss

extension LossEntry {
  /// Every element-wise loss.
  static let elementwise: [LossEntry] = [
    .elementwise("mean-squared-error", "(x − t)²") { _ throws(BatchLossError) in MeanSquaredError() },
    .elementwise("mean-absolute-error", "|x − t|") { _ throws(BatchLossError) in MeanAbsoluteError() },
    .elementwise("huber", "½e² where |e| ≤ δ, δ·(|e| − ½δ) beyond; e = x − t", [.delta]) {
      options throws(BatchLossError) in
      try Huber(delta: options.number(.delta, default: 1))
    },
    .elementwise("smooth-l1", "½e²/β where |e| < β, |e| − ½β beyond; e = x − t", [.beta]) {
      options throws(BatchLossError) in
      try SmoothL1(beta: options.number(.beta, default: 1))
    },
    .elementwise("log-cosh", "log cosh(x − t)") { _ throws(BatchLossError) in LogCosh() },
    .elementwise("quantile", "max(q·e, (q − 1)·e); e = t − x", [.quantile]) {
      options throws(BatchLossError) in
      try Quantile(quantile: options.number(.quantile, default: 0.5))
    },
    .elementwise(
      "poisson", "eˣ − t·x, or x − t·log(x + ε) with --no-log-input", [.logInput, .full, .epsilon]
    ) { options throws(BatchLossError) in
      try Poisson(
        logInput: options.flag(.logInput, default: true), full: options.flag(.full),
        epsilon: options.number(.epsilon, default: 1e-8))
    },
    .elementwise("hinge", "max(0, 1 − t·x), t = ±1") { _ throws(BatchLossError) in Hinge() },
    .elementwise("squared-hinge", "max(0, 1 − t·x)², t = ±1") { _ throws(BatchLossError) in SquaredHinge() },
    LossEntry(
      name: "binary-cross-entropy",
      formula: "q·y·softplus(−x) + (1 − y)·softplus(x) of logits, −q·y·log p − (1 − y)·log(1 − p) of probabilities",
      roles: [
        RoleUse(.logits, .matrix, required: false, differentiable: true),
        RoleUse(.probabilities, .matrix, required: false, differentiable: true),
        RoleUse(.targets, .matrix), RoleUse(.weights, .matrix, .rowVector, required: false),
      ],
      options: [.positiveWeight, .labelSmoothing], sample: .element,
      evaluator: BinaryCrossEntropyEvaluator()),
    .elementwise(
      "focal", "α_t·u^γ·CE, u the probability of being wrong", [.alpha, .gamma], predictions: .logits
    ) { options throws(BatchLossError) in
      let alpha = options.number(.alpha, default: 0.25)
      return try SigmoidFocal(alpha: alpha < 0 ? nil : alpha, gamma: options.number(.gamma, default: 2))
    },
  ]

  private static func elementwise<Loss: ElementwiseLoss>(
    _ name: String, _ formula: String, _ options: [OptionName] = [], predictions: Role = .predictions,
    make: @escaping @Sendable (LossOptions) throws(BatchLossError) -> Loss
  ) -> LossEntry {
    LossEntry(
      name: name, formula: formula,
      roles: [
        RoleUse(predictions, .matrix, differentiable: true), RoleUse(.targets, .matrix),
        RoleUse(.weights, .matrix, .rowVector, required: false),
      ],
      options: options, sample: .element,
      evaluator: ElementwiseEvaluator(role: predictions, make: make))
  }
}

private struct ElementwiseEvaluator<Loss: ElementwiseLoss>: LossEvaluator {
  let role: Role
  let make: @Sendable (LossOptions) throws(BatchLossError) -> Loss

  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try make(problem.options)
    let predictions = try problem.matrix(role)
    let targets = try problem.matrix(.targets)
    let cost = try loss.evaluate(
      predictions.view, targets: targets.view, weights: problem.view(.weights),
      reduction: problem.reduction ?? .mean, denominator: problem.denominator,
      losses: predictions.mutableView(problem.losses),
      gradient: predictions.mutableView(problem.gradients[role]), engine: problem.engine)
    return LossOutcome(cost: cost)
  }

  func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) -> Double {
    elementDenominator(problem, rows: rows, columns: columns, reduction: reduction)
  }
}

/// From logits or from probabilities, whichever is given.
private struct BinaryCrossEntropyEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    guard (problem.matrices[.logits] == nil) != (problem.matrices[.probabilities] == nil) else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "logits, probabilities", expected: "one of the two",
        actual: problem.matrices[.logits] == nil ? "none" : "both")
    }
    if problem.matrices[.logits] != nil {
      return try ElementwiseEvaluator(role: .logits) { options throws(BatchLossError) in
        try BinaryCrossEntropy(
          positiveWeight: options.number(.positiveWeight, default: 1),
          labelSmoothing: options.number(.labelSmoothing, default: 0))
      }.evaluate(problem)
    }
    return try ElementwiseEvaluator(role: .probabilities) { options throws(BatchLossError) in
      try BinaryCrossEntropyOfProbabilities(
        positiveWeight: options.number(.positiveWeight, default: 1),
        labelSmoothing: options.number(.labelSmoothing, default: 0))
    }.evaluate(problem)
  }

  func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) -> Double {
    elementDenominator(problem, rows: rows, columns: columns, reduction: reduction)
  }
}

/// The divisor of losses that count every element as a sample.
func elementDenominator<Scalar: LossScalar>(
  _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
) -> Double {
  switch reduction {
  case .sum: 1
  case .batchMean: Double(rows)
  case .mean:
    if let weights = problem.matrices[.weights] {
      weights.elements.reduce(0) { $0 + Double($1) }
        * (weights.columns == columns ? 1 : Double(columns))
    } else {
      Double(rows * columns)
    }
  case .meanOverCount, .meanOverActive: Double(rows * columns)
  }
}
