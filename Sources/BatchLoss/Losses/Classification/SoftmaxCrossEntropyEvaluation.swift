import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``SoftmaxCrossEntropy``.
struct SoftmaxCrossEntropyEvaluation<Scalar: LossScalar> {
  let loss: SoftmaxCrossEntropy
  let logits: RowMajor<Scalar>
  let classWeights: UnsafeBufferPointer<Scalar>?
  let weights: UnsafeBufferPointer<Scalar>?
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let gradient: RowMajor<Scalar>?
  let engine: Engine

  /// Rows a block: about 256 KiB of `Float` logits. Of wide rows several, because the gradient of one is written
  /// beside the exponentials of the next, but not so many that there is nothing left to share.
  private var partition: BlockPartition {
    let several = max(1, min(16, logits.rows / 32))
    return BlockPartition(of: logits.rows, blockSize: max(several, 65536 / max(1, logits.columns)))
  }

  // MARK: Targets

  func run<Label: FixedWidthInteger>(labels: UnsafeBufferPointer<Label>) throws(BatchLossError) -> Cost {
    try requireCount(labels.count, logits.rows, "targets")
    try validate()
    guard logits.columns <= Int(Int32.max) else {
      throw BatchLossError(
        .invalidShape, parameter: "logits", expected: "at most 2³¹ − 1 columns", actual: "\(logits.columns)")
    }
    let kernels = try KernelSelection.current.table(Scalar.self)
    let indices = engine.borrowWorkspace()
    defer { engine.giveBack(indices) }
    let classes = indices.buffer(of: Int32.self, count: logits.rows)
    let count = try ClassLabels.convert(
      labels, to: classes, columns: logits.columns, ignoring: loss.ignoreIndex, engine: engine)
    var weight = Double(count)
    if classWeights != nil || weights != nil {
      weight = kernels.labelWeight(
        classes, logits.rows, classWeights?.baseAddress.map { UnsafePointer($0) },
        weights?.baseAddress.map { UnsafePointer($0) })
    }
    return run(kernels, weight: weight, count: count) { arguments, rows in
      arguments.labels = UnsafePointer(classes + rows.lowerBound)
    }
  }

  func run(probabilities: RowMajor<Scalar>) throws(BatchLossError) -> Cost {
    try probabilities.requireShape(logits.shape, "probabilities")
    try validate()
    let kernels = try KernelSelection.current.table(Scalar.self)
    let weight = weights.map { kernels.sum($0) } ?? Double(logits.rows)
    return run(kernels, weight: weight, count: logits.rows) { arguments, rows in
      arguments.probabilities = UnsafePointer(probabilities.pointer(rows.lowerBound, 0))
      arguments.probabilitiesStride = probabilities.stride
    }
  }

  // MARK: Passes

  private func run(
    _ kernels: KernelTable<Scalar>, weight: Double, count: Int,
    setTargets: (inout SoftmaxCrossEntropyArguments<Scalar>, Range<Int>) -> Void
  ) -> Cost {
    let divisor: Double =
      switch (denominator, reduction) {
      case (let given?, _): given
      case (nil, .mean): weight
      case (nil, .meanOverCount): Double(count)
      case (nil, .batchMean): Double(logits.rows)
      case (nil, .sum): 1
      case (nil, .meanOverActive):
        Double(pass(kernels, scale: 0, gradient: nil, losses: nil, setTargets).active)
      }
    let writes = divisor != 0
    let total = pass(
      kernels, scale: writes ? 1 / divisor : 0, gradient: writes ? gradient : nil, losses: losses, setTargets)
    // Only now: in place, the gradient is where the logits were.
    if !writes { gradient?.fill(0) }
    return Cost(sum: total.sum, denominator: divisor)
  }

  private func pass(
    _ kernels: KernelTable<Scalar>, scale: Double, gradient: RowMajor<Scalar>?,
    losses: UnsafeMutableBufferPointer<Scalar>?,
    _ setTargets: (inout SoftmaxCrossEntropyArguments<Scalar>, Range<Int>) -> Void
  ) -> PartialSums {
    guard logits.columns > 0 else {
      losses?.update(repeating: 0)
      return PartialSums()
    }
    let streams = gradient.map { NonTemporal.isWorthwhile($0) && $0.base != logits.base } ?? false
    let classWeightSum = classWeights.map { kernels.sum($0) } ?? Double(logits.columns)
    var mayHaveZeroClassWeight = false
    if let weights = classWeights, let first = weights.baseAddress {
      mayHaveZeroClassWeight = kernels.countOutside(first, weights.count, .leastNonzeroMagnitude, .infinity) > 0
    }
    let partition = partition
    let lastElement = (logits.rows - 1) * logits.stride + logits.columns
    return engine.sum(overBlocks: partition.blocks) { block, workspace in
      let rows = partition[block]
      var arguments = SoftmaxCrossEntropyArguments(
        logits: UnsafePointer(logits.pointer(rows.lowerBound, 0)), logitsStride: logits.stride,
        rows: rows.count, columns: logits.columns,
        // Within the block: what follows may be another worker's gradient in place.
        readableLogits: min(rows.upperBound * logits.stride, lastElement) - rows.lowerBound * logits.stride,
        classWeightSum: classWeightSum,
        scratch: workspace.buffer(of: Scalar.self, count: SoftmaxPlan.scratchCount(columns: logits.columns)))
      setTargets(&arguments, rows)
      arguments.classWeights = classWeights?.baseAddress.map { UnsafePointer($0) }
      arguments.mayHaveZeroClassWeight = mayHaveZeroClassWeight
      arguments.sampleWeights = weights?.baseAddress.map { $0 + rows.lowerBound }
      arguments.labelSmoothing = loss.labelSmoothing
      arguments.zLoss = loss.zLoss
      arguments.softCap = loss.softCap ?? 0
      arguments.gradient = gradient?.pointer(rows.lowerBound, 0)
      arguments.gradientStride = gradient?.stride ?? 0
      arguments.gradientScale = scale
      arguments.streams = streams
      arguments.losses = losses?.baseAddress.map { $0 + rows.lowerBound }
      kernels.softmaxCrossEntropy(&arguments)
      return PartialSums(sum: arguments.sum, active: arguments.active)
    }
  }

  // MARK: Validation

  private func validate() throws(BatchLossError) {
    if let classWeights { try requireCount(classWeights.count, logits.columns, "classWeights") }
    if let weights { try requireCount(weights.count, logits.rows, "weights") }
    if let losses { try requireCount(losses.count, logits.rows, "losses") }
    try gradient?.requireShape(logits.shape, "gradient")
    try validateDenominator(denominator)
  }
}

/// Checks the number of elements of a vector argument.
func requireCount(_ actual: Int, _ expected: Int, _ parameter: String) throws(BatchLossError) {
  guard actual == expected else {
    throw BatchLossError(
      .invalidShape, parameter: parameter, expected: "\(expected) elements", actual: "\(actual)")
  }
}
