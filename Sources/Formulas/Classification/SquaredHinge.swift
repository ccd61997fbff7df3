/// The square of the hinge loss, for targets −1 and 1; smooth at the margin.
///
/// ℓ = max(0, 1 − t·x)², ∂ℓ/∂x = −2·t·max(0, 1 − t·x).
public struct SquaredHinge: ElementwiseLoss {
  /// The squared hinge loss; it has no parameters.
  public init() {}

  /// The square of the margin's shortfall and its derivative.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let shortfall = V.maximum(1 - target * prediction, V(0))
    return (shortfall * shortfall, -2 * target * shortfall)
  }
}
