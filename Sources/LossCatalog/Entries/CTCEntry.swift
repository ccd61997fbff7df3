import BatchLoss

extension LossEntry {
  static let ctc = LossEntry(
    name: "ctc", formula: "−log of the probability of all alignments of the target",
    roles: [
      RoleUse(.logits, .matrix, differentiable: true), RoleUse(.targets, .integers),
      RoleUse(.inputLengths, .integers, required: false), RoleUse(.targetLengths, .integers, required: false),
    ],
    options: [.blank, .zeroInfinity, .timeMajor], sample: .utterance, isRowWise: false, evaluator: CTCEvaluator())
}

private struct CTCEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    let options = problem.options
    let loss = try CTCLoss(
      blank: options.integer(.blank, default: 0), zeroInfinity: options.flag(.zeroInfinity),
      layout: options.flag(.timeMajor) ? .timeMajor : .batchMajor)
    let logits = try problem.matrix(.logits)
    let labels = try problem.labels(.targets)
    let shape = problem.shapes[.logits] ?? []
    guard shape.count == 3 else {
      throw BatchLossError(
        .invalidShape, parameter: "logits", expected: "three dimensions: utterances, frames, classes",
        actual: "shape \(shape)")
    }
    let batch = shape[loss.layout == .timeMajor ? 1 : 0]
    let lengths = problem.integers[.targetLengths].map { $0.map { Int($0) } }
    let inputLengths = problem.integers[.inputLengths].map { $0.map { Int($0) } }
    let targetShape = problem.shapes[.targets] ?? []
    let cost: Cost
    if targetShape.count == 2 {
      guard targetShape[0] == batch else {
        throw BatchLossError(
          .invalidShape, parameter: "targets", expected: "\(batch) rows, one an utterance",
          actual: "\(targetShape[0])")
      }
      cost = try evaluate(
        loss, logits, problem, CTCTargets(padded: labels.span, batch: batch, lengths: lengths?.span), inputLengths)
    } else {
      guard let lengths else {
        throw BatchLossError(
          .invalidShape, parameter: "target-lengths", expected: "lengths for targets in one dimension",
          actual: "none")
      }
      guard lengths.count == batch else {
        throw BatchLossError(
          .invalidShape, parameter: "target-lengths", expected: "\(batch) lengths", actual: "\(lengths.count)")
      }
      cost = try evaluate(
        loss, logits, problem, CTCTargets(concatenated: labels.span, lengths: lengths.span), inputLengths)
    }
    return LossOutcome(cost: cost)
  }

  private func evaluate<Scalar: LossScalar>(
    _ loss: CTCLoss, _ logits: Rows<Scalar>, _ problem: LossProblem<Scalar>, _ targets: borrowing CTCTargets<Int64>,
    _ inputLengths: [Int]?
  ) throws(BatchLossError) -> Cost {
    try loss.evaluate(
      logits.view, targets: targets, inputLengths: inputLengths?.span, reduction: problem.reduction ?? .mean,
      denominator: problem.denominator, losses: problem.losses?.mutableSpan,
      gradient: logits.mutableView(problem.gradients[.logits]), engine: problem.engine)
  }
}
