/// The negative log-likelihood of a count under a Poisson distribution.
///
/// With `logInput` (the default) the prediction is the logarithm of the rate: ℓ = eˣ − t·x, ∂ℓ/∂x = eˣ − t.
/// Without it the prediction is the rate itself: ℓ = x − t·log(x + ε), ∂ℓ/∂x = 1 − t/(x + ε).
/// `full` adds Stirling's t·log t − t + ½·log(2πt) where t > 1, which has no gradient.
public struct Poisson: ElementwiseLoss {
  /// Whether predictions are logarithms of rates.
  public let logInput: Bool
  /// Whether the term that depends on the target alone is added.
  public let full: Bool
  /// Added to the rate before its logarithm when `logInput` is false.
  public let epsilon: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `epsilon` is finite and at least 0.
  public init(logInput: Bool = true, full: Bool = false, epsilon: Double = 1e-8) throws(BatchLossError) {
    try BatchLossError.require(
      epsilon >= 0 && epsilon.isFinite, "epsilon", epsilon, "a finite number ≥ 0")
    self.logInput = logInput
    self.full = full
    self.epsilon = epsilon
  }

  /// The negative log-likelihood and its derivative; a count of 0 on a rate of 0 costs nothing.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let isZero = target .== V(0)
    var loss: V
    let derivative: V
    if logInput {
      let rate = V.exp(prediction)
      loss = rate - (target * prediction).replacing(with: V(0), where: isZero)
      derivative = rate - target
    } else {
      let shifted = prediction + epsilon
      loss = prediction - (target * V.log(shifted)).replacing(with: V(0), where: isZero)
      derivative = 1 - (target / shifted).replacing(with: V(0), where: isZero .& (shifted .== V(0)))
    }
    if full {
      let stirling = target * V.log(target) - target + 0.5 * V.log(6.283185307179586 * target)
      loss = loss + V(0).replacing(with: stirling, where: V(1) .< target)
    }
    return (loss, derivative)
  }
}
