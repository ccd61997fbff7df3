import BatchLossFormulas
import BatchLossKernelInterface

/// The sums of one segment, while the gradient of the same segment of the waiting row is written, where targets are
/// distributions or logits are capped.
@inline(__always)
func generalSegmentSums<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>,
  _ source: UnsafePointer<V.Lane>, _ segment: Int, _ shift: V.Lane, _ ahead: ReadAhead<V.Lane>?,
  _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) -> (sum: Double, linear: Double, targetSum: Double, nextLargest: V.Lane) {
  if arguments.labels != nil && arguments.labelSmoothing == 0 {
    generalSums(arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, CapAlone.self, as: V.self)
  } else if arguments.softCap == 0 && arguments.labelSmoothing == 0 && arguments.classWeights == nil {
    generalSums(
      arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, ProbabilitiesAlone.self, as: V.self)
  } else {
    generalSums(arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, AnyOptions.self, as: V.self)
  }
}

/// What a loop has to do, known when it is compiled.
private protocol RowOptions {
  /// Whether classes beside the label have targets.
  static var haveTargets: Bool { get }
  /// Whether there may be more to a target than its probability.
  static var changeTargets: Bool { get }
  static var mayCap: Bool { get }
}

private enum ProbabilitiesAlone: RowOptions {
  static var haveTargets: Bool { true }
  static var changeTargets: Bool { false }
  static var mayCap: Bool { false }
}

private enum CapAlone: RowOptions {
  static var haveTargets: Bool { false }
  static var changeTargets: Bool { false }
  static var mayCap: Bool { true }
}

private enum AnyOptions: RowOptions {
  static var haveTargets: Bool { true }
  static var changeTargets: Bool { true }
  static var mayCap: Bool { true }
}

@inline(never)
private func generalSums<V: KernelVector, Options: RowOptions>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>,
  _ source: UnsafePointer<V.Lane>, _ segment: Int, _ shift: V.Lane, _ ahead: ReadAhead<V.Lane>?,
  _ partialLine: inout PartialLine<V.Lane>, _: Options.Type, as: V.Type
) -> (sum: Double, linear: Double, targetSum: Double, nextLargest: V.Lane) {
  let zero = V(lane: 0)
  let size = arguments.segmentSize
  let start = segment * size
  let count = min(size, arguments.columns - start)
  // Into locals, because for all the compiler knows the stores below may change what arguments point to.
  let rowExponentials = exponentials(of: row, segment, arguments)
  let probabilities = advance(row.probabilities, start)
  let classWeights = advance(arguments.classWeights, start)
  let smoothing = V(arguments.smoothing)
  let keep = V(1 - arguments.labelSmoothing)

  @inline(__always)
  func target(_ probabilities: UnsafePointer<V.Lane>?, _ index: Int, _ lanes: Int) -> V {
    if !Options.changeTargets, let probabilities { return loadLanes(probabilities + index, lanes, as: V.self) }
    var target = smoothing
    if let probabilities {
      target = V.multiplyAdd(loadLanes(probabilities + index, lanes, as: V.self), keep, target)
    }
    if let classWeights { target = target * loadLanes(classWeights + index, lanes, as: V.self) }
    return target
  }

  // The waiting row.
  let isWaiting = waiting.gradient != nil
  let output = advance(waiting.gradient, start)
  let waitingExponentials = UnsafePointer(exponentials(of: waiting, segment, arguments))
  let waitingProbabilities = advance(waiting.probabilities, start)
  let (capped, cappedRests) = (UnsafePointer(waiting.capped + start), UnsafePointer(waiting.rests + start))
  let rests = UnsafePointer(row.rests + start)
  let (scale, targetScale) = (V(lane: isWaiting ? waiting.scales[segment] : 0), V(lane: waiting.targetScale))
  let hasCap = Options.mayCap && (!Options.haveTargets || arguments.softCap != 0)
  let (cap, inverseCap) = softCap(arguments, as: V.self)
  let streams = arguments.streams

  @inline(__always)
  func gradient(_ index: Int, _ lanes: Int) -> V {
    let e = loadLanes(waitingExponentials + index, lanes, as: V.self)
    let value =
      Options.haveTargets
      ? V.multiplyAdd(e, scale, targetScale * target(waitingProbabilities, index, lanes)) : e * scale
    guard hasCap else { return value }
    return value
      * softCapSlope(
        loadLanes(capped + index, lanes, as: V.self), loadLanes(cappedRests + index, lanes, as: V.self), cap,
        inverse: inverseCap)
  }

  let (source, shift) = (source + start, V(lane: shift))
  var (sum, linear, targetSum) = (LaneSum<V>(), LaneSum<V>(), LaneSum<V>())
  var largest = V(lane: -.infinity)
  // Never looked at where there is none.
  let next = ahead ?? ReadAhead(start: source, count: V.laneCount, as: V.self)
  @inline(__always)
  func step(_ index: Int, _ lanes: Int, _ isCommon: Bool) {
    var shifted = loadLanes(source + index, lanes, padding: -.infinity, as: V.self) - shift
    if hasCap { shifted = shifted + loadLanes(rests + index, lanes, as: V.self) }
    let e = V.exp(ofSummand: shifted)
    sum.lanes = sum.lanes + e
    if Options.haveTargets {
      var target = target(probabilities, index, lanes)
      if lanes < V.laneCount { target = zero.replacing(with: target, where: V.first(lanes)) }
      // A target of 0 counts 0 even on −∞.
      linear.lanes = linear.lanes + (target * shifted).replacing(with: zero, where: target .== zero)
      targetSum.lanes = targetSum.lanes + target
      if let probabilities { prefetch(after: probabilities + index) }
    }
    storeLanes(e, rowExponentials + index, lanes)
    largest = next.larger(largest, at: index, isCommon: isCommon)
  }
  @inline(__always)
  func flush() {
    sum.flush()
    if Options.haveTargets {
      linear.flush()
      targetSum.flush()
    }
  }
  takeSteps(
    count, writing: output, streams: streams, &partialLine, ahead, as: V.self, step, flush: flush,
    gradient: gradient)
  return (sum.total, linear.total, targetSum.total, ahead?.largest(largest, end: count) ?? 0)
}
