import BatchLossFormulas
import BatchLossKernelInterface

/// The Kullback-Leibler divergence KL(p‖q) of rows, from logarithms or straight from logits.
///
/// With q the model's distribution (the input), p the target's and T the temperature of logits:
///
/// ℓᵢ = T²·Σₖ pₖ·(log pₖ − log qₖ)
///
/// - For logits x, q = softmax(x/T) and ∂ℓ/∂xₖ = T·(qₖ·Σp − pₖ); for log-probabilities ∂ℓ/∂(log qₖ) = −T²·pₖ.
/// - For target logits u, p = softmax(u/T) and ∂ℓ/∂uₖ = T·pₖ·(log pₖ − log qₖ − KL).
/// - T² keeps the size of gradients in distillation (Hinton, Vinyals, Dean 2015).
///
/// Direction and sign are those of PyTorch's `kl_div(input, target)`. `.batchMean`, the default, divides by the
/// rows and is the divergence per row; `.mean` divides by `rows` × `columns`, as PyTorch's does.
///
/// Edge cases: p = 0 contributes exactly 0 even where q is 0 (log q = −∞); p > 0 where q = 0 gives +∞. Targets
/// need not add up to 1. A row of weight 0 gives exactly 0 whatever it holds.
///
/// In nats. No n×K intermediate is made and a repeated call allocates nothing. The bits do not depend on the worker
/// count.
public struct KLDivergence: Hashable, Sendable {
  /// What the input holds.
  public enum Input: String, Hashable, Sendable, CaseIterable {
    /// log q.
    case logProbabilities
    /// x with q = softmax(x/T).
    case logits
  }

  /// What the targets hold.
  public enum Targets: String, Hashable, Sendable, CaseIterable {
    /// p.
    case probabilities
    /// log p.
    case logProbabilities
    /// u with p = softmax(u/T).
    case logits
  }

  /// What the input holds.
  public let input: Input
  /// What the targets hold.
  public let targets: Targets
  /// What logits are divided by: T.
  public let temperature: Double

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `temperature` is finite and greater than 0, and 1 where nothing is logits.
  public init(
    input: Input = .logProbabilities, targets: Targets = .probabilities, temperature: Double = 1
  ) throws(BatchLossError) {
    try BatchLossError.require(
      temperature > 0 && temperature.isFinite, "temperature", temperature, "a finite number > 0")
    guard temperature == 1 || input == .logits || targets == .logits else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "temperature", expected: "1 where neither side is logits",
        actual: "\(temperature)")
    }
    self.input = input
    self.targets = targets
    self.temperature = temperature
  }

  /// The cost of a batch and, on request, its gradients.
  ///
  /// - Parameters:
  ///   - input: `rows` × `columns`, in the form ``input-swift.property`` says.
  ///   - targets: As many, in the form ``targets-swift.property`` says.
  ///   - weights: A factor for each row.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor, so that micro-batches give the gradient of one batch.
  ///   - losses: Receives the weighted divergence of each row.
  ///   - gradient: Receives the derivative of the cost by the input.
  ///   - targetGradient: Receives the derivative of the cost by the targets, which must be logits.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match, a gradient that is not offered or a bad
  ///   denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    _ input: borrowing MatrixView<Scalar>, targets: borrowing MatrixView<Scalar>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .batchMean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, gradient: consuming MutableMatrixView<Scalar>? = nil,
    targetGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    try KLDivergenceEvaluation(
      loss: self, input: input.memory, targets: targets.memory, weights: pointerIfPresent(to: weights),
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      gradient: memory(of: gradient), targetGradient: memory(of: targetGradient), engine: engine
    ).run()
  }

  /// The cost of a batch whose input is replaced by the gradient; that of the targets, which must be logits, goes
  /// elsewhere.
  ///
  /// As `evaluate`, without a second buffer.
  @discardableResult
  public func evaluateInPlace<Scalar: LossScalar>(
    _ input: consuming MutableMatrixView<Scalar>, targets: borrowing MatrixView<Scalar>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .batchMean, denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil, targetGradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    try KLDivergenceEvaluation(
      loss: self, input: input.memory, targets: targets.memory, weights: pointerIfPresent(to: weights),
      reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      gradient: input.memory, targetGradient: memory(of: targetGradient), engine: engine
    ).run()
  }

  /// The cost of a batch and its gradient by the input in a new matrix.
  public func costAndGradient<Scalar: LossScalar>(
    _ input: borrowing MatrixView<Scalar>, targets: borrowing MatrixView<Scalar>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .batchMean, engine: Engine = .shared
  ) throws(BatchLossError) -> (cost: Cost, gradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: input.rows, columns: input.columns)
    let cost = try evaluate(
      input, targets: targets, weights: weights, reduction: reduction, gradient: gradient.mutableView,
      engine: engine)
    return (cost, gradient)
  }

  /// The cost of a batch and both gradients in new matrices; the targets must be logits.
  public func costAndGradients<Scalar: LossScalar>(
    _ input: borrowing MatrixView<Scalar>, targets: borrowing MatrixView<Scalar>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .batchMean, engine: Engine = .shared
  ) throws(BatchLossError) -> (cost: Cost, gradient: Matrix<Scalar>, targetGradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: input.rows, columns: input.columns)
    var targetGradient = try Matrix<Scalar>(rows: targets.rows, columns: targets.columns)
    let cost = try evaluate(
      input, targets: targets, weights: weights, reduction: reduction, gradient: gradient.mutableView,
      targetGradient: targetGradient.mutableView, engine: engine)
    return (cost, gradient, targetGradient)
  }
}

