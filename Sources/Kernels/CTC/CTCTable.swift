import BatchLossFormulas
import BatchLossInstructions
import BatchLossKernelInterface

private typealias Doubles = SIMD8<Double>

// Few classes: frames lie in the lanes of vectors, a vector for each class, so that one load or store serves a
// label in as many frames as there are lanes. States lie in lanes in the recursions; squares are transposed
// between the two. Frames that would leave most lanes empty, at the end of an utterance, stay rows.

/// Emissions of the labels and the blank, and each frame's largest logit and sum of exponentials.
/// - Returns: Whether every emission is a normal float, as the scaled recursion needs.
@inline(never)
func ctcTableEmissions<V: KernelVector>(
  _ arguments: inout CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) -> Bool {
  let tables = (arguments.workspace + workspace.table).assumingMemoryBound(to: V.Lane.self)
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: V.Lane.self)
  var (normalizer, exponent) = (1.0, 0.0)
  var lowest = V(1)
  var first = 0
  while first < arguments.frames {
    let count = min(V.laneCount, arguments.frames - first)
    let table = tables + first * workspace.tableWidth
    if ctcFillsLanes(count, as: V.self) {
      ctcExponentialColumns(arguments, workspace, first, count, table, as: V.self).store(sums + first)
      ctcTransposeEmissions(arguments, workspace, first, table, &lowest, as: V.self)
    } else {
      ctcExponentialRows(arguments, workspace, first, count, table, sums + first, as: V.self)
      ctcCopyEmissions(arguments, workspace, first, count, table, &lowest, as: V.self)
    }
    for frame in first..<first + count {
      let sum = Double(sums[frame])
      guard sum < .infinity else {
        arguments.outcome = .undefined
        return false
      }
      normalizer *= sum
      if normalizer > 0x1p500 {
        normalizer *= 0x1p-500
        exponent += 500
      }
    }
    first += V.laneCount
  }
  arguments.normalizer = normalizer
  arguments.normalizerExponent = exponent
  return V.count(V(0x1p-126) .<= lowest) == V.laneCount
}

/// Writes scale · (softmax − posteriors) into every gradient row. The table does not outlive it.
@inline(never)
func ctcTableGradient<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, as: V.Type
) {
  guard let gradient = arguments.gradient else { return }
  let tables = (arguments.workspace + workspace.table).assumingMemoryBound(to: V.Lane.self)
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: V.Lane.self)
  let scratch = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  var first = 0
  while first < arguments.frames {
    let count = min(V.laneCount, arguments.frames - first)
    let table = tables + first * workspace.tableWidth
    let output = gradient + first * arguments.gradientStride
    if ctcFillsLanes(count, as: V.self) {
      ctcSubtractColumns(arguments, workspace, first, table, scratch, as: V.self)
      let factor = V(lane: arguments.scale) / V.load(sums + first)
      ctcStoreColumns(arguments, first, count, table, factor, output, scratch, as: V.self)
    } else {
      ctcSubtractRows(arguments, workspace, first, count, table, output, as: V.self)
    }
    first += V.laneCount
  }
}

/// Whether so many frames are worth a transposition.
@inline(__always)
private func ctcFillsLanes<V: KernelVector>(_ frames: Int, as: V.Type) -> Bool { 2 * frames > V.laneCount }

// MARK: - Emissions

/// What exponentials of frames are taken relative to: e^`offset` · 2^`exponent`, so that the largest is in 1…2.
///
/// The exponential of x − largest would be off by the rounding of that difference. Here none is rounded: a power of
/// two is divided out of the result, and what is subtracted before is 0 or so far from 0 that the difference of all
/// numbers that matter is exact.
private typealias Reference<V> = (offset: V, exponent: V, lowest: V, shift: V)

@inline(__always)
private func ctcReference<V: KernelVector>(largest: V, as: V.Type) -> Reference<V> {
  let (bias, isSmall) =
    V.laneCount == 16 ? (V(127), largest.magnitude .< V(256)) : (V(1023), largest.magnitude .< V(2048))
  let offset = largest.replacing(with: V(0), where: isSmall)
  let rest = largest - offset
  let shift = V(lane: V.exponentShift)
  // Rounded down; 0 stays 0, since what is added is even.
  let rounding = shift - bias
  let exponent = ((rest * V(0x1.71547652b82fep0) - V(0.5)) + rounding) - rounding
  // The largest number whose exponential, no normal number any more, is 0 for sure.
  return (offset, exponent, (exponent - bias) * V(0x1.62e42fefa39efp-1), shift - exponent)
}

/// The exponential relative to the reference; NaN for NaN.
@inline(__always)
private func ctcExponential<V: KernelVector>(_ x: V, _ reference: Reference<V>) -> V {
  V.exp(ctcLarger(x - reference.offset, reference.lowest), shift: reference.shift)
}

