import BatchLossFormulas
import BatchLossKernelInterface

/// The cost of u and its derivative, in float64.
@inline(__always)
func tripletCost(_ u: Double, _ shape: TripletShape) -> (loss: Double, derivative: Double) {
  switch shape {
  case .hinge: return u <= 0 ? (0, 0) : (u, 1)
  case .squaredHinge: return u <= 0 ? (0, 0) : (u * u, 2 * u)
  case .softplus:
    let lanes = SIMD8<Double>(repeating: u)
    return (SIMD8<Double>.softplus(lanes)[0], SIMD8<Double>.sigmoid(lanes)[0])
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
  let positive = pairDistance(squaredDistance(a, p, columns, as: V.self), aa, pp, form.distance)
  var negative = pairDistance(squaredDistance(a, n, columns, as: V.self), aa, nn, form.distance)
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

@inline(__always)
func givenTriplets<V: KernelVector>(_ arguments: inout TripletArguments<V.Lane>, as: V.Type) {
  let columns = arguments.columns
  for row in 0..<arguments.count {
    let a = arguments.anchors + row * arguments.anchorStride
    let p = arguments.positives + row * arguments.positiveStride
    let n = arguments.negatives + row * arguments.negativeStride
    let terms = tripletTerms(arguments.form, a, p, n, columns, as: V.self)
    let weight = arguments.weights?[row] ?? 1
    let loss = weight == 0 ? 0 : terms.loss * widen(weight)
    arguments.sum += loss
    if loss > 0 { arguments.active += 1 }
    if let losses = arguments.losses { losses[row] = V.Lane(loss) }
    guard
      arguments.anchorGradient != nil || arguments.positiveGradient != nil
        || arguments.negativeGradient != nil
    else { continue }

    let scale = weight == 0 ? 0 : widen(weight) * arguments.gradientScale
    let isSilent = weight == 0 || (terms.positiveDifference == 0 && terms.negativeDifference == 0)
    let near = V(terms.positiveDifference * scale)
    let far = V(terms.negativeDifference * scale)
    let (onAnchor, onPositive) = terms.isSwapped ? (V(0), far) : (far, V(0))
    let ownA = V((terms.anchorOwn + (terms.isSwapped ? 0 : terms.baseOwn)) * scale)
    let ownP = V((terms.positiveOwn + (terms.isSwapped ? terms.baseOwn : 0)) * scale)
    let ownN = V(terms.negativeOwn * scale)
    var index = 0
    while index < columns {
      let rest = columns - index
      let (x, y, z) = (
        loadRest(a + index, rest, as: V.self), loadRest(p + index, rest, as: V.self),
        loadRest(n + index, rest, as: V.self)
      )
      let toPositive = near * (x - y)
      let toNegative = onAnchor * (x - z)
      let swapped = onPositive * (y - z)
      write(
        V.multiplyAdd(ownA, x, toPositive + toNegative), arguments.anchorGradient, row, index, rest,
        arguments.streams, isSilent)
      write(
        V.multiplyAdd(ownP, y, swapped - toPositive), arguments.positiveGradient, row, index, rest,
        arguments.streams, isSilent)
      write(
        V.multiplyAdd(ownN, z, V(0) - toNegative - swapped), arguments.negativeGradient, row, index, rest,
        arguments.streams, isSilent)
      index += V.laneCount
    }
  }
}

@inline(__always)
private func write<V: KernelVector>(
  _ value: V, _ output: TripletArguments<V.Lane>.Output?, _ row: Int, _ index: Int, _ count: Int,
  _ streams: Bool, _ isSilent: Bool
) {
  guard let output else { return }
  let destination = output.base + (row * output.stride + index)
  let value = isSilent ? V(lane: 0) : value
  if count < V.laneCount {
    value.store(destination, count: count)
  } else {
    value.store(destination, streams: streams && UInt(bitPattern: destination) & 63 == 0)
  }
}

/// Lanes keep the extreme of their own columns, so the first of equal ones wins in each; then the lowest index.
@inline(__always)
func hardest<V: KernelVector>(
  _ distances: UnsafePointer<V.Lane>, _ labels: UnsafePointer<V.Lane>, _ label: V.Lane, _ count: Int,
  _ anchor: Int, as: V.Type
) -> (positive: Int, negative: Int) {
  let infinity = V(lane: .infinity)
  let label = V(lane: label)
  let own = V(lane: V.Lane(anchor))
  var (far, farAt, near, nearAt) = (V(lane: -1), V(lane: -1), infinity, V(lane: -1))
  var columns = V.ramp
  var index = 0
  while index < count {
    let rest = count - index
    let distance = loadRest(distances + index, rest, as: V.self)
    let isSame = loadRest(labels + index, rest, as: V.self) .== label
    var isPositive = isSame .& .!(columns .== own)
    var isNegative = .!isSame
    if rest < V.laneCount {
      isPositive = isPositive .& V.first(rest)
      isNegative = isNegative .& V.first(rest)
    }
    let isFarther = isPositive .& (far .< distance)
    far = far.replacing(with: distance, where: isFarther)
    farAt = farAt.replacing(with: columns, where: isFarther)
    let isNearer = isNegative .& ((distance .< near) .| (nearAt .< V(lane: 0)))
    near = near.replacing(with: distance, where: isNearer)
    nearAt = nearAt.replacing(with: columns, where: isNearer)
    columns = columns + V(lane: V.Lane(V.laneCount))
    index += V.laneCount
  }
  var (positive, negative) = (-1, -1)
  var (largest, smallest) = (V.Lane(-1), V.Lane.infinity)
  for lane in 0..<V.laneCount {
    if farAt[lane] >= 0 {
      let column = Int(widen(farAt[lane]))
      if positive < 0 || far[lane] > largest || (far[lane] == largest && column < positive) {
        (positive, largest) = (column, far[lane])
      }
    }
    if nearAt[lane] >= 0 {
      let column = Int(widen(nearAt[lane]))
      if negative < 0 || near[lane] < smallest || (near[lane] == smallest && column < negative) {
        (negative, smallest) = (column, near[lane])
      }
    }
  }
  return (positive, negative)
}
