import BatchLossFormulas
import BatchLossKernelInterface

/// Softmax cross-entropy of short rows: each lane works on a row of its own, so nothing is reduced across
/// lanes and no row has a ragged end. Rows are transposed on the way in and on the way out.
@inline(__always)
func softmaxCrossEntropyLanes<V: KernelVector>(
  _ arguments: inout SoftmaxCrossEntropyArguments<V.Lane>, as: V.Type
) {
  var sum = 0.0
  var active = 0
  var row = 0
  while row < arguments.rows {
    let rows = min(V.laneCount, arguments.rows - row)
    let losses = softmaxCrossEntropyLaneGroup(arguments, row, rows, as: V.self)
    sum += losses.total
    active += V.count(V(lane: 0) .< losses)
    if let destination = arguments.losses {
      if rows == V.laneCount {
        losses.store(destination + row)
      } else {
        losses.store(destination + row, count: rows)
      }
    }
    row += rows
  }
  arguments.sum = sum
  arguments.active = active
}

/// The losses of up to `laneCount` rows; their gradients are written.
@inline(__always)
private func softmaxCrossEntropyLaneGroup<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: Int, _ rows: Int, as: V.Type
) -> V {
  let columns = arguments.columns
  let zero = V(lane: 0)
  let z = arguments.scratch  // column k of the group at z + k * laneCount
  loadTransposed(
    arguments.logits + row * arguments.logitsStride, arguments.logitsStride, rows, columns,
    readable: arguments.readableLogits - row * arguments.logitsStride, z, as: V.self)

  // What each row weighs and which class it is of; −1 and missing rows are silent.
  var weight = V(lane: 1)
  if let weights = arguments.sampleWeights { weight = loadLanes(weights + row, rows, as: V.self) }
  var isSilent = weight .== zero
  if rows < V.laneCount { isSilent = isSilent .| .!V.first(rows) }
  var label = V(lane: -1)
  if let labels = arguments.labels {
    if rows == V.laneCount {
      label = V.load(converting: labels + row)
    } else {
      for lane in 0..<rows { label[lane] = V.Lane(labels[row + lane]) }
    }
    isSilent = isSilent .| (label .< zero)
  }

  if let labels = arguments.labels, arguments.labelSmoothing == 0, arguments.softCap == 0, arguments.zLoss == 0 {
    // The weight of its class is then one more factor of a row.
    if let classWeights = arguments.classWeights {
      var factor = V(lane: 1)
      for lane in 0..<rows where labels[row + lane] >= 0 { factor[lane] = classWeights[Int(labels[row + lane])] }
      weight = weight * factor
    }
    return plainLaneGroup(arguments, row, rows, label: label, weight: weight, isSilent: isSilent, as: V.self)
  }

  let hasCap = arguments.softCap != 0
  let (cap, inverseCap) = softCap(arguments, as: V.self)
  // What capped logits lack lies behind them.
  let rests = z + SoftmaxPlan.padded(columns) * V.laneCount
  var (largest, largestRest) = (V(lane: -.infinity), zero)
  for column in 0..<columns {
    let index = column * V.laneCount
    if hasCap {
      let (value, rest) = softCapped(V.load(z + index), cap)
      value.store(z + index)
      rest.store(rests + index)
      largestRest = largestRest.replacing(with: rest, where: largest .< value)
    }
    largest = .maximum(largest, V.load(z + index))
  }
  @inline(__always)
  func shifted(_ index: Int) -> V {
    let difference = V.load(z + index) - largest
    return hasCap ? difference + (V.load(rests + index) - largestRest) : difference
  }

  // Σ e^(z − largest) and Σ τ·(z − largest). Exponentials replace the logits, except under a soft cap,
  // whose derivative needs the logits again.
  let smoothing = arguments.smoothing
  let keep = V(1 - arguments.labelSmoothing)
  // The largest is kept out of the sum, so that a confident row keeps the digits of the others.
  var (others, largestCount) = (zero, zero)
  var linear = zero
  var targetSum = zero
  for column in 0..<columns {
    let shifted = shifted(column * V.laneCount)
    let e = V.exp(ofSummand: shifted)
    let isLargest = shifted .== zero
    others = others + e.replacing(with: zero, where: isLargest)
    largestCount = largestCount + zero.replacing(with: V(lane: 1), where: isLargest)
    let target = target(arguments, row, rows, column, label, keep, smoothing, as: V.self)
    targetSum = targetSum + target
    linear = linear + (target * shifted).replacing(with: zero, where: target .== zero)
    if !hasCap { e.store(z + column * V.laneCount) }
  }
  // A row of nothing but −∞ has no distribution.
  let exponentialSum = (others + largestCount).replacing(
    with: V(lane: .nan), where: largest .== V(lane: -.infinity))
  let logSum = V.log(exponentialSum).replacing(
    with: V.log(onePlus: others), where: largestCount .== V(lane: 1))
  let logSumExp = (logSum + largestRest) + largest
  let zLoss = V(arguments.zLoss)
  var loss = V.multiplyAdd(targetSum, logSum, zero - linear)
  if arguments.zLoss != 0 { loss = V.multiplyAdd(zLoss, logSumExp * logSumExp, loss) }
  loss = (loss * weight).replacing(with: zero, where: isSilent)
  guard let gradient = arguments.gradient else { return loss }

  let outer = V(arguments.gradientScale) * weight
  var total = targetSum
  if arguments.zLoss != 0 { total = V.multiplyAdd(zLoss + zLoss, logSumExp, total) }
  let scale = outer * total / exponentialSum
  for column in 0..<columns {
    let stored = V.load(z + column * V.laneCount)
    let e = hasCap ? V.exp(ofSummand: shifted(column * V.laneCount)) : stored
    let target = target(arguments, row, rows, column, label, keep, smoothing, as: V.self)
    var value = V.multiplyAdd(e, scale, zero - target * outer)
    if hasCap {
      value = value * softCapSlope(stored, V.load(rests + column * V.laneCount), cap, inverse: inverseCap)
    }
    value.replacing(with: zero, where: isSilent).store(z + column * V.laneCount)
  }
  storeTransposed(
    z, gradient + row * arguments.gradientStride, arguments.gradientStride, rows, columns, as: V.self)
  return loss
}

