import BatchLossFormulas
import BatchLossKernelInterface

/// The cost of u and its derivative, in float64. Without a branch: the processor foresees it wrongly as often as not, finds out
/// when the rows have come from memory, and has to begin again with what it had read ahead.
@inline(__always)
func tripletCost(_ u: Double, _ shape: TripletShape) -> (loss: Double, derivative: Double) {
  typealias Lanes = SIMD8<Double>
  let (u, zero) = (Lanes(lane: u), Lanes(lane: 0))
  // NaN is not at most 0.
  switch shape {
  case .hinge:
    return (
      u.replacing(with: zero, where: u .<= zero)[0], Lanes(lane: 1).replacing(with: zero, where: u .<= zero)[0]
    )
  case .squaredHinge:
    let above = u.replacing(with: zero, where: u .<= zero)
    return ((above * above)[0], (above + above)[0])
  case .softplus: return (Lanes.softplus(u)[0], Lanes.sigmoid(u)[0])
  }
}

@inline(__always)
func tripletTerms<V: KernelVector>(
  _ form: TripletForm, _ a: UnsafePointer<V.Lane>, _ p: UnsafePointer<V.Lane>, _ n: UnsafePointer<V.Lane>,
  _ columns: Int, as: V.Type
) -> TripletTerms {
  var (aa, pp, nn) = (0.0, 0.0, 0.0)
  if case .cosine = form.distance {
    aa = dot(a, a, columns, as: V.self)
    pp = dot(p, p, columns, as: V.self)
    nn = dot(n, n, columns, as: V.self)
  }
  let squares = squaredDistances(a, p, n, columns, as: V.self)
  let positive = pairDistance(squares.0, aa, pp, form.distance)
  var negative = pairDistance(squares.1, aa, nn, form.distance)
  var isSwapped = false
  if form.swaps {
    let other = pairDistance(squaredDistance(p, n, columns, as: V.self), pp, nn, form.distance)
    if other.distance < negative.distance {
      negative = other
      isSwapped = true
    }
  }
  let cost = tripletCost(positive.distance - negative.distance + form.margin, form.shape)
  let slope = cost.derivative
  return TripletTerms(
    loss: cost.loss, isActive: cost.loss > 0, isSwapped: isSwapped,
    positiveDifference: slope * positive.difference, anchorOwn: slope * positive.own,
    positiveOwn: slope * positive.other, negativeDifference: -slope * negative.difference,
    baseOwn: -slope * negative.own, negativeOwn: -slope * negative.other)
}

/// The gradient of a row is written a few rows after its loss; see `contrastivePairs`.
@inline(__always)
func givenTriplets<V: KernelVector>(_ arguments: inout TripletArguments<V.Lane>, as: V.Type) {
  // A constant, which no store can change.
  let given = arguments
  let wantsGradient =
    given.anchorGradient != nil || given.positiveGradient != nil || given.negativeGradient != nil
  let columns = given.columns
  let distance = prefetchedRowsAhead(columns, as: V.self)
  var (sum, active) = (0.0, 0)
  for step in 0..<given.count + rowsAhead {
    // Beyond the last triplet of these are mostly those that come next.
    let next = step + distance
    prefetchRow(given.anchors + next * given.anchorStride, columns, nearest: true, as: V.self)
    prefetchRow(given.positives + next * given.positiveStride, columns, nearest: true, as: V.self)
    prefetchRow(given.negatives + next * given.negativeStride, columns, nearest: true, as: V.self)
    prefetchPages(after: given.anchors + step * given.anchorStride, columns)
    prefetchPages(after: given.positives + step * given.positiveStride, columns)
    prefetchPages(after: given.negatives + step * given.negativeStride, columns)
    if let rows = given.anchorGradient { prefetchPages(after: rows.base + step * rows.stride, columns) }
    if let rows = given.positiveGradient { prefetchPages(after: rows.base + step * rows.stride, columns) }
    if let rows = given.negativeGradient { prefetchPages(after: rows.base + step * rows.stride, columns) }
    if step < given.count {
      let loss = givenTriplet(step, given, as: V.self)
      sum += loss
      active += loss > 0 ? 1 : 0
    }
    if wantsGradient && step >= rowsAhead { writeTriplet(step - rowsAhead, given, as: V.self) }
  }
  arguments.sum += sum
  arguments.active += active
}

