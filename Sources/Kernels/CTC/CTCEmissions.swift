import BatchLossFormulas
import BatchLossKernelInterface

/// Emissions from logits. The gradient rows receive scale · softmax.
/// - Returns: Whether every emission is a normal float, as the scaled recursion needs.
@inline(__always)
func ctcSoftmaxEmissions<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ isInPlace: Bool, as: V.Type
) -> Bool {
  let columns = arguments.columns
  let copy = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let saved = (arguments.workspace + workspace.savedInputs).assumingMemoryBound(to: V.Lane.self)
  let savedStride = isInPlace ? workspace.width + 16 : 0
  var (normalizer, exponent) = (1.0, 0.0)
  var narrow = V(1)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    let inputs = saved + frame * savedStride
    let largest = largestElement(input, columns, as: V.self)
    ctcGather(arguments, input, inputs)
    offsets[frame] = Double(largest)
    var exponentials = copy
    var streams = false
    if let gradient = arguments.gradient {
      streams = arguments.streams
      if !streams { exponentials = gradient + frame * arguments.gradientStride }
    }
    let sum = exponentialSum(input, columns, shift: largest, scale: 1, next: nil, as: V.self) {
      storeLanes($2, exponentials + $0, $1)
    }
    if let gradient = arguments.gradient {
      let output = gradient + frame * arguments.gradientStride
      let factor = V(lane: arguments.scale / V.Lane(sum))
      forEachVector(from: 0, to: columns, destination: output, streams: streams, as: V.self) {
        loadLanes(exponentials + $0, $1, as: V.self) * factor
      }
    }
    guard sum < .infinity else {
      arguments.outcome = .undefined
      return false
    }
    normalizer *= sum
    if normalizer > 0x1p500 {
      normalizer *= 0x1p-500
      exponent += 500
    }
    ctcEmissionsOfFrame(frame, inputs, largest, arguments, workspace, &narrow)
  }
  arguments.normalizer = normalizer
  arguments.normalizerExponent = exponent
  return V.count(narrow .== V(0)) == 0
}

/// Emissions from log-probabilities, of which only those of the labels and the blank are read. The gradient
/// rows receive 0.
@inline(__always)
func ctcGivenEmissions<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ isInPlace: Bool, as: V.Type
) -> Bool {
  let count = arguments.labelCount + 1
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self)
  let saved = (arguments.workspace + workspace.savedInputs).assumingMemoryBound(to: V.Lane.self)
  let savedStride = isInPlace ? workspace.width + 16 : 0
  var sum = 0.0
  var narrow = V(1)
  for frame in 0..<arguments.frames {
    let inputs = saved + frame * savedStride
    ctcGather(arguments, arguments.input + frame * arguments.inputStride, inputs)
    var largest = inputs[0]
    for index in 0..<count {
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
    if let gradient = arguments.gradient {
      let row = gradient + frame * arguments.gradientStride
      for column in 0..<arguments.columns { row[column] = 0 }
    }
    ctcEmissionsOfFrame(frame, inputs, largest, arguments, workspace, &narrow)
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

/// e^(x − largest) at the labels and the blank. Where one is less than 2⁻¹²⁶ or NaN, a lane of `narrow` becomes 0.
@inline(__always)
private func ctcEmissionsOfFrame<V: KernelVector>(
  _ frame: Int, _ inputs: UnsafeMutablePointer<V.Lane>, _ largest: V.Lane,
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ narrow: inout V
) {
  let count = arguments.labelCount
  let emissions =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + frame * workspace.width
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  let offset = V(lane: largest)
  var index = 0
  while index + V.laneCount <= count {
    let emission = ctcEmission(V.load(inputs + index), offset)
    emission.store(emissions + index)
    narrow = narrow.replacing(with: V(0), where: .!(V(0x1p-126) .<= emission))
    index += V.laneCount
  }
  // The last labels and the blank; states past the end emit nothing.
  let last = V(lane: V.Lane(count - index))
  let emission = ctcEmission(V.load(inputs + index), offset)
  emission.store(emissions + index)
  narrow = narrow.replacing(with: V(0), where: .!(V(0x1p-126) .<= emission) .& (V.ramp .<= last))
  blanks[frame] = Double(emissions[count])
  emission.replacing(with: V(0), where: last .<= V.ramp).store(emissions + index)
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
  return V.multiplyAdd(exponential, error, exponential)
}
