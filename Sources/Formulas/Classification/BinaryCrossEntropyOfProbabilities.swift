/// Binary cross-entropy of probabilities, for models that end in a sigmoid of their own.
///
/// ℓ = −q·y·log p − (1 − y)·log(1 − p), each logarithm limited to at least −100 as in PyTorch;
/// ∂ℓ/∂p = ((1 − y)·p − q·y·(1 − p)) / max(p·(1 − p), 10⁻¹²). Prefer ``BinaryCrossEntropy`` on logits: a
/// probability that has rounded to 0 or 1 has lost what the gradient needs.
///
/// Probabilities outside 0…1 are an error; NaN passes through.
public struct BinaryCrossEntropyOfProbabilities: ElementwiseLoss {
  /// The factor on the loss of positives.
  public let positiveWeight: Double
  /// How far targets are drawn towards ½.
  public let labelSmoothing: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `positiveWeight` is finite and ≥ 0 and `labelSmoothing` is in 0…1.
  public init(positiveWeight: Double = 1, labelSmoothing: Double = 0) throws(BatchLossError) {
    try BinaryCrossEntropyOptions.validate(positiveWeight: positiveWeight, labelSmoothing: labelSmoothing)
    self.positiveWeight = positiveWeight
    self.labelSmoothing = labelSmoothing
  }

  /// Probabilities lie in 0…1.
  public var predictionRange: ClosedRange<Double>? { 0...1 }

  /// The cross-entropy and its derivative.
  @inlinable @inline(__always)
  public func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    evaluate(prediction: prediction, target: target, firstStage: firstStage(prediction: prediction, target: target))
  }
}

extension BinaryCrossEntropyOfProbabilities: TwoStageElementwiseLoss {
  /// log p.
  @inlinable @inline(__always)
  package func firstStage<V: LossVector>(prediction: V, target: V) -> V { V.log(prediction) }

  @inlinable @inline(__always)
  package func evaluate<V: LossVector>(prediction: V, target: V, firstStage: V) -> (loss: V, derivative: V) {
    let positive = BinaryCrossEntropyOptions.smoothed(target, by: labelSmoothing)
    let negative = 1 - positive
    let weighted = positiveWeight == 1 ? positive : positiveWeight * positive
    let complement = 1 - prediction
    let logPositive = V.maximum(firstStage, V(-100))
    let logNegative = V.maximum(V.log(onePlus: -prediction), V(-100))
    let variance = V.maximum(prediction * complement, V(1e-12))
    return (
      -(weighted * logPositive) - negative * logNegative,
      (negative * prediction - weighted * complement) / variance
    )
  }
}
