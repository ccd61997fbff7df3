import BatchLossFormulas
import BatchLossKernelInterface

extension ElementwiseLoss {
  /// The cost of a batch and, on request, its gradient and the losses of its elements, in one pass.
  ///
  /// cost = Σ wᵢ·ℓ(xᵢ, tᵢ) / D and gradientᵢ = wᵢ·ℓ′(xᵢ, tᵢ) / D over the `rows` × `columns` elements, each of
  /// which counts as one sample.
  ///
  /// - Parameters:
  ///   - predictions: `rows` × `columns` predictions x.
  ///   - targets: As many targets t.
  ///   - weights: A factor an element (`rows` × `columns`) or a row (`rows` × 1). An element of weight 0
  ///     contributes exactly 0 to value and gradient, even where it holds NaN.
  ///   - reduction: What the sum is divided by; with weights, `.mean` divides by their sum.
  ///   - denominator: Overrides the divisor, so that micro-batches give the gradient of one batch.
  ///   - losses: Receives the weighted loss of every element.
  ///   - gradient: Receives the derivative of the cost by each prediction.
  ///   - engine: Workers and scratch memory.
  /// - Returns: Sum and denominator in float64. The bits depend on data and shape, not on the worker count.
  /// - Throws: ``BatchLossError`` for shapes that do not match, predictions outside ``predictionRange``
  ///   or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    _ predictions: borrowing MatrixView<Scalar>,
    targets: borrowing MatrixView<Scalar>,
    weights: MatrixView<Scalar>? = nil,
    reduction: Reduction = .mean,
    denominator: Double? = nil,
    losses: consuming MutableMatrixView<Scalar>? = nil,
    gradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    let evaluation = ElementwiseEvaluation(
      predictions: predictions.memory, targets: targets.memory, weights: weights?.memory,
      reduction: reduction, denominator: denominator,
      losses: memory(of: losses), gradient: memory(of: gradient), engine: engine)
    return try evaluation.run(self)
  }

  /// The cost of a batch whose predictions are replaced by the gradient.
  ///
  /// As `evaluate`, without a second buffer.
  @discardableResult
  public func evaluateInPlace<Scalar: LossScalar>(
    _ predictions: consuming MutableMatrixView<Scalar>,
    targets: borrowing MatrixView<Scalar>,
    weights: MatrixView<Scalar>? = nil,
    reduction: Reduction = .mean,
    denominator: Double? = nil,
    losses: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    let evaluation = ElementwiseEvaluation(
      predictions: predictions.memory, targets: targets.memory, weights: weights?.memory,
      reduction: reduction, denominator: denominator,
      losses: memory(of: losses), gradient: predictions.memory, engine: engine)
    return try evaluation.run(self)
  }

  /// The cost of a batch and its gradient in a new matrix.
  public func costAndGradient<Scalar: LossScalar>(
    _ predictions: borrowing MatrixView<Scalar>,
    targets: borrowing MatrixView<Scalar>,
    weights: MatrixView<Scalar>? = nil,
    reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (cost: Cost, gradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: predictions.rows, columns: predictions.columns)
    let cost = try evaluate(
      predictions, targets: targets, weights: weights, reduction: reduction,
      gradient: gradient.mutableView, engine: engine)
    return (cost, gradient)
  }
}

/// One call of an element-wise loss.
struct ElementwiseEvaluation<Scalar: LossScalar> {
  let predictions: RowMajor<Scalar>
  let targets: RowMajor<Scalar>
  let weights: RowMajor<Scalar>?
  let reduction: Reduction
  let denominator: Double?
  let losses: RowMajor<Scalar>?
  let gradient: RowMajor<Scalar>?
  let engine: Engine

  /// Elements a block: two inputs and an output of `Float` fill 192 KiB, a part of every L2 cache.
  private static var blockSize: Int { 16384 }

  func run<Loss: ElementwiseLoss>(_ loss: Loss) throws(BatchLossError) -> Cost {
    try validate()
    let selection = try KernelSelection.current
    let kernels = selection.table(Scalar.self)
    if let range = loss.predictionRange { try validate(predictionsIn: range, kernels) }
    if let kernel: ElementwiseKernel<Scalar> = selection.elementwise(Loss.self, Scalar.self) {
      return withUnsafePointer(to: loss) { pointer in
        nonisolated(unsafe) let loss = UnsafeRawPointer(pointer)
        return reduce(kernels) { arguments, _ in kernel(loss, &arguments) }
      }
    }
    return RecordedFormula(loss).withProgram { program in
      reduce(kernels) { arguments, workspace in
        let scratch = workspace.buffer(of: Scalar.self, count: program.scratchCount)
        kernels.interpretFormula(program, scratch, &arguments)
      }
    }
  }

  /// Evaluates one run of elements.
  private typealias Kernel = (_ arguments: inout ElementwiseArguments<Scalar>, _ workspace: Workspace) -> Void

