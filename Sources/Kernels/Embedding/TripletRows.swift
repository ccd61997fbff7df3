import BatchLossFormulas
import BatchLossKernelInterface

/// The thresholds of the positives, in the order of their columns.
@inline(__always)
func tripletThresholds<V: KernelVector>(_ row: TripletRow<V.Lane>, _ margin: V.Lane, as: V.Type) -> Int {
  var found = 0
  for column in 0..<row.count where row.labels[column] == row.label && column != row.anchor {
    row.thresholds[found] = row.distances[column] + margin
    found += 1
  }
  return found
}

// MARK: Every positive with every negative

/// Four thresholds against every vector of distances: 4 + 4 accumulators stay in registers.
@inline(__always)
func everyTriplet<V: KernelVector>(
  _ row: TripletRow<V.Lane>, _ shape: TripletShape, as: V.Type
) -> (loss: Double, active: Int) {
  switch shape {
  case .hinge: return everyHinge(row, as: V.self)
  case .squaredHinge: return everySquaredHinge(row, as: V.self)
  case .softplus: return everySoftplus(row, as: V.self)
  }
}

@inline(never)
private func everyHinge<V: KernelVector>(
  _ row: TripletRow<V.Lane>, as: V.Type
) -> (loss: Double, active: Int) {
  everyTriplet(row, as: V.self) { u in
    (V.maximum(u, V(lane: 0)), V(lane: 0).replacing(with: V(lane: 1), where: V(lane: 0) .< u))
  }
}

@inline(never)
private func everySquaredHinge<V: KernelVector>(
  _ row: TripletRow<V.Lane>, as: V.Type
) -> (loss: Double, active: Int) {
  everyTriplet(row, as: V.self) { u in
    let hinge = V.maximum(u, V(lane: 0))
    return (hinge * hinge, hinge + hinge)
  }
}

@inline(never)
private func everySoftplus<V: KernelVector>(
  _ row: TripletRow<V.Lane>, as: V.Type
) -> (loss: Double, active: Int) {
  everyTriplet(row, as: V.self) { (V.softplus($0), V.sigmoid($0)) }
}

@inline(__always)
private func everyTriplet<V: KernelVector>(
  _ row: TripletRow<V.Lane>, as: V.Type, _ cost: (V) -> (V, V)
) -> (loss: Double, active: Int) {
  let (zero, one, infinity) = (V(lane: 0), V(lane: 1), V(lane: .infinity))
  let label = V(lane: row.label)
  var (loss, active) = (0.0, 0)
  for column in 0..<row.count { row.weights[column] = 0 }
  var column = 0
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
          let (value, slope) = cost(u)
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
    var taken = 0
    while taken < 4 && first + taken < row.positives {
      while row.labels[column] != row.label || column == row.anchor { column += 1 }
      row.weights[column] = V.Lane(taken == 0 ? w0 : taken == 1 ? w1 : taken == 2 ? w2 : w3)
      column += 1
      taken += 1
    }
    first += 4
  }
  return (loss, active)
}

// MARK: By rank

/// Thresholds a block of the search: few enough to compare with all of them, without a branch to mispredict.
private let blockSize = 64

/// How many ascending numbers are less than `value`, or at most `value`; they are padded to whole blocks with ∞.
///
/// Functions of their own, since the optimiser stops inlining vector operators in large ones.
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
    block = min(countBelow(value, pivots, blocks, isBelow), blocks - 1) * blockSize
  }
  return min(block + countBelow(value, sorted + block, blockSize, isBelow), count)
}