/// The loss of a triplet; for each of its rows the factors of the differences and of itself go to `slopes`:
/// anchor − positive, anchor − negative, positive − negative, anchor, positive, negative.
@inline(__always)
private func givenTriplet<V: KernelVector>(
  _ row: Int, _ arguments: TripletArguments<V.Lane>, as: V.Type
) -> Double {
  typealias Lanes = SIMD8<Double>
  let terms = tripletTerms(
    arguments.form, arguments.anchors + row * arguments.anchorStride,
    arguments.positives + row * arguments.positiveStride, arguments.negatives + row * arguments.negativeStride,
    arguments.columns, as: V.self)
  let zero = Lanes(lane: 0)
  let weight = Lanes(lane: widen(arguments.weights?[row] ?? 1))
  let loss = (Lanes(lane: terms.loss) * weight).replacing(with: zero, where: weight .== zero)[0]
  if let losses = arguments.losses { losses[row] = V.Lane(loss) }
  let (near, far) = (Lanes(lane: terms.positiveDifference), Lanes(lane: terms.negativeDifference))
  let isSilent = (weight .== zero) .| ((near .== zero) .& (far .== zero))
  let scale = weight * Lanes(lane: arguments.gradientScale)
  @inline(__always)
  func scaled(_ factor: Double) -> Double {
    (Lanes(lane: factor) * scale).replacing(with: zero, where: isSilent)[0]
  }
  let slopes = arguments.slopes + 6 * row
  slopes[0] = scaled(terms.positiveDifference)
  slopes[1] = terms.isSwapped ? 0 : scaled(terms.negativeDifference)
  slopes[2] = terms.isSwapped ? scaled(terms.negativeDifference) : 0
  slopes[3] = scaled(terms.anchorOwn + (terms.isSwapped ? 0 : terms.baseOwn))
  slopes[4] = scaled(terms.positiveOwn + (terms.isSwapped ? terms.baseOwn : 0))
  slopes[5] = scaled(terms.negativeOwn)
  return loss
}

@inline(__always)
private func writeTriplet<V: KernelVector>(_ row: Int, _ arguments: TripletArguments<V.Lane>, as: V.Type) {
  let slopes = arguments.slopes + 6 * row
  let a = arguments.anchors + row * arguments.anchorStride
  let p = arguments.positives + row * arguments.positiveStride
  let n = arguments.negatives + row * arguments.negativeStride
  if let first = arguments.anchorGradient, let second = arguments.positiveGradient,
    let third = arguments.negativeGradient
  {
    let outputs = (
      first.base + row * first.stride, second.base + row * second.stride, third.base + row * third.stride
    )
    let bits = UInt(bitPattern: outputs.0) | UInt(bitPattern: outputs.1) | UInt(bitPattern: outputs.2)
    if !arguments.streams || bits & 63 == 0 {
      return writeRows(
        slopes, a, p, n, outputs.0, outputs.1, outputs.2, arguments.columns, arguments.streams, as: V.self)
    }
  }
  let (near, far, swapped) = (slopes[0], slopes[1], slopes[2])
  let isSilent = near == 0 && far == 0 && swapped == 0
  // b·(x − y) + c·(x − z) + d·x for each of the three rows.
  writeDifferences(
    near, far, slopes[3], a, p, n, arguments.anchorGradient, row, arguments.columns, arguments.streams, isSilent,
    as: V.self)
  writeDifferences(
    near, swapped, slopes[4], p, a, n, arguments.positiveGradient, row, arguments.columns, arguments.streams,
    isSilent, as: V.self)
  writeDifferences(
    far, swapped, slopes[5], n, a, p, arguments.negativeGradient, row, arguments.columns, arguments.streams,
    isSilent, as: V.self)
}