/// τ of one class for every row of the group.
@inline(__always)
private func target<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: Int, _ rows: Int, _ column: Int, _ label: V,
  _ keep: V, _ smoothing: Double, as: V.Type
) -> V {
  var target: V
  if let probabilities = arguments.probabilities {
    target = V(lane: 0)
    let start = probabilities + (row * arguments.probabilitiesStride + column)
    for lane in 0..<rows { target[lane] = start[lane * arguments.probabilitiesStride] }
    target = V.multiplyAdd(target, keep, V(smoothing))
  } else {
    target = V(smoothing).replacing(
      with: keep + V(smoothing), where: label .== V(lane: V.Lane(column)))
  }
  if let classWeights = arguments.classWeights { target = target * V(lane: classWeights[column]) }
  return target
}

/// The group when a row's target is one class and nothing else: one comparison a logit.
@inline(__always)
private func plainLaneGroup<V: KernelVector>(
  _ arguments: SoftmaxCrossEntropyArguments<V.Lane>, _ row: Int, _ rows: Int, label: V, weight: V,
  isSilent: V.Mask, as: V.Type
) -> V {
  let zero = V(lane: 0)
  let z = arguments.scratch
  let end = arguments.columns * V.laneCount
  // Columns go to two chains of operations in turn, each half as long.
  var (largest, otherLargest) = (V(lane: -.infinity), V(lane: -.infinity))
  var index = 0
  while index < end {
    (largest, otherLargest) = (otherLargest, .maximum(largest, V.load(z + index)))
    index += V.laneCount
  }
  largest = .maximum(largest, otherLargest)
  // The label is kept out of the sum, so that a confident row keeps the digits of the others.
  var (others, moreOthers) = (zero, zero)
  var (own, ownExponential, column) = (zero, zero, zero)
  index = 0
  while index < end {
    let shifted = V.load(z + index) - largest
    let e = V.exp(ofSummand: shifted)
    e.store(z + index)
    let isLabel = label .== column
    (others, moreOthers) = (moreOthers, others + e.replacing(with: zero, where: isLabel))
    own = own.replacing(with: shifted, where: isLabel)
    ownExponential = ownExponential.replacing(with: e, where: isLabel)
    column = column + V(lane: 1)
    index += V.laneCount
  }
  // A row of nothing but −∞ has no distribution.
  others = (others + moreOthers).replacing(with: V(lane: .nan), where: largest .== V(lane: -.infinity))
  let sum = others + ownExponential
  // The logarithm of the sum, of the others alone beside a label of exponential 1.
  let value = V.log(onePlus: others + (ownExponential - V(lane: 1))) - own
  let loss = (value * weight).replacing(with: zero, where: isSilent)
  guard let gradient = arguments.gradient else { return loss }

  let outer = V(arguments.gradientScale) * weight
  let scale = outer / sum
  let ownValue = zero - others * scale  // (p − 1)·outer without the cancellation
  let hasSilent = V.count(isSilent) > 0
  column = zero
  index = 0
  while index < end {
    var value = (V.load(z + index) * scale).replacing(with: ownValue, where: label .== column)
    if hasSilent { value = value.replacing(with: zero, where: isSilent) }
    value.store(z + index)
    column = column + V(lane: 1)
    index += V.laneCount
  }
  storeTransposed(
    z, gradient + row * arguments.gradientStride, arguments.gradientStride, rows, arguments.columns, as: V.self)
  return loss
}

