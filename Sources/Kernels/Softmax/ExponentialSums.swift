import BatchLossFormulas
import BatchLossKernelInterface
import Glibc

// Passes over one row or a segment of one.

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
    let end = min(index + sumStretch(V.self), whole)
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
///
/// They are looked at a whole cache line at a time, wherever they begin: a load that spans two lines which are still on
/// their way waits for both. What fills no whole line comes last, by vectors that overlap others.
struct ReadAhead<Lane: KernelScalar> {
  let start: UnsafePointer<Lane>
  let count: Int
  /// Where the first and the last whole line begin; the ends of the elements where there is none.
  private let (first, last): (Int, Int)
  /// The elements in them, or in the one vector that is looked at instead.
  let wholeLines: Int

  /// How far ahead of what is looked at memory is asked for, in bytes: with half of it a loop as short as that of softmax
  /// still waited a quarter of its time.
  static var distance: Int { 8192 }

  /// At least one vector.
  @inline(__always)
  init<V: KernelVector>(start: UnsafePointer<Lane>, count: Int, as: V.Type) where V.Lane == Lane {
    self.start = start
    self.count = count
    let end = count - V.laneCount
    let misaligned = (Int(bitPattern: start) & 63) / MemoryLayout<Lane>.stride
    first = min((V.laneCount - misaligned) & (V.laneCount - 1), end)
    last = first + ((end - first) & -V.laneCount)
    wholeLines = last - first + V.laneCount
  }

  /// The largest lanes of all vectors so far and the one at `index`; past the end, of the last one again.
  @inline(__always)
  func larger<V: KernelVector>(_ largest: V, at index: Int, isCommon: Bool) -> V where V.Lane == Lane {
    prefetch(after: start + (first + index), distance: Self.distance)
    return .maximum(largest, V.load(start + (isCommon ? first + index : min(first + index, last))))
  }

  /// The largest element, after all vectors that begin before `end` were looked at.
  @inline(__always)
  func largest<V: KernelVector>(_ largest: V, end: Int) -> Lane where V.Lane == Lane {
    let ends = V.maximum(V.load(start), V.load(start + (count - V.laneCount)))
    let largest = V.maximum(largest, ends)
    let seen = first + ((end + V.laneCount - 1) & -V.laneCount)
    guard seen <= last else { return largest.largest }
    return V.maximum(largest, V(lane: largestElement(start + seen, count - seen, as: V.self))).largest
  }
}

/// A row whose gradient is written while the row after it is evaluated.
protocol WaitingRow<Lane> {
  associatedtype Lane: KernelScalar
  /// Where the gradient goes; `nil` where none waits.
  var output: UnsafeMutablePointer<Lane>? { get }
  /// As many lanes of the gradient from `index` on; nothing is read beyond.
  func gradient<V: KernelVector>(_ index: Int, _ lanes: Int, as: V.Type) -> V where V.Lane == Lane
}

/// A gradient that is `scale` times exponentials.
struct WaitingGradient<Lane: KernelScalar>: WaitingRow {
  var output: UnsafeMutablePointer<Lane>?
  var exponentials: UnsafePointer<Lane>
  var scale: Lane

  @inline(__always)
  func gradient<V: KernelVector>(_ index: Int, _ lanes: Int, as: V.Type) -> V where V.Lane == Lane {
    loadLanes(exponentials + index, lanes, as: V.self) * V(lane: scale)
  }
}

/// A gradient for which the exponentials of `source` are taken again.
struct RepeatedGradient<Lane: KernelScalar>: WaitingRow {
  var output: UnsafeMutablePointer<Lane>?
  var source: UnsafePointer<Lane>
  var shift: Lane
  var scale: Lane

  @inline(__always)
  func gradient<V: KernelVector>(_ index: Int, _ lanes: Int, as: V.Type) -> V where V.Lane == Lane {
    V.exp(ofSummand: loadLanes(source + index, lanes, as: V.self) - V(lane: shift)) * V(lane: scale)
  }
}

/// Σ e^(x − shift) in float64, and the largest of the elements ahead. The exponentials are written, and the gradient that
/// waits, of as many elements.
///
/// One loop does all three, so that memory and arithmetic keep each other company.
@inline(never)
func exponentialSum<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ count: Int, shift: V.Lane, to exponentials: UnsafeMutablePointer<V.Lane>,
  ahead: ReadAhead<V.Lane>, writing waiting: WaitingGradient<V.Lane>, streams: Bool,
  _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) -> (sum: Double, nextLargest: V.Lane) {
  let shift = V(lane: shift)
  var largest = V(lane: -.infinity)
  var sum = LaneSum<V>()
  @inline(__always)
  func step(_ index: Int, _ lanes: Int, _ isCommon: Bool) {
    let e = V.exp(ofSummand: loadLanes(source + index, lanes, padding: -.infinity, as: V.self) - shift)
    sum.lanes = sum.lanes + e
    storeLanes(e, exponentials + index, lanes)
    largest = ahead.larger(largest, at: index, isCommon: isCommon)
  }
  @inline(__always)
  func flush() { sum.flush() }
  @inline(__always)
  func gradient(_ index: Int, _ lanes: Int) -> V { waiting.gradient(index, lanes, as: V.self) }
  takeSteps(
    count, writing: waiting.output, streams: streams, &partialLine, ahead, as: V.self, step, flush: flush,
    gradient: gradient)
  return (sum.total, ahead.largest(largest, end: count))
}

