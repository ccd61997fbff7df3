import BatchLossFormulas

// Passes over one segment of a row: short enough to stay in the first-level cache between passes.

/// The largest element; −∞ when there is none but NaN.
@inline(__always)
func largestElement<V: KernelVector>(_ source: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> V.Lane {
  let lowest = V(lane: -.infinity)
  var (a, b) = (lowest, lowest)
  var index = 0
  while index + 2 * V.laneCount <= count {
    a = .maximum(a, V.load(source + index))
    b = .maximum(b, V.load(source + (index + V.laneCount)))
    index += 2 * V.laneCount
  }
  while index < count {
    let lanes = min(V.laneCount, count - index)
    a = .maximum(a, loadLanes(source + index, lanes, padding: -.infinity, as: V.self))
    index += lanes
  }
  return V.maximum(a, b).largest
}

/// Σ e^(scale·(x − shift)) in float64, each vector of exponentials handed to `write` with its index and lane count,
/// and the largest of as many elements from `next` on.
///
/// Looking for the next maximum here brings the next elements from memory while the arithmetic of these keeps
/// the processor busy. One vector a turn: on AVX2 it takes two registers already, and the processor overlaps
/// turns by itself.
@inline(__always)
func exponentialSum<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, shift: V.Lane, scale: V.Lane,
  next: UnsafePointer<V.Lane>, as: V.Type, write: (Int, Int, V) -> Void
) -> (sum: Double, nextLargest: V.Lane) {
  let (shift, scale) = (V(lane: shift), V(lane: scale))
  let whole = count & -V.laneCount
  var largest = V(lane: -.infinity)
  var total = 0.0
  var index = 0
  while index < whole {
    // Lanes are added to float64 before their rounding errors can grow.
    let end = min(index + 32 * V.laneCount, whole)
    var sums = V(lane: 0)
    while index < end {
      let e = V.exp(ofSummand: (V.load(source + index) - shift) * scale)
      sums = sums + e
      write(index, V.laneCount, e)
      largest = .maximum(largest, V.load(next + index))
      prefetch(after: next + index)
      index += V.laneCount
    }
    total += sums.total
  }
  if index < count {
    let lanes = count - index
    let e = V.exp(ofSummand: (V.load(source + index, count: lanes, padding: -.infinity) - shift) * scale)
    write(index, lanes, e)
    largest = .maximum(largest, V.load(next + index, count: lanes, padding: -.infinity))
    total += e.total
  }
  return (total, largest.largest)
}
