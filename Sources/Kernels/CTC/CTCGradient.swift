import BatchLossFormulas
import BatchLossKernelInterface

/// The normaliser of every frame and, if asked for, scale · (softmax − posteriors) in its gradient row.
///
/// Posteriors are known by now, so that each frame is read from memory once and written once. Where its row is
/// streamed, exponentials wait in scratch memory, else in the row.
@inline(never)
func ctcSoftmaxRows<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let columns = arguments.columns
  let posteriors = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let copy = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  // What is written where alignments are impossible is replaced later.
  let isWritten = arguments.outcome == .finite
  var (normalizer, exponent, offset) = (1.0, 0.0, 0.0)
  var largest = largestElement(arguments.input, columns, as: V.self)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    let next = frame + 1 < arguments.frames ? input + arguments.inputStride : input
    let result: (sum: Double, nextLargest: V.Lane)
    if isWritten, let gradient = arguments.gradient {
      let output = gradient + frame * arguments.gradientStride
      let row = arguments.streams ? copy : output
      result = exponentialSum(input, columns, shift: largest, scale: 1, next: next, as: V.self) {
        storeLanes($2, row + $0, $1)
      }
      let sum = V.Lane(result.sum)
      ctcSubtractPosteriors(
        row, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width, sum)
      row[arguments.blank] -= V.Lane(blanks[frame]) * sum
      let factor = V(lane: arguments.scale / sum)
      forEachVector(from: 0, to: columns, destination: output, streams: arguments.streams, as: V.self) {
        loadLanes(row + $0, $1, as: V.self) * factor
      }
    } else {
      result = exponentialSum(input, columns, shift: largest, scale: 1, next: next, as: V.self) { _, _, _ in }
    }
    guard result.sum < .infinity else {
      arguments.outcome = .undefined
      return
    }
    offset += Double(largest) - offsets[frame]
    normalizer *= result.sum
    if normalizer > 0x1p500 {
      normalizer *= 0x1p-500
      exponent += 500
    }
    largest = result.nextLargest
  }
  arguments.normalizer = normalizer
  arguments.normalizerExponent = exponent
  arguments.offset = offset
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
