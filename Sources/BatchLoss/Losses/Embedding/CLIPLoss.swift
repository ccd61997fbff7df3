import BatchLossFormulas
import BatchLossKernelInterface

/// Finds for each image its text and for each text its image: symmetric cross-entropy (Radford et al. 2021).
///
/// With s = x̂·ŷ (or x·y without normalisation) and the temperature τ:
///
/// cost = (1/2·rows)·Σᵢ ( log Σⱼ e^(sᵢⱼ/τ) + log Σⱼ e^(sⱼᵢ/τ) − 2·sᵢᵢ/τ )
///
/// The result holds the derivative by the scale 1/τ and by τ. Rows of zeros have similarity 0 to all and gradient 0.
/// Losses are in nats. While the similarities fit the engine's workspace budget they are computed once
/// (6·rows²·columns operations with gradients); beyond it they are computed twice, with the same result up to
/// rounding. The bits do not depend on the worker count.
public struct CLIPLoss: Hashable, Sendable {
  /// What similarities are divided by.
  public let temperature: Double
  /// Whether rows are divided by their length first.
  public let normalizes: Bool

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `temperature` is finite and greater than 0.
  public init(temperature: Double = 0.07, normalizes: Bool = true) throws(BatchLossError) {
    try requireTemperature(temperature)
    self.temperature = temperature
    self.normalizes = normalizes
  }

  /// The cost of pairs of rows.
  ///
  /// - Parameters:
  ///   - images: `rows` × `columns`.
  ///   - texts: As many; row i belongs to image i.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the loss of each row: the mean of its two directions.
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
      keyNames: ("texts", "textGradient"), normalizes: normalizes,
      scale: 1 / temperature, reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: imageGradient), keyGradient: memory(of: textGradient), engine: engine)
    try texts.memory.requireShape(images.memory.shape, "texts")
    try evaluation.validate()
    return try CLIPEvaluation(similarity: evaluation).run()
  }
}
