import BatchLossFormulas
import BatchLossKernelInterface

/// Below this part of ‖x‖² + ‖y‖² the difference ‖x‖² + ‖y‖² − 2x·y has lost four bits or more.
private let cancellation = 0x1p-4

/// Elements between two looks for cancelled pairs.
private let chunk = 128

/// x·yⱼ → distance, in place, with a list of the columns to compute again from the rows themselves.
@inline(__always)
func distancesFromProducts<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ squaredNorms: UnsafePointer<V.Lane>, _ squaredNorm: V.Lane,
  _ count: Int, _ form: DistanceForm, _ cancelled: UnsafeMutablePointer<Int32>, as: V.Type
) -> Int {
  let (zero, one) = (V(lane: 0), V(lane: 1))
  let (norm, part) = (V(lane: squaredNorm), V(cancellation))
  // Switches, since `==` of an enumeration is a call.
  let (isSquared, isRoot): (Bool, Bool)
  switch form {
  case .squared: (isSquared, isRoot) = (true, false)
  case .root: (isSquared, isRoot) = (false, true)
  case .half: (isSquared, isRoot) = (false, false)
  }
  var found = 0
  var start = 0
  while start < count {
    let end = min(start + chunk, count)
    var flags = zero
    var index = start
    while index < end {
      let scale = norm + loadRest(squaredNorms + index, end - index, as: V.self)
      let product = loadRest(UnsafePointer(row) + index, end - index, as: V.self)
      let squared = V.maximum(scale - (product + product), zero)
      flags = flags.replacing(with: one, where: squared .< part * scale)
      storeRest(squared, row + index, end - index)
      index += V.laneCount
    }
    if flags.largest > 0 {
      for column in start..<end
      where row[column] < V.Lane(cancellation) * (squaredNorm + squaredNorms[column]) {
        cancelled[found] = Int32(truncatingIfNeeded: column)
        found += 1
      }
    }
    if !isSquared {
      index = start
      while index < end {
        let squared = loadRest(UnsafePointer(row) + index, end - index, as: V.self)
        let distance = isRoot ? squared.squareRoot() : squared * V(0.5)
        storeRest(distance, row + index, end - index)
        index += V.laneCount
      }
    }
    start = end
  }
  return found
}

/// ∂/∂d → ∂/∂‖x − y‖²: 1/(2d) for the root, 0 at d = 0.
@inline(__always)
func chainDistance<V: KernelVector>(_ weight: V, _ distance: V, _ form: DistanceForm) -> V {
  switch form {
  case .squared: return weight
  case .half: return weight * V(0.5)
  case .root:
    let zero = V(lane: 0)
    return (V(0.5) * weight / distance).replacing(with: zero, where: distance .== zero)
  }
}

@inline(__always)
func chainDistances<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ weights: UnsafePointer<V.Lane>, _ count: Int, _ form: DistanceForm,
  as: V.Type
) -> Double {
  var total = 0.0
  var start = 0
  while start < count {
    let end = min(start + 512, count)
    var sum = V(lane: 0)
    var index = start
    while index < end {
      let distance = loadRest(UnsafePointer(row) + index, end - index, as: V.self)
      let weight = loadRest(weights + index, end - index, as: V.self)
      let chained = chainDistance(weight, distance, form)
      storeRest(chained, row + index, end - index)
      sum =
        sum
        + (end - index < V.laneCount
          ? V(lane: 0).replacing(with: chained, where: V.first(end - index)) : chained)
      index += V.laneCount
    }
    total += sum.total
    start = end
  }
  return total
}

/// The distance kernels of a vector type.
@inline(__always)
func distanceKernels<V: KernelVector>(of vector: V.Type) -> DistanceKernels<V.Lane> {
  DistanceKernels(
    fromProducts: { distancesFromProducts($0, $1, $2, $3, $4, $5, as: vector) },
    chain: { chainDistances($0, $1, $2, $3, as: vector) })
}