/// Elements that are added lane by lane before float64 takes over. `exponentialsBesideLabel` repeats the sum
/// of a stretch.
@inline(__always)
func sumStretch<V: KernelVector>(_: V.Type) -> Int { 64 * V.laneCount }

/// Up to it differences and exponentials round no more than those of ordinary summands, and no probability is so near 1
/// that a loss near 0 would need its digits: another element lies within e⁴ of the largest.
@inline(__always)
private func largestExcess<Lane: KernelScalar>() -> Lane { 4 }

/// The sum of a row that is too long to be read twice from a near cache, relative to a `shift` that is one of the
/// elements and at most `largestExcess` below the largest. The exponentials go to `exponentials` if asked for, and the
/// gradient that waits is written, a few vectors ahead.
///
/// The largest of the first elements is taken for that of the row. A stretch that proves it too low by more than
/// the excess is done again, relative to its own largest, to which all before is scaled down.
@inline(never)
func exponentialSum<V: KernelVector, Row: WaitingRow>(
  ofLong source: UnsafePointer<V.Lane>, _ count: Int, to exponentials: UnsafeMutablePointer<V.Lane>?,
  writing waiting: Row, streams: Bool, _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) -> (sum: Double, shift: V.Lane, largest: V.Lane) where Row.Lane == V.Lane {
  let writes = exponentials != nil
  // Never stored to where there are none.
  let exponentials = exponentials ?? UnsafeMutablePointer(mutating: source)
  let output = waiting.output ?? exponentials
  let lines = linesAhead(waiting.output, count, streams, of: source, source, as: V.self)
  writeBeginning(waiting.output, count, lines, streams: streams, &partialLine, as: V.self) {
    waiting.gradient($0, $1, as: V.self)
  }
  var total = 0.0
  var shift = -V.Lane.infinity
  var highest = V(lane: -.infinity)
  var start = 0
  while start < count {
    let stretch = min(start + sumStretch(V.self), count)
    if shift == -.infinity {
      // An eighth of a stretch is guess enough, unless there is nothing in it.
      let guess = largestElement(source + start, min(stretch - start, sumStretch(V.self) / 8), as: V.self)
      shift = guess == -.infinity ? largestElement(source + start, stretch - start, as: V.self) : guess
    }
    // Nothing but −∞ has exponentials of 0, not NaN.
    var reference = V(lane: shift == -.infinity ? 0 : shift)
    var sums = V(lane: 0)
    @inline(__always)
    func add(_ index: Int, _ lanes: Int) -> V {
      let x = loadLanes(source + index, lanes, padding: -.infinity, as: V.self)
      let e = V.exp(ofSummand: x - reference)
      sums = sums + e
      if writes { storeLanes(e, exponentials + index, lanes) }
      return x
    }
    @inline(__always)
    func step(_ index: Int, _ lanes: Int) {
      highest = .maximum(highest, add(index, lanes))
      let place = lines.first + index
      if place < lines.end {
        waiting.gradient(place, V.laneCount, as: V.self).store(output + place, streams: streams)
      }
      prefetch(after: source + index)
    }
    prefetchPages(after: source + start, stretch - start)
    if streams { prefetchPages(after: output + start, stretch - start) }
    let whole = start + ((stretch - start) & -V.laneCount)
    var index = start
    while index < whole {
      step(index, V.laneCount)
      index += V.laneCount
    }
    if index < stretch { step(index, stretch - index) }
    if V.count(V(lane: shift + largestExcess()) .< highest) > 0 {
      let top = highest.largest
      let factor = exp(widen(shift) - widen(top))
      total *= factor
      if writes {
        forEachVector(from: 0, to: start, destination: exponentials, streams: false, as: V.self) {
          loadLanes(UnsafePointer(exponentials) + $0, $1, as: V.self) * V(factor)
        }
      }
      (shift, reference, sums) = (top, V(lane: top), V(lane: 0))
      index = start
      while index < stretch {
        _ = add(index, min(V.laneCount, stretch - index))
        index += V.laneCount
      }
    }
    total += sums.total
    start = stretch
  }
  return (total, shift, highest.largest)
}

/// Writes a gradient that waits and after which no row comes.
@inline(__always)
func writeGradient<V: KernelVector, Row: WaitingRow>(
  _ waiting: Row, _ count: Int, streams: Bool, _ partialLine: inout PartialLine<V.Lane>, as: V.Type
) where Row.Lane == V.Lane {
  guard let output = waiting.output else { return }
  writeRow(output, count, streams: streams, &partialLine, as: V.self) {
    waiting.gradient($0, $1, as: V.self)
  }
}
