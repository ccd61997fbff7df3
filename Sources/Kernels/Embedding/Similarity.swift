import BatchLossFormulas
import BatchLossKernelInterface

/// Elements between two transfers of lane sums to float64.
private let flushInterval = 512

/// Calls `body` with every vector of a row: index, lanes left, and which lanes are selected.
@inline(__always)
private func forEachVector<V: KernelVector>(
  _ count: Int, _ selection: ColumnSelection<V.Lane>, as: V.Type, flush: () -> Void,
  _ body: (_ index: Int, _ rest: Int, _ isSelected: V.Mask) -> Void
) {
  let (label, excluded) = (V(lane: selection.label), V(lane: V.Lane(selection.excluded)))
  // A switch, since `==` of an enumeration is a call; and no choice between masks, which are taken apart for it.
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let wanted: V
  let hasLabels: Bool
  switch selection.kind {
  case .all: (hasLabels, wanted) = (false, zero)
  case .same: (hasLabels, wanted) = (true, one)
  case .different: (hasLabels, wanted) = (true, zero)
  }
  var columns = V.ramp
  let step = V(lane: V.Lane(V.laneCount))
  var start = 0
  while start < count {
    let end = min(start + flushInterval, count)
    var index = start
    while index < end {
      let rest = count - index
      var isSelected = .!(columns .== excluded)
      if hasLabels, let labels = selection.labels {
        let isSame = loadRest(labels + index, rest, as: V.self) .== label
        isSelected = isSelected .& (zero.replacing(with: one, where: isSame) .== wanted)
      }
      if rest < V.laneCount { isSelected = isSelected .& V.first(rest) }
      body(index, rest, isSelected)
      columns = columns + step
      index += V.laneCount
    }
    flush()
    start = end
  }
}

@inline(never)
func largestSimilarity<V: KernelVector>(
  _ row: UnsafePointer<V.Lane>, _ count: Int, _ a: V.Lane, _ selection: ColumnSelection<V.Lane>, as: V.Type
) -> V.Lane {
  let lowest = V(lane: -.infinity)
  let a = V(lane: a)
  var largest = lowest
  forEachVector(count, selection, as: V.self, flush: {}) { index, rest, isSelected in
    let value = lowest.replacing(with: a * loadRest(row + index, rest, as: V.self), where: isSelected)
    largest = V.maximum(largest, value)
  }
  return largest.largest
}

@inline(never)
func exponentials<V: KernelVector>(
  _ row: UnsafePointer<V.Lane>, _ count: Int, _ a: V.Lane, _ shift: V.Lane,
  _ selection: ColumnSelection<V.Lane>, _ output: UnsafeMutablePointer<V.Lane>, as: V.Type
) -> (sum: Double, weighted: Double) {
  let zero = V(lane: 0)
  let (a, shift) = (V(lane: a), V(lane: shift))
  var (total, weighted) = (0.0, 0.0)
  var (lanes, products) = (zero, zero)
  forEachVector(
    count, selection, as: V.self,
    flush: {
      total += lanes.total
      weighted += products.total
      (lanes, products) = (zero, zero)
    }
  ) { index, rest, isSelected in
    let similarity = loadRest(row + index, rest, as: V.self)
    let power = zero.replacing(with: V.exp(nonPositive: a * similarity - shift), where: isSelected)
    storeRest(power, output + index, rest)
    lanes = lanes + power
    products = products + zero.replacing(with: power * similarity, where: isSelected)
  }
  return (total, weighted)
}

@inline(never)
func similaritySum<V: KernelVector>(
  _ row: UnsafePointer<V.Lane>, _ count: Int, _ selection: ColumnSelection<V.Lane>, as: V.Type
) -> (count: Int, sum: Double) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  var (total, found) = (0.0, 0.0)
  var (lanes, ones) = (zero, zero)
  forEachVector(
    count, selection, as: V.self,
    flush: {
      total += lanes.total
      found += ones.total
      (lanes, ones) = (zero, zero)
    }
  ) { index, rest, isSelected in
    lanes = lanes + zero.replacing(with: loadRest(row + index, rest, as: V.self), where: isSelected)
    ones = ones + zero.replacing(with: one, where: isSelected)
  }
  return (Int(found), total)
}

