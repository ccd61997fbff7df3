import BatchLoss

extension LossEntry {
  static let supervisedContrastive = LossEntry(
    name: "supervised-contrastive",
    formula: "log Σ e^(s/τ) over all other rows − mean of s/τ over those of the own label",
    roles: RoleUse.labelledBatch, options: [.temperature, .normalization], isRowWise: false,
    evaluator: SupervisedContrastiveEvaluator())

  static let multiSimilarity = LossEntry(
    name: "multi-similarity",
    formula: "log(1 + Σ e^(−α·(s − λ)))/α over the own label + log(1 + Σ e^(β·(s − λ)))/β over others; λ is --base",
    roles: RoleUse.labelledBatch, options: [.alpha, .beta, .base, .normalization], isRowWise: false,
    evaluator: MultiSimilarityEvaluator())
}

extension RoleUse {
  fileprivate static let labelledBatch = [
    RoleUse(.embeddings, .matrix, differentiable: true), RoleUse(.labels, .labels),
  ]
}

private struct SupervisedContrastiveEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try SupConLoss(
      temperature: problem.options.number(.temperature, default: 0.07),
      normalizes: problem.options.flag(.normalization, default: true))
    let embeddings = try problem.matrix(.embeddings)
    let labels = try problem.labels(.labels)
    let result = try loss.evaluate(
      embeddings.view, labels: labels.span, reduction: problem.reduction ?? .mean,
      denominator: problem.denominator, losses: problem.losses?.mutableSpan,
      gradient: embeddings.mutableView(problem.gradients[.embeddings]), engine: problem.engine)
    return LossOutcome(result, [("temperatureGradient", result.temperatureGradient)])
  }
}

private struct MultiSimilarityEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let options = problem.options
    let loss = try MultiSimilarityLoss(
      alpha: options.number(.alpha, default: 2), beta: options.number(.beta, default: 50),
      base: options.number(.base, default: 0.5), normalizes: options.flag(.normalization, default: true))
    let embeddings = try problem.matrix(.embeddings)
    let labels = try problem.labels(.labels)
    return LossOutcome(
      try loss.evaluate(
        embeddings.view, labels: labels.span, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        gradient: embeddings.mutableView(problem.gradients[.embeddings]), engine: problem.engine))
  }
}
