import BatchLossFormulas
import BatchLossKernelInterface

/// Elements between two transfers of lane sums to float64: 8 additions a lane at most.
private let flushInterval = 128

/// A number in float64. The conversion of the standard library is not inlined when it is generic.
@inline(__always)
func widen<Lane: KernelScalar>(_ x: Lane) -> Double {
  Lane.self == Float.self ? Double(unsafeBitCast(x, to: Float.self)) : unsafeBitCast(x, to: Double.self)
}

/// A vector of up to `laneCount` elements, 0 beyond.
@inline(__always)
func loadRest<V: KernelVector>(_ source: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> V {
  count >= V.laneCount ? V.load(source) : V.load(source, count: count)
}

@inline(__always)
func storeRest<V: KernelVector>(_ value: V, _ destination: UnsafeMutablePointer<V.Lane>, _ count: Int) {
  if count >= V.laneCount { value.store(destination) } else { value.store(destination, count: count) }
}

/// Σ term(x, y), accumulated in lanes and every few vectors in float64.
@inline(__always)
private func sum<V: KernelVector>(
  _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>, _ count: Int, as: V.Type,
  _ accumulate: (V, V, V) -> V
) -> Double {
  let zero = V(lane: 0)
  let whole = count & -(2 * V.laneCount)
  var total = 0.0
  var start = 0
  while start < whole {
    let end = min(start + flushInterval, whole)
    var (first, second) = (zero, zero)
    var index = start
    while index < end {
      let next = index + V.laneCount
      first = accumulate(V.load(x + index), V.load(y + index), first)
      second = accumulate(V.load(x + next), V.load(y + next), second)
      index = next + V.laneCount
    }
    total += (first + second).total
    start = end
  }
  while start < count {
    let left = loadRest(x + start, count - start, as: V.self)
    let right = loadRest(y + start, count - start, as: V.self)
    total += accumulate(left, right, zero).total
    start += V.laneCount
  }
  return total
}

/// Rows from one whose loss is taken to one that is asked for, so that both are about as far apart as in
/// ``prefetch(after:)``.
@inline(__always)
func prefetchedRowsAhead<V: KernelVector>(_ columns: Int, as: V.Type) -> Int {
  max(1, 64 * V.laneCount / max(1, columns))
}

@inline(__always)
func dot<V: KernelVector>(
  _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>, _ count: Int, as: V.Type
) -> Double {
  sum(x, y, count, as: V.self) { V.multiplyAdd($0, $1, $2) }
}

@inline(__always)
func squaredDistance<V: KernelVector>(
  _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>, _ count: Int, as: V.Type
) -> Double {
  sum(x, y, count, as: V.self) { x, y, sum in
    let difference = x - y
    return V.multiplyAdd(difference, difference, sum)
  }
}

/// ‖x − y‖² and ‖x − z‖², to the bits of ``squaredDistance(_:_:_:as:)``.
@inline(__always)
func squaredDistances<V: KernelVector>(
  _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>, _ z: UnsafePointer<V.Lane>, _ count: Int, as: V.Type
) -> (Double, Double) {
  let zero = V(lane: 0)
  let whole = count & -(2 * V.laneCount)
  var totals = (0.0, 0.0)
  @inline(__always)
  func add(_ x: V, _ y: V, _ sum: inout V) {
    let difference = x - y
    sum = V.multiplyAdd(difference, difference, sum)
  }
  var start = 0
  while start < whole {
    let end = min(start + flushInterval, whole)
    var (first, second, third, fourth) = (zero, zero, zero, zero)
    var index = start
    while index < end {
      let next = index + V.laneCount
      let (even, odd) = (V.load(x + index), V.load(x + next))
      add(even, V.load(y + index), &first)
      add(odd, V.load(y + next), &second)
      add(even, V.load(z + index), &third)
      add(odd, V.load(z + next), &fourth)
      index = next + V.laneCount
    }
    totals.0 += (first + second).total
    totals.1 += (third + fourth).total
    start = end
  }
  while start < count {
    let left = loadRest(x + start, count - start, as: V.self)
    var (first, second) = (zero, zero)
    add(left, loadRest(y + start, count - start, as: V.self), &first)
    add(left, loadRest(z + start, count - start, as: V.self), &second)
    totals.0 += first.total
    totals.1 += second.total
    start += V.laneCount
  }
  return totals
}

@inline(never)
func scaleRow<V: KernelVector>(
  _ x: UnsafePointer<V.Lane>, _ offset: UnsafePointer<V.Lane>?, _ factor: V.Lane,
  _ output: UnsafeMutablePointer<V.Lane>, _ count: Int, as: V.Type
) {
  let factor = V(lane: factor)
  var index = 0
  while index < count {
    var value = loadRest(x + index, count - index, as: V.self)
    if let offset { value = value - loadRest(offset + index, count - index, as: V.self) }
    storeRest(value * factor, output + index, count - index)
    index += V.laneCount
  }
}

@inline(never)
func combineRows<V: KernelVector>(
  _ a: V.Lane, _ x: UnsafePointer<V.Lane>, _ b: V.Lane, _ y: UnsafePointer<V.Lane>,
  _ output: UnsafeMutablePointer<V.Lane>, _ count: Int, as: V.Type
) {
  let (a, b) = (V(lane: a), V(lane: b))
  var index = 0
  while index < count {
    let left = loadRest(x + index, count - index, as: V.self)
    let right = loadRest(y + index, count - index, as: V.self)
    storeRest(V.multiplyAdd(a, left, b * right), output + index, count - index)
    index += V.laneCount
  }
}

@inline(never)
func addDifference<V: KernelVector>(
  _ a: V.Lane, _ b: V.Lane, _ x: UnsafePointer<V.Lane>, _ y: UnsafePointer<V.Lane>,
  _ output: UnsafeMutablePointer<V.Lane>, _ count: Int, as: V.Type
) {
  let (a, b) = (V(lane: a), V(lane: b))
  var index = 0
  while index < count {
    let left = loadRest(x + index, count - index, as: V.self)
    let right = loadRest(y + index, count - index, as: V.self)
    let old = loadRest(output + index, count - index, as: V.self)
    storeRest(
      V.multiplyAdd(a, left - right, V.multiplyAdd(b, left, old)), output + index, count - index)
    index += V.laneCount
  }
}

/// Lanes are columns; 64 rows are added in lanes before the sums go to float64.
@inline(__always)
func addColumns<V: KernelVector>(
  _ matrix: UnsafePointer<V.Lane>, _ rows: Int, _ stride: Int, _ count: Int,
  _ sums: UnsafeMutablePointer<Double>, as: V.Type
) {
  var start = 0
  while start < rows {
    let end = min(start + 64, rows)
    var column = 0
    while column < count {
      let lanes = min(V.laneCount, count - column)
      var sum = V(lane: 0)
      for row in start..<end {
        sum = sum + loadRest(matrix + (row * stride + column), lanes, as: V.self)
      }
      for lane in 0..<lanes { sums[column + lane] += widen(sum[lane]) }
      column += V.laneCount
    }
    start = end
  }
}

/// The row kernels of a vector type.
@inline(__always)
func rowKernels<V: KernelVector>(of vector: V.Type) -> RowKernels<V.Lane> {
  RowKernels(
    dot: { dot($0, $1, $2, as: vector) },
    squaredDistance: { squaredDistance($0, $1, $2, as: vector) },
    scale: { scaleRow($0, $1, $2, $3, $4, as: vector) },
    combine: { combineRows($0, $1, $2, $3, $4, $5, as: vector) },
    addDifference: { addDifference($0, $1, $2, $3, $4, $5, as: vector) },
    addColumns: { addColumns($0, $1, $2, $3, $4, as: vector) },
    nonzeros: { nonzeros($0, $1, $2, as: vector) },
    countNonzeros: { countNonzeros($0, $1, as: vector) },
    addSparse: { addSparseRow($0, as: vector) })
}
