import BatchLossFormulas
import BatchLossKernelInterface

// MARK: One row of a labelled batch

/// Distances → derivatives by squared distance, in place.
@inline(__always)
func contrastiveRow<V: KernelVector>(_ arguments: ContrastiveRowArguments<V.Lane>, as: V.Type) -> (
  loss: Double, weightSum: Double, active: Int
) {
  if arguments.form.isLinear { return linearRow(arguments, as: V.self) }
  switch arguments.form.distance {
  case .root: return quadraticRootRow(arguments, as: V.self)
  case .squared: return quadraticRow(arguments, 1, as: V.self)
  case .cosine: return quadraticRow(arguments, 0.5, as: V.self)
  }
}

@inline(never)
private func quadraticRootRow<V: KernelVector>(
  _ arguments: ContrastiveRowArguments<V.Lane>, as: V.Type
) -> (loss: Double, weightSum: Double, active: Int) {
  let (zero, half, margin) = (V(lane: 0), V(0.5), V(arguments.form.margin))
  @inline(__always)
  func cost(_ distance: V, _ isSimilar: V.Mask) -> (V, V) {
    let gap = V.maximum(margin - distance, zero)
    let hinge = gap.replacing(with: distance, where: isSimilar)
    // ½·(−gap)/d, and ½·d/d for similar pairs.
    let far = (zero - half * gap / distance).replacing(with: half, where: isSimilar)
    return (half * hinge * hinge, far.replacing(with: zero, where: distance .== zero))
  }
  return contrastiveRow(arguments, as: V.self, cost)
}

@inline(never)
private func quadraticRow<V: KernelVector>(
  _ arguments: ContrastiveRowArguments<V.Lane>, _ chain: Double, as: V.Type
) -> (loss: Double, weightSum: Double, active: Int) {
  let (zero, half, margin, chain) = (V(lane: 0), V(0.5), V(arguments.form.margin), V(chain))
  @inline(__always)
  func cost(_ distance: V, _ isSimilar: V.Mask) -> (V, V) {
    let gap = V.maximum(margin - distance, zero)
    let hinge = gap.replacing(with: distance, where: isSimilar)
    return (half * hinge * hinge, chain * (zero - gap).replacing(with: distance, where: isSimilar))
  }
  return contrastiveRow(arguments, as: V.self, cost)
}

@inline(never)
private func linearRow<V: KernelVector>(
  _ arguments: ContrastiveRowArguments<V.Lane>, as: V.Type
) -> (loss: Double, weightSum: Double, active: Int) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let (margin, positiveMargin) = (V(arguments.form.margin), V(arguments.form.positiveMargin))
  let form: DistanceForm
  switch arguments.form.distance {
  case .root: form = .root
  case .squared: form = .squared
  case .cosine: form = .half
  }
  @inline(__always)
  func cost(_ distance: V, _ isSimilar: V.Mask) -> (V, V) {
    let far = V.maximum(distance - positiveMargin, zero)
    let near = V.maximum(margin - distance, zero)
    let derivative = zero.replacing(with: zero - one, where: zero .< near)
      .replacing(with: zero.replacing(with: one, where: zero .< far), where: isSimilar)
    return (near.replacing(with: far, where: isSimilar), chainDistance(derivative, distance, form))
  }
  return contrastiveRow(arguments, as: V.self, cost)
}

@inline(__always)
private func contrastiveRow<V: KernelVector>(
  _ arguments: ContrastiveRowArguments<V.Lane>, as: V.Type, _ cost: (V, V.Mask) -> (V, V)
) -> (loss: Double, weightSum: Double, active: Int) {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let (row, labels, count) = (arguments.row, arguments.labels, arguments.count)
  let label = V(lane: arguments.label)
  var (loss, weightSum, active) = (0.0, 0.0, 0)
  var start = 0
  while start < count {
    let end = min(start + 512, count)
    let whole = start + ((end - start) & -V.laneCount)
    var (lossLanes, weightLanes, activeLanes) = (zero, zero, zero)
    @inline(__always)
    func add(_ value: V, _ chained: V) {
      lossLanes = lossLanes + value
      weightLanes = weightLanes + chained
      activeLanes = activeLanes + zero.replacing(with: one, where: zero .< value)
    }
    var index = start
    while index < whole {
      let (value, chained) = cost(V.load(UnsafePointer(row) + index), V.load(labels + index) .== label)
      chained.store(row + index)
      add(value, chained)
      if let weights = arguments.columnWeights, let losses = arguments.columnLosses {
        (V.load(UnsafePointer(weights) + index) + chained).store(weights + index)
        (V.load(UnsafePointer(losses) + index) + value).store(losses + index)
      }
      index += V.laneCount
    }
    if whole < end {
      let rest = end - whole
      var (value, chained) = cost(
        V.load(UnsafePointer(row) + whole, count: rest, padding: 1),
        V.load(labels + whole, count: rest) .== label)
      let isInside = V.first(rest)
      value = zero.replacing(with: value, where: isInside)
      chained = zero.replacing(with: chained, where: isInside)
      chained.store(row + whole, count: rest)
      add(value, chained)
      if let weights = arguments.columnWeights, let losses = arguments.columnLosses {
        (V.load(UnsafePointer(weights) + whole, count: rest) + chained).store(weights + whole, count: rest)
        (V.load(UnsafePointer(losses) + whole, count: rest) + value).store(losses + whole, count: rest)
      }
    }
    loss += lossLanes.total
    weightSum += weightLanes.total
    active += Int(activeLanes.total)
    start = end
  }
  return (loss, weightSum, active)
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
let rowsAhead = 4

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
    row: { contrastiveRow($0, as: vector) })
}