/// One call of ``KLDivergence``.
private struct KLDivergenceEvaluation<Scalar: LossScalar> {
  let loss: KLDivergence
  let input: RowMajor<Scalar>
  let targets: RowMajor<Scalar>
  let weights: UnsafeBufferPointer<Scalar>?
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let gradient: RowMajor<Scalar>?
  let targetGradient: RowMajor<Scalar>?
  let engine: Engine

  func run() throws(BatchLossError) -> Cost {
    try validate()
    let kernels = try KernelSelection.current.table(Scalar.self)
    let rows = Double(input.rows)
    let columns = Double(input.columns)
    let divisor: Double =
      switch (denominator, reduction) {
      case (let given?, _): given
      case (nil, .mean): (weights.map { kernels.sum($0) } ?? rows) * columns
      case (nil, .meanOverCount): rows * columns
      case (nil, .batchMean): rows
      case (nil, .sum): 1
      case (nil, .meanOverActive): Double(pass(kernels, scale: 0, writes: false, losses: nil).active)
      }
    let writes = divisor != 0
    let total = pass(kernels, scale: writes ? 1 / divisor : 0, writes: writes, losses: losses)
    if !writes {
      // Only now: in place, the gradient is where the input was.
      gradient?.fill(0)
      targetGradient?.fill(0)
    }
    return Cost(sum: total.sum, denominator: divisor)
  }

  private func pass(
    _ kernels: KernelTable<Scalar>, scale: Double, writes: Bool, losses: UnsafeMutableBufferPointer<Scalar>?
  ) -> PartialSums {
    guard input.columns > 0 else {
      losses?.update(repeating: 0)
      return PartialSums()
    }
    let gradient = writes ? gradient : nil
    let targetGradient = writes ? targetGradient : nil
    let isWorthwhile =
      gradient.map(NonTemporal.isWorthwhile) ?? false || targetGradient.map(NonTemporal.isWorthwhile) ?? false
    let streams = isWorthwhile && gradient?.base != input.base
    // Of wide rows several, because the gradients of one are written beside the exponentials of the next.
    let several = max(1, min(16, input.rows / 32))
    let partition = BlockPartition(of: input.rows, blockSize: max(several, 65536 / input.columns))
    return engine.sum(overBlocks: partition.blocks) { block, workspace in
      let rows = partition[block]
      let first = rows.lowerBound
      var arguments = KLDivergenceArguments(
        input: UnsafePointer(input.pointer(first, 0)), inputStride: input.stride,
        inputForm: loss.input == .logits ? .logits : .logProbabilities,
        target: UnsafePointer(targets.pointer(first, 0)), targetStride: targets.stride,
        targetForm: targetForm, rows: rows.count, columns: input.columns, temperature: loss.temperature,
        scratch: workspace.buffer(
          of: Scalar.self, count: KLDivergenceArguments<Scalar>.scratchCount(columns: input.columns)))
      arguments.weights = weights?.baseAddress.map { $0 + first }
      arguments.inputGradient = gradient?.pointer(first, 0)
      arguments.inputGradientStride = gradient?.stride ?? 0
      arguments.targetGradient = targetGradient?.pointer(first, 0)
      arguments.targetGradientStride = targetGradient?.stride ?? 0
      arguments.gradientScale = scale
      arguments.streams = streams
      arguments.losses = losses?.baseAddress.map { $0 + first }
      kernels.klDivergence(&arguments)
      return PartialSums(sum: arguments.sum, active: arguments.active)
    }
  }

  private var targetForm: DistributionForm {
    switch loss.targets {
    case .probabilities: .probabilities
    case .logProbabilities: .logProbabilities
    case .logits: .logits
    }
  }

  private func validate() throws(BatchLossError) {
    try targets.requireShape(input.shape, "targets")
    try gradient?.requireShape(input.shape, "gradient")
    try targetGradient?.requireShape(input.shape, "targetGradient")
    if let weights { try requireCount(weights.count, input.rows, "weights") }
    if let losses { try requireCount(losses.count, input.rows, "losses") }
    guard targetGradient == nil || loss.targets == .logits else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "targetGradient", expected: "targets that are logits",
        actual: "\(loss.targets.rawValue)")
    }
    try validateDenominator(denominator)
  }
}
