import BatchLossFormulas
import BatchLossKernelInterface

/// The thresholds of the positives, in the order of their columns.
@inline(__always)
func tripletThresholds<V: KernelVector>(_ row: TripletRow<V.Lane>, _ margin: V.Lane, as: V.Type) {
  for index in 0..<row.positives {
    row.thresholds[index] = row.distances[Int(row.positiveColumns[index])] + margin
  }
}

/// Sorts a few thresholds: each goes to the place that as many others come before, which has no branch to mispredict.
/// False, with nothing sorted, where they are many or one is NaN.
@inline(never)
func sortFewThresholds<V: KernelVector>(_ row: TripletRow<V.Lane>, as: V.Type) -> Bool {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let count = row.positives
  guard count <= 192 else { return false }
  let values = UnsafePointer(row.thresholds)
  for index in count..<(count + V.laneCount) { row.thresholds[index] = .infinity }
  var index = 0
  while index < count {
    let numbers = V.load(values + index)
    if V.count(numbers .== numbers) < V.laneCount { return false }
    index += V.laneCount
  }
  index = 0
  while index < count {
    let numbers = V.load(values + index)
    let end = min(index + V.laneCount, count)
    var before = zero
    // Of equal ones the first comes first.
    for other in 0..<index {
      before = before + zero.replacing(with: one, where: V(lane: values[other]) .<= numbers)
    }
    for other in index..<end {
      let (value, place) = (V(lane: values[other]), V(lane: V.Lane(other - index)))
      let comes = (value .< numbers) .| ((value .== numbers) .& (place .< V.ramp))
      before = before + zero.replacing(with: one, where: comes)
    }
    for other in end..<count {
      before = before + zero.replacing(with: one, where: V(lane: values[other]) .< numbers)
    }
    for lane in 0..<(end - index) { row.sorted[Int(widen(before[lane]))] = values[index + lane] }
    index += V.laneCount
  }
  return true
}

// MARK: Every positive with every negative

/// Softplus, which has no form that prefix sums could serve.
///
/// Four thresholds against every vector of distances.
@inline(never)
func everyTriplet<V: KernelVector>(
  _ row: TripletRow<V.Lane>, as: V.Type
) -> (loss: Double, active: Int) {
  let (zero, one, infinity) = (V(lane: 0), V(lane: 1), V(lane: .infinity))
  let label = V(lane: row.label)
  var (loss, active) = (0.0, 0)
  for column in 0..<row.count { row.weights[column] = 0 }
  var first = 0
  while first < row.positives {
    // Thresholds of −∞ beyond the last: no triplet.
    func threshold(_ offset: Int) -> V {
      V(lane: first + offset < row.positives ? row.thresholds[first + offset] : -.infinity)
    }
    let (t0, t1, t2, t3) = (threshold(0), threshold(1), threshold(2), threshold(3))
    var (w0, w1, w2, w3) = (0.0, 0.0, 0.0, 0.0)
    var start = 0
    while start < row.count {
      let end = min(start + 64 * V.laneCount, row.count)
      var (lossLanes, activeLanes) = (zero, zero)
      var (s0, s1, s2, s3) = (zero, zero, zero, zero)
      var index = start
      while index < end {
        let rest = end - index
        let isWhole = rest >= V.laneCount
        let distances = UnsafePointer(row.distances) + index
        let lanes = isWhole ? V.load(distances) : V.load(distances, count: rest, padding: .infinity)
        let labels = loadRest(row.labels + index, rest, as: V.self)
        let distance = lanes.replacing(with: infinity, where: labels .== label)
        var slopes = zero
        @inline(__always)
        func add(_ threshold: V, _ sum: inout V) {
          let u = threshold - distance
          let (value, slope) = (V.softplus(u), V.sigmoid(u))
          lossLanes = lossLanes + value
          activeLanes = activeLanes + zero.replacing(with: one, where: zero .< value)
          sum = sum + slope
          slopes = slopes + slope
        }
        add(t0, &s0)
        add(t1, &s1)
        add(t2, &s2)
        add(t3, &s3)
        let old = loadRest(UnsafePointer(row.weights) + index, rest, as: V.self)
        storeRest(old - slopes, row.weights + index, rest)
        index += V.laneCount
      }
      loss += lossLanes.total
      active += Int(activeLanes.total)
      w0 += s0.total
      w1 += s1.total
      w2 += s2.total
      w3 += s3.total
      start = end
    }
    // The positives' own weights, at their columns.
    for taken in 0..<min(4, row.positives - first) {
      row.weights[Int(row.positiveColumns[first + taken])] =
        V.Lane(taken == 0 ? w0 : taken == 1 ? w1 : taken == 2 ? w2 : w3)
    }
    first += 4
  }
  return (loss, active)
}