/// The same for all three rows at once, which share their loads.
@inline(__always)
private func writeRows<V: KernelVector>(
  _ slopes: UnsafeMutablePointer<Double>, _ a: UnsafePointer<V.Lane>, _ p: UnsafePointer<V.Lane>,
  _ n: UnsafePointer<V.Lane>, _ first: UnsafeMutablePointer<V.Lane>, _ second: UnsafeMutablePointer<V.Lane>,
  _ third: UnsafeMutablePointer<V.Lane>, _ count: Int, _ streams: Bool, as: V.Type
) {
  let (near, far, swapped) = (V(slopes[0]), V(slopes[1]), V(slopes[2]))
  let (ownA, ownP, ownN) = (V(slopes[3]), V(slopes[4]), V(slopes[5]))
  // Zeros for any rows, without a branch that is foreseen as often as not.
  let zero = V(lane: 0)
  let isSilent = V(slopes[0] == 0 && slopes[1] == 0 && slopes[2] == 0 ? 0 : 1) .== zero
  @inline(__always)
  func rows(_ a: V, _ p: V, _ n: V) -> (V, V, V) {
    (
      V.multiplyAdd(near, a - p, V.multiplyAdd(far, a - n, ownA * a)).replacing(with: zero, where: isSilent),
      V.multiplyAdd(near, p - a, V.multiplyAdd(swapped, p - n, ownP * p)).replacing(with: zero, where: isSilent),
      V.multiplyAdd(far, n - a, V.multiplyAdd(swapped, n - p, ownN * n)).replacing(with: zero, where: isSilent)
    )
  }
  let whole = count & -V.laneCount
  var index = 0
  while index < whole {
    let outputs = rows(V.load(a + index), V.load(p + index), V.load(n + index))
    outputs.0.store(first + index, streams: streams)
    outputs.1.store(second + index, streams: streams)
    outputs.2.store(third + index, streams: streams)
    index += V.laneCount
  }
  let rest = count - whole
  if rest > 0 {
    let outputs = rows(
      V.load(a + whole, count: rest), V.load(p + whole, count: rest), V.load(n + whole, count: rest))
    outputs.0.store(first + whole, count: rest)
    outputs.1.store(second + whole, count: rest)
    outputs.2.store(third + whole, count: rest)
  }
}

/// output = a·(x − y) + b·(x − z) + c·x, or zeros.
@inline(__always)
private func writeDifferences<V: KernelVector>(
  _ a: Double, _ b: Double, _ c: Double, _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>,
  _ z: UnsafePointer<V.Lane>, _ output: TripletArguments<V.Lane>.Output?, _ row: Int, _ count: Int,
  _ streams: Bool, _ isZero: Bool, as: V.Type
) {
  guard let output else { return }
  let destination = output.base + row * output.stride
  let streams = streams && UInt(bitPattern: destination) & 63 == 0
  let (a, b, c, zero) = (V(a), V(b), V(c), V(lane: 0))
  @inline(__always)
  func value(_ x: V, _ y: V, _ z: V) -> V {
    isZero ? zero : V.multiplyAdd(a, x - y, V.multiplyAdd(b, x - z, c * x))
  }
  let whole = count & -V.laneCount
  var index = 0
  while index < whole {
    value(V.load(x + index), V.load(y + index), V.load(z + index)).store(destination + index, streams: streams)
    index += V.laneCount
  }
  let rest = count - whole
  if rest > 0 {
    value(V.load(x + whole, count: rest), V.load(y + whole, count: rest), V.load(z + whole, count: rest))
      .store(destination + whole, count: rest)
  }
}

// MARK: The hardest triplets

/// Updates the farthest positive and the nearest negative of the rows of a tile, and of its columns if wanted.
///
/// The lowest index wins among equals. NaN is never chosen.
@inline(__always)
func hardest<V: KernelVector>(_ tile: HardestTile<V.Lane>, as: V.Type) {
  for row in 0..<tile.rows { hardestOfRow(row, tile, as: V.self) }
  guard let extremes = tile.columnExtremes else { return }
  var column = 0
  while column < tile.columns {
    farthestOfColumns(column, min(V.laneCount, tile.columns - column), tile, extremes, as: V.self)
    nearestOfColumns(column, min(V.laneCount, tile.columns - column), tile, extremes, as: V.self)
    column += V.laneCount
  }
}

