import BatchLoss

extension LossEntry {
  static let ctc = LossEntry(
    name: "ctc", formula: "−log of the probability of all alignments of the target",
    roles: [
      RoleUse(.logits, .matrix, required: false, differentiable: true),
      RoleUse(.logProbabilities, .matrix, required: false, differentiable: true), RoleUse(.targets, .integers),
      RoleUse(.inputLengths, .integers, required: false), RoleUse(.targetLengths, .integers, required: false),
      RoleUse(.weights, .sampleVector, required: false),
    ],
    options: [.blank, .zeroInfinity, .timeMajor], sample: .utterance, isRowWise: false, evaluator: CTCEvaluator())
}

private struct CTCEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let options = problem.options
    let role = try problem.only(.logits, .logProbabilities)
    let loss = try CTCLoss(
      blank: options.integer(.blank, default: 0), zeroInfinity: options.flag(.zeroInfinity),
      layout: options.flag(.timeMajor) ? .timeMajor : .batchMajor,
      input: role == .logits ? .logits : .logProbabilities)
    let frames = try problem.matrix(role)
    let gradient = problem.gradients[role]
    let labels = try problem.labels(.targets)
    let shape = problem.shapes[role] ?? []
    guard shape.count == 3 else {
      throw BatchLossError(
        .invalidShape, parameter: role.rawValue, expected: "three dimensions: utterances, frames, classes",
        actual: "shape \(shape)")
    }
    let batch = shape[loss.layout == .timeMajor ? 1 : 0]
    let lengths = problem.integers[.targetLengths].map { $0.map { Int($0) } }
    let inputLengths = problem.integers[.inputLengths].map { $0.map { Int($0) } }
    let targetShape = problem.shapes[.targets] ?? []
    if targetShape.count == 2 {
      guard targetShape[0] == batch else {
        throw BatchLossError(
          .invalidShape, parameter: "targets", expected: "\(batch) rows, one an utterance",
          actual: "\(targetShape[0])")
      }
      return try evaluate(
        loss, frames, gradient, problem, CTCTargets(padded: labels.span, batch: batch, lengths: lengths?.span),
        inputLengths)
    }
    guard let lengths else {
      throw BatchLossError(
        .invalidShape, parameter: "target-lengths", expected: "lengths for targets in one dimension",
        actual: "none")
    }
    guard lengths.count == batch else {
      throw BatchLossError(
        .invalidShape, parameter: "target-lengths", expected: "\(batch) lengths", actual: "\(lengths.count)")
    }
    return try evaluate(
      loss, frames, gradient, problem, CTCTargets(concatenated: labels.span, lengths: lengths.span), inputLengths)
  }

  private func evaluate<Scalar: LossScalar>(
    _ loss: CTCLoss, _ frames: Rows<Scalar>, _ gradient: UnsafeMutableBufferPointer<Scalar>?,
    _ problem: LossProblem<Scalar>, _ targets: borrowing CTCTargets<Int64>, _ inputLengths: [Int]?
  ) throws(BatchLossError) -> LossOutcome {
    let cost = try loss.evaluate(
      frames.view, targets: targets, inputLengths: inputLengths?.span, weights: problem.span(.weights)?.span,
      reduction: problem.reduction ?? .mean, denominator: problem.denominator, losses: problem.losses?.mutableSpan,
      gradient: frames.mutableView(gradient), engine: problem.engine)
    let time = targets.batch == 0 ? 0 : frames.rows / targets.batch
    var infeasible = 0
    for (utterance, required) in try targets.requiredFrames().enumerated()
    where required > inputLengths?[utterance] ?? time { infeasible += 1 }
    return LossOutcome(cost: cost, details: [("infeasible", Double(infeasible))])
  }
}
