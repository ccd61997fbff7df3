/// Quadratic near the target, linear beyond δ (Huber 1964).
///
/// With e = x − t: ℓ = ½e² where |e| ≤ δ, δ·(|e| − ½δ) beyond; ∂ℓ/∂x = e limited to −δ…δ. At ±∞ the loss is
/// ∞ and the derivative ±δ. ``SmoothL1`` with β = δ is this loss divided by δ.
public struct Huber: ElementwiseLoss {
  /// Where the loss turns from quadratic to linear, in units of the prediction.
  public let delta: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `delta` is finite and greater than 0.
  public init(delta: Double = 1) throws(BatchLossError) {
    try BatchLossError.require(delta > 0 && delta.isFinite, "delta", delta, "a finite number > 0")
    self.delta = delta
  }

  /// c·(e − c/2) and c, where c is e limited to −δ…δ.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    let error = prediction - target
    let limited = error.clamped(to: -delta...delta)
    return (limited * (error - 0.5 * limited), limited)
  }
}
