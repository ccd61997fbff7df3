import BatchLossFormulas
import BatchLossKernelInterface

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
  let tableRows = (arguments.workspace + workspace.tableRows).assumingMemoryBound(to: V.Lane.self)
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: V.Lane.self)
  var (normalizer, exponent) = (1.0, 0.0)
  var lowest = V(1)
  var first = 0
  while first < arguments.frames {
    let count = min(V.laneCount, arguments.frames - first)
    let table = tables + first * workspace.tableWidth
    let rows = ctcFillsLanes(count, as: V.self) ? tableRows : table
    ctcExponentialRows(arguments, workspace, first, count, rows, as: V.self)
    if ctcFillsLanes(count, as: V.self) {
      var column = 0
      while column < arguments.columns {
        let (square, start) = (table + column * V.laneCount, rows + column)
        transpose(square, as: V.self) {
          V.load(start + $0 * workspace.tableWidth)
        } store: {
          $1.store(square + $0 * V.laneCount)
        }
        column += V.laneCount
      }
      ctcColumnSum(table, arguments.columns, as: V.self).store(sums + first)
      ctcTransposeEmissions(arguments, workspace, first, table, &lowest, as: V.self)
    } else {
      ctcSumRows(rows, workspace.tableWidth, arguments.columns, count, sums + first, as: V.self)
      ctcCopyEmissions(arguments, workspace, first, count, rows, &lowest, as: V.self)
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
  let scratch = (arguments.workspace + workspace.rowCopy).assumingMemoryBound(to: V.Lane.self)
  var first = 0
  while first < arguments.frames {
    let count = min(V.laneCount, arguments.frames - first)
    let table = tables + first * workspace.tableWidth
    let output = gradient + first * arguments.gradientStride
    if ctcFillsLanes(count, as: V.self) {
      ctcSubtractColumns(arguments, workspace, first, table, scratch, as: V.self)
      ctcStoreColumns(arguments, first, count, table, output, scratch, as: V.self)
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

/// Exponentials of `count` frames as rows, 0 past the last class; their offsets.
@inline(__always)
private func ctcExponentialRows<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int, _ count: Int,
  _ rows: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let offsets = (arguments.workspace + workspace.frameOffsets).assumingMemoryBound(to: Double.self) + first
  let (columns, stride) = (arguments.columns, arguments.inputStride)
  let input = arguments.input + first * stride
  let whole = columns & ~(V.laneCount - 1)
  // Where frames follow one another, vectors may reach into the next; other utterances are left alone.
  let readable = stride < 2 * columns ? (arguments.frames - first - 1) * stride + columns - V.laneCount : -1
  let lowest = V(lane: -.infinity)
  for frame in 0..<count {
    let source = input + frame * stride
    let row = rows + frame * workspace.tableWidth
    var largest = lowest
    var column = 0
    while column < whole {
      let x = V.load(source + column)
      x.store(row + column)
      largest = ctcLarger(largest, x)
      column += V.laneCount
    }
    if column < columns {
      let lanes = columns - column
      let x =
        frame * stride + column <= readable
        ? V.load(source + column).replacing(with: lowest, where: V(lane: V.Lane(lanes)) .<= V.ramp)
        : V.load(source + column, count: lanes, padding: -.infinity)
      x.store(row + column)
      largest = ctcLarger(largest, x)
    }
    offsets[frame] = Double(largest.largest)
  }
  for frame in 0..<count {
    let row = rows + frame * workspace.tableWidth
    let offset = V(lane: V.Lane(offsets[frame]))
    var column = 0
    while column < columns {
      ctcEmission(V.load(row + column), offset).store(row + column)
      column += V.laneCount
    }
  }
}

/// The sums of the frames in the lanes of a table.
@inline(__always)
private func ctcColumnSum<V: KernelVector>(_ table: UnsafePointer<V.Lane>, _ columns: Int, as: V.Type) -> V {
  var (even, odd) = (V(0), V(0))
  var column = table
  for _ in 0..<columns {
    (even, odd) = (odd + V.load(column), even)
    column += V.laneCount
  }
  return even + odd
}

/// The sums of frames that stayed rows.
@inline(__always)
private func ctcSumRows<V: KernelVector>(
  _ rows: UnsafePointer<V.Lane>, _ width: Int, _ columns: Int, _ count: Int, _ sums: UnsafeMutablePointer<V.Lane>,
  as: V.Type
) {
  for frame in 0..<count {
    var sum = V(0)
    var column = 0
    while column < columns {
      sum = sum + V.load(rows + (frame * width + column))
      column += V.laneCount
    }
    sums[frame] = V.Lane(sum.total)
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
      least = ctcSmaller(least, emission)
      return emission
    } store: {
      $1.store(row + $0 * workspace.width)
    }
    index += V.laneCount
  }
  lowest = ctcSmaller(lowest, least.replacing(with: V(1), where: isMissing))
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

/// Replaces exponentials by derivatives.
@inline(__always)
private func ctcSubtractColumns<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ workspace: CTCWorkspace, _ first: Int,
  _ table: UnsafeMutablePointer<V.Lane>, _ scratch: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let sums = (arguments.workspace + workspace.frameSums).assumingMemoryBound(to: V.Lane.self) + first
  let blanks = (arguments.workspace + workspace.blankEmissions).assumingMemoryBound(to: Double.self) + first
  let posteriors =
    (arguments.workspace + workspace.emissions).assumingMemoryBound(to: V.Lane.self) + first * workspace.width
  let negative = V(lane: -arguments.scale)
  let factor = V(lane: arguments.scale) / V.load(sums)
  for column in 0..<arguments.columns {
    (V.load(table + column * V.laneCount) * factor).store(table + column * V.laneCount)
  }
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

/// Copies the table into the gradient's rows.
@inline(__always)
private func ctcStoreColumns<V: KernelVector>(
  _ arguments: CTCArguments<V.Lane>, _ first: Int, _ count: Int, _ table: UnsafePointer<V.Lane>,
  _ output: UnsafeMutablePointer<V.Lane>, _ scratch: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let (columns, stride) = (arguments.columns, arguments.gradientStride)
  let whole = columns & ~(V.laneCount - 1)
  if whole < columns {
    // Vectors run over into rows that are written after, where rows follow one another; the last ends exactly.
    let writable = stride == columns ? (arguments.frames - first - 1) * stride + columns - V.laneCount : -1
    transpose(scratch, as: V.self) {
      V.load(table + (whole + $0) * V.laneCount)
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
      V.load(square + $0 * V.laneCount)
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
