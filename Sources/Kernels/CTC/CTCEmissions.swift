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
    let largest = ctcLargest(input, columns, as: V.self)
    ctcGather(arguments, input, inputs)
    offsets[frame] = Double(largest)
    let sum: Double
    if let gradient = arguments.gradient {
      let output = gradient + frame * arguments.gradientStride
      let streams = arguments.streams && UInt(bitPattern: output) & 63 == 0
      let exponentials = streams ? copy : output
      sum = ctcExponentials(input, exponentials, columns, largest, as: V.self)
      ctcScale(
        exponentials, output, columns, arguments.scale / V.Lane(sum), streams: streams, as: V.self)
    } else {
      sum = ctcExponentials(input, copy, columns, largest, as: V.self)
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

// MARK: - Softmax of a row

/// The largest element; NaN does not count.
@inline(__always)
func ctcLargest<V: KernelVector>(_ input: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> V.Lane {
  let lanes = V.laneCount
  guard count >= lanes else {
    return V.load(input, count: count, padding: -.infinity).largest
  }
  // The last vector overlaps the one before. NaN never enters, being neither larger nor smaller.
  var a = V.maximum(V(-.infinity), V.load(input + (count - lanes)))
  var (b, c, d) = (a, a, a)
  var index = 0
  while index + 4 * lanes <= count {
    a = V.maximum(a, V.load(input + index))
    b = V.maximum(b, V.load(input + index + lanes))
    c = V.maximum(c, V.load(input + index + 2 * lanes))
    d = V.maximum(d, V.load(input + index + 3 * lanes))
    index += 4 * lanes
  }
  while index + lanes <= count {
    b = V.maximum(b, V.load(input + index))
    index += lanes
  }
  return V.maximum(V.maximum(a, b), V.maximum(c, d)).largest
}

/// Writes e^(x − largest) and returns the sum.
@inline(__always)
func ctcExponentials<V: KernelVector>(
  _ input: UnsafePointer<V.Lane>, _ output: UnsafeMutablePointer<V.Lane>, _ count: Int, _ largest: V.Lane,
  as: V.Type
) -> Double {
  let lanes = V.laneCount
  let offset = V(lane: largest)
  guard count >= lanes else {
    let exponential = V.exp(nonPositive: V.load(input, count: count, padding: -.infinity) - offset)
    exponential.store(output, count: count)
    return exponential.total
  }
  let rest = count % lanes
  let last = V.load(input + (count - lanes))
  var total = 0.0
  var index = 0
  while index + lanes <= count {
    let end = min(index + 512, count - rest)
    var (first, second) = (V(0), V(0))
    while index + 2 * lanes <= end {
      let a = V.exp(nonPositive: V.load(input + index) - offset)
      let b = V.exp(nonPositive: V.load(input + index + lanes) - offset)
      a.store(output + index)
      b.store(output + index + lanes)
      first = first + a
      second = second + b
      index += 2 * lanes
    }
    if index < end {
      let a = V.exp(nonPositive: V.load(input + index) - offset)
      a.store(output + index)
      first = first + a
      index += lanes
    }
    total += (first + second).total
  }
  if rest > 0 {
    let exponential = V.exp(nonPositive: last - offset)
    exponential.store(output + (count - lanes))
    total += exponential.replacing(with: V(0), where: V.first(lanes - rest)).total
  }
  return total
}

/// output = input · factor; the two may be the same memory.
@inline(__always)
private func ctcScale<V: KernelVector>(
  _ input: UnsafeMutablePointer<V.Lane>, _ output: UnsafeMutablePointer<V.Lane>, _ count: Int,
  _ factor: V.Lane, streams: Bool, as: V.Type
) {
  let lanes = V.laneCount
  let factors = V(lane: factor)
  guard count >= lanes else {
    (V.load(input, count: count) * factors).store(output, count: count)
    return
  }
  let last = V.load(input + (count - lanes))
  var index = 0
  if streams {
    while index + lanes <= count {
      (V.load(input + index) * factors).stream(output + index)
      index += lanes
    }
  } else {
    while index + lanes <= count {
      (V.load(input + index) * factors).store(output + index)
      index += lanes
    }
  }
  if index < count { (last * factors).store(output + (count - lanes)) }
}
