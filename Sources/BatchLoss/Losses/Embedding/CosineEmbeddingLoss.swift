import BatchLossFormulas
import BatchLossKernelInterface

/// Turns pairs of rows towards each other, or away until their cosine is the margin.
///
/// With c the cosine of a pair: ℓ = 1 − c for similar pairs, max(0, c − margin) for others. Rows of zeros have cosine
/// 0 and gradient 0. Where c is near 1, 1 − c is computed without cancellation.
public struct CosineEmbeddingLoss: Hashable, Sendable {
  /// The cosine up to which pairs that are not similar cost nothing.
  public let margin: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `margin` is in −1…1.
  public init(margin: Double = 0) throws(BatchLossError) {
    try BatchLossError.require(margin >= -1 && margin <= 1, "margin", margin, "a number from −1 to 1")
    self.margin = margin
  }

  /// The cost of given pairs; parameters and result as those of ``ContrastiveLoss``.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    first: borrowing MatrixView<Scalar>, second: borrowing MatrixView<Scalar>, similar: borrowing Span<Bool>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil,
    firstGradient: consuming MutableMatrixView<Scalar>? = nil,
    secondGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> MiningResult {
    // max(0, c − margin) is a hinge on the distance 1 − c.
    try ContrastiveLoss(margin: 1 - margin, distance: .cosine, linear: true).evaluate(
      first: first, second: second, similar: similar, weights: weights, reduction: reduction,
      denominator: denominator, losses: losses, firstGradient: firstGradient, secondGradient: secondGradient,
      engine: engine)
  }
}
