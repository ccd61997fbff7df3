import BatchLossFormulas
import BatchLossKernelInterface

/// Each anchor against the positives of all anchors (Sohn 2016).
///
/// With s = a·p, not normalised, and T(i) the positives with the label of anchor i (i alone without labels):
///
/// ℓᵢ = log Σⱼ e^(sᵢⱼ) − (1/|T(i)|)·Σ_{j∈T(i)} sᵢⱼ + ¼·λ·(‖aᵢ‖² + ‖pᵢ‖²)
///
/// λ is `regularization`. A batch of no rows costs 0. Losses are in nats. The bits do not depend on the worker count.
public struct NPairsLoss: Hashable, Sendable {
  /// The factor λ on the squared lengths.
  public let regularization: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `regularization` is finite and not negative.
  public init(regularization: Double = 0) throws(BatchLossError) {
    try BatchLossError.require(
      regularization >= 0 && regularization.isFinite, "regularization", regularization, "a finite number ≥ 0")
    self.regularization = regularization
  }

  /// The cost of anchors and their positives.
  ///
  /// - Parameters:
  ///   - anchors: `rows` × `columns`.
  ///   - positives: As many.
  ///   - labels: The class of each row, any integers; all different if `nil`.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the loss of each anchor.
  ///   - anchorGradient: Receives the derivative of the cost by each anchor.
  ///   - positiveGradient: Receives the derivative of the cost by each positive.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    anchors: borrowing MatrixView<Scalar>, positives: borrowing MatrixView<Scalar>, labels: Span<Label>?,
    reduction: Reduction = .mean, denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    anchorGradient: consuming MutableMatrixView<Scalar>? = nil,
    positiveGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let evaluation = SimilarityEvaluation(
      queries: anchors.memory, queryNames: ("anchors", "anchorGradient"), keys: positives.memory,
      keyNames: ("positives", "positiveGradient"), normalizes: false, scale: 1,
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: anchorGradient), keyGradient: memory(of: positiveGradient), engine: engine)
    try positives.memory.requireShape(anchors.memory.shape, "positives")
    try evaluation.validate()
    let (labels, count) = (pointerIfPresent(to: labels), anchors.rows)
    if let labels { try BatchLabels<Scalar>.validate(labels.count, rows: count) }
    return try evaluation.run(
      decay: 0.5 * regularization, fillLabels: { classes in if let labels { classes.fill(labels) } }
    ) { context in
      { row, similarities, _ in
        let (kernels, classes) = (context.kernels, context.labels)
        var (mean, share) = (Double(similarities[row]), 1.0)
        var same = ColumnSelection<Scalar>(.all)
        if labels != nil {
          same = ColumnSelection(.same, labels: UnsafePointer(classes.values), label: classes.values[row])
          let total = kernels.similarities.sum(UnsafePointer(similarities), count, same)
          (mean, share) = (total.sum / Double(total.count), 1 / Double(total.count))
        }
        let (logSum, expected) = kernels.softmax(similarities, count, 1, ColumnSelection(.all))
        if labels != nil {
          kernels.similarities.scaleAdd(similarities, count, 1, Scalar(-share), same)
        } else {
          similarities[row] -= 1
        }
        return RowResult(ofOneLoss: logSum - mean, weighted: expected - mean)
      }
    }
  }

  /// The cost of anchors and their positives, all of different classes.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    anchors: borrowing MatrixView<Scalar>, positives: borrowing MatrixView<Scalar>,
    reduction: Reduction = .mean, denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    anchorGradient: consuming MutableMatrixView<Scalar>? = nil,
    positiveGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    try evaluate(
      anchors: anchors, positives: positives, labels: Span<Int>?.none, reduction: reduction,
      denominator: denominator, losses: losses, anchorGradient: anchorGradient,
      positiveGradient: positiveGradient, engine: engine)
  }
}
