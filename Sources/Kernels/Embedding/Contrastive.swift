import BatchLossFormulas
import BatchLossKernelInterface

// MARK: One row of a labelled batch

/// Distances → derivatives by squared distance, in place.
@inline(__always)
func contrastiveRow<V: KernelVector>(
  _ form: ContrastiveForm, _ row: UnsafeMutablePointer<V.Lane>, _ labels: UnsafePointer<V.Lane>,
  _ label: V.Lane, _ count: Int, as: V.Type
) -> (loss: Double, weightSum: Double, active: Int) {
  let zero = V(lane: 0)
  let label = V(lane: label)
  let (margin, positiveMargin) = (V(form.margin), V(form.positiveMargin))
  var (loss, weightSum, active) = (0.0, 0.0, 0)
  var start = 0
  while start < count {
    let end = min(start + 512, count)
    var (lossLanes, weightLanes, activeLanes) = (zero, zero, zero)
    var index = start
    while index < end {
      let distance = loadRest(UnsafePointer(row) + index, end - index, as: V.self)
      let isSimilar = loadRest(labels + index, end - index, as: V.self) .== label
      var (value, derivative): (V, V)
      if form.isLinear {
        let far = V.maximum(distance - positiveMargin, zero)
        let near = V.maximum(margin - distance, zero)
        value = near.replacing(with: far, where: isSimilar)
        derivative = zero.replacing(with: V(-1), where: zero .< near)
          .replacing(with: zero.replacing(with: V(1), where: zero .< far), where: isSimilar)
      } else {
        let hinge = V.maximum(margin - distance, zero).replacing(with: distance, where: isSimilar)
        value = V(0.5) * hinge * hinge
        derivative = (zero - hinge).replacing(with: hinge, where: isSimilar)
      }
      var chained: V
      switch form.distance {
      case .squared: chained = derivative
      case .cosine: chained = V(0.5) * derivative
      case .root:
        chained = (V(0.5) * derivative / distance).replacing(with: zero, where: distance .== zero)
      }
      if end - index < V.laneCount {
        let isInside = V.first(end - index)
        value = zero.replacing(with: value, where: isInside)
        chained = zero.replacing(with: chained, where: isInside)
      }
      storeRest(chained, row + index, end - index)
      lossLanes = lossLanes + value
      weightLanes = weightLanes + chained
      activeLanes = activeLanes.replacing(with: activeLanes + 1, where: zero .< value)
      index += V.laneCount
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

@inline(__always)
func contrastivePairs<V: KernelVector>(_ arguments: inout ContrastivePairsArguments<V.Lane>, as: V.Type) {
  let form = arguments.form
  let columns = arguments.columns
  for row in 0..<arguments.count {
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
    if let gradient = arguments.firstGradient {
      writeDifference(
        derivative * pair.difference, derivative * pair.own, x, y,
        gradient + row * arguments.firstGradientStride, columns, arguments.streams, derivative == 0,
        as: V.self)
    }
    if let gradient = arguments.secondGradient {
      writeDifference(
        derivative * pair.difference, derivative * pair.other, y, x,
        gradient + row * arguments.secondGradientStride, columns, arguments.streams, derivative == 0,
        as: V.self)
    }
  }
}

/// output = a·(x − y) + b·x, or zeros.
@inline(__always)
private func writeDifference<V: KernelVector>(
  _ a: Double, _ b: Double, _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>,
  _ output: UnsafeMutablePointer<V.Lane>, _ count: Int, _ streams: Bool, _ isZero: Bool, as: V.Type
) {
  let (a, b) = (V(a), V(b))
  let streams = streams && UInt(bitPattern: output) & 63 == 0
  var index = 0
  while index < count {
    let left = loadRest(x + index, count - index, as: V.self)
    let right = loadRest(y + index, count - index, as: V.self)
    let value = isZero ? V(lane: 0) : V.multiplyAdd(a, left - right, b * left)
    if count - index >= V.laneCount {
      value.store(output + index, streams: streams)
    } else {
      value.store(output + index, count: count - index)
    }
    index += V.laneCount
  }
}

/// The contrastive kernels of a vector type.
@inline(__always)
func contrastiveKernels<V: KernelVector>(of vector: V.Type) -> ContrastiveKernels<V.Lane> {
  ContrastiveKernels(
    pairs: { contrastivePairs(&$0, as: vector) },
    row: { contrastiveRow($0, $1, $2, $3, $4, as: vector) })
}
