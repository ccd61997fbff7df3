import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``TripletLoss`` with given triplets.
struct GivenTripletsEvaluation<Scalar: LossScalar> {
  let loss: TripletLoss
  let anchors: RowMajor<Scalar>
  let positives: RowMajor<Scalar>
  let negatives: RowMajor<Scalar>
  let weights: UnsafeBufferPointer<Scalar>?
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let anchorGradient: RowMajor<Scalar>?
  let positiveGradient: RowMajor<Scalar>?
  let negativeGradient: RowMajor<Scalar>?
  let engine: Engine

  func run() throws(BatchLossError) -> MiningResult {
    try positives.requireShape(anchors.shape, "positives")
    try negatives.requireShape(anchors.shape, "negatives")
    if let weights { try requireCount(weights.count, anchors.rows, "weights") }
    if let losses { try requireCount(losses.count, anchors.rows, "losses") }
    try anchorGradient?.requireShape(anchors.shape, "anchorGradient")
    try positiveGradient?.requireShape(anchors.shape, "positiveGradient")
    try negativeGradient?.requireShape(anchors.shape, "negativeGradient")
    try validateDenominator(denominator)
    let kernels = try KernelSelection.current.table(Scalar.self)
    let divisor: Double =
      switch (denominator, reduction) {
      case (let given?, _): given
      case (nil, .mean): weights.map { kernels.sum($0) } ?? Double(anchors.rows)
      case (nil, .meanOverCount), (nil, .batchMean): Double(anchors.rows)
      case (nil, .sum): 1
      case (nil, .meanOverActive): Double(pass(kernels, scale: 0, writes: false).active)
      }
    let total = pass(kernels, scale: divisor == 0 ? 0 : 1 / divisor, writes: true)
    return MiningResult(
      cost: Cost(sum: total.sum, denominator: divisor), valid: anchors.rows, active: total.active)
  }

  private func pass(_ kernels: KernelTable<Scalar>, scale: Double, writes: Bool) -> PartialSums {
    let partition = BlockPartition(of: anchors.rows, blockSize: max(1, 32768 / max(1, anchors.columns)))
    let streams = writes && NonTemporal.isWorthwhile(anchors)
    return engine.sum(overBlocks: partition.blocks) { block, workspace in
      let start = partition[block].lowerBound
      var arguments = TripletArguments(
        form: loss.form, anchors: UnsafePointer(anchors.pointer(start, 0)), anchorStride: anchors.stride,
        positives: UnsafePointer(positives.pointer(start, 0)), positiveStride: positives.stride,
        negatives: UnsafePointer(negatives.pointer(start, 0)), negativeStride: negatives.stride,
        count: partition[block].count, columns: anchors.columns,
        slopes: workspace.buffer(of: Double.self, count: 6 * partition[block].count))
      arguments.weights = weights?.baseAddress.map { $0 + start }
      arguments.gradientScale = scale
      arguments.streams = streams
      if writes {
        arguments.anchorGradient = anchorGradient.map { ($0.pointer(start, 0), $0.stride) }
        arguments.positiveGradient = positiveGradient.map { ($0.pointer(start, 0), $0.stride) }
        arguments.negativeGradient = negativeGradient.map { ($0.pointer(start, 0), $0.stride) }
        arguments.losses = losses?.baseAddress.map { $0 + start }
      }
      kernels.triplets.given(&arguments)
      return PartialSums(sum: arguments.sum, active: arguments.active)
    }
  }
}
