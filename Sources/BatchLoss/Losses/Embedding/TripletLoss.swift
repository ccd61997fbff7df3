import BatchLossFormulas
import BatchLossKernelInterface

/// Wants every positive nearer to its anchor than every negative, by a margin (Schroff, Kalenichenko, Philbin 2015).
///
/// With u = d(a, p) − d(a, n) + margin: ℓ = max(0, u), or max(0, u)² (`squared`), or log(1 + eᵘ) (`smooth`).
///
/// Triplets are given, or they are found in a labelled batch, where p has the label of a and n another one:
///
/// | mining | triplets | `valid` |
/// |---|---|---|
/// | `.given` | as handed over | their number |
/// | `.batchHard` | farthest positive and nearest negative of each anchor | anchors that have both |
/// | `.batchSemiHard` | each (a, p) with the nearest negative with d(a, n) > d(a, p), or else the farthest one | such pairs |
/// | `.batchAll` | all | Σ positives · negatives |
///
/// The lowest row wins among equals. With `swap`, d(p, n) stands in for d(a, n) where it is smaller (Balntas et
/// al. 2016); not with `.batchSemiHard` and `.batchAll`.
///
/// - `.batchAll` is exact in O(rows²·log(positives)) and never holds the triplets; smooth it takes time for each
///   triplet, O(rows · positives · negatives).
/// - Identical rows are at distance and subgradient 0. Exactly at the margin loss and subgradient are 0. A batch
///   without valid triplets costs 0 with gradient 0.
/// - NaN in a row that is the anchor of a triplet makes the cost NaN. Given triplets have
///   nothing to do with each other: NaN spoils the gradient of its own alone.
/// - `.batchHard` chooses by exact distances, as far as the embeddings' scalar type holds them; where rows repeat or
///   numbers are tiny, and on processors without AVX2, by those of a matrix product.
/// - Memory beside inputs and outputs: two copies of the embeddings; for `.batchSemiHard` and `.batchAll` also
///   rows² distances where they fit the engine's workspace budget, else those of some hundred anchors. The bits do
///   not depend on the worker count.
public struct TripletLoss: Hashable, Sendable {
  /// Where triplets come from.
  public enum Mining: String, Hashable, Sendable, CaseIterable {
    case given
    case batchHard = "batch-hard"
    case batchSemiHard = "batch-semi-hard"
    case batchAll = "batch-all"
  }

  /// How much nearer the positive has to be.
  public let margin: Double
  /// How distances are measured.
  public let distance: EmbeddingDistance
  /// Where triplets come from.
  public let mining: Mining
  /// Whether the negative may be measured from the positive.
  public let swap: Bool
  /// Whether the hinge is a softplus.
  public let smooth: Bool
  /// Whether the hinge is squared.
  public let squared: Bool

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `margin` is finite and not negative, at most one of `smooth` and `squared`
  ///   is set, and `swap` only for given triplets and batch-hard mining.
  public init(
    margin: Double = 1, distance: EmbeddingDistance = .euclidean, mining: Mining = .given, swap: Bool = false,
    smooth: Bool = false, squared: Bool = false
  ) throws(BatchLossError) {
    try BatchLossError.require(margin >= 0 && margin.isFinite, "margin", margin, "a finite number ≥ 0")
    guard !(smooth && squared) else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "smooth", expected: "false where the hinge is squared", actual: "true")
    }
    guard !swap || mining == .given || mining == .batchHard else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "swap", expected: "false with \(mining.rawValue)", actual: "true")
    }
    self.margin = margin
    self.distance = distance
    self.mining = mining
    self.swap = swap
    self.smooth = smooth
    self.squared = squared
  }

  var form: TripletForm {
    TripletForm(
      shape: smooth ? .softplus : squared ? .squaredHinge : .hinge, margin: margin, swaps: swap,
      distance: distance.pairForm)
  }

  /// The cost of given triplets: row i of each matrix.
  ///
  /// - Parameters:
  ///   - anchors: `rows` × `columns`.
  ///   - positives: As many.
  ///   - negatives: As many.
  ///   - weights: A factor for each triplet; one of weight 0 counts for nothing, even if it holds NaN.
  ///   - reduction: What the sum of losses is divided by; with weights, `.mean` divides by their sum.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the weighted loss of each triplet.
  ///   - anchorGradient: Receives the derivative of the cost by `anchors`.
  ///   - positiveGradient: Receives the derivative of the cost by `positives`.
  ///   - negativeGradient: Receives the derivative of the cost by `negatives`.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` when `mining` is not `.given`, for shapes that do not match or a bad denominator;
  ///   nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    anchors: borrowing MatrixView<Scalar>, positives: borrowing MatrixView<Scalar>,
    negatives: borrowing MatrixView<Scalar>, weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean, denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    anchorGradient: consuming MutableMatrixView<Scalar>? = nil,
    positiveGradient: consuming MutableMatrixView<Scalar>? = nil,
    negativeGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> MiningResult {
    guard mining == .given else { throw miningError("given") }
    return try GivenTripletsEvaluation(
      loss: self, anchors: anchors.memory, positives: positives.memory, negatives: negatives.memory,
      weights: pointerIfPresent(to: weights), reduction: reduction, denominator: denominator,
      losses: memory(of: &losses), anchorGradient: memory(of: anchorGradient),
      positiveGradient: memory(of: positiveGradient), negativeGradient: memory(of: negativeGradient),
      engine: engine
    ).run()
  }

  /// The cost of the triplets of a labelled batch.
  ///
  /// - Parameters:
  ///   - embeddings: `rows` × `columns`.
  ///   - labels: The class of each row, any integers.
  ///   - reduction: What the sum of losses is divided by: `.mean` by the number of valid triplets,
  ///     `.meanOverActive` by those with a loss, `.batchMean` by rows.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives for each anchor the sum of its losses.
  ///   - gradient: Receives the derivative of the cost by each embedding.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` when `mining` is `.given`, for shapes that do not match or a bad denominator;
  ///   nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, labels: borrowing Span<Label>,
    reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> MiningResult {
    guard mining != .given else { throw miningError("a way to find triplets in a batch") }
    let batch = LabelledBatch(
      embeddings: embeddings.memory, distance: distance, reduction: reduction, denominator: denominator,
      losses: memory(of: &losses), gradient: memory(of: gradient), engine: engine)
    let labels = pointer(to: labels)
    try batch.validate(labels: labels.count)
    let (form, mining) = (form, mining)
    return try engine.withClassNumbers(labels) { classes throws(BatchLossError) in
      mining == .batchHard
        ? try BatchHardEvaluation(form: form, batch: batch).run(classes)
        : try BatchTriplets(form: form, isSemiHard: mining == .batchSemiHard, batch: batch).run(classes)
    }
  }

  private func miningError(_ expected: String) -> BatchLossError {
    BatchLossError(
      .unsupportedCombination, parameter: "mining", expected: expected, actual: mining.rawValue)
  }
}
