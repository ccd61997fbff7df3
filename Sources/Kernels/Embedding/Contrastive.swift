import BatchLossFormulas
import BatchLossKernelInterface

// MARK: A tile of a labelled batch

/// Distances or their squares → derivatives by squared distance, in place.
@inline(__always)
func contrastiveTile<V: KernelVector>(_ tile: ContrastiveTile<V.Lane>, as: V.Type) {
  if tile.form.isLinear { return linearTile(tile, as: V.self) }
  switch tile.form.distance {
  case .root: quadraticRootTile(tile, as: V.self)
  case .squared: quadraticTile(tile, 1, as: V.self)
  case .cosine: quadraticTile(tile, 0.5, as: V.self)
  }
}

@inline(never)
private func quadraticRootTile<V: KernelVector>(_ tile: ContrastiveTile<V.Lane>, as: V.Type) {
  let (zero, half, minusHalf, margin) = (V(lane: 0), V(0.5), V(-0.5), V(tile.form.margin))
  @inline(__always)
  func cost(_ square: V, _ isSimilar: V.Mask) -> (V, V) {
    let (distance, inverse) = V.roots(of: square)
    let gap = V.maximum(margin - distance, zero)
    let hinge = gap.replacing(with: distance, where: isSimilar)
    // ½·(−gap)/d, and ½·d/d for similar pairs.
    let far = (minusHalf * gap * inverse).replacing(with: half, where: isSimilar)
    return (half * hinge * hinge, far.replacing(with: zero, where: square .== zero))
  }
  contrastiveTile(tile, as: V.self, cost)
}

@inline(never)
private func quadraticTile<V: KernelVector>(_ tile: ContrastiveTile<V.Lane>, _ chain: Double, as: V.Type) {
  let (zero, half, margin, chain) = (V(lane: 0), V(0.5), V(tile.form.margin), V(chain))
  @inline(__always)
  func cost(_ distance: V, _ isSimilar: V.Mask) -> (V, V) {
    let gap = V.maximum(margin - distance, zero)
    let hinge = gap.replacing(with: distance, where: isSimilar)
    return (half * hinge * hinge, chain * (zero - gap).replacing(with: distance, where: isSimilar))
  }
  contrastiveTile(tile, as: V.self, cost)
}

@inline(never)
private func linearTile<V: KernelVector>(_ tile: ContrastiveTile<V.Lane>, as: V.Type) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let (margin, positiveMargin) = (V(tile.form.margin), V(tile.form.positiveMargin))
  let form = tile.form.distance
  @inline(__always)
  func cost(_ value: V, _ isSimilar: V.Mask) -> (V, V) {
    let distance: V
    let chain: V
    switch form {
    case .root:
      let inverse: V
      (distance, inverse) = V.roots(of: value)
      chain = V(0.5) * inverse
    case .squared: (distance, chain) = (value, one)
    case .cosine: (distance, chain) = (value, V(0.5))
    }
    let far = V.maximum(distance - positiveMargin, zero)
    let near = V.maximum(margin - distance, zero)
    let derivative = zero.replacing(with: zero - one, where: zero .< near)
      .replacing(with: zero.replacing(with: one, where: zero .< far), where: isSimilar)
    return (near.replacing(with: far, where: isSimilar), derivative * chain)
  }
  contrastiveTile(tile, as: V.self, cost)
}

/// Two rows at a time, which share their labels and the sums of columns.
@inline(__always)
private func contrastiveTile<V: KernelVector>(
  _ tile: ContrastiveTile<V.Lane>, as: V.Type, _ cost: (_ value: V, _ isSimilar: V.Mask) -> (V, V)
) {
  var row = 0
  while row + 2 <= tile.rows {
    contrastiveRows(row, count: 2, tile, as: V.self, cost)
    row += 2
  }
  if row < tile.rows { contrastiveRows(row, count: 1, tile, as: V.self, cost) }
}

