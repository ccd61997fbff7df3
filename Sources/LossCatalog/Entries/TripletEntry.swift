import BatchLoss

extension LossEntry {
  static let triplet = LossEntry(
    name: "triplet",
    formula: "max(0, d(a, p) − d(a, n) + margin); --squared its square, --smooth softplus in place of max",
    roles: [
      RoleUse(.anchors, .matrix, required: false, differentiable: true),
      RoleUse(.positives, .matrix, required: false, differentiable: true),
      RoleUse(.negatives, .matrix, required: false, differentiable: true),
      RoleUse(.weights, .rowVector, required: false),
      RoleUse(.embeddings, .matrix, required: false, differentiable: true),
      RoleUse(.labels, .labels, required: false),
    ],
    options: [.margin, .mining, .distance, .swap, .smooth, .squared], evaluator: TripletEvaluator())
}

private struct TripletEvaluator: WeightedRowsEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let options = problem.options
    let loss = try TripletLoss(
      margin: options.number(.margin, default: 1), distance: options.distance(),
      mining: options.choice(.mining, default: .given), swap: options.flag(.swap), smooth: options.flag(.smooth),
      squared: options.flag(.squared))
    guard try problem.isLabelledBatch(insteadOf: [.anchors, .positives, .negatives, .weights]) else {
      let anchors = try problem.matrix(.anchors)
      let positives = try problem.matrix(.positives)
      let negatives = try problem.matrix(.negatives)
      return LossOutcome(
        try loss.evaluate(
          anchors: anchors.view, positives: positives.view, negatives: negatives.view,
          weights: problem.span(.weights)?.span, reduction: problem.reduction ?? .mean,
          denominator: problem.denominator, losses: problem.losses?.mutableSpan,
          anchorGradient: anchors.mutableView(problem.gradients[.anchors]),
          positiveGradient: positives.mutableView(problem.gradients[.positives]),
          negativeGradient: negatives.mutableView(problem.gradients[.negatives]), engine: problem.engine))
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
