import BatchLossFormulas
import BatchLossKernelInterface

/// Pulls similar pairs together and pushes others apart until they are a margin away (Hadsell, Chopra, LeCun 2006).
///
/// With d the distance of a pair and y = 1 for similar pairs, 0 for others:
///
/// - quadratic, the default: ℓ = ½·y·d² + ½·(1 − y)·max(0, margin − d)²
/// - linear: ℓ = y·max(0, d − positiveMargin) + (1 − y)·max(0, margin − d)
///
/// Pairs are given, or they are all unordered pairs i < j of a labelled batch, similar where the labels are equal.
///
/// Identical rows have distance and subgradient 0. Rows of zeros have cosine distance 1 and gradient 0. A batch
/// without pairs (0 or 1 rows) costs 0. NaN in a row makes the cost NaN.
///
/// All pairs take rows²·columns operations for the cost and twice as many for the gradient, in tiles: nothing of
/// size rows × rows is held. Given pairs are read once. The bits do not depend on the worker count.
public struct ContrastiveLoss: Hashable, Sendable {
  /// The distance from which pairs that are not similar cost nothing.
  public let margin: Double
  /// The distance up to which similar pairs cost nothing; linear form only.
  public let positiveMargin: Double
  /// How distances are measured.
  public let distance: EmbeddingDistance
  /// Whether hinges are linear instead of squared.
  public let isLinear: Bool

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless margins are finite and not negative, and `positiveMargin` is 0 unless the
  ///   hinges are linear.
  public init(
    margin: Double = 1, distance: EmbeddingDistance = .euclidean, linear: Bool = false, positiveMargin: Double = 0
  ) throws(BatchLossError) {
    try BatchLossError.require(margin >= 0 && margin.isFinite, "margin", margin, "a finite number ≥ 0")
    try BatchLossError.require(
      positiveMargin >= 0 && positiveMargin.isFinite, "positiveMargin", positiveMargin, "a finite number ≥ 0")
    try BatchLossError.require(
      linear || positiveMargin == 0, "positiveMargin", positiveMargin, "0 where hinges are squared")
    self.margin = margin
    self.positiveMargin = positiveMargin
    self.distance = distance
    isLinear = linear
  }

  var form: ContrastiveForm {
    ContrastiveForm(
      isLinear: isLinear, margin: margin, positiveMargin: positiveMargin,
      distance: distance.pairForm)
  }

  /// The cost of given pairs: row i of `first` with row i of `second`.
  ///
  /// - Parameters:
  ///   - first: `rows` × `columns`.
  ///   - second: As many.
  ///   - similar: Whether each pair is similar.
  ///   - weights: A factor for each pair; a pair of weight 0 counts for nothing, even if it holds NaN.
  ///   - reduction: What the sum of losses is divided by; with weights, `.mean` divides by their sum.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the weighted loss of each pair.
  ///   - firstGradient: Receives the derivative of the cost by `first`.
  ///   - secondGradient: Receives the derivative of the cost by `second`.
  ///   - engine: Workers and scratch memory.
  /// - Returns: The cost, the number of pairs and the number of losses greater than 0.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    first: borrowing MatrixView<Scalar>, second: borrowing MatrixView<Scalar>, similar: borrowing Span<Bool>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil,
    firstGradient: consuming MutableMatrixView<Scalar>? = nil,
    secondGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> MiningResult {
    try ContrastivePairsEvaluation(
      loss: self, first: first.memory, second: second.memory, similar: pointer(to: similar),
      weights: pointerIfPresent(to: weights), reduction: reduction, denominator: denominator,
      losses: memory(of: &losses), firstGradient: memory(of: firstGradient),
      secondGradient: memory(of: secondGradient), engine: engine
    ).run()
  }

  /// The cost of all pairs i < j of a labelled batch.
  ///
  /// - Parameters:
  ///   - embeddings: `rows` × `columns`.
  ///   - labels: The class of each row, any integers.
  ///   - reduction: What the sum of losses is divided by: `.mean` by the number of pairs, `.batchMean` by rows.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives for each row the sum of the losses of its pairs, halved: together they are the sum.
  ///   - gradient: Receives the derivative of the cost by each embedding.
  ///   - engine: Workers and scratch memory.
  /// - Returns: The cost, the number of pairs and the number of losses greater than 0.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, labels: borrowing Span<Label>,
    reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> MiningResult {
    let batch = LabelledBatch(
      embeddings: embeddings.memory, distance: distance, reduction: reduction, denominator: denominator,
      losses: memory(of: &losses), gradient: memory(of: gradient), engine: engine)
    let (form, labels) = (form, pointer(to: labels))
    try batch.validate(labels: labels.count)
    return try engine.withClassNumbers(labels) { classes throws(BatchLossError) in
      try ContrastiveBatchEvaluation(form: form, batch: batch).run(classes)
    }
  }
}
