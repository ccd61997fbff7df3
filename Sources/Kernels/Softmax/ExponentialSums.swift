import BatchLossFormulas

// Passes over one segment of a row: short enough to stay in the first-level cache between passes.

/// The largest element; −∞ when there is none but NaN.
@inline(__always)
func largestElement<V: KernelVector>(_ source: UnsafePointer<V.Lane>, _ count: Int, as: V.Type) -> V.Lane {
  let lowest = V(lane: -.infinity)
  var (a, b, c, d) = (lowest, lowest, lowest, lowest)
  let step = 4 * V.laneCount
  var index = 0
  while index + step <= count {
    a = .maximum(a, V.load(source + index))
    b = .maximum(b, V.load(source + (index + V.laneCount)))
    c = .maximum(c, V.load(source + (index + 2 * V.laneCount)))
    d = .maximum(d, V.load(source + (index + 3 * V.laneCount)))
    index += step
  }
  while index < count {
    let lanes = min(V.laneCount, count - index)
    a = .maximum(a, V.load(source + index, count: lanes, padding: -.infinity))
    index += lanes
  }
  return V.maximum(.maximum(a, b), .maximum(c, d)).largest
}

/// Σ e^(scale·(x − shift)) in float64, each exponential handed to `write` with its index and lane count, and the
/// largest of as many elements from `next` on.
///
/// Looking for the next maximum here brings the next elements from memory while the arithmetic of these keeps
/// the processor busy.
@inline(__always)
func exponentialSum<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, shift: V.Lane, scale: V.Lane,
  next: UnsafePointer<V.Lane>, as: V.Type, write: (Int, Int, V) -> Void
) -> (sum: Double, nextLargest: V.Lane) {
  let (shift, scale) = (V(lane: shift), V(lane: scale))
  let step = 4 * V.laneCount
  let lowest = V(lane: -.infinity)
  var (first, second) = (lowest, lowest)
  var total = 0.0
  var index = 0
  while index + step <= count {
    // Lanes are added to float64 before their rounding errors can grow.
    let end = min(index + 8 * step, count)
    var (a, b, c, d) = (V(lane: 0), V(lane: 0), V(lane: 0), V(lane: 0))
    while index + step <= end {
      let p = V.exp(nonPositive: (V.load(source + index) - shift) * scale)
      let q = V.exp(nonPositive: (V.load(source + (index + V.laneCount)) - shift) * scale)
      let r = V.exp(nonPositive: (V.load(source + (index + 2 * V.laneCount)) - shift) * scale)
      let s = V.exp(nonPositive: (V.load(source + (index + 3 * V.laneCount)) - shift) * scale)
      first = .maximum(first, V.load(next + index))
      second = .maximum(second, V.load(next + (index + V.laneCount)))
      first = .maximum(first, V.load(next + (index + 2 * V.laneCount)))
      second = .maximum(second, V.load(next + (index + 3 * V.laneCount)))
      write(index, V.laneCount, p)
      write(index + V.laneCount, V.laneCount, q)
      write(index + 2 * V.laneCount, V.laneCount, r)
      write(index + 3 * V.laneCount, V.laneCount, s)
      a = a + p
      b = b + q
      c = c + r
      d = d + s
      index += step
    }
    total += ((a + b) + (c + d)).total
  }
  var rest = V(lane: 0)
  while index < count {
    let lanes = min(V.laneCount, count - index)
    let e = V.exp(nonPositive: (V.load(source + index, count: lanes, padding: -.infinity) - shift) * scale)
    first = .maximum(first, V.load(next + index, count: lanes, padding: -.infinity))
    write(index, lanes, e)
    rest = rest + e
    index += lanes
  }
  return (total + rest.total, V.maximum(first, second).largest)
}

/// Applies `transform` to the elements from index `start` up to `end`, in vectors that suit streaming
/// stores to `destination`: a part of a cache line first, whole lines, a part at the end.
@inline(__always)
func forEachVector<V: KernelVector>(
  from start: Int, to end: Int, destination: UnsafeMutablePointer<V.Lane>, streams: Bool, as: V.Type,
  _ transform: (_ index: Int, _ lanes: Int) -> V
) {
  var index = start
  if streams {
    let misaligned = Int(bitPattern: destination + index) & 63
    if misaligned != 0 {
      let lanes = min((64 - misaligned) / MemoryLayout<V.Lane>.stride, end - index)
      transform(index, lanes).store(destination + index, count: lanes)
      index += lanes
    }
    while index + V.laneCount <= end {
      transform(index, V.laneCount).stream(destination + index)
      index += V.laneCount
    }
  } else {
    while index + V.laneCount <= end {
      transform(index, V.laneCount).store(destination + index)
      index += V.laneCount
    }
  }
  if index < end { transform(index, end - index).store(destination + index, count: end - index) }
}
