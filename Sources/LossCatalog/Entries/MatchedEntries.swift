import BatchLoss

extension LossEntry {
  static let infoNCE = LossEntry(
    name: "info-nce",
    formula: "−log of the softmax over s/τ at the own key, or, in a labelled batch, at each row of the same label",
    roles: [
      RoleUse(.queries, .matrix, required: false, differentiable: true),
      RoleUse(.keys, .table, required: false, differentiable: true),
      RoleUse(.embeddings, .matrix, required: false, differentiable: true),
      RoleUse(.labels, .labels, required: false),
    ],
    options: [.temperature, .normalization], isRowWise: false, evaluator: InfoNCEEvaluator())

  static let clip = LossEntry(
    name: "clip",
    formula: "half the softmax cross-entropies of s/τ along rows and along columns, own pair as target",
    roles: [
      RoleUse(.queries, .matrix, differentiable: true), RoleUse(.keys, .matrix, differentiable: true),
    ],
    options: [.temperature, .normalization], isRowWise: false, evaluator: CLIPEvaluator())

  static let sigLIP = LossEntry(
    name: "siglip", formula: "Σ log(1 + e^(−z·(scale·s + bias))), z = 1 for the own pair, −1 for others",
    roles: [
      RoleUse(.queries, .matrix, differentiable: true), RoleUse(.keys, .matrix, differentiable: true),
    ],
    options: [.scale, .bias, .normalization], isRowWise: false, evaluator: SigLIPEvaluator())

  static let nPairs = LossEntry(
    name: "n-pairs", formula: "log Σ e^s − mean of s over positives of the own label + ¼·λ·(‖a‖² + ‖p‖²); s = a·p",
    roles: [
      RoleUse(.anchors, .matrix, differentiable: true), RoleUse(.positives, .matrix, differentiable: true),
      RoleUse(.labels, .labels, required: false),
    ],
    options: [.regularization], isRowWise: false, evaluator: NPairsEvaluator())
}

private struct InfoNCEEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try InfoNCELoss(
      temperature: problem.options.number(.temperature, default: 0.07),
      normalizes: problem.options.flag(.normalization, default: true))
    let result: SimilarityResult
    if try problem.isLabelledBatch(insteadOf: [.queries, .keys]) {
      let embeddings = try problem.matrix(.embeddings)
      let labels = try problem.labels(.labels)
      result = try loss.evaluate(
        embeddings.view, labels: labels.span, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        gradient: embeddings.mutableView(problem.gradients[.embeddings]), engine: problem.engine)
    } else {
      let queries = try problem.matrix(.queries)
      let keys = try problem.matrix(.keys)
      result = try loss.evaluate(
        queries: queries.view, keys: keys.view, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        queryGradient: queries.mutableView(problem.gradients[.queries]),
        keyGradient: keys.mutableView(problem.gradients[.keys]), engine: problem.engine)
    }
    return LossOutcome(result, [("temperatureGradient", result.temperatureGradient)])
  }
}

private struct CLIPEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try CLIPLoss(
      temperature: problem.options.number(.temperature, default: 0.07),
      normalizes: problem.options.flag(.normalization, default: true))
    let queries = try problem.matrix(.queries)
    let keys = try problem.matrix(.keys)
    let result = try renaming(["images": .queries, "texts": .keys]) { () throws(BatchLossError) in
      try loss.evaluate(
        images: queries.view, texts: keys.view, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        imageGradient: queries.mutableView(problem.gradients[.queries]),
        textGradient: keys.mutableView(problem.gradients[.keys]), engine: problem.engine)
    }
    return LossOutcome(result, [("temperatureGradient", result.temperatureGradient)])
  }
}

private struct SigLIPEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try SigLIPLoss(
      scale: problem.options.number(.scale, default: 10), bias: problem.options.number(.bias, default: -10),
      normalizes: problem.options.flag(.normalization, default: true))
    let queries = try problem.matrix(.queries)
    let keys = try problem.matrix(.keys)
    let result = try renaming(["images": .queries, "texts": .keys]) { () throws(BatchLossError) in
      try loss.evaluate(
        images: queries.view, texts: keys.view, reduction: problem.reduction ?? .mean,
        denominator: problem.denominator, losses: problem.losses?.mutableSpan,
        imageGradient: queries.mutableView(problem.gradients[.queries]),
        textGradient: keys.mutableView(problem.gradients[.keys]), engine: problem.engine)
    }
    return LossOutcome(
      result, [("scaleGradient", result.scaleGradient), ("biasGradient", result.biasGradient)])
  }
}

private struct NPairsEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let loss = try NPairsLoss(regularization: problem.options.number(.regularization, default: 0))
    let anchors = try problem.matrix(.anchors)
    let positives = try problem.matrix(.positives)
    return LossOutcome(
      try loss.evaluate(
        anchors: anchors.view, positives: positives.view, labels: problem.integers[.labels]?.span,
        reduction: problem.reduction ?? .mean, denominator: problem.denominator,
        losses: problem.losses?.mutableSpan,
        anchorGradient: anchors.mutableView(problem.gradients[.anchors]),
        positiveGradient: positives.mutableView(problem.gradients[.positives]), engine: problem.engine))
  }
}
