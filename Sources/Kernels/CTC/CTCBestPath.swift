import BatchLossFormulas
import BatchLossKernelInterface

private typealias Doubles = SIMD8<Double>

/// The first of the largest elements.
@inline(__always)
func ctcIndexOfLargest<V: KernelVector>(_ row: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> Int {
  let largest = V(lane: largestElement(row, count, as: V.self))
  var index = 0
  while index + V.laneCount <= count, V.count(V.load(row + index) .== largest) == 0 { index += V.laneCount }
  while index < count {
    if row[index] == largest[0] { return index }
    index += 1
  }
  return 0
}

/// The most probable alignment (Viterbi), in float64 over logarithms: sums and the larger of sums only, so
/// that nothing underflows. Where alignments tie, staying in a state is preferred to coming from the one
/// before, and that to skipping a blank.
@inline(__always)
func ctcAlign<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, path: UnsafeMutablePointer<Int32>, as: V.Type
) {
  let workspace = CTCWorkspace(
    frames: arguments.frames, labels: arguments.labelCount, columns: arguments.columns,
    scalarBytes: MemoryLayout<V.Lane>.stride, hasTable: false)
  let count = arguments.labelCount
  let width = workspace.width
  let end = (count + 8) & -8
  ctcPrepare(arguments, workspace)
  let skips = ctcRow(0, arguments, workspace)
  let logits = ctcRow(1, arguments, workspace)
  let inputs = (arguments.workspace + workspace.inputs).assumingMemoryBound(to: V.Lane.self)
  let scores = (arguments.workspace + workspace.forward).assumingMemoryBound(to: Double.self)
  let impossible = Doubles(repeating: -.infinity)
  var (normalizer, exponent) = (1.0, 0.0)
  for frame in 0..<arguments.frames {
    let input = arguments.input + frame * arguments.inputStride
    var offset = 0.0
    if !arguments.isNormalized {
      let largest = largestElement(input, arguments.columns, as: V.self)
      normalizer *=
        exponentialSum(
          input, arguments.columns, shift: largest, scale: 1, next: input, as: V.self
        ) { _, _, _ in }.sum
      if normalizer > 0x1p500 {
        normalizer *= 0x1p-500
        exponent += 500
      }
      offset = Double(largest)
    }
    ctcGather(arguments, input, inputs)
    for index in 0..<count { logits[index] = Double(inputs[index]) - offset }
    for index in count..<end { logits[index] = -.infinity }
    let blankLogit = Doubles(repeating: Double(inputs[count]) - offset)
    let blanks = scores + frame * 2 * width
    let labels = blanks + width
    if frame == 0 {
      for index in 0..<end { (blanks[index], labels[index]) = (-.infinity, -.infinity) }
      blanks[0] = blankLogit[0]
      if count > 0 { labels[0] = logits[0] }
      continue
    }
    var before = impossible
    var index = 0
    while index < end {
      let blank = Doubles.load(blanks - 2 * width + index)
      let label = Doubles.load(labels - 2 * width + index)
      let previous = ctcShiftedUp(label, before)
      before = label
      let skipping = previous.replacing(
        with: impossible, where: Doubles.load(skips + index) .== Doubles(repeating: 0))
      (Doubles.maximum(blank, previous) + blankLogit).store(blanks + index)
      (Doubles.maximum(label, Doubles.maximum(blank, skipping)) + Doubles.load(logits + index))
        .store(labels + index)
      index += 8
    }
  }
  arguments.normalizer = normalizer
  arguments.normalizerExponent = exponent
  arguments.probability = ctcTraceBack(arguments, scores, width, skips, path)
  if !(arguments.probability > -.infinity) || !(normalizer < .infinity) { arguments.outcome = .impossible }
}

/// Writes the states of the best path, last frame first, and returns its score.
@inline(__always)
private func ctcTraceBack<Lane: KernelScalar>(
  _ arguments: CTCArguments<Lane>, _ scores: UnsafePointer<Double>, _ width: Int,
  _ skips: UnsafePointer<Double>, _ path: UnsafeMutablePointer<Int32>
) -> Double {
  let count = arguments.labelCount
  var frame = arguments.frames - 1
  let last = scores + frame * 2 * width
  var state = 2 * count
  if count > 0, last[count] < last[width + count - 1] { state -= 1 }
  let score = state & 1 == 0 ? last[state >> 1] : last[width + (state >> 1)]
  path[frame] = Int32(truncatingIfNeeded: state)
  while frame > 0 {
    frame -= 1
    let blanks = scores + frame * 2 * width
    let labels = blanks + width
    let index = state >> 1
    if state & 1 == 0 {
      if index > 0, blanks[index] < labels[index - 1] { state -= 1 }
    } else {
      var best = labels[index]
      if best < blanks[index] {
        best = blanks[index]
        state = 2 * index
      }
      if skips[index] == 1, best < labels[index - 1] { state = 2 * index - 1 }
    }
    path[frame] = Int32(truncatingIfNeeded: state)
  }
  return score
}
