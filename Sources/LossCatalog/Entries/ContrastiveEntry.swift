import BatchLoss

extension LossEntry {
  static let contrastive = LossEntry(
    name: "contrastive",
    formula: "½·d² of similar pairs, ½·max(0, margin − d)² of others; --linear without squares and halves",
    roles: RoleUse.pairs(required: false) + [
      RoleUse(.embeddings, .matrix, required: false, differentiable: true),
      RoleUse(.labels, .labels, required: false),
    ],
    options: [.margin, .distance, .linear, .positiveMargin], evaluator: ContrastiveEvaluator())

  static let cosineEmbedding = LossEntry(
    name: "cosine-embedding", formula: "1 − cos of similar pairs, max(0, cos − margin) of others",
    roles: RoleUse.pairs(required: true), options: [.margin], evaluator: CosineEmbeddingEvaluator())
}

extension RoleUse {
  /// Given pairs.
  fileprivate static func pairs(required: Bool) -> [RoleUse] {
    [
      RoleUse(.first, .matrix, required: required, differentiable: true),
      RoleUse(.second, .matrix, required: required, differentiable: true),
      RoleUse(.same, .labels, required: required), RoleUse(.weights, .rowVector, required: false),
    ]
  }
}

private struct ContrastiveEvaluator: WeightedRowsEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let options = problem.options
    let loss = try ContrastiveLoss(
      margin: options.number(.margin, default: 1), distance: options.distance(), linear: options.flag(.linear),
      positiveMargin: options.number(.positiveMargin, default: 0))
    guard try problem.isLabelledBatch(insteadOf: [.first, .second, .same, .weights]) else {
      let first = try problem.matrix(.first)
      let second = try problem.matrix(.second)
      let similar = try problem.similar()
      return LossOutcome(
        try loss.evaluate(
          first: first.view, second: second.view, similar: similar.span, weights: problem.span(.weights)?.span,
          reduction: problem.reduction ?? .mean, denominator: problem.denominator,
          losses: problem.losses?.mutableSpan, firstGradient: first.mutableView(problem.gradients[.first]),
          secondGradient: second.mutableView(problem.gradients[.second]), engine: problem.engine))
    }
    let embeddings = try problem.matrix(.embeddings)
    let labels = try problem.labels(.labels)
    return LossOutcome(
      try loss.evaluate(
        embeddings.view, labels: labels.span, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        gradient: embeddings.mutableView(problem.gradients[.embeddings]), engine: problem.engine))
  }
}

private struct CosineEmbeddingEvaluator: WeightedRowsEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try CosineEmbeddingLoss(margin: problem.options.number(.margin, default: 0))
    let first = try problem.matrix(.first)
    let second = try problem.matrix(.second)
    let similar = try problem.similar()
    return LossOutcome(
      try loss.evaluate(
        first: first.view, second: second.view, similar: similar.span, weights: problem.span(.weights)?.span,
        reduction: problem.reduction ?? .mean, denominator: problem.denominator,
        losses: problem.losses?.mutableSpan, firstGradient: first.mutableView(problem.gradients[.first]),
        secondGradient: second.mutableView(problem.gradients[.second]), engine: problem.engine))
  }
}
