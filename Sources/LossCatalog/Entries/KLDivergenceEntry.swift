import BatchLoss

extension LossEntry {
  static let klDivergence = LossEntry(
    name: "kl-divergence",
    formula: "T²·Σ p·(log p − log q); q from log-probabilities or logits, p from targets or target logits",
    roles: [
      RoleUse(.logits, .matrix, required: false, differentiable: true),
      RoleUse(.logProbabilities, .matrix, required: false, differentiable: true),
      RoleUse(.targets, .matrix, required: false),
      RoleUse(.targetLogits, .matrix, required: false, differentiable: true),
      RoleUse(.weights, .rowVector, required: false),
    ],
    options: [.temperature, .logTargets], defaultReduction: .batchMean, evaluator: KLDivergenceEvaluator())
}

private struct KLDivergenceEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let inputRole = try problem.only(.logits, .logProbabilities)
    let targetRole = try problem.only(.targets, .targetLogits)
    let targetForm: KLDivergence.Targets =
      targetRole == .targetLogits
      ? .logits : problem.options.flag(.logTargets) ? .logProbabilities : .probabilities
    let loss = try KLDivergence(
      input: inputRole == .logits ? .logits : .logProbabilities, targets: targetForm,
      temperature: problem.options.number(.temperature, default: 1))
    let input = try problem.matrix(inputRole)
    let targets = try problem.matrix(targetRole)
    let cost = try loss.evaluate(
      input.view, targets: targets.view, weights: problem.span(.weights)?.span,
      reduction: problem.reduction ?? .batchMean, denominator: problem.denominator,
      losses: problem.losses?.mutableSpan, gradient: input.mutableView(problem.gradients[inputRole]),
      targetGradient: targets.mutableView(problem.gradients[.targetLogits]), engine: problem.engine)
    return LossOutcome(cost: cost)
  }

  func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) -> Double {
    let perRow = rowDenominator(problem.span(.weights), rows: rows, reduction: reduction)
    return reduction == .mean || reduction == .meanOverCount ? perRow * Double(columns) : perRow
  }
}
