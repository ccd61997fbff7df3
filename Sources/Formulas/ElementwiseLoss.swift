/// A loss of one prediction and one target, applied to every element of a batch.
///
/// Conform with one method: the loss and its derivative with respect to the prediction, for a vector of
/// elements. Everything else comes with it: value and gradient in one pass over the batch, threads,
/// per-sample losses, weights, every reduction, `Float` and `Double`, in place or into a separate buffer.
///
/// ```swift
/// struct Cauchy: ElementwiseLoss {
///   let scale: Double
///
///   func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
///     let ratio = (prediction - target) / V(scale)
///     return (.log(onePlus: ratio * ratio), 2 / scale * ratio / (1 + ratio * ratio))
///   }
/// }
/// ```
///
/// `evaluate` must be a pure function of its arguments and of the hyper-parameters stored in `self`. At a
/// kink return the subgradient 0. See `docs/adding-a-loss.md`.
public protocol ElementwiseLoss: Sendable {
  /// The loss of each lane and its derivative with respect to the prediction.
  func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V)

  /// The predictions that are allowed; others are an error found before anything is written, NaN is not.
  /// `nil`, the default, allows all and costs nothing; a range costs one more read of the predictions.
  var predictionRange: ClosedRange<Double>? { get }
}

extension ElementwiseLoss {
  /// Every prediction is allowed.
  @inlinable
  public var predictionRange: ClosedRange<Double>? { nil }
}
