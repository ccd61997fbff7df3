import BatchLossFormulas
import BatchLossKernelInterface

/// Judges every pair of an image and a text on its own (Zhai et al. 2023).
///
/// With s = x̂·ŷ, z = 1 for pairs of one row and −1 for all others:
///
/// cost = (1/rows)·Σᵢⱼ log(1 + e^(−z·(scale·sᵢⱼ + bias)))
///
/// The result holds the derivatives by scale and bias. Rows of zeros have similarity 0 to all and gradient 0. Losses
/// are in nats. No matrix of all similarities is held. The bits do not depend on the worker count.
public struct SigLIPLoss: Hashable, Sendable {
  /// What similarities are multiplied by.
  public let scale: Double
  /// What is added to them.
  public let bias: Double
  /// Whether rows are divided by their length first.
  public let normalizes: Bool

  /// Creates the loss; defaults are the paper's start of training.
  /// - Throws: ``BatchLossError`` unless `scale` and `bias` are finite.
  public init(scale: Double = 10, bias: Double = -10, normalizes: Bool = true) throws(BatchLossError) {
    try BatchLossError.require(scale.isFinite, "scale", scale, "a finite number")
    try BatchLossError.require(bias.isFinite, "bias", bias, "a finite number")
    self.scale = scale
    self.bias = bias
    self.normalizes = normalizes
  }

  /// The cost of pairs of rows, `.mean` over rows.
  ///
  /// - Parameters:
  ///   - images: `rows` × `columns`.
  ///   - texts: As many; row i belongs to image i.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the sum of the losses of each image.
  ///   - imageGradient: Receives the derivative of the cost by each image.
  ///   - textGradient: Receives the derivative of the cost by each text.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    images: borrowing MatrixView<Scalar>, texts: borrowing MatrixView<Scalar>, reduction: Reduction = .mean,
    denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    imageGradient: consuming MutableMatrixView<Scalar>? = nil,
    textGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let evaluation = SimilarityEvaluation(
      queries: images.memory, queryNames: ("images", "imageGradient"), keys: texts.memory,
      keyNames: ("texts", "textGradient"), normalizes: normalizes, scale: scale,
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: imageGradient), keyGradient: memory(of: textGradient), engine: engine)
    try texts.memory.requireShape(images.memory.shape, "texts")
    try evaluation.validate()
    return try SigLIPEvaluation(similarity: evaluation, bias: bias).run()
  }
}
