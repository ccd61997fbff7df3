import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

/// One call of the loss.
struct CTCEvaluation<Scalar: LossScalar> {
  let loss: CTCLoss
  let logits: RowMajor<Scalar>
  let weights: UnsafeBufferPointer<Scalar>?
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let gradient: RowMajor<Scalar>?
  let engine: Engine

  func run<Label: FixedWidthInteger>(
    targets: borrowing CTCTargets<Label>, inputLengths: Span<Int>?
  ) throws(BatchLossError) -> Cost {
    let scratch = engine.borrowWorkspace()
    defer { engine.giveBack(scratch) }
    let batch = try CTCBatch(
      targets: targets, inputLengths: inputLengths, rows: logits.rows, columns: logits.columns, loss: loss,
      scratch: scratch)
    try validate(batch: batch.count)
    let kernels = try KernelSelection.current.table(Scalar.self).ctc
    return evaluate(batch, kernels)
  }

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  private func evaluate(_ batch: CTCBatch, _ kernels: CTCKernels<Scalar>) -> Cost {
    let divisor: Double =
      switch (denominator, reduction) {
      case (let given?, _): given
      case (nil, .sum): 1
      case (nil, .mean): weights.map { $0.reduce(0) { $0 + Double($1) } } ?? Double(batch.count)
      case (nil, _): Double(batch.count)
      }
    // Short utterances that follow one another in memory stay with one worker, which asks for the next in time. Where
    // some are much longer than others, those come first and one by one.
    let partition = BlockPartition(
      of: batch.count, blockSize: batch.utterancesPerBlock(workers: engine.configuration.workerCount))
    let workspaceBytes = batch.workspaceBytes(Scalar.self, hasTable: loss.input == .logits)
    engine.forEachBlock(partition.blocks, inOrder: true) { block, workspace in
      for place in partition[block] {
        let utterance = Int(batch.order[place])
        batch.losses[utterance] = evaluate(
          utterance, of: batch, kernels, divisor: divisor, workspace.buffer(of: UInt8.self, count: workspaceBytes))
      }
    }
    var sum = 0.0
    for utterance in 0..<batch.count {
      let value = batch.losses[utterance]
      losses?[utterance] = Scalar(value)
      sum += value * share(of: utterance, in: batch)
    }
    return Cost(sum: sum, denominator: divisor)
  }

  // MARK: One utterance

  private func evaluate(
    _ utterance: Int, of batch: CTCBatch, _ kernels: CTCKernels<Scalar>, divisor: Double,
    _ workspace: UnsafeMutablePointer<UInt8>
  ) -> Double {
    let frames = batch.frames[utterance]
    let weight = weights.map { Double($0[utterance]) } ?? 1
    guard weight != 0 else {
      if let gradient { fill(gradient, utterance, 0..<batch.time, of: batch, with: 0) }
      return 0
    }
    if let gradient { fill(gradient, utterance, frames..<batch.time, of: batch, with: 0) }
    guard batch.isFeasible(utterance) else {
      if let gradient { fill(gradient, utterance, 0..<frames, of: batch, with: 0) }
      return loss.zeroInfinity ? 0 : weight * .infinity
    }
    guard frames > 0 else { return 0 }
    var arguments = batch.arguments(of: utterance, logits, loss, workspace: workspace)
    if let gradient {
      arguments.gradient = gradient.pointer(batch.row(utterance, 0, loss.layout), 0)
      arguments.gradientStride = batch.frameStride(loss.layout) * gradient.stride
      arguments.scale = Scalar(divisor == 0 ? 0 : weight * share(of: utterance, in: batch) / divisor)
      arguments.streams = gradient.base != logits.base && NonTemporal.isWorthwhile(gradient)
    }
    kernels.evaluate(&arguments)
    switch arguments.outcome {
    case .finite: return weight * value(arguments)
    case .impossible:
      if let gradient { fill(gradient, utterance, 0..<frames, of: batch, with: 0) }
      return loss.zeroInfinity ? 0 : weight * .infinity
    case .undefined:
      // A denominator of 0 silences all, as a weight of 0 does one.
      if let gradient { fill(gradient, utterance, 0..<frames, of: batch, with: divisor == 0 ? 0 : .nan) }
      return .nan
    }
  }

  /// The logarithm of the normalisers over the probability: of their ratio while that is a normal number, so
  /// that a loss near 0 keeps its digits.
  private func value(_ arguments: CTCArguments<Scalar>) -> Double {
    let exponent = arguments.normalizerExponent - arguments.probabilityExponent
    let ratio = arguments.normalizer / arguments.probability
    let logarithm =
      abs(exponent) < 400 && ratio < 0x1p600
      ? log(scalbn(ratio, Int32(exponent))) : log(ratio) + exponent * 0x1.62e42fefa39efp-1
    let value = logarithm + arguments.offset
    return arguments.isNormalized ? value : max(value, 0)
  }

  private func fill(
    _ gradient: RowMajor<Scalar>, _ utterance: Int, _ frames: Range<Int>, of batch: CTCBatch, with value: Scalar
  ) {
    for frame in frames {
      gradient.pointer(batch.row(utterance, frame, loss.layout), 0)
        .update(repeating: value, count: gradient.columns)
    }
  }

  /// What the reduction multiplies a weighted loss by before the division of the sum.
  private func share(of utterance: Int, in batch: CTCBatch) -> Double {
    reduction == .mean ? 1 / Double(max(batch.labelCounts[utterance], 1)) : 1
  }

  private func validate(batch: Int) throws(BatchLossError) {
    guard reduction != .meanOverActive else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "reduction", expected: "mean, meanOverCount, batchMean or sum for CTC",
        actual: "\(reduction)")
    }
    try validateDenominator(denominator)
    try gradient?.requireShape(logits.shape, "gradient")
    if let weights { try requireCount(weights.count, batch, "weights") }
    if let losses, losses.count != batch {
      throw BatchLossError(
        .invalidShape, parameter: "losses", expected: "one for each of \(batch) utterances",
        actual: "\(losses.count)")
    }
  }
}