@inline(never)
func scaleAddSelected<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ count: Int, _ factor: V.Lane, _ addend: V.Lane,
  _ selection: ColumnSelection<V.Lane>, as: V.Type
) {
  let (factor, addend) = (V(lane: factor), V(lane: addend))
  forEachVector(count, selection, as: V.self, flush: {}) { index, rest, isSelected in
    let scaled = factor * loadRest(UnsafePointer(row) + index, rest, as: V.self)
    storeRest(scaled.replacing(with: scaled + addend, where: isSelected), row + index, rest)
  }
}

@inline(never)
func softplusSelected<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ count: Int, _ a: V.Lane, _ shift: V.Lane,
  _ selection: ColumnSelection<V.Lane>, as: V.Type
) -> (loss: Double, weight: Double, weighted: Double) {
  let zero = V(lane: 0)
  let (a, shift) = (V(lane: a), V(lane: shift))
  var (loss, weight, weighted) = (0.0, 0.0, 0.0)
  var (losses, weights, products) = (zero, zero, zero)
  forEachVector(
    count, selection, as: V.self,
    flush: {
      loss += losses.total
      weight += weights.total
      weighted += products.total
      (losses, weights, products) = (zero, zero, zero)
    }
  ) { index, rest, isSelected in
    let similarity = loadRest(UnsafePointer(row) + index, rest, as: V.self)
    let u = shift - a * similarity
    let slope = zero - V.sigmoid(u)
    storeRest(zero.replacing(with: slope, where: isSelected), row + index, rest)
    losses = losses + zero.replacing(with: V.softplus(u), where: isSelected)
    weights = weights + zero.replacing(with: slope, where: isSelected)
    products = products + zero.replacing(with: slope * similarity, where: isSelected)
  }
  return (loss, weight, weighted)
}

@inline(never)
func sigmoidRow<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ count: Int, _ a: V.Lane, _ b: V.Lane, _ positive: Int, as: V.Type
) -> (loss: Double, weight: Double, weighted: Double) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let (a, b) = (V(lane: a), V(lane: b))
  var (loss, weight, weighted) = (0.0, 0.0, 0.0)
  var (losses, weights, products) = (zero, zero, zero)
  // Every column but the positive one is selected.
  forEachVector(
    count, ColumnSelection(.all, excluded: positive), as: V.self,
    flush: {
      loss += losses.total
      weight += weights.total
      weighted += products.total
      (losses, weights, products) = (zero, zero, zero)
    }
  ) { index, rest, isNegative in
    let similarity = loadRest(UnsafePointer(row) + index, rest, as: V.self)
    let logit = V.multiplyAdd(a, similarity, b)
    let sign = (zero - one).replacing(with: one, where: isNegative)
    let u = sign * logit
    var value = V.softplus(u)
    var slope = sign * V.sigmoid(u)
    if rest < V.laneCount {
      value = zero.replacing(with: value, where: V.first(rest))
      slope = zero.replacing(with: slope, where: V.first(rest))
    }
    storeRest(slope, row + index, rest)
    losses = losses + value
    weights = weights + slope
    products = products + slope * similarity
  }
  return (loss, weight, weighted)
}

// MARK: Rows and columns at once

@inline(never)
func scaleByRowAndColumn<V: KernelVector>(
  _ row: UnsafePointer<V.Lane>, _ count: Int, _ own: V.Lane, _ others: UnsafePointer<V.Lane>,
  _ labels: UnsafePointer<V.Lane>?, _ label: V.Lane, _ addend: V.Lane, _ output: UnsafeMutablePointer<V.Lane>,
  as: V.Type
) {
  let (zero, own) = (V(lane: 0), V(lane: own))
  let whole = count & -V.laneCount
  let rest = count - whole
  if let labels {
    let (label, addend) = (V(lane: label), V(lane: addend))
    var index = 0
    while index < whole {
      let added = zero.replacing(with: addend, where: V.load(labels + index) .== label)
      V.multiplyAdd(V.load(row + index), own + V.load(others + index), added).store(output + index)
      index += V.laneCount
    }
    if rest > 0 {
      let added = zero.replacing(with: addend, where: V.load(labels + whole, count: rest) .== label)
      let factor = own + V.load(others + whole, count: rest)
      V.multiplyAdd(V.load(row + whole, count: rest), factor, added).store(output + whole, count: rest)
    }
  } else {
    var index = 0
    while index < whole {
      (V.load(row + index) * (own + V.load(others + index))).store(output + index)
      index += V.laneCount
    }
    if rest > 0 {
      let factor = own + V.load(others + whole, count: rest)
      (V.load(row + whole, count: rest) * factor).store(output + whole, count: rest)
    }
  }
}