// MARK: - Transposition in and out

@inline(__always)
private func loadTransposed<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ stride: Int, _ rows: Int, _ columns: Int, readable: Int,
  _ destination: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  #if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
    if V.laneCount == 16 && rows == 16 && columns <= quadColumns && 15 * stride + (columns + 3) & ~3 <= readable {
      return loadQuads(numbers(source), stride, columns, numbers(destination))
    }
  #endif
  var column = 0
  while column < columns {
    let lanes = min(V.laneCount, columns - column)
    let square = destination + column * V.laneCount
    // A whole group whose loads stay inside the block needs no care.
    if rows == V.laneCount && (V.laneCount - 1) * stride + column + V.laneCount <= readable {
      transpose(square, as: V.self) { row in
        V.load(source + (row * stride + column))
      } store: { index, vector in
        vector.store(square + index * V.laneCount)
      }
    } else {
      transpose(square, as: V.self) { row in
        row < rows ? V.load(source + (row * stride + column), count: lanes) : V(lane: 0)
      } store: { index, vector in
        vector.store(square + index * V.laneCount)
      }
    }
    column += V.laneCount
  }
}

@inline(__always)
private func storeTransposed<V: KernelVector>(
  _ source: UnsafeMutablePointer<V.Lane>, _ destination: UnsafeMutablePointer<V.Lane>, _ stride: Int,
  _ rows: Int, _ columns: Int, as: V.Type
) {
  #if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
    if V.laneCount == 16 && rows == 16 && columns >= 4 && columns <= quadColumns
      && (stride == columns || columns.isMultiple(of: 4))
    {
      return storeQuads(numbers(UnsafePointer(source)), numbers(destination), stride, columns)
    }
  #endif
  // Whole vectors run over into the next rows, which are written after; the last rows end exactly.
  let end = (rows - 1) * stride + columns
  if columns <= V.laneCount {
    transpose(source, as: V.self) {
      V.load(source + $0 * V.laneCount)
    } store: { row, vector in
      guard row < rows else { return }
      let offset = row * stride
      if columns == V.laneCount || (stride == columns && offset + V.laneCount <= end) {
        vector.store(destination + offset)
      } else {
        vector.store(destination + offset, count: columns)
      }
    }
    return
  }
  var column = 0
  while column < columns {
    let square = source + column * V.laneCount
    transpose(square, as: V.self) {
      V.load(square + $0 * V.laneCount)
    } store: { row, vector in
      vector.store(square + row * V.laneCount)
    }
    column += V.laneCount
  }
  for row in 0..<rows {
    column = 0
    while column < columns {
      let lanes = min(V.laneCount, columns - column)
      storeLanes(V.load(source + (column + row) * V.laneCount), destination + (row * stride + column), lanes)
      column += V.laneCount
    }
  }
}

