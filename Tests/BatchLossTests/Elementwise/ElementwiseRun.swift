import BatchLoss
import BatchLossTestSupport

/// One call of an element-wise loss through the public interface, in guarded memory.
struct ElementwiseRun<Scalar: LossScalar> {
  var rows: Int
  var columns: Int
  var predictions: [Double]
  var targets: [Double]
  /// As many as elements, or one a row.
  var weights: [Double]?
  var reduction: Reduction = .mean
  var denominator: Double?
  var wantsGradient = true
  var wantsLosses = true
  var isInPlace = false
  /// Elements between the rows of predictions, targets, weights, losses and gradient.
  var gaps = Gaps()
  var placement: GuardedBuffer<Scalar>.Placement = .end
  var engine = Engine.shared

  struct Gaps {
    var predictions = 0
    var targets = 0
    var weights = 0
    var losses = 0
    var gradient = 0
  }

  /// What came out.
  struct Outcome {
    var cost: Cost
    var losses: [Scalar]
    var gradient: [Scalar]
    /// Whether nothing outside the outputs, and no input, was written.
    var isIntact: Bool
  }

  /// The weight of every element.
  var elementWeights: [Double]? {
    guard let weights, weights.count == rows, columns != 1 else { return weights }
    return weights.flatMap { Array(repeating: $0, count: columns) }
  }

  func callAsFunction<Loss: ElementwiseLoss>(_ loss: Loss) throws -> Outcome {
    let x = guarded(predictions, gap: gaps.predictions)
    let t = guarded(targets, gap: gaps.targets)
    let isPerRow = weights.map { $0.count == rows } ?? false
    let w = weights.map { guarded($0, columns: isPerRow ? 1 : columns, gap: gaps.weights) }
    let l = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: gaps.losses, placement: placement)
    let g = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: gaps.gradient, placement: placement)
    let before = x.elements

    let predictionMemory = x.readOnlyMemory
    let targetMemory = t.readOnlyMemory
    let weightMemory = w?.readOnlyMemory ?? UnsafeBufferPointer(start: nil, count: 0)
    let predictionView = try MatrixView(
      unsafeElements: predictionMemory, rows: rows, columns: columns, stride: x.stride)
    let targetView = try MatrixView(
      unsafeElements: targetMemory, rows: rows, columns: columns, stride: t.stride)
    let weightView: MatrixView<Scalar>? =
      if let w {
        try MatrixView(unsafeElements: weightMemory, rows: w.rows, columns: w.columns, stride: w.stride)
      } else {
        nil
      }
    let lossMemory = l.memory
    let lossView: MutableMatrixView<Scalar>? =
      if wantsLosses {
        try MutableMatrixView(unsafeElements: lossMemory, rows: rows, columns: columns, stride: l.stride)
      } else {
        nil
      }
    let cost: Cost
    if isInPlace {
      let memory = x.memory
      let view = try MutableMatrixView(
        unsafeElements: memory, rows: rows, columns: columns, stride: x.stride)
      cost = try loss.evaluateInPlace(
        view, targets: targetView, weights: weightView, reduction: reduction, denominator: denominator,
        losses: lossView, engine: engine)
    } else {
      let gradientMemory = g.memory
      let gradientView: MutableMatrixView<Scalar>? =
        if wantsGradient {
          try MutableMatrixView(unsafeElements: gradientMemory, rows: rows, columns: columns, stride: g.stride)
        } else {
          nil
        }
      cost = try loss.evaluate(
        predictionView, targets: targetView, weights: weightView, reduction: reduction,
        denominator: denominator, losses: lossView, gradient: gradientView, engine: engine)
    }
    let isIntact =
      x.isIntact && t.isIntact && w?.isIntact ?? true && (wantsLosses ? l.isIntact : l.isUntouched)
      && (wantsGradient && !isInPlace ? g.isIntact : g.isUntouched)
      && (isInPlace || haveSameBits(x.elements, before))
      && haveSameBits(t.elements, converted(targets, to: Scalar.self))
    return Outcome(
      cost: cost, losses: l.elements, gradient: isInPlace ? x.elements : g.elements, isIntact: isIntact)
  }

  private func guarded(_ values: [Double], columns: Int? = nil, gap: Int) -> GuardedBuffer<Scalar> {
    GuardedBuffer(
      rows: rows, columns: columns ?? self.columns, gap: gap, converted(values, to: Scalar.self),
      placement: placement)
  }
}