/// Lanes are columns. Eight rows are looked at before the maxima move, so that old sums are rescaled seldom.
@inline(never)
func columnExponentials<V: KernelVector>(
  _ matrix: UnsafePointer<V.Lane>, _ rows: Int, _ stride: Int, _ count: Int, _ a: V.Lane,
  _ maxima: UnsafeMutablePointer<V.Lane>, _ sums: UnsafeMutablePointer<Double>, as: V.Type
) {
  let a = V(lane: a)
  var start = 0
  while start < rows {
    let end = min(start + 32, rows)
    var column = 0
    while column < count {
      let rest = count - column
      let old = loadRest(UnsafePointer(maxima) + column, rest, as: V.self)
      var largest = old
      for row in start..<end {
        largest = V.maximum(largest, a * loadRest(matrix + (row * stride + column), rest, as: V.self))
      }
      var sum = V(lane: 0)
      for row in start..<end {
        sum = sum + V.exp(nonPositive: a * loadRest(matrix + (row * stride + column), rest, as: V.self) - largest)
      }
      // The first rows of all: nothing to rescale, and −∞ − −∞ is no number.
      let factor = V.exp(nonPositive: old - largest)
        .replacing(with: V(lane: 0), where: old .== V(lane: -.infinity))
      for lane in 0..<min(rest, V.laneCount) {
        sums[column + lane] = sums[column + lane] * widen(factor[lane]) + widen(sum[lane])
      }
      storeRest(largest, maxima + column, rest)
      column += V.laneCount
    }
    start = end
  }
}

@inline(never)
func rowAndColumnProbabilities<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ count: Int, _ a: V.Lane, _ rowShift: V.Lane,
  _ shifts: UnsafePointer<V.Lane>, as: V.Type
) -> Double {
  let (a, rowShift, zero) = (V(lane: a), V(lane: rowShift), V(lane: 0))
  var weighted = 0.0
  var start = 0
  while start < count {
    let end = min(start + flushInterval, count)
    var products = zero
    var index = start
    while index < end {
      let rest = count - index
      let similarity = loadRest(UnsafePointer(row) + index, rest, as: V.self)
      let logit = a * similarity
      var both =
        V.exp(nonPositive: logit - rowShift)
        + V.exp(nonPositive: logit - loadRest(shifts + index, rest, as: V.self))
      if rest < V.laneCount { both = zero.replacing(with: both, where: V.first(rest)) }
      storeRest(both, row + index, rest)
      products = products + both * similarity
      index += V.laneCount
    }
    weighted += products.total
    start = end
  }
  return weighted
}

/// The similarity kernels of a vector type.
@inline(__always)
func similarityKernels<V: KernelVector>(of vector: V.Type) -> SimilarityKernels<V.Lane> {
  SimilarityKernels(
    largest: { largestSimilarity($0, $1, $2, $3, as: vector) },
    exponentials: { exponentials($0, $1, $2, $3, $4, $5, as: vector) },
    sum: { similaritySum($0, $1, $2, as: vector) },
    scaleAdd: { scaleAddSelected($0, $1, $2, $3, $4, as: vector) },
    softplus: { softplusSelected($0, $1, $2, $3, $4, as: vector) },
    sigmoid: { sigmoidRow($0, $1, $2, $3, $4, as: vector) },
    columns: { columnExponentials($0, $1, $2, $3, $4, $5, $6, as: vector) },
    probabilities: { rowAndColumnProbabilities($0, $1, $2, $3, $4, as: vector) },
    exponentialTile: { exponentialTile($0, as: vector) },
    scaleByRowAndColumn: { scaleByRowAndColumn($0, $1, $2, $3, $4, $5, $6, $7, as: vector) })
}
