import BatchLossFormulas
import BatchLossKernelInterface

/// Softmax and multi-class cross-entropy of rows of logits, with its gradient, in one pass.
///
/// With p = softmax(z), lse = log Σ eᶻ, targets τ over the classes and their sum A:
///
/// ℓᵢ = sᵢ·(A·lse − Σₖ τₖ·zₖ + λ·lse²), ∂ℓᵢ/∂xₖ = sᵢ·((A + 2λ·lse)·pₖ − τₖ)·dzₖ/dxₖ
///
/// - For a class index y: τ = w_y·(1 − ε)·e_y + w·ε/K. For a distribution t: τₖ = wₖ·(tₖ·(1 − ε) + ε/K).
///   w are class weights, ε is the label smoothing; both as in PyTorch.
/// - z = x, or c·tanh(x/c) with a soft cap c; λ is the z-loss; sᵢ the weight of the row.
/// - `.mean` divides by Σ sᵢ·w_yᵢ over rows that are not ignored (class indices) or by Σ sᵢ (distributions).
///
/// Edge cases: an ignored row and a row of weight 0 give exactly 0, whatever they hold. A logit of −∞ is a class
/// that cannot be; it costs nothing where its target is 0 and +∞ where it is not. A row of −∞ alone, or one that
/// holds +∞ or NaN, gives NaN in that row. A common offset of a row changes nothing, up to the rounding of the
/// logits themselves.
///
/// Losses are in nats. Accuracy in `Float`, measured against float64: cost within 1e-6 relative, gradient within
/// 3e-7 of its scale (`docs/numerics.md`). The bits do not depend on the worker count. A repeated call allocates
/// nothing. Work is linear in the number of logits, which are read from memory once.
public struct SoftmaxCrossEntropy: Hashable, Sendable {
  /// How much of each target is spread evenly over all classes: ε.
  public let labelSmoothing: Double
  /// The label of rows that count for nothing; it is looked at before the range of labels is.
  public let ignoreIndex: Int?
  /// The factor λ on lse².
  public let zLoss: Double
  /// The bound c of the capped logits, or `nil`.
  public let softCap: Double?

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `labelSmoothing` is in 0…1, `zLoss` is finite and `softCap` is `nil` or
  ///   finite and greater than 0.
  public init(
    labelSmoothing: Double = 0, ignoreIndex: Int? = -100, zLoss: Double = 0, softCap: Double? = nil
  ) throws(BatchLossError) {
    try BatchLossError.require(
      labelSmoothing >= 0 && labelSmoothing <= 1, "labelSmoothing", labelSmoothing, "a number from 0 to 1")
    try BatchLossError.require(zLoss.isFinite, "zLoss", zLoss, "a finite number")
    if let softCap {
      try BatchLossError.require(softCap > 0 && softCap.isFinite, "softCap", softCap, "a finite number > 0")
    }
    self.labelSmoothing = labelSmoothing
    self.ignoreIndex = ignoreIndex
    self.zLoss = zLoss
    self.softCap = softCap
  }

  // MARK: Class indices

  /// The cost of a batch of logits whose targets are class indices.
  ///
  /// - Parameters:
  ///   - logits: `rows` × `columns`, a class a column.
  ///   - targets: The class of each row, of any integer type.
  ///   - classWeights: A factor for each class.
  ///   - weights: A factor for each row.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor, so that micro-batches give the gradient of one batch.
  ///   - losses: Receives the weighted loss of each row.
  ///   - gradient: Receives the derivative of the cost by each logit.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for counts that do not match, a label outside 0..<`columns` or a bad
  ///   denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: borrowing MatrixView<Scalar>, targets: borrowing Span<Label>,
    classWeights: Span<Scalar>? = nil, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    try evaluation(
      logits.memory, classWeights: pointerIfPresent(to: classWeights), weights: pointerIfPresent(to: weights),
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      gradient: memory(of: gradient), engine: engine
    ).run(labels: pointer(to: targets))
  }

  /// The cost of a batch of logits that are replaced by the gradient; targets are class indices.
  @discardableResult
  public func evaluateInPlace<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: consuming MutableMatrixView<Scalar>, targets: borrowing Span<Label>,
    classWeights: Span<Scalar>? = nil, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    try evaluation(
      logits.memory, classWeights: pointerIfPresent(to: classWeights), weights: pointerIfPresent(to: weights),
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      gradient: logits.memory, engine: engine
    ).run(labels: pointer(to: targets))
  }

  /// The cost of a batch and its gradient in a new matrix; targets are class indices.
  public func costAndGradient<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: borrowing MatrixView<Scalar>, targets: borrowing Span<Label>,
    classWeights: Span<Scalar>? = nil, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, engine: Engine = .shared
  ) throws(BatchLossError) -> (cost: Cost, gradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: logits.rows, columns: logits.columns)
    let cost = try evaluate(
      logits, targets: targets, classWeights: classWeights, weights: weights, reduction: reduction,
      gradient: gradient.mutableView, engine: engine)
    return (cost, gradient)
  }

  // MARK: Distributions

  /// The cost of a batch of logits whose targets are distributions over the classes.
  ///
  /// As with class indices; `probabilities` has the shape of the logits. Its rows need not add up to 1. There is
  /// nothing to ignore: give a row weight 0 instead.
  /// - Throws: ``BatchLossError`` for counts that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    _ logits: borrowing MatrixView<Scalar>, probabilities: borrowing MatrixView<Scalar>,
    classWeights: Span<Scalar>? = nil, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    try evaluation(
      logits.memory, classWeights: pointerIfPresent(to: classWeights), weights: pointerIfPresent(to: weights),
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      gradient: memory(of: gradient), engine: engine
    ).run(probabilities: probabilities.memory)
  }

  /// The cost of a batch of logits that are replaced by the gradient; targets are distributions.
  @discardableResult
  public func evaluateInPlace<Scalar: LossScalar>(
    _ logits: consuming MutableMatrixView<Scalar>, probabilities: borrowing MatrixView<Scalar>,
    classWeights: Span<Scalar>? = nil, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    try evaluation(
      logits.memory, classWeights: pointerIfPresent(to: classWeights), weights: pointerIfPresent(to: weights),
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      gradient: logits.memory, engine: engine
    ).run(probabilities: probabilities.memory)
  }

  /// The cost of a batch and its gradient in a new matrix; targets are distributions.
  public func costAndGradient<Scalar: LossScalar>(
    _ logits: borrowing MatrixView<Scalar>, probabilities: borrowing MatrixView<Scalar>,
    classWeights: Span<Scalar>? = nil, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, engine: Engine = .shared
  ) throws(BatchLossError) -> (cost: Cost, gradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: logits.rows, columns: logits.columns)
    let cost = try evaluate(
      logits, probabilities: probabilities, classWeights: classWeights, weights: weights, reduction: reduction,
      gradient: gradient.mutableView, engine: engine)
    return (cost, gradient)
  }

  private func evaluation<Scalar: LossScalar>(
    _ logits: RowMajor<Scalar>, classWeights: UnsafeBufferPointer<Scalar>?, weights: UnsafeBufferPointer<Scalar>?,
    reduction: Reduction, denominator: Double?, losses: UnsafeMutableBufferPointer<Scalar>?,
    gradient: RowMajor<Scalar>?, engine: Engine
  ) -> SoftmaxCrossEntropyEvaluation<Scalar> {
    SoftmaxCrossEntropyEvaluation(
      loss: self, logits: logits, classWeights: classWeights, weights: weights, reduction: reduction,
      denominator: denominator, losses: losses, gradient: gradient, engine: engine)
  }
}