@inline(__always)
private func contrastiveRows<V: KernelVector>(
  _ row: Int, count: Int, _ tile: ContrastiveTile<V.Lane>, as: V.Type, _ cost: (V, V.Mask) -> (V, V)
) {
  let labels = tile.columnLabels
  let first = tile.values + row * tile.stride
  let second = count == 2 ? first + tile.stride : first
  let (firstLabel, secondLabel) = (V(lane: tile.rowLabels[row]), V(lane: tile.rowLabels[row + count - 1]))
  var start = 0
  while start < tile.columns {
    let end = min(start + 512, tile.columns)
    let whole = start + ((end - start) & -V.laneCount)
    var (firstSums, secondSums) = (ContrastiveLanes<V>(), ContrastiveLanes<V>())
    var index = start
    while index < whole {
      let label = V.load(labels + index)
      var (loss, weight) = cost(V.load(UnsafePointer(first) + index), label .== firstLabel)
      weight.store(first + index)
      firstSums.add(loss, weight)
      if count == 2 {
        let (other, otherWeight) = cost(V.load(UnsafePointer(second) + index), label .== secondLabel)
        otherWeight.store(second + index)
        secondSums.add(other, otherWeight)
        (loss, weight) = (loss + other, weight + otherWeight)
      }
      if let weights = tile.columnWeights, let losses = tile.columnLosses {
        (V.load(UnsafePointer(weights) + index) + weight).store(weights + index)
        (V.load(UnsafePointer(losses) + index) + loss).store(losses + index)
      }
      index += V.laneCount
    }
    if whole < end {
      let rest = end - whole
      let (zero, isInside, label) = (V(lane: 0), V.first(rest), V.load(labels + whole, count: rest))
      @inline(__always)
      func part(_ values: UnsafeMutablePointer<V.Lane>, _ isSimilar: V.Mask, _ sums: inout ContrastiveLanes<V>) -> (
        V, V
      ) {
        var (loss, weight) = cost(V.load(UnsafePointer(values) + whole, count: rest, padding: 1), isSimilar)
        loss = zero.replacing(with: loss, where: isInside)
        weight = zero.replacing(with: weight, where: isInside)
        weight.store(values + whole, count: rest)
        sums.add(loss, weight)
        return (loss, weight)
      }
      var (loss, weight) = part(first, label .== firstLabel, &firstSums)
      if count == 2 {
        let (other, otherWeight) = part(second, label .== secondLabel, &secondSums)
        (loss, weight) = (loss + other, weight + otherWeight)
      }
      if let weights = tile.columnWeights, let losses = tile.columnLosses {
        (V.load(UnsafePointer(weights) + whole, count: rest) + weight).store(weights + whole, count: rest)
        (V.load(UnsafePointer(losses) + whole, count: rest) + loss).store(losses + whole, count: rest)
      }
    }
    // A pair counts for both of its rows.
    let sides = tile.columnWeights == nil ? 1 : 2
    firstSums.add(to: &tile.rowSums[row], sides)
    if count == 2 { secondSums.add(to: &tile.rowSums[row + 1], sides) }
    start = end
  }
}

/// The sums of a row, by lanes.
private struct ContrastiveLanes<V: KernelVector> {
  var loss = V(lane: 0)
  var weight = V(lane: 0)
  var active = V(lane: 0)

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func add(_ loss: V, _ weight: V) {
    self.loss = self.loss + loss
    self.weight = self.weight + weight
    let zero = V(lane: 0)
    active = active + zero.replacing(with: V(lane: 1), where: zero .< loss)
  }

  @inline(__always)
  func add(to sums: inout ContrastiveSums, _ sides: Int) {
    sums.loss += loss.total
    sums.weight += weight.total
    sums.active += sides * Int(active.total)
  }
}

// MARK: Given pairs

/// The distance d of two rows from sums over their elements, and how its gradient is made of them:
/// ∂d/∂x = difference·(x − y) + own·x, ∂d/∂y = difference·(y − x) + other·y.
@inline(__always)
func pairDistance(
  _ square: Double, _ xx: Double, _ yy: Double, _ form: PairDistanceForm
) -> (distance: Double, difference: Double, own: Double, other: Double) {
  switch form {
  case .squared: return (square, 2, 0, 0)
  case .root:
    let distance = square.squareRoot()
    return (distance, distance == 0 ? 0 : 1 / distance, 0, 0)
  case .cosine:
    if xx == 0 || yy == 0 { return (1, 0, 0, 0) }
    // 1 − cos = (‖x − y‖² − (‖x‖ − ‖y‖)²) / (2‖x‖‖y‖), which does not cancel for x near y.
    let (x, y) = (xx.squareRoot(), yy.squareRoot())
    let inverse = 1 / (x * y)
    let gap = x - y
    let rest = square - gap * gap
    let distance = (rest < 0 ? 0 : rest) * 0.5 * inverse
    // −∂cos/∂x = (cos·x/‖x‖ − y/‖y‖)/‖x‖ = (x − y)/(‖x‖‖y‖) + (cos/‖x‖² − 1/(‖x‖‖y‖))·x
    let cosine = 1 - distance
    return (distance, inverse, cosine / xx - inverse, cosine / yy - inverse)
  }
}

/// The gradient of a row is written a few rows after its loss: the loads of the next rows go on while the distance of
/// this one waits for its last sum, root and quotient.
@inline(__always)
func contrastivePairs<V: KernelVector>(_ arguments: inout ContrastivePairsArguments<V.Lane>, as: V.Type) {
  let columns = arguments.columns
  let wantsGradient = arguments.firstGradient != nil || arguments.secondGradient != nil
  for step in 0..<arguments.count + rowsAhead {
    if step < arguments.count { contrastivePair(step, &arguments, as: V.self) }
    let row = step - rowsAhead
    guard wantsGradient && row >= 0 else { continue }
    let x = arguments.first + row * arguments.firstStride
    let y = arguments.second + row * arguments.secondStride
    let slopes = arguments.slopes + 3 * row
    writePair(
      slopes[0], slopes[1], slopes[2], x, y, columns,
      advance(arguments.firstGradient, row * arguments.firstGradientStride),
      advance(arguments.secondGradient, row * arguments.secondGradientStride), arguments.streams, as: V.self)
  }
}

