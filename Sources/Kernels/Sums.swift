import BatchLossFormulas
import BatchLossKernelInterface

/// The sum of `count` numbers, widened before they are added.
@inline(__always)
func sum<V: KernelVector>(_ source: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> Double {
  let zero = SIMD8<Double>(repeating: 0)
  var (a, b, c, d) = (zero, zero, zero, zero)
  var index = 0
  while index + 32 <= count {
    a += V.loadDoubles(source + index)
    b += V.loadDoubles(source + (index + 8))
    c += V.loadDoubles(source + (index + 16))
    d += V.loadDoubles(source + (index + 24))
    index += 32
  }
  var total = ((a + b) + (c + d)).total
  while index < count {
    let lanes = min(V.laneCount, count - index)
    total += loadLanes(source + index, lanes, as: V.self).total
    index += lanes
  }
  return total
}

/// A sum by lanes, which go over to float64 before their rounding errors can grow.
struct LaneSum<V: KernelVector> {
  var lanes = V(lane: 0)
  private var flushed = SIMD8<Double>(repeating: 0)

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func flush() {
    flushed += lanes.folded
    lanes = V(lane: 0)
  }

  /// The sum of what was flushed.
  @inline(__always)
  var total: Double { flushed.total }
}

/// How many of `count` numbers lie outside `low...high`. Not inlined into the closure that takes lanes: see
/// docs/adding-a-kernel.md.
@inline(never)
func countOutside<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, _ low: V.Lane, _ high: V.Lane, as: V.Type
) -> Int {
  var outside = 0
  var index = 0
  while index < count {
    let lanes = min(V.laneCount, count - index)
    let x = V.load(source + index, count: lanes, padding: low)
    outside += V.count((x .< V(lane: low)) .| (V(lane: high) .< x))
    index += lanes
  }
  return outside
}

/// Σ s·w_y over the rows whose class is not negative.
@inline(__always)
func labelWeight<V: KernelVector>(
  _ classes: UnsafePointer<Int32>, _ count: Int, _ classWeights: UnsafePointer<V.Lane>?,
  _ sampleWeights: UnsafePointer<V.Lane>?, as: V.Type
) -> Double {
  @inline(__always)
  func weight(_ row: Int) -> Double {
    guard classes[row] >= 0 else { return 0 }
    var weight = 1.0
    if let classWeights { weight = Double(classWeights[Int(classes[row])]) }
    if let sampleWeights { weight *= Double(sampleWeights[row]) }
    return weight
  }
  // Four sums, none of which waits for the others.
  var sums = SIMD4<Double>(repeating: 0)
  var row = 0
  while row + 4 <= count {
    sums += SIMD4(weight(row), weight(row + 1), weight(row + 2), weight(row + 3))
    row += 4
  }
  var total = (sums[0] + sums[1]) + (sums[2] + sums[3])
  while row < count {
    total += weight(row)
    row += 1
  }
  return total
}
