import BatchLossFormulas
import BatchLossKernelInterface

/// The normaliser of every frame and, if asked for, scale · (softmax − posteriors) in its gradient row.
///
/// Posteriors are known by now, so that each frame is read from memory once and written once. While the exponentials of
/// a frame are taken, those of the frame before, which waited in scratch memory, become its gradient.
@inline(never)
func ctcSoftmaxRows<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  let columns = arguments.columns
  let posteriors = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  var row = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  var otherRow = row + workspace.rowCopyWidth
  var waiting = WaitingGradient(output: nil, exponentials: UnsafePointer(otherRow), scale: 0)
  // Where alignments are impossible, what is written is replaced later.
  let gradient = arguments.outcome == .finite ? arguments.gradient : nil
  var partialLine = PartialLine((arguments.workspace + workspace.partialLine).assumingMemoryBound(to: V.Lane.self))
  var (normalizer, exponent, offset) = (1.0, 0.0, 0.0)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    let result = exponentialSum(
      ofLong: input, columns, to: gradient == nil ? nil : row, writing: waiting, streams: arguments.streams,
      &partialLine, as: V.self)
    // 0 of nothing but −∞.
    guard result.sum > 0, result.sum < .infinity else {
      arguments.outcome = .undefined
      return
    }
    if let gradient {
      let factor = V.Lane(result.sum)
      ctcSubtractPosteriors(
        row, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width, factor)
      row[arguments.blank] -= V.Lane(blanks[frame]) * factor
      waiting = WaitingGradient(
        output: gradient + frame * arguments.gradientStride, exponentials: UnsafePointer(row),
        scale: arguments.scale / factor)
      (row, otherRow) = (otherRow, row)
    }
    offset += Double(result.shift) - offsets[frame]
    normalizer *= result.sum
    if normalizer > 0x1p500 {
      normalizer *= 0x1p-500
      exponent += 500
    }
  }
  writeGradient(waiting, columns, streams: arguments.streams, &partialLine, as: V.self)
  partialLine.flush(as: V.self)
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
  var partialLine = PartialLine((arguments.workspace + workspace.partialLine).assumingMemoryBound(to: V.Lane.self))
  for frame in 0..<arguments.frames {
    let output = gradient + frame * arguments.gradientStride
    let row = arguments.streams ? copy : output
    forEachVector(from: 0, to: columns, destination: row, streams: false, as: V.self) { _, _ in V(0) }
    ctcSubtractPosteriors(
      row, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width, arguments.scale)
    row[arguments.blank] -= V.Lane(blanks[frame]) * arguments.scale
    if arguments.streams {
      writeRow(output, columns, streams: true, &partialLine, as: V.self) { loadLanes(row + $0, $1, as: V.self) }
    }
  }
  partialLine.flush(as: V.self)
}

/// A label that occurs several times is subtracted as often, in the order of the target.
@inline(__always)
func ctcSubtractPosteriors<Lane: KernelScalar>(
  _ row: UnsafeMutablePointer<Lane>, _ labels: UnsafePointer<Int32>, _ count: Int,
  _ posteriors: UnsafePointer<Lane>, _ factor: Lane
) {
  for index in 0..<count { row[Int(labels[index])] -= posteriors[index] * factor }
}