/// Exponentials of at most as many frames as there are lanes, as columns of a table, and the logarithm of what they
/// are relative to.
/// - Returns: The sums.
@inline(__always)
private func ctcExponentialColumns<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int, _ count: Int,
  _ table: UnsafeMutablePointer<V.Lane>, as: V.Type
) -> V {
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self) + first
  let scratch = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  let rows = (arguments.workspace + workspace.tableRows).assumingMemoryBound(to: V.Lane.self)
  let whole = arguments.columns & ~(V.laneCount - 1)
  if whole < arguments.columns {
    ctcCopyRows(arguments, first, count, whole, rows, V.laneCount, as: V.self)
  }
  let lastFrame = count - 1
  var largest = V(lane: -.infinity)
  var column = 0
  while column < arguments.columns {
    let square = table + column * V.laneCount
    let source = column < whole ? arguments.input + (first * arguments.inputStride + column) : UnsafePointer(rows)
    let stride = column < whole ? arguments.inputStride : V.laneCount
    // Lanes of missing frames repeat the last.
    transpose(square, as: V.self) {
      V.load(source + min($0, lastFrame) * stride)
    } store: {
      $1.store(square + $0 * V.laneCount)
      largest = ctcLarger(largest, $1)
    }
    column += V.laneCount
  }
  let reference = ctcReference(largest: largest, as: V.self)
  reference.offset.store(scratch)
  reference.exponent.store(scratch + V.laneCount)
  var lane = 0
  while lane < V.laneCount {
    let logarithm = V.loadDoubles(scratch + V.laneCount + lane) * Doubles(repeating: 0x1.62e42fefa39efp-1)
    (V.loadDoubles(scratch + lane) + logarithm).store(offsets + lane)
    lane += 8
  }
  // What a transposition reads next comes from memory meanwhile: rows in an order that the processor does not foresee.
  // Rows that follow one another are as many vectors as there are classes; of others each is asked for by itself.
  var upcoming = arguments.input + (first + V.laneCount) * arguments.inputStride
  var step = V.laneCount
  if arguments.inputStride != arguments.columns {
    for frame in first + V.laneCount..<max(first + V.laneCount, min(first + 2 * V.laneCount, arguments.frames)) {
      prefetchRow(arguments.input + frame * arguments.inputStride, arguments.columns, as: V.self)
    }
    (upcoming, step) = (arguments.input + first * arguments.inputStride, 0)
  }
  var (even, odd) = (V(0), V(0))
  var vector = table
  for _ in 0..<arguments.columns {
    let exponential = ctcExponential(V.load(vector), reference)
    exponential.store(vector)
    (even, odd) = (odd + exponential, even)
    batchloss_prefetch(UnsafeRawPointer(upcoming))
    upcoming += step
    vector += V.laneCount
  }
  return even + odd
}

/// Exponentials of `count` frames as rows, 0 past the last class; their sums, and the logarithm of what they are
/// relative to.
@inline(__always)
private func ctcExponentialRows<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int, _ count: Int,
  _ rows: UnsafeMutablePointer<V.Lane>, _ sums: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self) + first
  let width = workspace.tableWidth
  ctcCopyRows(arguments, first, count, 0, rows, width, as: V.self)
  for frame in 0..<count {
    let row = rows + frame * width
    let reference = ctcReference(
      largest: V(lane: largestElement(row, arguments.columns, as: V.self)), as: V.self)
    offsets[frame] = Double(reference.offset[0]) + Double(reference.exponent[0]) * 0x1.62e42fefa39efp-1
    var sum = V(0)
    var column = 0
    while column < arguments.columns {
      let exponential = ctcExponential(V.load(row + column), reference)
      exponential.store(row + column)
      sum = sum + exponential
      column += V.laneCount
    }
    sums[frame] = V.Lane(sum.total)
  }
}

/// Copies frames from a class on, −∞ past the last class.
@inline(__always)
private func ctcCopyRows<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ first: Int, _ count: Int, _ start: Int,
  _ rows: UnsafeMutablePointer<V.Lane>, _ width: Int, as: V.Type
) {
  let (columns, stride) = (arguments.columns, arguments.inputStride)
  let input = arguments.input + first * stride
  // Where frames follow one another, vectors may reach into the next; other utterances are left alone.
  let readable = stride < 2 * columns ? (arguments.frames - first - 1) * stride + columns - V.laneCount : -1
  let lowest = V(lane: -.infinity)
  for frame in 0..<count {
    let source = input + frame * stride
    let row = rows + frame * width
    var column = start
    while column < columns {
      let lanes = columns - column
      let x =
        lanes >= V.laneCount
        ? V.load(source + column)
        : frame * stride + column <= readable
          ? V.load(source + column).replacing(with: lowest, where: V(lane: V.Lane(lanes)) .<= V.ramp)
          : V.load(source + column, count: lanes, padding: -.infinity)
      x.store(row + (column - start))
      column += V.laneCount
    }
  }
}