// MARK: By rank

/// Thresholds a block of the search: few enough to compare with all of them, without a branch to mispredict.
private let blockSize = 64

/// Up to so many thresholds are compared with every number; beyond, a block of them is looked for first.
private let fewThresholds = 1024

/// Numbers that are ranked at once.
private let chunk = 64

/// counts = how many of the sorted thresholds are less than each of `numberCount` numbers, or at most each of them. Up to
/// `chunk` numbers are read, and as many counts written.
@inline(__always)
private func ranks<V: KernelVector>(
  _ numbers: UnsafePointer<V.Lane>, _ numberCount: Int, _ row: TripletRow<V.Lane>, includesEqual: Bool,
  _ counts: UnsafeMutablePointer<V.Lane>, as: V.Type
) {
  let (sorted, pivots) = (UnsafePointer(row.sorted), UnsafePointer(row.pivots))
  if row.positives <= fewThresholds {
    if includesEqual {
      countUpTo(numbers, numberCount, sorted, row.positives, counts, as: V.self)
    } else {
      countBelow(numbers, numberCount, sorted, row.positives, counts, as: V.self)
    }
  } else {
    for lane in 0..<numberCount {
      counts[lane] = V.Lane(
        includesEqual
          ? rankUpTo(numbers[lane], sorted, pivots, row.positives, as: V.self)
          : rankBelow(numbers[lane], sorted, pivots, row.positives, as: V.self))
    }
  }
}

// Functions of their own, since the optimiser stops inlining vector operators in large ones.

@inline(never)
private func countBelow<V: KernelVector>(
  _ numbers: UnsafePointer<V.Lane>, _ numberCount: Int, _ sorted: UnsafePointer<V.Lane>, _ count: Int,
  _ counts: UnsafeMutablePointer<V.Lane>, as: V.Type
) { countThresholds(numbers, numberCount, sorted, count, counts, as: V.self) { $0 .< $1 } }

@inline(never)
private func countUpTo<V: KernelVector>(
  _ numbers: UnsafePointer<V.Lane>, _ numberCount: Int, _ sorted: UnsafePointer<V.Lane>, _ count: Int,
  _ counts: UnsafeMutablePointer<V.Lane>, as: V.Type
) { countThresholds(numbers, numberCount, sorted, count, counts, as: V.self) { $0 .<= $1 } }

/// Two vectors of numbers against every threshold: counts, numbers and the threshold stay in registers.
@inline(__always)
private func countThresholds<V: KernelVector>(
  _ numbers: UnsafePointer<V.Lane>, _ numberCount: Int, _ sorted: UnsafePointer<V.Lane>, _ count: Int,
  _ counts: UnsafeMutablePointer<V.Lane>, as: V.Type, _ isBelow: (V, V) -> V.Mask
) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  var index = 0
  while index < numberCount {
    let (x, y) = (V.load(numbers + index), V.load(numbers + (index + V.laneCount)))
    var (below, belowToo) = (zero, zero)
    for place in 0..<count {
      let threshold = V(lane: sorted[place])
      below = below + zero.replacing(with: one, where: isBelow(threshold, x))
      belowToo = belowToo + zero.replacing(with: one, where: isBelow(threshold, y))
    }
    below.store(counts + index)
    belowToo.store(counts + (index + V.laneCount))
    index += 2 * V.laneCount
  }
}

/// How many ascending numbers are less than `value`, or at most `value`; they are padded to whole blocks with ∞.
@inline(never)
private func rankBelow<V: KernelVector>(
  _ value: V.Lane, _ sorted: UnsafePointer<V.Lane>, _ pivots: UnsafePointer<V.Lane>, _ count: Int, as: V.Type
) -> Int {
  rank(V(lane: value), sorted, pivots, count) { $0 .< $1 }
}

