/// Binary cross-entropy of logits that plays down what is already right (Lin et al. 2017, RetinaNet).
///
/// With p = σ(x) and u = p·(1 − y) + (1 − p)·y the probability of being wrong:
/// ℓ = α_t·u^γ·CE, α_t = α·y + (1 − α)·(1 − y), or 1 without α. γ = 0 is the cross-entropy.
/// ∂ℓ/∂x = α_t·u^γ·((p − y) + γ·CE·(1 − 2y)·p·(1 − p)/u).
public struct SigmoidFocal: ElementwiseLoss {
  /// The weight of positives, 1 − α that of negatives; `nil` weighs both alike.
  public let alpha: Double?
  /// How strongly well-classified samples are played down.
  public let gamma: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `alpha` is `nil` or in 0…1 and `gamma` is finite and ≥ 0.
  public init(alpha: Double? = 0.25, gamma: Double = 2) throws(BatchLossError) {
    if let alpha {
      try BatchLossError.require(alpha >= 0 && alpha <= 1, "alpha", alpha, "a number from 0 to 1")
    }
    try BatchLossError.require(gamma >= 0 && gamma.isFinite, "gamma", gamma, "a finite number ≥ 0")
    self.alpha = alpha
    self.gamma = gamma
  }

  /// The focal loss and its derivative.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    evaluate(prediction: prediction, target: target, firstStage: firstStage(prediction: prediction, target: target))
  }
}

extension SigmoidFocal: TwoStageElementwiseLoss {
  /// e^(−|x|).
  @inlinable @inline(__always)
  package func firstStage<V: LossVector>(prediction: V, target: V) -> V {
    V.exp(nonPositive: -prediction.magnitude)
  }

  /// Probabilities are fractions of 1 + e^(−|x|), by which all is divided once, at the end: each quotient would add its
  /// rounding to every power of it.
  @inlinable @inline(__always)
  package func evaluate<V: LossVector>(prediction: V, target: V, firstStage tail: V) -> (loss: V, derivative: V) {
    let negative = 1 - target
    let isPositive = V(0) .< prediction
    let wrongSide = target.replacing(with: negative, where: isPositive)
    let linear = (wrongSide * prediction.magnitude).replacing(with: V(0), where: wrongSide .== V(0))
    let logarithm = V.log(onePlusFraction: tail)
    let entropy = linear + logarithm
    let whole = 1 + tail
    let up = negative * tail.replacing(with: V(1), where: isPositive)
    let down = target * V(1).replacing(with: tail, where: isPositive)
    let slope = up - down
    var factor = V(1)
    if let alpha { factor = alpha * target + (1 - alpha) * negative }
    if gamma == 0 { return (factor * entropy, factor * slope / whole) }

    let wrong = up + down
    let turn = gamma * (negative - target) * tail
    // An infinite logit has no turn left, and an infinite entropy.
    let hasNoTurn = turn .== V(0)
    if gamma == 2 {
      // The cube of 1 + e^(−|x|) before that was rounded.
      let square = whole * whole
      let lost = tail - (whole - 1)
      let cube = V.multiplyAdd(square, whole, 3 * lost * square)
      let change = V.multiplyAdd(wrong, slope, (turn * entropy).replacing(with: V(0), where: hasNoTurn))
      let scale = factor * wrong
      return (scale * wrong * entropy / square, scale * change / cube)
    }
    let power = V.exp(gamma * (V.log(wrong) - logarithm))
    let turned = (turn / wrong * entropy).replacing(with: V(0), where: hasNoTurn)
    let isCertain = wrong .== V(0)
    return (
      (factor * power * entropy).replacing(with: V(0), where: isCertain),
      (factor * power * (slope + turned) / whole).replacing(with: V(0), where: isCertain)
    )
  }
}