/// The extremes first; where they are is looked for only when they are better than what was known.
@inline(__always)
private func hardestOfRow<V: KernelVector>(_ row: Int, _ tile: HardestTile<V.Lane>, as: V.Type) {
  let infinity = V(lane: .infinity)
  let lowest = V(lane: -1)
  let distances = UnsafePointer(tile.distances + row * tile.stride)
  let rowLabel = tile.rowLabels[row]
  let label = V(lane: rowLabel)
  var (far, near) = (lowest, infinity)
  @inline(__always)
  func add(_ distance: V, _ labels: V) {
    let isSame = labels .== label
    far = V.maximum(far, lowest.replacing(with: distance, where: isSame))
    near = V.minimum(near, distance.replacing(with: infinity, where: isSame))
  }
  let whole = tile.columns & -V.laneCount
  var index = 0
  while index < whole {
    add(V.load(distances + index), V.load(tile.columnLabels + index))
    index += V.laneCount
  }
  if whole < tile.columns {
    // NaN beyond the last column.
    add(
      V.load(distances + whole, count: tile.columns - whole, padding: .nan),
      V.load(tile.columnLabels + whole, count: tile.columns - whole))
  }
  let extremes = tile.rowExtremes
  let (largest, smallest) = (far.largest, -(V(lane: 0) - near).largest)
  if largest >= 0 && largest >= extremes.far[row] {
    for column in 0..<tile.columns where distances[column] == largest && tile.columnLabels[column] == rowLabel {
      let at = V.Lane(tile.firstColumn + column)
      if largest > extremes.far[row] || at < extremes.farAt[row] || extremes.farAt[row] < 0 {
        extremes.far[row] = largest
        extremes.farAt[row] = at
      }
      break
    }
  }
  if smallest <= extremes.near[row] {
    for column in 0..<tile.columns where distances[column] == smallest && tile.columnLabels[column] != rowLabel {
      let at = V.Lane(tile.firstColumn + column)
      if smallest < extremes.near[row] || at < extremes.nearAt[row] || extremes.nearAt[row] < 0 {
        extremes.near[row] = smallest
        extremes.nearAt[row] = at
      }
      break
    }
  }
}

/// Lanes are columns. From the last row to the first, so that the lowest wins among equals.
@inline(__always)
private func farthestOfColumns<V: KernelVector>(
  _ column: Int, _ lanes: Int, _ tile: HardestTile<V.Lane>, _ extremes: HardestExtremes<V.Lane>, as: V.Type
) {
  let labels = loadLanes(tile.columnLabels + column, lanes, as: V.self)
  var (far, farAt) = (V(lane: -1), V(lane: -1))
  var row = tile.rows - 1
  while row >= 0 {
    let distance = V.load(UnsafePointer(tile.distances) + (row * tile.stride + column))
    let isFarther = (labels .== V(lane: tile.rowLabels[row])) .& (far .<= distance)
    far = far.replacing(with: distance, where: isFarther)
    farAt = farAt.replacing(with: V(lane: V.Lane(tile.firstRow + row)), where: isFarther)
    row -= 1
  }
  let (old, oldAt) = (
    loadLanes(UnsafePointer(extremes.far) + column, lanes, as: V.self),
    loadLanes(UnsafePointer(extremes.farAt) + column, lanes, as: V.self)
  )
  let zero = V(lane: 0)
  let isBetter = (old .< far) .| ((old .== far) .& ((farAt .< oldAt) .| (oldAt .< zero)))
  let isTaken = isBetter .& (zero .<= farAt)
  storeLanes(old.replacing(with: far, where: isTaken), extremes.far + column, lanes)
  storeLanes(oldAt.replacing(with: farAt, where: isTaken), extremes.farAt + column, lanes)
}

@inline(__always)
private func nearestOfColumns<V: KernelVector>(
  _ column: Int, _ lanes: Int, _ tile: HardestTile<V.Lane>, _ extremes: HardestExtremes<V.Lane>, as: V.Type
) {
  let labels = loadLanes(tile.columnLabels + column, lanes, as: V.self)
  var (near, nearAt) = (V(lane: .infinity), V(lane: -1))
  var row = tile.rows - 1
  while row >= 0 {
    let distance = V.load(UnsafePointer(tile.distances) + (row * tile.stride + column))
    let isNearer = .!(labels .== V(lane: tile.rowLabels[row])) .& (distance .<= near)
    near = near.replacing(with: distance, where: isNearer)
    nearAt = nearAt.replacing(with: V(lane: V.Lane(tile.firstRow + row)), where: isNearer)
    row -= 1
  }
  let (old, oldAt) = (
    loadLanes(UnsafePointer(extremes.near) + column, lanes, as: V.self),
    loadLanes(UnsafePointer(extremes.nearAt) + column, lanes, as: V.self)
  )
  let zero = V(lane: 0)
  let isBetter = (near .< old) .| ((near .== old) .& ((nearAt .< oldAt) .| (oldAt .< zero)))
  let isTaken = isBetter .& (zero .<= nearAt)
  storeLanes(old.replacing(with: near, where: isTaken), extremes.near + column, lanes)
  storeLanes(oldAt.replacing(with: nearAt, where: isTaken), extremes.nearAt + column, lanes)
}
