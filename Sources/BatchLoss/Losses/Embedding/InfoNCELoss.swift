import BatchLossFormulas
import BatchLossKernelInterface

/// Finds the positive of each query among many keys: cross-entropy over similarities (van den Oord, Li, Vinyals
/// 2018), and its labelled form NT-Xent (Chen et al. 2020).
///
/// With s = q̂·k̂ (or q·k without normalisation) and the temperature τ:
///
/// - queries and keys: ℓᵢ = −log( e^(sᵢᵢ/τ) / Σⱼ e^(sᵢⱼ/τ) ); key i is the positive of query i, all others are
///   negatives, also those beyond the last query;
/// - labelled batch: for each pair (i, j) of one label ℓᵢⱼ = −log( e^(sᵢⱼ/τ) / (e^(sᵢⱼ/τ) + Σₖ e^(sᵢₖ/τ)) ) with k over
///   the rows of other labels; other positives are not in the denominator, as they are in ``SupConLoss``. `.mean`
///   divides by the number of pairs.
///
/// Rows of zeros have similarity 0 to all and gradient 0. Without positives the cost is 0. A pair without negatives
/// costs 0. Losses are in nats. No matrix of all similarities is held: groups of queries are worked on one after
/// another, 6·queries·keys·columns operations with gradients. The bits do not depend on the worker count.
public struct InfoNCELoss: Hashable, Sendable {
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

  /// The cost of queries whose positives are the keys of the same row.
  ///
  /// - Parameters:
  ///   - queries: `rows` × `columns`.
  ///   - keys: At least as many rows of `columns`.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the loss of each query.
  ///   - queryGradient: Receives the derivative of the cost by each query.
  ///   - keyGradient: Receives the derivative of the cost by each key.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    queries: borrowing MatrixView<Scalar>, keys: borrowing MatrixView<Scalar>, reduction: Reduction = .mean,
    denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    queryGradient: consuming MutableMatrixView<Scalar>? = nil,
    keyGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let evaluation = SimilarityEvaluation(
      queries: queries.memory, queryNames: ("queries", "queryGradient"), keys: keys.memory,
      keyNames: ("keys", "keyGradient"), normalizes: normalizes, scale: 1 / temperature,
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: queryGradient), keyGradient: memory(of: keyGradient), engine: engine)
    guard keys.rows >= queries.rows else {
      throw BatchLossError(
        .invalidShape, parameter: "keys", expected: "at least \(queries.rows) rows", actual: "\(keys.rows)")
    }
    try evaluation.validate()
    return try InfoNCEEvaluation(similarity: evaluation).run()
  }

  /// The cost of all pairs of one label in a batch: NT-Xent.
  ///
  /// - Parameters:
  ///   - embeddings: `rows` × `columns`.
  ///   - labels: The class of each row, any integers.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives for each row the sum of the losses of its pairs.
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
    let (labels, count, scale) = (pointer(to: labels), embeddings.rows, 1 / temperature)
    try BatchLabels<Scalar>.validate(labels.count, rows: count)
    return try evaluation.run(scratch: count, fillLabels: { $0.fill(labels) }) { context in
      { row, similarities, scratch in
        let (kernels, classes) = (context.kernels, context.labels)
        let (values, label) = (UnsafePointer(classes.values), classes.values[row])
        let (positives, negatives) = (classes.positives(of: row), classes.negatives(of: row))
        guard positives > 0, negatives > 0 else {
          similarities.update(repeating: 0, count: count)
          return RowResult(valid: positives)
        }
        let others = ColumnSelection(.different, labels: values, label: label)
        let shift = kernels.similarities.largest(UnsafePointer(similarities), count, Scalar(scale), others)
        let total = kernels.similarities.exponentials(
          UnsafePointer(similarities), count, Scalar(scale), shift, others, scratch)
        let logSum = Scalar(Double(shift) + logarithm(total.sum))
        let pairs = kernels.similarities.softplus(
          similarities, count, Scalar(scale), logSum,
          ColumnSelection(.same, labels: values, label: label, excluded: row))
        let share = -pairs.weight / total.sum
        kernels.rows.combine(
          Scalar(share), UnsafePointer(scratch), 1, UnsafePointer(similarities), similarities, count)
        return RowResult(
          loss: pairs.loss, weighted: pairs.weighted + share * total.weighted, valid: positives, active: positives)
      }
    }
  }
}

/// Checks a temperature.
func requireTemperature(_ temperature: Double) throws(BatchLossError) {
  try BatchLossError.require(
    temperature > 0 && temperature.isFinite && (1 / temperature).isFinite, "temperature", temperature,
    "a finite number > 0")
}
