import BatchLoss

extension LossEntry {
  static let arcFace = LossEntry(
    name: "arc-face", formula: "softmax cross-entropy of scale·cos θ, with scale·cos(θ + margin) at the own class",
    roles: RoleUse.centres, options: [.margin, .scale], isRowWise: false, evaluator: ArcFaceEvaluator())

  static let cosFace = LossEntry(
    name: "cos-face", formula: "softmax cross-entropy of scale·cos θ, with scale·(cos θ − margin) at the own class",
    roles: RoleUse.centres, options: [.margin, .scale], isRowWise: false, evaluator: CosFaceEvaluator())
}

extension RoleUse {
  fileprivate static let centres = [
    RoleUse(.embeddings, .matrix, differentiable: true), RoleUse(.classCenters, .table, differentiable: true),
    RoleUse(.labels, .labels),
  ]
}

private struct ArcFaceEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try ArcFaceLoss(
      margin: problem.options.number(.margin, default: 0.5), scale: problem.options.number(.scale, default: 64))
    let embeddings = try problem.matrix(.embeddings)
    let centres = try problem.matrix(.classCenters)
    let labels = try problem.labels(.labels)
    return LossOutcome(
      try loss.evaluate(
        embeddings.view, classCenters: centres.view, labels: labels.span, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        gradient: embeddings.mutableView(problem.gradients[.embeddings]),
        classCenterGradient: centres.mutableView(problem.gradients[.classCenters]), engine: problem.engine))
  }
}

private struct CosFaceEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try CosFaceLoss(
      margin: problem.options.number(.margin, default: 0.35), scale: problem.options.number(.scale, default: 64))
    let embeddings = try problem.matrix(.embeddings)
    let centres = try problem.matrix(.classCenters)
    let labels = try problem.labels(.labels)
    return LossOutcome(
      try loss.evaluate(
        embeddings.view, classCenters: centres.view, labels: labels.span, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        gradient: embeddings.mutableView(problem.gradients[.embeddings]),
        classCenterGradient: centres.mutableView(problem.gradients[.classCenters]), engine: problem.engine))
  }
}
