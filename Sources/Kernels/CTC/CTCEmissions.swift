import BatchLossFormulas
import BatchLossInstructions
import BatchLossKernelInterface

/// How far ahead labels that lie far apart are asked for.
private let ctcFramesAhead = 4

/// Emissions from the inputs at the labels and the blank alone, relative to the largest of them in each frame:
/// what is common to all alignments cancels in the posteriors.
/// - Returns: Whether every emission is a normal float, as the scaled recursion needs.
@inline(never)
func ctcInputEmissions<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  let inputs = (arguments.workspace + workspace.inputs).assumingMemoryBound(to: V.Lane.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let end = arguments.labelCount + 1
  var sum = 0.0
  var lowest = V(1)
  var sums = V(0)
  // Where labels are on most lines of a frame, all of the next come in order, which memory likes best.
  let upcoming = end * 64 > arguments.columns * MemoryLayout<V.Lane>.stride ? arguments.columns : 0
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    var column = 0
    while column < upcoming {
      batchloss_prefetch(UnsafeRawPointer(input + (arguments.inputStride + column)))
      column += V.laneCount
    }
    if upcoming == 0, frame + ctcFramesAhead < arguments.frames {
      let later = input + ctcFramesAhead * arguments.inputStride
      for index in 0..<arguments.labelCount {
        batchloss_prefetch(UnsafeRawPointer(later + Int(arguments.labels[index])))
      }
      batchloss_prefetch(UnsafeRawPointer(later + arguments.blank))
    }
    ctcGather(arguments, input, inputs)
    var index = end
    // The blank once more, up to a whole vector.
    while index & (V.laneCount - 1) != 0 {
      inputs[index] = inputs[end - 1]
      index += 1
    }
    var highest = V(lane: -.infinity)
    index = 0
    while index < end {
      highest = ctcLarger(highest, V.load(inputs + index))
      index += V.laneCount
    }
    var largest = highest.largest
    // Where nothing is possible, nothing is subtracted, which leaves 0 rather than NaN.
    if largest == -.infinity { largest = 0 }
    offsets[frame] = Double(largest)
    sum += Double(largest)
    ctcEmissionsOfFrame(frame, inputs, largest, arguments, workspace, &lowest, &sums)
  }
  if arguments.isNormalized { arguments.offset = -sum }
  if V.count((V(0x1p-126) .<= lowest) .& (sums .== sums)) == V.laneCount { return true }
  ctcRejectUndefined(&arguments, inputs)
  return false
}

/// Sets the outcome where an input at a label or the blank is NaN or +∞.
@inline(never)
private func ctcRejectUndefined<Lane: KernelScalar>(
  _ arguments: inout CTCArguments<Lane>, _ inputs: UnsafeMutablePointer<Lane>
) {
  for frame in 0..<arguments.frames {
    ctcGather(arguments, arguments.input + frame * arguments.inputStride, inputs)
    for index in 0...arguments.labelCount where !(inputs[index] < .infinity) { arguments.outcome = .undefined }
  }
}

/// Copies the inputs at the labels and then the blank.
@inline(__always)
func ctcGather<Lane: KernelScalar>(
  _ arguments: CTCArguments<Lane>, _ input: UnsafePointer<Lane>, _ inputs: UnsafeMutablePointer<Lane>
) {
  let labels = arguments.labels
  for index in 0..<arguments.labelCount { inputs[index] = input[Int(labels[index])] }
  inputs[arguments.labelCount] = input[arguments.blank]
}

/// Stores the emissions of the labels and the blank. The smallest go to `lowest`; NaN goes to
/// `sums`.
@inline(__always)
private func ctcEmissionsOfFrame<V: KernelVector>(
  _ frame: Int, _ inputs: UnsafePointer<V.Lane>, _ largest: V.Lane, _ arguments: CTCArguments<V.Lane>,
  _ workspace: CTCWorkspace, _ lowest: inout V, _ sums: inout V
) {
  let count = arguments.labelCount
  let emissions =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + frame * workspace.width
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let offset = V(lane: largest)
  var index = 0
  while index <= count {
    let emission = ctcEmission(V.load(inputs + index), offset)
    lowest = ctcSmaller(lowest, emission)
    sums = sums + emission
    emission.store(emissions + index)
    index += V.laneCount
  }
  blanks[frame] = Double(emissions[count])
  // States past the end emit nothing.
  index = count & ~(V.laneCount - 1)
  let last = V.load(emissions + index)
  last.replacing(with: V(0), where: V(lane: V.Lane(count - index)) .<= V.ramp).store(emissions + index)
  index += V.laneCount
  while index < workspace.width {
    V(0).store(emissions + index)
    index += V.laneCount
  }
}

/// e^(x − offset). The rounding error of the difference is put back, since it would be a relative error of the
/// result.
@inline(__always)
func ctcEmission<V: KernelVector>(_ x: V, _ offset: V) -> V {
  // Kept finite, so that the rounding error is; e^−200 is 0 in float, and in float64 as good as 0.
  let limited = ctcLarger(x, V.multiplyAdd(offset.magnitude, V(-0x1p-20), offset) - V(1000))
  let difference = limited - offset
  let rounded = difference - limited
  let error = (limited - (difference - rounded)) - (offset + rounded)
  let exponential = V.exp(nonPositive: difference)
  return V.multiplyAdd(exponential, error, exponential)
}