#if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
  // Sixteen rows of floats by four columns at a time: memory itself puts four rows into a vector, so that half of the
  // steps of a transposition and all columns beyond the last are spared.

  /// Of wider rows each line would be written in too many parts.
  private var quadColumns: Int { 32 }

  @inline(__always)
  private func numbers<Lane>(_ pointer: UnsafePointer<Lane>) -> UnsafePointer<Float> {
    UnsafeRawPointer(pointer).assumingMemoryBound(to: Float.self)
  }

  @inline(__always)
  private func numbers<Lane>(_ pointer: UnsafeMutablePointer<Lane>) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: Float.self)
  }

  @inline(__always)
  private func loadQuads(
    _ source: UnsafePointer<Float>, _ stride: Int, _ columns: Int, _ destination: UnsafeMutablePointer<Float>
  ) {
    @inline(__always)
    func quads(_ source: UnsafePointer<Float>) -> SIMD16<Float> {
      @inline(__always)
      func quad(_ row: Int) -> SIMD4<Float> {
        UnsafeRawPointer(source + row * stride).loadUnaligned(as: SIMD4<Float>.self)
      }
      return SIMD16(
        lowHalf: SIMD8(lowHalf: quad(0), highHalf: quad(4)), highHalf: SIMD8(lowHalf: quad(8), highHalf: quad(12)))
    }
    var column = 0
    while column < columns {
      let start = source + column
      var (a, b, c, d) = (quads(start), quads(start + stride), quads(start + 2 * stride), quads(start + 3 * stride))
      SIMD16<Float>.exchangeQuads(&a, &b, &c, &d)
      let output = destination + 16 * column
      a.store(output)
      b.store(output + 16)
      c.store(output + 32)
      d.store(output + 48)
      column += 4
    }
  }

  /// At least four columns, the last ones first: they run over into the first ones of the next row, which are written
  /// after. The last row ends exactly.
  @inline(__always)
  private func storeQuads(
    _ source: UnsafePointer<Float>, _ destination: UnsafeMutablePointer<Float>, _ stride: Int, _ columns: Int
  ) {
    var column = (columns - 1) & ~3
    while column >= 0 {
      let start = source + 16 * column
      var (a, b, c, d) = (
        SIMD16<Float>.load(start), SIMD16<Float>.load(start + 16), SIMD16<Float>.load(start + 32),
        SIMD16<Float>.load(start + 48)
      )
      SIMD16<Float>.exchangeQuads(&a, &b, &c, &d)
      let output = destination + column
      @inline(__always)
      func store(_ quads: SIMD16<Float>, _ row: Int) {
        @inline(__always)
        func put(_ quad: SIMD4<Float>, _ row: Int) {
          UnsafeMutableRawPointer(output + row * stride).storeBytes(of: quad, as: SIMD4<Float>.self)
        }
        put(quads.lowHalf.lowHalf, row)
        put(quads.lowHalf.highHalf, row + 4)
        put(quads.highHalf.lowHalf, row + 8)
        if row < 3 || column + 4 <= columns {
          put(quads.highHalf.highHalf, row + 12)
        } else {
          for lane in 0..<columns - column { output[15 * stride + lane] = quads[12 + lane] }
        }
      }
      store(a, 0)
      store(b, 1)
      store(c, 2)
      store(d, 3)
      column -= 4
    }
  }
#endif