@inline(__always)
private func ctcTransposeEmissions<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int, _ table: UnsafePointer<V.Lane>,
  _ lowest: inout V, as: V.Type
) {
  let emissions =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + first * workspace.width
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self) + first
  let scratch = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  // Lanes of missing frames hold what earlier ones left.
  let isMissing = V(lane: V.Lane(min(V.laneCount, arguments.frames - first))) .<= V.ramp
  let blank = table + arguments.blank * V.laneCount
  var lane = 0
  while lane < V.laneCount {
    V.loadDoubles(blank + lane).store(blanks + lane)
    lane += 8
  }
  var least = V.load(blank)
  var index = 0
  while index < workspace.width {
    let (row, labels, count) = (emissions + index, arguments.labels + index, arguments.labelCount - index)
    // States past the end emit nothing.
    transpose(scratch, as: V.self) { label in
      guard label < count else { return V(0) }
      let emission = V.load(table + Int(labels[label]) * V.laneCount)
      least = V.minimum(least, emission)
      return emission
    } store: {
      $1.store(row + $0 * workspace.width)
    }
    index += V.laneCount
  }
  lowest = V.minimum(lowest, least.replacing(with: V(1), where: isMissing))
}

@inline(__always)
private func ctcCopyEmissions<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int, _ count: Int,
  _ rows: UnsafePointer<V.Lane>, _ lowest: inout V, as: V.Type
) {
  let emissions = (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self)
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self)
  var least = lowest[0]
  for frame in 0..<count {
    let row = rows + frame * workspace.tableWidth
    let emission = emissions + (first + frame) * workspace.width
    for index in 0..<arguments.labelCount {
      let value = row[Int(arguments.labels[index])]
      emission[index] = value
      if value < least { least = value }
    }
    for index in arguments.labelCount..<workspace.width { emission[index] = 0 }
    let blank = row[arguments.blank]
    blanks[first + frame] = Double(blank)
    if blank < least { least = blank }
  }
  lowest[0] = least
}

// MARK: - Gradient

/// Replaces exponentials by derivatives, which are then to be divided by the sums.
@inline(__always)
private func ctcSubtractColumns<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int,
  _ table: UnsafeMutablePointer<V.Lane>, _ scratch: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: V.Lane.self) + first
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self) + first
  let posteriors =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + first * workspace.width
  let negative = V(0) - V.load(sums)
  var index = 0
  while index < arguments.labelCount {
    let (row, labels, count) = (posteriors + index, arguments.labels + index, arguments.labelCount - index)
    // A label that occurs several times is subtracted as often, in the order of the target.
    transpose(scratch, as: V.self) {
      V.load(row + $0 * workspace.width)
    } store: { label, posterior in
      guard label < count else { return }
      let column = table + Int(labels[label]) * V.laneCount
      V.multiplyAdd(posterior, negative, V.load(column)).store(column)
    }
    index += V.laneCount
  }
  var lane = 0
  while lane < V.laneCount {
    V.storeDoubles(.load(blanks + lane), scratch + lane)
    lane += 8
  }
  let blank = table + arguments.blank * V.laneCount
  V.multiplyAdd(V.load(scratch), negative, V.load(blank)).store(blank)
}

/// Writes the products of the table and a factor for each frame into the gradient's rows.
@inline(__always)
private func ctcStoreColumns<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ first: Int, _ count: Int, _ table: UnsafePointer<V.Lane>,
  _ factor: V, _ output: UnsafeMutablePointer<V.Lane>, _ scratch: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let (columns, stride) = (arguments.columns, arguments.gradientStride)
  let whole = columns & ~(V.laneCount - 1)
  if whole < columns {
    // Vectors run over into rows that are written after, where rows follow one another; the last ends exactly.
    let writable = stride == columns ? (arguments.frames - first - 1) * stride + columns - V.laneCount : -1
    transpose(scratch, as: V.self) {
      V.load(table + (whole + $0) * V.laneCount) * factor
    } store: { row, vector in
      guard row < count else { return }
      let offset = row * stride + whole
      if offset <= writable {
        vector.store(output + offset)
      } else {
        vector.store(output + offset, count: columns - whole)
      }
    }
  }
  let rowBytes = stride * MemoryLayout<V.Lane>.stride
  let streams = arguments.streams && whole == columns && (Int(bitPattern: output) | rowBytes) & 63 == 0
  var column = 0
  while column < whole {
    let (square, start) = (table + column * V.laneCount, output + column)
    transpose(scratch, as: V.self) {
      V.load(square + $0 * V.laneCount) * factor
    } store: { row, vector in
      guard row < count else { return }
      vector.store(start + row * stride, streams: streams)
    }
    column += V.laneCount
  }
}

/// The gradient of frames that stayed rows.
@inline(__always)
private func ctcSubtractRows<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int, _ count: Int,
  _ rows: UnsafePointer<V.Lane>, _ output: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: V.Lane.self) + first
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self) + first
  let posteriors =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + first * workspace.width
  for frame in 0..<count {
    let row = rows + frame * workspace.tableWidth
    let destination = output + frame * arguments.gradientStride
    let factor = V(lane: arguments.scale / sums[frame])
    forEachVector(from: 0, to: arguments.columns, destination: destination, streams: false, as: V.self) {
      index, _ in
      V.load(row + index) * factor
    }
    ctcSubtractPosteriors(
      destination, arguments.labels, arguments.labelCount, posteriors + frame * workspace.width, arguments.scale)
    destination[arguments.blank] -= V.Lane(blanks[frame]) * arguments.scale
  }
}