@inline(never)
private func rankUpTo<V: KernelVector>(
  _ value: V.Lane, _ sorted: UnsafePointer<V.Lane>, _ pivots: UnsafePointer<V.Lane>, _ count: Int, as: V.Type
) -> Int {
  rank(V(lane: value), sorted, pivots, count) { $0 .<= $1 }
}

@inline(__always)
private func rank<V: KernelVector>(
  _ value: V, _ sorted: UnsafePointer<V.Lane>, _ pivots: UnsafePointer<V.Lane>, _ count: Int,
  _ isBelow: (V, V) -> V.Mask
) -> Int {
  let blocks = (count + blockSize - 1) / blockSize
  var block = 0
  if blocks > 1 {
    // The block in which the count ends: all before it are below as a whole.
    block = min(countOf(value, pivots, blocks, isBelow), blocks - 1) * blockSize
  }
  return min(block + countOf(value, sorted + block, blockSize, isBelow), count)
}

@inline(__always)
private func countOf<V: KernelVector>(
  _ value: V, _ numbers: UnsafePointer<V.Lane>, _ count: Int, _ isBelow: (V, V) -> V.Mask
) -> Int {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  var found = zero
  var index = 0
  while index < count {
    found = found + zero.replacing(with: one, where: isBelow(V.load(numbers + index), value))
    index += V.laneCount
  }
  return Int(found.total)
}

/// Pads the sorted thresholds and lists the last of each block.
@inline(__always)
private func preparePivots<V: KernelVector>(_ row: TripletRow<V.Lane>, as: V.Type) {
  let blocks = (row.positives + blockSize - 1) / blockSize
  for index in row.positives..<blocks * blockSize { row.sorted[index] = .infinity }
  for block in 0..<blocks { row.pivots[block] = row.sorted[block * blockSize + blockSize - 1] }
  for block in blocks..<(blocks + V.laneCount) { row.pivots[block] = .infinity }
}

/// Negatives fall into the gaps between the sorted thresholds; with the count and the sums of the distances in
/// each gap, prefix sums give every threshold all it needs of the negatives below it. No sort of the negatives.
///
/// Where all negatives of a chunk are nearer than every threshold, or none is nearer than any, no rank is needed.
@inline(never)
func rankedTriplets<V: KernelVector>(
  _ row: TripletRow<V.Lane>, _ shape: TripletShape, as: V.Type
) -> (loss: Double, active: Int) {
  preparePivots(row, as: V.self)
  let positives = row.positives
  // For each gap the count of its distances, their sum, the sum of their squares; and the sum of the thresholds
  // from it on.
  let gaps = UnsafeMutableRawPointer(row.sums).assumingMemoryBound(to: SIMD4<Double>.self)
  for gap in 0...positives { gaps[gap] = SIMD4(0, 0, 0, 0) }
  var index = positives - 1
  while index >= 0 {
    gaps[index].w = gaps[index + 1].w + widen(row.sorted[index])
    index -= 1
  }
  let isSquared: Bool
  if case .squaredHinge = shape { isSquared = true } else { isSquared = false }
  var column = 0
  while column + chunk <= row.count {
    switch position(of: column, row, as: V.self) {
    case -1: addNearest(column, row, isSquared, as: V.self)
    case 1:
      var index = column
      while index < column + chunk {
        V(lane: 0).store(row.weights + index)
        index += V.laneCount
      }
    default:
      ranks(UnsafePointer(row.distances) + column, chunk, row, includesEqual: true, row.counts, as: V.self)
      for index in 0..<chunk where row.labels[column + index] != row.label {
        addNegative(column + index, Int(widen(row.counts[index])), row, isSquared, as: V.self)
      }
    }
    column += chunk
  }
  if column < row.count {
    let rest = row.count - column
    for index in 0..<chunk { row.numbers[index] = index < rest ? row.distances[column + index] : .infinity }
    ranks(UnsafePointer(row.numbers), chunk, row, includesEqual: true, row.counts, as: V.self)
    for index in 0..<rest where row.labels[column + index] != row.label {
      addNegative(column + index, Int(widen(row.counts[index])), row, isSquared, as: V.self)
    }
  }
  var (loss, active) = (0.0, 0.0)
  var below = SIMD4<Double>(0, 0, 0, 0)
  for index in 0..<positives {
    let threshold = widen(row.sorted[index])
    let gap = gaps[index]
    below = SIMD4(below.x + gap.x, below.y + gap.y, below.z + gap.z, 0)
    gaps[index] = below
    active += below.x
    let hinges = below.x * threshold - below.y
    loss += isSquared ? threshold * (hinges - below.y) + below.z : hinges
  }
  setPositives(row, isSquared, as: V.self)
  return (loss < 0 ? 0 : loss, Int(active))
}

