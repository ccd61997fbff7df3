import BatchLoss

extension LossEntry {
  static let softmaxCrossEntropy = LossEntry(
    name: "softmax-cross-entropy",
    formula: "A·lse(x) − Σ τₖ·xₖ + λ·lse², τ from classes or distributions, weighted and smoothed",
    roles: [
      RoleUse(.logits, .matrix, differentiable: true), RoleUse(.targets, .labels, .matrix),
      RoleUse(.weights, .rowVector, required: false), RoleUse(.classWeights, .classVector, required: false),
    ],
    options: [.labelSmoothing, .ignoreIndex, .zLoss, .softCap], evaluator: SoftmaxCrossEntropyEvaluator())
}

private struct SoftmaxCrossEntropyEvaluator: LossEvaluator {
  private func loss(_ options: LossOptions) throws(BatchLossError) -> SoftmaxCrossEntropy {
    try SoftmaxCrossEntropy(
      labelSmoothing: options.number(.labelSmoothing, default: 0), ignoreIndex: ignoreIndex(options),
      zLoss: options.number(.zLoss, default: 0), softCap: options.values[.softCap])
  }

  private func ignoreIndex(_ options: LossOptions) -> Int { Int(options.number(.ignoreIndex, default: -100)) }

  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try loss(problem.options)
    let logits = try problem.matrix(.logits)
    let classWeights = problem.span(.classWeights)
    let weights = problem.span(.weights)
    let reduction = problem.reduction ?? .mean
    if let labels = problem.integers[.targets] {
      let cost = try loss.evaluate(
        logits.view, targets: labels.span, classWeights: classWeights?.span, weights: weights?.span,
        reduction: reduction, denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        gradient: logits.mutableView(problem.gradients[.logits]), engine: problem.engine)
      return LossOutcome(cost: cost)
    }
    let targets = try problem.matrix(.targets)
    let cost = try loss.evaluate(
      logits.view, probabilities: targets.view, classWeights: classWeights?.span, weights: weights?.span,
      reduction: reduction, denominator: problem.denominator, losses: problem.losses?.mutableSpan,
      gradient: logits.mutableView(problem.gradients[.logits]), engine: problem.engine)
    return LossOutcome(cost: cost)
  }

  func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) -> Double {
    let weights = problem.span(.weights)
    guard let labels = problem.integers[.targets], reduction == .mean || reduction == .meanOverCount else {
      return rowDenominator(weights, rows: rows, reduction: reduction)
    }
    let ignored = Int64(ignoreIndex(problem.options))
    let classWeights = problem.span(.classWeights)
    var total = 0.0
    for (row, label) in labels.enumerated() where label != ignored {
      guard reduction == .mean else {
        total += 1
        continue
      }
      var weight = weights.map { Double($0[row]) } ?? 1
      if let classWeights, label >= 0, label < classWeights.count { weight *= Double(classWeights[Int(label)]) }
      total += weight
    }
    return total
  }
}

/// The divisor of losses that count every row as a sample.
func rowDenominator<Scalar: LossScalar>(
  _ weights: UnsafeBufferPointer<Scalar>?, rows: Int, reduction: Reduction
) -> Double {
  switch reduction {
  case .sum: 1
  case .mean: weights?.reduce(0) { $0 + Double($1) } ?? Double(rows)
  case .batchMean, .meanOverCount, .meanOverActive: Double(rows)
  }
}
