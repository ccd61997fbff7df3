/// The pinball loss, whose minimiser is the q-quantile (Koenker and Bassett 1978).
///
/// With e = t − x: ℓ = max(q·e, (q − 1)·e); ∂ℓ/∂x = −q where x is below the target, 1 − q above, 0 at it.
public struct Quantile: ElementwiseLoss {
  /// The quantile, between 0 and 1.
  public let quantile: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless 0 ≤ `quantile` ≤ 1.
  public init(quantile: Double = 0.5) throws(BatchLossError) {
    try BatchLossError.require(
      quantile >= 0 && quantile <= 1, "quantile", quantile, "a number from 0 to 1")
    self.quantile = quantile
  }

  /// The pinball and its slope.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let shortfall = target - prediction
    // −q below the target, 1 − q above it, 0 at it; NaN stays NaN.
    let slope = V(0).replacing(with: V(-quantile), where: V(0) .< shortfall)
      .replacing(with: V(1 - quantile), where: shortfall .< V(0))
      .replacing(with: shortfall, where: .!(shortfall .== shortfall))
    // A slope of 0 costs nothing, however far the target.
    let loss = -(slope * shortfall)
    return (loss.replacing(with: V(0), where: slope .== V(0)), slope)
  }
}
