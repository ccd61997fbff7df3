/// The logarithm of the hyperbolic cosine of the error: quadratic near 0, linear far away, smooth everywhere.
///
/// With e = x − t: ℓ = log cosh e, ∂ℓ/∂x = tanh e. Neither form overflows, and small errors keep their
/// relative accuracy: below |e| = 1 the loss is log(1 + (cosh e − 1)), beyond it |e| + log(1 + e^−2|e|) − log 2.
public struct LogCosh: ElementwiseLoss {
  /// The log-cosh loss; it has no parameters.
  public init() {}

  /// log cosh e and tanh e.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    evaluate(prediction: prediction, target: target, firstStage: firstStage(prediction: prediction, target: target))
  }
}

extension LogCosh: TwoStageElementwiseLoss {
  /// e^−|e| − 1.
  @inlinable @inline(__always)
  package func firstStage<V: LossVector>(prediction: V, target: V) -> V {
    V.expMinusOne(-(prediction - target).magnitude)
  }

  @inlinable @inline(__always)
  package func evaluate<V: LossVector>(prediction: V, target: V, firstStage decay: V) -> (loss: V, derivative: V) {
    let error = prediction - target
    let magnitude = error.magnitude
    let exponential = 1 + decay
    let isLarge = V(1) .<= magnitude
    // cosh e − 1 = (1 − e^−|e|)² / (2·e^−|e|), which is below 1 as well.
    let excess = decay * decay / (exponential + exponential)
    let square = exponential * exponential
    let loss =
      V.log(onePlusFraction: excess.replacing(with: square, where: isLarge))
      + V(0).replacing(with: magnitude - 0.6931471805599453, where: isLarge)
    let slope = -(decay * (2 + decay)) / (1 + square)
    return (loss, slope.replacing(with: -slope, where: error .< V(0)))
  }
}