/// −1 where all negatives of a chunk are nearer than every threshold, 1 where none is nearer than any, else 0.
@inline(never)
private func position<V: KernelVector>(of column: Int, _ row: TripletRow<V.Lane>, as: V.Type) -> Int {
  let (lowest, label) = (V(lane: -.infinity), V(lane: row.label))
  // The farthest negative, and the nearest with its sign turned.
  var (far, near) = (lowest, lowest)
  var index = column
  while index < column + chunk {
    let distance = V.load(UnsafePointer(row.distances) + index)
    let isSame = V.load(row.labels + index) .== label
    far = V.maximum(far, distance.replacing(with: lowest, where: isSame))
    near = V.maximum(near, (V(lane: 0) - distance).replacing(with: lowest, where: isSame))
    index += V.laneCount
  }
  let (first, last) = (row.sorted[0], row.sorted[row.positives - 1])
  return far.largest < first ? -1 : -near.largest >= last ? 1 : 0
}

/// A chunk of negatives that are nearer than every threshold.
@inline(never)
private func addNearest<V: KernelVector>(
  _ column: Int, _ row: TripletRow<V.Lane>, _ isSquared: Bool, as: V.Type
) {
  let (zero, one, label) = (V(lane: 0), V(lane: 1), V(lane: row.label))
  let gaps = UnsafeMutableRawPointer(row.sums).assumingMemoryBound(to: SIMD4<Double>.self)
  let count = Double(row.positives)
  let (slope, constant) = isSquared ? (2 * count, -2 * gaps[0].w) : (0, -count)
  let (slopes, constants) = (V(slope), V(constant))
  // Gaps to the nearest threshold, since distances and their squares would cancel in what is made of the sums.
  let first = row.sorted[0]
  let threshold = V(lane: first)
  var (counts, sums, squares) = (zero, zero, zero)
  var index = column
  while index < column + chunk {
    let isSame = V.load(row.labels + index) .== label
    let distance = V.load(UnsafePointer(row.distances) + index)
    let gap = (threshold - distance).replacing(with: zero, where: isSame)
    V.multiplyAdd(slopes, distance, constants).store(row.weights + index)
    counts = counts + one.replacing(with: zero, where: isSame)
    sums = sums + gap
    squares = V.multiplyAdd(gap, gap, squares)
    index += V.laneCount
  }
  let (old, found, sum, wide) = (gaps[0], counts.total, sums.total, widen(first))
  gaps[0] = SIMD4(
    old.x + found, old.y + (found * wide - sum), old.z + (wide * (found * wide - 2 * sum) + squares.total), old.w)
}

/// A negative with `gap` thresholds at most its distance.
@inline(__always)
private func addNegative<V: KernelVector>(
  _ column: Int, _ gap: Int, _ row: TripletRow<V.Lane>, _ isSquared: Bool, as: V.Type
) {
  let gaps = UnsafeMutableRawPointer(row.sums).assumingMemoryBound(to: SIMD4<Double>.self)
  let wide = widen(row.distances[column])
  let old = gaps[gap]
  gaps[gap] = SIMD4(old.x + 1, old.y + wide, old.z + wide * wide, old.w)
  let higher = Double(row.positives - gap)
  row.weights[column] = V.Lane(isSquared ? -2 * (old.w - higher * wide) : -higher)
}

