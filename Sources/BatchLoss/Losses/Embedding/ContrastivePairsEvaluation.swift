import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``ContrastiveLoss`` with given pairs.
struct ContrastivePairsEvaluation<Scalar: LossScalar> {
  let loss: ContrastiveLoss
  let first: RowMajor<Scalar>
  let second: RowMajor<Scalar>
  let similar: UnsafeBufferPointer<Bool>
  let weights: UnsafeBufferPointer<Scalar>?
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let firstGradient: RowMajor<Scalar>?
  let secondGradient: RowMajor<Scalar>?
  let engine: Engine

  /// Rows a block: 128 KiB of each input as `Float`.
  private var partition: BlockPartition {
    BlockPartition(of: first.rows, blockSize: max(1, 32768 / max(1, first.columns)))
  }

  func run() throws(BatchLossError) -> MiningResult {
    try second.requireShape(first.shape, "second")
    try requireCount(similar.count, first.rows, "similar")
    if let weights { try requireCount(weights.count, first.rows, "weights") }
    if let losses { try requireCount(losses.count, first.rows, "losses") }
    try firstGradient?.requireShape(first.shape, "firstGradient")
    try secondGradient?.requireShape(first.shape, "secondGradient")
    try validateDenominator(denominator)
    let kernels = try KernelSelection.current.table(Scalar.self)
    let divisor: Double =
      switch (denominator, reduction) {
      case (let given?, _): given
      case (nil, .mean): weights.map { kernels.sum($0) } ?? Double(first.rows)
      case (nil, .meanOverCount), (nil, .batchMean): Double(first.rows)
      case (nil, .sum): 1
      case (nil, .meanOverActive): Double(pass(kernels, scale: 0, writes: false).active)
      }
    let total = pass(kernels, scale: divisor == 0 ? 0 : 1 / divisor, writes: true)
    return MiningResult(
      cost: Cost(sum: total.sum, denominator: divisor), valid: first.rows, active: total.active)
  }

  private func pass(_ kernels: KernelTable<Scalar>, scale: Double, writes: Bool) -> PartialSums {
    let partition = partition
    let streams = writes && NonTemporal.isWorthwhile(first)
    return engine.sum(overBlocks: partition.blocks) { block, workspace in
      let rows = partition[block]
      let start = rows.lowerBound
      var arguments = ContrastivePairsArguments(
        form: loss.form, first: UnsafePointer(first.pointer(start, 0)), firstStride: first.stride,
        second: UnsafePointer(second.pointer(start, 0)), secondStride: second.stride, count: rows.count,
        columns: first.columns,
        isSimilar: UnsafeRawPointer(similar.baseAddress!).assumingMemoryBound(to: UInt8.self) + start,
        slopes: workspace.buffer(of: Double.self, count: 3 * rows.count))
      arguments.weights = weights?.baseAddress.map { $0 + start }
      arguments.gradientScale = scale
      arguments.streams = streams
      if writes {
        arguments.firstGradient = firstGradient?.pointer(start, 0)
        arguments.firstGradientStride = firstGradient?.stride ?? 0
        arguments.secondGradient = secondGradient?.pointer(start, 0)
        arguments.secondGradientStride = secondGradient?.stride ?? 0
        arguments.losses = losses?.baseAddress.map { $0 + start }
      }
      kernels.contrastive.pairs(&arguments)
      return PartialSums(sum: arguments.sum, active: arguments.active)
    }
  }
}