@inline(__always)
private func countBelow<V: KernelVector>(
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
@inline(__always)
func rankedTriplets<V: KernelVector>(
  _ row: TripletRow<V.Lane>, _ shape: TripletShape, as: V.Type
) -> (loss: Double, active: Int) {
  preparePivots(row, as: V.self)
  let (sorted, pivots) = (UnsafePointer(row.sorted), UnsafePointer(row.pivots))
  let positives = row.positives
  // For each gap the count of its distances, their sum, the sum of their squares; and the sum of the thresholds
  // from it on.
  let gaps = UnsafeMutableRawPointer(row.sums).assumingMemoryBound(to: SIMD4<Double>.self)
  for gap in 0...positives { gaps[gap] = SIMD4(0, 0, 0, 0) }
  var index = positives - 1
  while index >= 0 {
    gaps[index].w = gaps[index + 1].w + widen(sorted[index])
    index -= 1
  }
  let isSquared: Bool
  if case .squaredHinge = shape { isSquared = true } else { isSquared = false }
  for column in 0..<row.count where row.labels[column] != row.label {
    let distance = row.distances[column]
    let gap = rankUpTo(distance, sorted, pivots, positives, as: V.self)
    let wide = widen(distance)
    let old = gaps[gap]
    gaps[gap] = SIMD4(old.x + 1, old.y + wide, old.z + wide * wide, old.w)
    let higher = Double(positives - gap)
    row.weights[column] = V.Lane(isSquared ? -2 * (old.w - higher * wide) : -higher)
  }
  var (loss, active) = (0.0, 0.0)
  var below = SIMD4<Double>(0, 0, 0, 0)
  for index in 0..<positives {
    let threshold = widen(sorted[index])
    let gap = gaps[index]
    below = SIMD4(below.x + gap.x, below.y + gap.y, below.z + gap.z, 0)
    gaps[index] = below
    active += below.x
    let hinges = below.x * threshold - below.y
    loss += isSquared ? threshold * (hinges - below.y) + below.z : hinges
  }
  var taken = 0
  for column in 0..<row.count where row.labels[column] == row.label {
    if column == row.anchor {
      row.weights[column] = 0
      continue
    }
    let threshold = row.thresholds[taken]
    taken += 1
    let index = rankBelow(threshold, sorted, pivots, positives, as: V.self)
    let below = gaps[min(index, positives - 1)]
    row.weights[column] =
      threshold == threshold
      ? V.Lane(isSquared ? 2 * (below.x * widen(threshold) - below.y) : below.x) : .nan
  }
  return (loss < 0 ? 0 : loss, Int(active))
}

// MARK: Semi-hard

/// For each positive the nearest negative that is farther, or else the farthest; `sums` holds the nearest
/// negative of each gap and its column.
@inline(__always)
func semiHardTriplets<V: KernelVector>(
  _ row: TripletRow<V.Lane>, _ shape: TripletShape, _ margin: Double, as: V.Type
) -> (loss: Double, active: Int) {
  preparePivots(row, as: V.self)
  let (sorted, pivots) = (UnsafePointer(row.sorted), UnsafePointer(row.pivots))
  let positives = row.positives
  let (nearest, at) = (row.sums, row.sums + (positives + 1))
  for gap in 0...positives {
    nearest[gap] = .infinity
    at[gap] = -1
  }
  var (farthest, farthestAt) = (-1.0, -1)
  for column in 0..<row.count {
    row.weights[column] = 0
    guard row.labels[column] != row.label else { continue }
    let distance = row.distances[column]
    let gap = rankBelow(distance, sorted, pivots, positives, as: V.self)
    let wide = widen(distance)
    if at[gap] < 0 || wide < nearest[gap] {
      nearest[gap] = wide
      at[gap] = Double(column)
    }
    if farthestAt < 0 || wide > farthest { (farthest, farthestAt) = (wide, column) }
  }
  guard farthestAt >= 0 else { return (0, 0) }
  // The nearest from each gap on, the lowest column first among equals.
  var gap = positives - 1
  while gap >= 0 {
    let isBetter =
      at[gap + 1] >= 0
      && (at[gap] < 0 || nearest[gap + 1] < nearest[gap]
        || (nearest[gap + 1] == nearest[gap] && at[gap + 1] < at[gap]))
    if isBetter {
      nearest[gap] = nearest[gap + 1]
      at[gap] = at[gap + 1]
    }
    gap -= 1
  }
  var (loss, active) = (0.0, 0)
  for column in 0..<row.count where row.labels[column] == row.label && column != row.anchor {
    let distance = row.distances[column]
    let gap = rankUpTo(distance, sorted, pivots, positives, as: V.self)
    let isBeyond = at[gap] >= 0
    let negative = isBeyond ? Int(at[gap]) : farthestAt
    let cost = tripletCost(widen(distance) - (isBeyond ? nearest[gap] : farthest) + margin, shape)
    loss += cost.loss
    if cost.loss > 0 { active += 1 }
    row.weights[column] += V.Lane(cost.derivative)
    row.weights[negative] -= V.Lane(cost.derivative)
  }
  return (loss, active)
}

/// The triplet kernels of a vector type.
@inline(__always)
func tripletKernels<V: KernelVector>(of vector: V.Type) -> TripletKernels<V.Lane> {
  TripletKernels(
    given: { givenTriplets(&$0, as: vector) },
    terms: { tripletTerms($0, $1, $2, $3, $4, as: vector) },
    hardest: { hardest($0, $1, $2, $3, $4, as: vector) },
    thresholds: { tripletThresholds($0, $1, as: vector) },
    everyPair: { everyTriplet($0, $1, as: vector) },
    ranked: { rankedTriplets($0, $1, as: vector) },
    semiHard: { semiHardTriplets($0, $1, $2, as: vector) })
}
