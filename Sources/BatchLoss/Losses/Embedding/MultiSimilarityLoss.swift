import BatchLossFormulas
import BatchLossKernelInterface

/// Weighs pairs by their own similarity and by those beside them (Wang et al. 2019, without mining).
///
/// With s = x̂·x̂ (or x·x without normalisation), P(i) the other rows with the label of i and N(i) those of others:
///
/// ℓᵢ = (1/α)·log(1 + Σ_{p∈P(i)} e^(−α·(sᵢₚ − λ))) + (1/β)·log(1 + Σ_{n∈N(i)} e^(β·(sᵢₙ − λ)))
///
/// `.mean` divides by the number of rows, where there are two or more; a lone row costs 0. Rows of zeros have
/// similarity 0 to all and gradient 0. No matrix of all similarities is held. The bits do not depend on the worker
/// count.
public struct MultiSimilarityLoss: Hashable, Sendable {
  /// The sharpness of positives.
  public let alpha: Double
  /// The sharpness of negatives.
  public let beta: Double
  /// The similarity λ that positives should exceed and negatives should not.
  public let base: Double
  /// Whether rows are divided by their length first.
  public let normalizes: Bool

  /// Creates the loss; defaults are the paper's.
  /// - Throws: ``BatchLossError`` unless `alpha` and `beta` are finite and greater than 0 and `base` is finite.
  public init(
    alpha: Double = 2, beta: Double = 50, base: Double = 0.5, normalizes: Bool = true
  ) throws(BatchLossError) {
    try BatchLossError.require(alpha > 0 && alpha.isFinite, "alpha", alpha, "a finite number > 0")
    try BatchLossError.require(beta > 0 && beta.isFinite, "beta", beta, "a finite number > 0")
    try BatchLossError.require(base.isFinite, "base", base, "a finite number")
    self.alpha = alpha
    self.beta = beta
    self.base = base
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
      normalizes: normalizes, scale: 1,
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: gradient), keyGradient: nil, engine: engine)
    try evaluation.validate()
    let (labels, count) = (pointer(to: labels), embeddings.rows)
    try BatchLabels<Scalar>.validate(labels.count, rows: count)
    return try evaluation.run(scratch: count, fillLabels: { $0.fill(labels) }) { context in
      { row, similarities, scratch in
        guard count > 1 else {
          similarities.update(repeating: 0, count: count)
          return RowResult()
        }
        let (values, label) = (UnsafePointer(context.labels.values), context.labels.values[row])
        let near = group(
          context.kernels, similarities, count, -alpha, scratch,
          ColumnSelection(.same, labels: values, label: label, excluded: row))
        let far = group(
          context.kernels, similarities, count, beta, similarities,
          ColumnSelection(.different, labels: values, label: label))
        context.kernels.rows.combine(
          Scalar(-near.share), UnsafePointer(scratch), Scalar(far.share), UnsafePointer(similarities),
          similarities, count)
        return RowResult(ofOneLoss: near.logSum / alpha + far.logSum / beta)
      }
    }
  }

  /// log(1 + Σ e^(a·(s − λ))), with its terms in `output` and what to multiply these by to have their shares.
  private func group<Scalar: LossScalar>(
    _ kernels: KernelTable<Scalar>, _ row: UnsafeMutablePointer<Scalar>, _ count: Int, _ a: Double,
    _ output: UnsafeMutablePointer<Scalar>, _ selection: ColumnSelection<Scalar>
  ) -> (logSum: Double, share: Double) {
    let largest = Double(kernels.similarities.largest(UnsafePointer(row), count, Scalar(a), selection))
    // The exponents are a·s − a·λ; the one of the 1 is 0.
    let shift = max(largest - a * base, 0)
    let sum = kernels.similarities.exponentials(
      UnsafePointer(row), count, Scalar(a), Scalar(shift + a * base), selection, output
    ).sum
    let total = sum + exponential(-shift)
    return (shift + logarithm(total), 1 / total)
  }
}
