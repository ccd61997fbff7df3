/// The margin loss of support vector machines, for targets −1 and 1.
///
/// ℓ = max(0, 1 − t·x); ∂ℓ/∂x = −t where t·x < 1, 0 elsewhere (also exactly at the margin), NaN
/// where the prediction is.
public struct Hinge: ElementwiseLoss {
  /// The hinge loss; it has no parameters.
  public init() {}

  /// max(0, 1 − t·x) and its subgradient.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let shortfall = 1 - target * prediction
    let isOutside = shortfall .<= V(0)
    let slope = (-target).replacing(with: V(0), where: isOutside)
      .replacing(with: shortfall, where: .!(shortfall .== shortfall))
    return (shortfall.replacing(with: V(0), where: isOutside), slope)
  }
}