  private func reduce(_ kernels: KernelTable<Scalar>, _ kernel: Kernel) -> Cost {
    let divisor: Double =
      switch (denominator, reduction) {
      case (let given?, _): given
      case (nil, .mean): weightSum(kernels)
      case (nil, .meanOverCount): Double(predictions.count)
      case (nil, .batchMean): Double(predictions.rows)
      case (nil, .sum): 1
      case (nil, .meanOverActive): Double(pass(kernel, scale: 0, counts: true, writes: false).active)
      }
    let writes = divisor != 0
    let partial = pass(kernel, scale: Scalar(writes ? 1 / divisor : 0), counts: false, writes: writes)
    // Only now: in place, the gradient is where the predictions were.
    if !writes { gradient?.fill(0) }
    return Cost(sum: partial.sum, denominator: divisor)
  }

  // MARK: Passes over the batch

  private func pass(
    _ kernel: Kernel, scale: Scalar, counts: Bool, writes: Bool
  ) -> PartialSums {
    let gradient = writes ? gradient : nil
    let streams = gradient.map { NonTemporal.isWorthwhile($0) && $0.base != predictions.base } ?? false
    let losses = writes || !counts ? losses : nil
    func run(_ row: Int, _ column: Int, _ count: Int, _ workspace: Workspace) -> PartialSums {
      let sharesWeight = weights.map { $0.columns != predictions.columns } ?? true
      var arguments = ElementwiseArguments<Scalar>(
        predictions: UnsafePointer(predictions.pointer(row, column)),
        targets: UnsafePointer(targets.pointer(row, column)),
        weights: sharesWeight ? nil : weights.map { UnsafePointer($0.pointer(row, column)) },
        weight: sharesWeight ? weights?.pointer(row, 0).pointee ?? 1 : 1,
        gradient: gradient?.pointer(row, column), losses: losses?.pointer(row, column),
        count: count, gradientScale: scale, streams: streams, countsActive: counts)
      kernel(&arguments, workspace)
      return PartialSums(sum: arguments.sum, active: arguments.active)
    }
    return forEachRun(run)
  }

  /// Calls `run` for stretches of elements that are contiguous in every operand.
  private func forEachRun(
    _ run: (_ row: Int, _ column: Int, _ count: Int, _ workspace: Workspace) -> PartialSums
  ) -> PartialSums {
    let isFlat =
      predictions.isContiguous && targets.isContiguous && gradient?.isContiguous ?? true
      && losses?.isContiguous ?? true
      && weights.map { $0.columns == predictions.columns && $0.isContiguous } ?? true
    if isFlat {
      let partition = BlockPartition(of: predictions.count, blockSize: Self.blockSize)
      return engine.sum(overBlocks: partition.blocks) { block, workspace in
        let range = partition[block]
        return run(0, range.lowerBound, range.count, workspace)
      }
    }
    let columns = predictions.columns
    guard columns > 0 else { return PartialSums() }
    let partition = BlockPartition(of: predictions.rows, blockSize: Self.blockSize / columns)
    return engine.sum(overBlocks: partition.blocks) { block, workspace in
      var total = PartialSums()
      for row in partition[block] { total.add(run(row, 0, columns, workspace)) }
      return total
    }
  }

  /// The sum of the weights of all elements.
  private func weightSum(_ kernels: KernelTable<Scalar>) -> Double {
    guard let weights else { return Double(predictions.count) }
    let partition = BlockPartition(of: weights.rows, blockSize: Self.blockSize / max(1, weights.columns))
    let total = engine.sum(overBlocks: partition.blocks) { block, _ in
      var sum = 0.0
      for row in partition[block] {
        sum += kernels.sum(weights.pointer(row, 0), weights.columns)
      }
      return PartialSums(weight: sum)
    }
    return weights.columns == predictions.columns ? total.weight : total.weight * Double(predictions.columns)
  }

  // MARK: Validation

  private func validate() throws(BatchLossError) {
    let shape = predictions.shape
    try targets.requireShape(shape, "targets")
    try losses?.requireShape(shape, "losses")
    try gradient?.requireShape(shape, "gradient")
    if let weights, weights.columns != 1 || weights.rows != predictions.rows {
      try weights.requireShape(shape, "weights", or: "\(predictions.rows)×1")
    }
    try validateDenominator(denominator)
  }

  private func validate(
    predictionsIn range: ClosedRange<Double>, _ kernels: KernelTable<Scalar>
  ) throws(BatchLossError) {
    let partition = BlockPartition(
      of: predictions.rows, blockSize: Self.blockSize / max(1, predictions.columns))
    let (low, high) = (Scalar(range.lowerBound), Scalar(range.upperBound))
    let outside = engine.sum(overBlocks: partition.blocks) { block, _ in
      var count = 0
      for row in partition[block] {
        count += kernels.countOutside(predictions.pointer(row, 0), predictions.columns, low, high)
      }
      return PartialSums(active: count)
    }
    guard outside.active > 0 else { return }
    for row in 0..<predictions.rows
    where kernels.countOutside(predictions.pointer(row, 0), predictions.columns, low, high) > 0 {
      for column in 0..<predictions.columns {
        let value = predictions.base[row * predictions.stride + column]
        if value < low || value > high {
          throw BatchLossError(
            .valueOutOfRange, parameter: "predictions",
            expected: "numbers from \(range.lowerBound) to \(range.upperBound)",
            actual: "\(value) in row \(row), column \(column)")
        }
      }
    }
  }
}
