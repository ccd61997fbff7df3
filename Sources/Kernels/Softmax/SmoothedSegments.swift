import BatchLossFormulas
import BatchLossKernelInterface

/// The sums of one segment, while the gradient of the same segment of the waiting row is written, where labels are
/// smoothed and nothing else: the targets beside the label's are then the same for every row.
///
/// A loop of its own, because with every other option in it the one of `generalSegmentSums` takes twice the
/// instructions of the plain one.
@inline(__always)
func smoothedSegmentSums<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>,
  _ source: UnsafePointer<V.Lane>, _ segment: Int, _ shift: V.Lane, _ ahead: ReadAhead<V.Lane>?,
  _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) -> (sum: Double, linear: Double, targetSum: Double, nextLargest: V.Lane) {
  if arguments.classWeights == nil {
    smoothedSums(arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, NoWeights.self, as: V.self)
  } else if arguments.mayHaveZeroClassWeight || arguments.segmentCount > 1 {
    smoothedSums(
      arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, AnyWeights.self, as: V.self)
  } else {
    smoothedSums(
      arguments, &row, &waiting, source, segment, shift, ahead, &partialLine, PositiveWeights.self, as: V.self)
  }
}

/// What a loop has to do about class weights, known when it is compiled.
private protocol ClassWeighting {
  static var areGiven: Bool { get }
  static var mayBeZero: Bool { get }
  /// Whether their sum over a segment is not that of all.
  static var areAdded: Bool { get }
}

private enum NoWeights: ClassWeighting {
  static var areGiven: Bool { false }
  static var mayBeZero: Bool { false }
  static var areAdded: Bool { false }
}

/// Of rows of one segment.
private enum PositiveWeights: ClassWeighting {
  static var areGiven: Bool { true }
  static var mayBeZero: Bool { false }
  static var areAdded: Bool { false }
}

private enum AnyWeights: ClassWeighting {
  static var areGiven: Bool { true }
  static var mayBeZero: Bool { true }
  static var areAdded: Bool { true }
}

@inline(never)
private func smoothedSums<V: KernelVector, Weights: ClassWeighting>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: inout SoftmaxRow<V.Lane>,
  _ waiting: inout SoftmaxRow<V.Lane>,
  _ source: UnsafePointer<V.Lane>, _ segment: Int, _ shift: V.Lane, _ ahead: ReadAhead<V.Lane>?,
  _ partialLine: inout PartialLine<V.Lane>, _: Weights.Type, as: V.Type
) -> (sum: Double, linear: Double, targetSum: Double, nextLargest: V.Lane) {
  let zero = V(lane: 0)
  let size = arguments.segmentSize
  let start = segment * size
  let count = min(size, arguments.columns - start)
  let smoothing = arguments.smoothing
  // Into locals, because for all the compiler knows the stores below may change what arguments point to.
  let rowExponentials = exponentials(of: row, segment, arguments)
  let classWeights = arguments.classWeights.map { $0 + start } ?? source

  // The waiting row.
  let isWaiting = waiting.gradient != nil
  let output = advance(waiting.gradient, start)
  let waitingExponentials = UnsafePointer(exponentials(of: waiting, segment, arguments))
  let scale = V(lane: isWaiting ? waiting.scales[segment] : 0)
  let targetScale = V(Double(waiting.targetScale) * smoothing)
  let streams = arguments.streams

  @inline(__always)
  func gradient(_ index: Int, _ lanes: Int) -> V {
    let target = Weights.areGiven ? loadLanes(classWeights + index, lanes, as: V.self) * targetScale : targetScale
    return V.multiplyAdd(loadLanes(waitingExponentials + index, lanes, as: V.self), scale, target)
  }

  let (source, shift) = (source + start, V(lane: shift))
  var (sum, linear, weights) = (LaneSum<V>(), LaneSum<V>(), LaneSum<V>())
  var largest = V(lane: -.infinity)
  // Never looked at where there is none.
  let next = ahead ?? ReadAhead(start: source, count: V.laneCount, as: V.self)
  @inline(__always)
  func step(_ index: Int, _ lanes: Int, _ isCommon: Bool) {
    let shifted = loadLanes(source + index, lanes, padding: -.infinity, as: V.self) - shift
    let e = V.exp(ofSummand: shifted)
    sum.lanes = sum.lanes + e
    if Weights.areGiven {
      let weight = loadLanes(classWeights + index, lanes, as: V.self)
      // A weight of 0 counts 0 even on −∞, which is what lies beyond the row's end.
      let masks = Weights.mayBeZero || lanes < V.laneCount
      let counted = masks ? shifted.replacing(with: zero, where: weight .== zero) : shifted
      linear.lanes = V.multiplyAdd(weight, counted, linear.lanes)
      if Weights.areAdded { weights.lanes = weights.lanes + weight }
    } else if lanes < V.laneCount {
      linear.lanes = linear.lanes + zero.replacing(with: shifted, where: V.first(lanes))
    } else {
      linear.lanes = linear.lanes + shifted
    }
    storeLanes(e, rowExponentials + index, lanes)
    largest = next.larger(largest, at: index, isCommon: isCommon)
  }
  @inline(__always)
  func flush() {
    sum.flush()
    linear.flush()
    if Weights.areAdded { weights.flush() }
  }
  takeSteps(
    count, writing: output, streams: streams, &partialLine, ahead, as: V.self, step, flush: flush,
    gradient: gradient)
  var targetSum = weights.total
  if !Weights.areAdded { targetSum = Weights.areGiven ? arguments.classWeightSum : Double(count) }
  return (sum.total, linear.total * smoothing, targetSum * smoothing, ahead?.largest(largest, end: count) ?? 0)
}
