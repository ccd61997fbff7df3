import BatchLossFormulas
import BatchLossKernelInterface

/// Below this part of ‖x‖² + ‖y‖² the difference ‖x‖² + ‖y‖² − 2x·y has lost four bits or more.
private let cancellation = 0x1p-4

/// Elements between two looks for cancelled pairs.
private let chunk = 256

/// x·yⱼ → distance, in place, with a list of the columns to compute again from the rows themselves.
@inline(never)
func distancesFromProducts<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ squaredNorms: UnsafePointer<V.Lane>, _ squaredNorm: V.Lane,
  _ count: Int, _ form: DistanceForm, _ cancelled: UnsafeMutablePointer<Int32>, as: V.Type
) -> Int {
  let zero = V(lane: 0)
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
    let whole = start + ((end - start) & -V.laneCount)
    // How far the squares are below the part of the norms where they have cancelled.
    var depth = zero
    @inline(__always)
    func square(_ product: V, _ others: V) -> V {
      let scale = norm + others
      let squared = V.maximum(scale - (product + product), zero)
      depth = V.maximum(depth, V.multiplyAdd(part, scale, zero - squared))
      return squared
    }
    var index = start
    while index < whole {
      square(V.load(UnsafePointer(row) + index), V.load(squaredNorms + index)).store(row + index)
      index += V.laneCount
    }
    if whole < end {
      let rest = end - whole
      square(V.load(UnsafePointer(row) + whole, count: rest), V.load(squaredNorms + whole, count: rest, padding: 1))
        .store(row + whole, count: rest)
    }
    if depth.largest > 0 {
      for column in start..<end
      where row[column] < V.Lane(cancellation) * (squaredNorm + squaredNorms[column]) {
        cancelled[found] = Int32(truncatingIfNeeded: column)
        found += 1
      }
    }
    if !isSquared {
      @inline(__always)
      func distance(_ squared: V) -> V { isRoot ? squared.squareRoot() : squared * V(0.5) }
      index = start
      while index < whole {
        distance(V.load(UnsafePointer(row) + index)).store(row + index)
        index += V.laneCount
      }
      if whole < end {
        distance(V.load(UnsafePointer(row) + whole, count: end - whole)).store(row + whole, count: end - whole)
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

@inline(never)
func chainDistances<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ weights: UnsafePointer<V.Lane>, _ count: Int, _ form: DistanceForm,
  as: V.Type
) -> Double {
  var total = 0.0
  var start = 0
  while start < count {
    let end = min(start + 512, count)
    let whole = start + ((end - start) & -V.laneCount)
    var sum = V(lane: 0)
    var index = start
    while index < whole {
      let chained = chainDistance(V.load(weights + index), V.load(UnsafePointer(row) + index), form)
      chained.store(row + index)
      sum = sum + chained
      index += V.laneCount
    }
    if whole < end {
      let rest = end - whole
      let chained = chainDistance(
        V.load(weights + whole, count: rest), V.load(UnsafePointer(row) + whole, count: rest, padding: 1), form)
      chained.store(row + whole, count: rest)
      sum = sum + chained
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
    chain: { chainDistances($0, $1, $2, $3, as: vector) },
    transfer: { transferTile($0, as: vector) },
    addMirror: { addMirror($0, as: vector) })
}