/// The weights of the positives and of the anchor from the sums of the negatives below each threshold.
@inline(__always)
private func setPositives<V: KernelVector>(_ row: TripletRow<V.Lane>, _ isSquared: Bool, as: V.Type) {
  let gaps = UnsafeMutableRawPointer(row.sums).assumingMemoryBound(to: SIMD4<Double>.self)
  row.weights[row.anchor] = 0
  var first = 0
  while first < row.positives {
    let end = min(first + chunk, row.positives)
    ranks(UnsafePointer(row.thresholds) + first, end - first, row, includesEqual: false, row.counts, as: V.self)
    for index in first..<end {
      let threshold = row.thresholds[index]
      let below = gaps[min(Int(widen(row.counts[index - first])), row.positives - 1)]
      row.weights[Int(row.positiveColumns[index])] =
        threshold == threshold
        ? V.Lane(isSquared ? 2 * (below.x * widen(threshold) - below.y) : below.x) : .nan
    }
    first = end
  }
}

// MARK: Semi-hard

/// For each positive the nearest negative that is farther, or else the farthest; `sums` holds the nearest
/// negative of each gap and its column.
@inline(never)
func semiHardTriplets<V: KernelVector>(
  _ row: TripletRow<V.Lane>, _ shape: TripletShape, _ margin: Double, as: V.Type
) -> (loss: Double, active: Int) {
  preparePivots(row, as: V.self)
  let positives = row.positives
  let (nearest, at) = (row.sums, row.sums + (positives + 1))
  for gap in 0...positives {
    nearest[gap] = .infinity
    at[gap] = -1
  }
  var (farthest, farthestAt) = (-1.0, -1)
  var start = 0
  while start < row.count {
    let end = min(start + chunk, row.count)
    for index in 0..<chunk {
      row.numbers[index] = start + index < row.count ? row.distances[start + index] : .infinity
    }
    ranks(UnsafePointer(row.numbers), chunk, row, includesEqual: false, row.counts, as: V.self)
    for column in start..<end {
      row.weights[column] = 0
      guard row.labels[column] != row.label else { continue }
      let gap = Int(widen(row.counts[column - start]))
      let wide = widen(row.distances[column])
      if at[gap] < 0 || wide < nearest[gap] {
        nearest[gap] = wide
        at[gap] = Double(column)
      }
      if farthestAt < 0 || wide > farthest { (farthest, farthestAt) = (wide, column) }
    }
    start = end
  }
  guard farthestAt >= 0 else { return (0, 0) }
  // The nearest from each gap on: what lies in a gap is nearer than all beyond it.
  var gap = positives - 1
  while gap >= 0 {
    if at[gap] < 0 {
      nearest[gap] = nearest[gap + 1]
      at[gap] = at[gap + 1]
    }
    gap -= 1
  }
  var (loss, active) = (0.0, 0)
  var first = 0
  while first < positives {
    let end = min(first + chunk, positives)
    ranks(UnsafePointer(row.thresholds) + first, end - first, row, includesEqual: true, row.counts, as: V.self)
    for index in first..<end {
      let gap = Int(widen(row.counts[index - first]))
      let isBeyond = at[gap] >= 0
      let negative = isBeyond ? Int(at[gap]) : farthestAt
      let cost = tripletCost(
        widen(row.thresholds[index]) - (isBeyond ? nearest[gap] : farthest) + margin, shape)
      loss += cost.loss
      if cost.loss > 0 { active += 1 }
      row.weights[Int(row.positiveColumns[index])] += V.Lane(cost.derivative)
      row.weights[negative] -= V.Lane(cost.derivative)
    }
    first = end
  }
  return (loss, active)
}

/// The triplet kernels of a vector type.
@inline(__always)
func tripletKernels<V: KernelVector>(of vector: V.Type) -> TripletKernels<V.Lane> {
  TripletKernels(
    given: { givenTriplets(&$0, as: vector) },
    terms: { tripletTerms($0, $1, $2, $3, $4, as: vector) },
    hardest: { hardest($0, as: vector) },
    thresholds: { tripletThresholds($0, $1, as: vector) },
    sortFew: { sortFewThresholds($0, as: vector) },
    everyPair: { everyTriplet($0, as: vector) },
    ranked: { rankedTriplets($0, $1, as: vector) },
    semiHard: { semiHardTriplets($0, $1, $2, as: vector) })
}
