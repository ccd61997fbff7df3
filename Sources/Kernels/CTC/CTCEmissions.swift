import BatchLossFormulas
import BatchLossKernelInterface

/// Emissions from logits, and each frame's largest logit and sum of exponentials.
/// - Returns: Whether every emission is a normal float, as the scaled recursion needs.
@inline(__always)
func ctcSoftmaxEmissions<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  let columns = arguments.columns
  let tables = (arguments.workspace + workspace.table).assumingMemoryBound(to: V.Lane.self)
  let inputs = (arguments.workspace + workspace.inputs).assumingMemoryBound(to: V.Lane.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: Double.self)
  var (normalizer, exponent) = (1.0, 0.0)
  var narrow = V(1)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    let largest = largestElement(input, columns, as: V.self)
    let sum: Double
    if workspace.tableWidth > 0 {
      let table = tables + frame * workspace.tableWidth
      sum = ctcTable(input, columns, largest, table, as: V.self)
      ctcEmissionsFromTable(frame, table, arguments, workspace, &narrow)
    } else {
      sum = exponentialSum(input, columns, shift: largest, scale: 1, next: input, as: V.self) { _, _, _ in }.sum
      ctcGather(arguments, input, inputs)
      ctcEmissionsFromInputs(frame, inputs, largest, arguments, workspace, &narrow)
    }
    guard sum < .infinity else {
      arguments.outcome = .undefined
      return false
    }
    offsets[frame] = Double(largest)
    sums[frame] = sum
    normalizer *= sum
    if normalizer > 0x1p500 {
      normalizer *= 0x1p-500
      exponent += 500
    }
  }
  arguments.normalizer = normalizer
  arguments.normalizerExponent = exponent
  return V.count(narrow .== V(0)) == 0
}

/// Emissions from log-probabilities, of which only those of the labels and the blank are read.
@inline(__always)
func ctcGivenEmissions<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  let inputs = (arguments.workspace + workspace.inputs).assumingMemoryBound(to: V.Lane.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  var sum = 0.0
  var narrow = V(1)
  for frame in 0..<arguments.frames {
    ctcGather(arguments, arguments.input + frame * arguments.inputStride, inputs)
    var largest = inputs[0]
    for index in 0...arguments.labelCount {
      if largest < inputs[index] { largest = inputs[index] }
      if !(inputs[index] < .infinity) {
        arguments.outcome = .undefined
        return false
      }
    }
    // Where nothing is possible, nothing is subtracted, which leaves 0 rather than NaN.
    if largest == -.infinity { largest = 0 }
    offsets[frame] = Double(largest)
    sum -= Double(largest)
    ctcEmissionsFromInputs(frame, inputs, largest, arguments, workspace, &narrow)
  }
  arguments.offset = sum
  return V.count(narrow .== V(0)) == 0
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

/// The exponentials of a frame, and their sum.
@inline(__always)
private func ctcTable<V: KernelVector>(
  _ input: UnsafePointer<V.Lane>, _ columns: Int, _ largest: V.Lane, _ table: UnsafeMutablePointer<V.Lane>,
  as: V.Type
) -> Double {
  let offset = V(lane: largest)
  var sum = V(0)
  var index = 0
  while index + V.laneCount <= columns {
    let exponential = ctcEmission(V.load(input + index), offset)
    exponential.store(table + index)
    sum = sum + exponential
    index += V.laneCount
  }
  if index < columns {
    let count = columns - index
    let exponential = ctcEmission(V.load(input + index, count: count, padding: 0), offset)
      .replacing(with: V(0), where: V(lane: V.Lane(count)) .<= V.ramp)
    exponential.store(table + index)
    sum = sum + exponential
  }
  return sum.total
}

@inline(__always)
private func ctcEmissionsFromTable<V: KernelVector>(
  _ frame: Int, _ table: UnsafePointer<V.Lane>, _ arguments: CTCArguments<V.Lane>,
  _ workspace: CTCWorkspace, _ narrow: inout V
) {
  let indices = (arguments.workspace + workspace.indices).assumingMemoryBound(to: Int32.self)
  let columns = arguments.columns
  ctcEmissionsOfFrame(frame, arguments, workspace, &narrow) { V.lookUp(indices + $0, table, columns) }
}

@inline(__always)
private func ctcEmissionsFromInputs<V: KernelVector>(
  _ frame: Int, _ inputs: UnsafePointer<V.Lane>, _ largest: V.Lane, _ arguments: CTCArguments<V.Lane>,
  _ workspace: CTCWorkspace, _ narrow: inout V
) {
  let offset = V(lane: largest)
  ctcEmissionsOfFrame(frame, arguments, workspace, &narrow) { ctcEmission(V.load(inputs + $0), offset) }
}

/// Stores the emissions of the labels and the blank. Where one is less than 2⁻¹²⁶ or NaN, a lane of `narrow`
/// becomes 0.
@inline(__always)
private func ctcEmissionsOfFrame<V: KernelVector>(
  _ frame: Int, _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ narrow: inout V,
  _ emission: (Int) -> V
) {
  let count = arguments.labelCount
  let emissions =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + frame * workspace.width
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  var index = 0
  while index + V.laneCount <= count {
    let labels = emission(index)
    labels.store(emissions + index)
    narrow = narrow.replacing(with: V(0), where: .!(V(0x1p-126) .<= labels))
    index += V.laneCount
  }
  // The last labels and the blank; states past the end emit nothing.
  let last = V(lane: V.Lane(count - index))
  let labels = emission(index)
  labels.store(emissions + index)
  narrow = narrow.replacing(with: V(0), where: .!(V(0x1p-126) .<= labels) .& (V.ramp .<= last))
  blanks[frame] = Double(emissions[count])
  labels.replacing(with: V(0), where: last .<= V.ramp).store(emissions + index)
  index += V.laneCount
  while index < workspace.width {
    V(0).store(emissions + index)
    index += V.laneCount
  }
}

/// e^(x − offset). The rounding error of the difference is put back, since it would be a relative error of the
/// result.
@inline(__always)
private func ctcEmission<V: KernelVector>(_ x: V, _ offset: V) -> V {
  let difference = x - offset
  let rounded = difference - x
  let error = (x - (difference - rounded)) - (offset + rounded)
  let exponential = V.exp(nonPositive: difference)
  // Of −∞ the error is NaN.
  return V.multiplyAdd(exponential, error, exponential)
    .replacing(with: V(0), where: exponential .== V(0))
}
