import BatchLossFormulas
import BatchLossKernelInterface

/// Softmax over class centres on the sphere, with a margin on the angle to the own class (Deng et al. 2019).
///
/// With cos θᵢⱼ = x̂ᵢ·ĉⱼ and y the class of row i, cross-entropy over the logits scale·cos θᵢⱼ, where the one of y is
/// scale·cos(θᵢᵧ + margin), or scale·(cos θᵢᵧ − margin·sin margin) where θᵢᵧ + margin exceeds π.
///
/// At θᵢᵧ = 0, to the rounding of cosines, the subgradient is that of cos θᵢᵧ·cos margin. Rows of zeros have cosine 0
/// to all and gradient 0. The bits do not depend on the worker count.
public struct ArcFaceLoss: Hashable, Sendable {
  /// The angle added to that of the own class, in radians.
  public let margin: Double
  /// What cosines are multiplied by.
  public let scale: Double

  /// Creates the loss; defaults are the paper's.
  /// - Throws: ``BatchLossError`` unless `margin` is in 0…π and `scale` is finite and greater than 0.
  public init(margin: Double = 0.5, scale: Double = 64) throws(BatchLossError) {
    try BatchLossError.require(margin >= 0 && margin <= .pi, "margin", margin, "an angle from 0 to π")
    try BatchLossError.require(scale > 0 && scale.isFinite, "scale", scale, "a finite number > 0")
    self.margin = margin
    self.scale = scale
  }

  /// The cost of embeddings and class centres.
  ///
  /// - Parameters:
  ///   - embeddings: `rows` × `columns`.
  ///   - classCenters: One row of `columns` for each class.
  ///   - labels: The class of each row.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the loss of each row.
  ///   - gradient: Receives the derivative of the cost by each embedding.
  ///   - classCenterGradient: Receives the derivative of the cost by each centre.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match, a label that names no centre or a bad denominator;
  ///   nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, classCenters: borrowing MatrixView<Scalar>,
    labels: borrowing Span<Label>, reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    classCenterGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let (sine, cosine) = sineAndCosine(margin)
    let margin = margin
    // Cosines within four roundings of 1 say nothing of the direction to the center.
    let least = (8 * Double(Scalar.ulpOfOne)).squareRoot()
    return try marginSoftmax(
      SimilarityEvaluation(
        queries: embeddings.memory, queryNames: ("embeddings", "gradient"), keys: classCenters.memory,
        keyNames: ("classCenters", "classCenterGradient"), normalizes: true, scale: scale, reduction: reduction,
        denominator: denominator, losses: memory(of: &losses), queryGradient: memory(of: gradient),
        keyGradient: memory(of: classCenterGradient), engine: engine),
      labels: pointer(to: labels)
    ) { own in
      let limited = min(max(own, -1), 1)
      let height = (1 - limited * limited).squareRoot()
      guard limited > -cosine else { return (own - margin * sine, 1) }
      return (limited * cosine - height * sine, height > least ? cosine + limited / height * sine : cosine)
    }
  }
}

/// Softmax over class centres on the sphere, with a margin on the cosine of the own class (Wang et al. 2018).
///
/// With cos θᵢⱼ = x̂ᵢ·ĉⱼ and y the class of row i, cross-entropy over the logits scale·cos θᵢⱼ, where the one of y is
/// scale·(cos θᵢᵧ − margin). Rows of zeros have cosine 0 to all and gradient 0. The bits do not depend on the worker
/// count.
public struct CosFaceLoss: Hashable, Sendable {
  /// What is taken from the cosine of the own class.
  public let margin: Double
  /// What cosines are multiplied by.
  public let scale: Double

  /// Creates the loss; defaults are the paper's.
  /// - Throws: ``BatchLossError`` unless `margin` is finite and not negative and `scale` finite and greater than 0.
  public init(margin: Double = 0.35, scale: Double = 64) throws(BatchLossError) {
    try BatchLossError.require(margin >= 0 && margin.isFinite, "margin", margin, "a finite number ≥ 0")
    try BatchLossError.require(scale > 0 && scale.isFinite, "scale", scale, "a finite number > 0")
    self.margin = margin
    self.scale = scale
  }

  /// The cost of embeddings and class centres; parameters as those of ``ArcFaceLoss``.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, classCenters: borrowing MatrixView<Scalar>,
    labels: borrowing Span<Label>, reduction: Reduction = .mean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    classCenterGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let margin = margin
    return try marginSoftmax(
      SimilarityEvaluation(
        queries: embeddings.memory, queryNames: ("embeddings", "gradient"), keys: classCenters.memory,
        keyNames: ("classCenters", "classCenterGradient"), normalizes: true, scale: scale, reduction: reduction,
        denominator: denominator, losses: memory(of: &losses), queryGradient: memory(of: gradient),
        keyGradient: memory(of: classCenterGradient), engine: engine),
      labels: pointer(to: labels)
    ) { own in (own - margin, 1) }
  }
}

/// Cross-entropy over cosines, the own one changed by `margin`, which returns its new value and the derivative.
private func marginSoftmax<Scalar: LossScalar, Label: FixedWidthInteger>(
  _ evaluation: SimilarityEvaluation<Scalar>, labels: UnsafeBufferPointer<Label>,
  margin: (_ cosine: Double) -> (value: Double, slope: Double)
) throws(BatchLossError) -> SimilarityResult {
  try evaluation.validate()
  let (rows, count, scale) = (evaluation.queries.rows, evaluation.keys?.rows ?? 0, evaluation.scale)
  try requireCount(labels.count, rows, "labels")
  for row in 0..<rows where labels[row] < 0 || labels[row] >= count {
    throw BatchLossError(
      .invalidLabel, parameter: "labels", expected: "a class from 0 to \(count - 1) in row \(row)",
      actual: "\(labels[row])")
  }
  return try withoutActuallyEscaping(margin) { margin throws(BatchLossError) in
    try evaluation.run { context in
      { row, cosines, _ in
        let own = Int(labels[row])
        let (changed, slope) = margin(Double(cosines[own]))
        cosines[own] = Scalar(changed)
        // The numbers that the kernel sees: a row that is certain of its class costs 0.
        let (value, logit) = (Double(cosines[own]), Double(Scalar(scale) * cosines[own]))
        let (logSum, mean) = context.kernels.softmax(cosines, count, scale, ColumnSelection(.all))
        cosines[own] = Scalar((Double(cosines[own]) - 1) * slope)
        return RowResult(ofOneLoss: logSum - logit, weighted: mean - value)
      }
    }
  }
}
