import BatchLossFormulas
import BatchLossKernelInterface

// Passes over one row or a segment of one: short enough to stay in a near cache between passes.

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

/// What a pass looks at on the side: the elements that the next pass will take the exponentials of, so that their
/// maximum is known by then and they are in the cache.
struct ReadAhead<Lane: KernelScalar> {
  let start: UnsafePointer<Lane>
  let count: Int

  /// The largest lanes of all vectors so far and the one at `index`; past the end, of the last vector again.
  @inline(__always)
  func larger<V: KernelVector>(_ largest: V, at index: Int) -> V where V.Lane == Lane {
    prefetch(after: start + index)
    return .maximum(largest, V.load(start + min(index, count - V.laneCount)))
  }

  /// The largest element, after all vectors that begin before `end` were looked at.
  @inline(__always)
  func largest<V: KernelVector>(_ largest: V, end: Int) -> Lane where V.Lane == Lane {
    let seen = (end + V.laneCount - 1) & -V.laneCount
    guard seen < count else { return largest.largest }
    return V.maximum(largest, V(lane: largestElement(start + seen, count - seen, as: V.self))).largest
  }
}

/// A gradient that is written while the row after it is evaluated: `scale` times exponentials.
struct WaitingGradient<Lane: KernelScalar> {
  var output: UnsafeMutablePointer<Lane>?
  var exponentials: UnsafePointer<Lane>
  var scale: Lane
}

/// Σ e^(x − shift) in float64, and the largest of the elements ahead. The exponentials go to `exponentials` if asked
/// for, and the gradient that waits, of as many elements, is written.
///
/// One loop does all three, so that memory and arithmetic keep each other company. The gradient is written from its end
/// to its beginning: on the way up, stores would run a little ahead of loads whose addresses end in the same twelve
/// bits, as those of equal elements of two large arrays do, and processors that compare no more hold such loads back.
@inline(never)
func exponentialSum<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, shift: V.Lane, to exponentials: UnsafeMutablePointer<V.Lane>?,
  ahead: ReadAhead<V.Lane>, writing waiting: WaitingGradient<V.Lane>, streams: Bool, as: V.Type
) -> (sum: Double, nextLargest: V.Lane) {
  exponentialSum(
    source, count, shift: shift, to: exponentials, ahead: ahead, looksAhead: true, writing: waiting,
    streams: streams, as: V.self)
}

/// The same of a row that is too long to be read twice from a near cache: `shift` is then a guess, at most its largest
/// element, and returned is how far the largest lies above it. Above `largestExcess` the sum and the exponentials are
/// of no use.
@inline(never)
func exponentialSum<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, guess shift: V.Lane,
  to exponentials: UnsafeMutablePointer<V.Lane>?, writing waiting: WaitingGradient<V.Lane>, streams: Bool,
  as: V.Type
) -> (sum: Double, excess: V.Lane) {
  exponentialSum(
    source, count, shift: shift, to: exponentials, ahead: ReadAhead(start: source, count: count), looksAhead: false,
    writing: waiting, streams: streams, as: V.self)
}

/// Up to it differences and exponentials round no more than those of ordinary summands, and no probability is so near 1
/// that a loss near 0 would need its digits: another element lies within e⁴ of the largest.
var largestExcess: Double { 4 }

/// - Parameter looksAhead: A constant where this is compiled.
@inline(__always)
private func exponentialSum<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, shift: V.Lane, to exponentials: UnsafeMutablePointer<V.Lane>?,
  ahead: ReadAhead<V.Lane>, looksAhead: Bool, writing waiting: WaitingGradient<V.Lane>, streams: Bool, as: V.Type
) -> (Double, V.Lane) {
  let (shift, scale) = (V(lane: shift), V(lane: waiting.scale))
  let writes = exponentials != nil
  // Never stored to where there are none.
  let exponentials = exponentials ?? UnsafeMutablePointer(mutating: source)
  let output = waiting.output ?? exponentials
  // Whole lines of the waiting gradient begin a little later than the vectors of this row.
  let (lead, end) = wholeLines(waiting.output, count, streams, as: V.self)
  if lead > 0 { (loadLanes(waiting.exponentials, lead, as: V.self) * scale).store(output, count: lead) }
  var largest = V(lane: -.infinity)
  var sums = V(lane: 0)
  // Not by the closures of exponentialSum(…write:): as long as this one is, it would stay a call for each vector.
  @inline(__always)
  func step(_ index: Int, _ lanes: Int) {
    let shifted = loadLanes(source + index, lanes, padding: -.infinity, as: V.self) - shift
    let e = V.exp(ofSummand: shifted)
    sums = sums + e
    let place = end - V.laneCount - index
    if place >= lead { (V.load(waiting.exponentials + place) * scale).store(output + place, streams: streams) }
    if writes { storeLanes(e, exponentials + index, lanes) }
    if looksAhead {
      largest = ahead.larger(largest, at: index)
    } else {
      largest = .maximum(largest, shifted)
      prefetch(after: source + index)
    }
  }
  let whole = count & -V.laneCount
  var total = 0.0
  var index = 0
  while index < whole {
    // Lanes are added to float64 before their rounding errors can grow.
    let stretch = min(index + 32 * V.laneCount, whole)
    while index < stretch {
      step(index, V.laneCount)
      index += V.laneCount
    }
    total += sums.total
    sums = V(lane: 0)
  }
  if index < count {
    step(index, count - index)
    total += sums.total
  }
  if waiting.output != nil, end < count {
    (loadLanes(waiting.exponentials + end, count - end, as: V.self) * scale).store(output + end, count: count - end)
  }
  return (total, looksAhead ? ahead.largest(largest, end: count) : largest.largest)
}

/// A gradient that waits and after which no row comes.
@inline(__always)
func writeGradient<V: KernelVector>(
  _ waiting: WaitingGradient<V.Lane>, _ count: Int, streams: Bool, as: V.Type
) {
  guard let output = waiting.output else { return }
  let scale = V(lane: waiting.scale)
  forEachVector(from: 0, to: count, destination: output, streams: streams, as: V.self) { index, lanes in
    loadLanes(waiting.exponentials + index, lanes, as: V.self) * scale
  }
}
