/// The absolute difference of prediction and target.
///
/// ℓ = |x − t|, ∂ℓ/∂x = sign(x − t), 0 where they are equal.
public struct MeanAbsoluteError: ElementwiseLoss {
  /// The absolute error; it has no parameters.
  public init() {}

  /// |x − t| and its sign.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let error = prediction - target
    return (error.magnitude, error.sign)
  }
}
