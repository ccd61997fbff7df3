import BatchLossFormulas
import BatchLossKernelInterface

/// Pulls all rows of one label together and away from the rest (Khosla et al. 2020, the loss L_out).
///
/// With s = x̂·x̂ (or x·x without normalisation), the temperature τ and P(i) the other rows with the label of i:
///
/// ℓᵢ = log Σ_{j≠i} e^(sᵢⱼ/τ) − (1/|P(i)|)·Σ_{p∈P(i)} sᵢₚ/τ
///
/// `.mean` divides by the number of rows that have a positive; others cost 0. Rows of zeros have similarity 0 to all
/// and gradient 0. Losses are in nats. Half of the similarities are held while they fit the engine's workspace
/// budget, and computed twice beyond it: 3 or 4·rows²·columns operations with the gradient. The bits do not depend on the worker count.
public struct SupConLoss: Hashable, Sendable {
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

  /// The cost of a labelled batch.
  ///
  /// - Parameters:
  ///   - embeddings: `rows` × `columns`.
  ///   - labels: The class of each row, any integers.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the loss of each row.
  ///   - gradient: Receives the derivative of the cost by each embedding.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, labels: borrowing Span<Label>, reduction: Reduction = .mean,
    denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    gradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let evaluation = SimilarityEvaluation(
      queries: embeddings.memory, queryNames: ("embeddings", "gradient"), keys: nil, keyNames: ("", ""),
      normalizes: normalizes, scale: 1 / temperature,
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: gradient), keyGradient: nil, engine: engine)
    try evaluation.validate()
    let labels = pointer(to: labels)
    try BatchLabels<Scalar>.validate(labels.count, rows: embeddings.rows)
    return try engine.withClassNumbers(labels) { classes throws(BatchLossError) in
      try SupConEvaluation(similarity: evaluation).run(classes)
    }
  }
}
