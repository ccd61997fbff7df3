/// Absolute error with a quadratic rounding of width β at the target (Girshick 2015).
///
/// With e = x − t: ℓ = ½e²/β where |e| < β, |e| − ½β beyond; ∂ℓ/∂x = e/β limited to −1…1. β = 0 is the
/// absolute error.
public struct SmoothL1: ElementwiseLoss {
  /// The half-width of the quadratic part, in units of the prediction.
  public let beta: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `beta` is finite and at least 0.
  public init(beta: Double = 1) throws(BatchLossError) {
    try BatchLossError.require(beta >= 0 && beta.isFinite, "beta", beta, "a finite number ≥ 0")
    self.beta = beta
  }

  /// c·(e − β·c/2) and c, where c is e/β limited to −1…1.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let error = prediction - target
    if beta == 0 { return (error.magnitude, error.sign) }
    let limited = (error / V(beta)).clamped(to: -1...1)
    return (limited * (error - 0.5 * beta * limited), limited)
  }
}