/// Rows between the loss and the gradient of a row.
let rowsAhead = 2

/// The loss of a pair, and its derivative as factors of differences and rows into `slopes`.
@inline(__always)
private func contrastivePair<V: KernelVector>(
  _ row: Int, _ arguments: inout ContrastivePairsArguments<V.Lane>, as: V.Type
) {
  let (form, columns) = (arguments.form, arguments.columns)
  let x = arguments.first + row * arguments.firstStride
  let y = arguments.second + row * arguments.secondStride
  let square = squaredDistance(x, y, columns, as: V.self)
  var (xx, yy) = (0.0, 0.0)
  if case .cosine = form.distance {
    xx = dot(x, x, columns, as: V.self)
    yy = dot(y, y, columns, as: V.self)
  }
  let pair = pairDistance(square, xx, yy, form.distance)
  var (loss, derivative): (Double, Double)
  if arguments.isSimilar[row] != 0 {
    let far = pair.distance - (form.isLinear ? form.positiveMargin : 0)
    loss = form.isLinear ? (far > 0 ? far : far == far ? 0 : far) : 0.5 * far * far
    derivative = form.isLinear ? (far > 0 ? 1 : 0) : far
  } else {
    let gap = form.margin - pair.distance
    let near = gap < 0 ? 0 : gap
    loss = form.isLinear ? near : 0.5 * near * near
    derivative = form.isLinear ? (near > 0 ? -1 : 0) : -near
  }
  let weight = arguments.weights?[row] ?? 1
  loss = weight == 0 ? 0 : loss * widen(weight)
  derivative = weight == 0 ? 0 : derivative * widen(weight) * arguments.gradientScale
  arguments.sum += loss
  if loss > 0 { arguments.active += 1 }
  if let losses = arguments.losses { losses[row] = V.Lane(loss) }
  let slopes = arguments.slopes + 3 * row
  // A zero derivative stays zero even where a factor of the distance is infinite.
  slopes[0] = derivative == 0 ? 0 : derivative * pair.difference
  slopes[1] = derivative == 0 ? 0 : derivative * pair.own
  slopes[2] = derivative == 0 ? 0 : derivative * pair.other
}

/// first = a·(x − y) + b·x, second = a·(y − x) + c·y; zeros where all factors are 0.
@inline(__always)
private func writePair<V: KernelVector>(
  _ a: Double, _ b: Double, _ c: Double, _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>, _ count: Int,
  _ first: UnsafeMutablePointer<V.Lane>?, _ second: UnsafeMutablePointer<V.Lane>?, _ streams: Bool, as: V.Type
) {
  let isZero = a == 0 && b == 0 && c == 0
  let (a, b, c, zero) = (V(a), V(b), V(c), V(lane: 0))
  let whole = count & -V.laneCount
  let rest = count - whole
  if let first {
    let streams = streams && UInt(bitPattern: first) & 63 == 0
    var index = 0
    while index < whole {
      let (left, right) = (V.load(x + index), V.load(y + index))
      let value = isZero ? zero : V.multiplyAdd(a, left - right, b * left)
      value.store(first + index, streams: streams)
      index += V.laneCount
    }
    if rest > 0 {
      let (left, right) = (V.load(x + whole, count: rest), V.load(y + whole, count: rest))
      let value = isZero ? zero : V.multiplyAdd(a, left - right, b * left)
      value.store(first + whole, count: rest)
    }
  }
  if let second {
    let streams = streams && UInt(bitPattern: second) & 63 == 0
    var index = 0
    while index < whole {
      let (left, right) = (V.load(x + index), V.load(y + index))
      let value = isZero ? zero : V.multiplyAdd(a, right - left, c * right)
      value.store(second + index, streams: streams)
      index += V.laneCount
    }
    if rest > 0 {
      let (left, right) = (V.load(x + whole, count: rest), V.load(y + whole, count: rest))
      let value = isZero ? zero : V.multiplyAdd(a, right - left, c * right)
      value.store(second + whole, count: rest)
    }
  }
}

/// The contrastive kernels of a vector type.
@inline(__always)
func contrastiveKernels<V: KernelVector>(of vector: V.Type) -> ContrastiveKernels<V.Lane> {
  ContrastiveKernels(
    pairs: { contrastivePairs(&$0, as: vector) },
    tile: { contrastiveTile($0, as: vector) })
}
