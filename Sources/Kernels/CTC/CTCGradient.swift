import BatchLossFormulas
import BatchLossKernelInterface

/// The normaliser of every frame and, if asked for, scale · (softmax − posteriors) in its gradient row.
///
/// Posteriors are known by now, so that each frame is read from memory once and written once. Exponentials wait
/// in scratch memory in between.
@inline(never)
func ctcSoftmaxRows<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let columns = arguments.columns
  let posteriors = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let row = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  let square = (arguments.workspace + workspace.inputs).assumingMemoryBound(to: V.Lane.self)
  let whole = columns & ~(4 * V.laneCount - 1)
  var (normalizer, exponent, offset) = (1.0, 0.0, 0.0)
  var largest = largestElement(arguments.input, columns, as: V.self)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    let next = frame + 1 < arguments.frames ? input + arguments.inputStride : input
    let result = exponentialSum(input, whole, shift: largest, scale: 1, next: next, as: V.self) {
      $2.store(row + $0)
      _ = $1
    }
    // What does not fill four vectors.
    var rest = V(0)
    var highest = V(lane: result.nextLargest)
    var index = whole
    while index < columns {
      let lanes = min(V.laneCount, columns - index)
      let exponential = V.exp(nonPositive: ctcLanes(input + index, lanes, square, as: V.self) - V(lane: largest))
      exponential.store(row + index)
      rest = rest + exponential
      highest = ctcLarger(highest, ctcLanes(next + index, lanes, square, as: V.self))
      index += V.laneCount
    }
    let sum = result.sum + rest.total
    guard sum < .infinity else {
      arguments.outcome = .undefined
      return
    }
    // Where alignments are impossible, what is written is replaced later.
    if let gradient = arguments.gradient, arguments.outcome == .finite {
      let factor = V.Lane(sum)
      ctcSubtractPosteriors(
        row, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width, factor)
      row[arguments.blank] -= V.Lane(blanks[frame]) * factor
      let scale = V(lane: arguments.scale / factor)
      let output = gradient + frame * arguments.gradientStride
      forEachVector(from: 0, to: columns, destination: output, streams: arguments.streams, as: V.self) { index, _ in
        V.load(row + index) * scale
      }
    }
    offset += Double(largest) - offsets[frame]
    normalizer *= sum
    if normalizer > 0x1p500 {
      normalizer *= 0x1p-500
      exponent += 500
    }
    largest = highest.largest
  }
  arguments.normalizer = normalizer
  arguments.normalizerExponent = exponent
  arguments.offset = offset
}

/// The first lanes from memory, −∞ in the others, by way of one vector of scratch memory: faster than putting
/// lanes into a register one by one.
@inline(__always)
private func ctcLanes<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ lanes: Int, _ scratch: UnsafeMutablePointer<V.Lane>, as: V.Type
) -> V {
  guard lanes < V.laneCount else { return V.load(source) }
  V(lane: -.infinity).store(scratch)
  for lane in 0..<lanes { scratch[lane] = source[lane] }
  return V.load(scratch)
}

/// Writes −scale · posteriors into every gradient row.
@inline(never)
func ctcLogProbabilityRows<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  guard let gradient = arguments.gradient else { return }
  let columns = arguments.columns
  let posteriors = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let copy = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  for frame in 0..<arguments.frames {
    let output = gradient + frame * arguments.gradientStride
    let row = arguments.streams ? copy : output
    forEachVector(from: 0, to: columns, destination: row, streams: false, as: V.self) { _, _ in V(0) }
    ctcSubtractPosteriors(
      row, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width, arguments.scale)
    row[arguments.blank] -= V.Lane(blanks[frame]) * arguments.scale
    if arguments.streams {
      forEachVector(from: 0, to: columns, destination: output, streams: true, as: V.self) {
        loadLanes(row + $0, $1, as: V.self)
      }
    }
  }
}

/// A label that occurs several times is subtracted as often, in the order of the target.
@inline(__always)
func ctcSubtractPosteriors<Lane: KernelScalar>(
  _ row: UnsafeMutablePointer<Lane>, _ labels: UnsafePointer<Int32>, _ count: Int,
  _ posteriors: UnsafePointer<Lane>, _ factor: Lane
) {
  for index in 0..<count { row[Int(labels[index])] -= posteriors[index] * factor }
}
