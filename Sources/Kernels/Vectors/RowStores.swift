import BatchLossFormulas
import BatchLossInstructions

// Rows that are written in whole cache lines, which streaming stores need.

/// Where the whole cache lines of a streamed row begin and end; all whole vectors of one that is not streamed, and
/// nothing without a row.
@inline(__always)
func wholeLines<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>?, _ count: Int, _ streams: Bool, as: V.Type
) -> (start: Int, end: Int) {
  guard let row else { return (0, 0) }
  let misaligned = (Int(bitPattern: row) & 63) / MemoryLayout<V.Lane>.stride
  let start = streams ? min(count, (V.laneCount - misaligned) & (V.laneCount - 1)) : 0
  return (start, start + ((count - start) & -V.laneCount))
}

/// Whether stores to `row` from `place` on hold back loads from `source` on, element by element.
///
/// Processors that compare no more than the last twelve bits of addresses let a load wait for every store to such an
/// address that is still on its way. Stores that are four vectors ahead, or more, have arrived by then; those behind follow
/// the load.
@inline(__always)
func holdsBack<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ row: UnsafeMutablePointer<V.Lane>, _ place: Int, as: V.Type
) -> Bool {
  let vector = V.laneCount * MemoryLayout<V.Lane>.stride
  let ahead = Int(bitPattern: row + place) - Int(bitPattern: source)
  return (ahead + vector - 1) & 4095 < 5 * vector - 1
}

/// Where the whole lines of a row begin and end that is written while `source` and `next` are read, and where the first
/// of its stores is that goes along with those. The lines before it come first: all of them where nothing is `next`.
@inline(__always)
func linesAhead<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>?, _ count: Int, _ streams: Bool, of source: UnsafePointer<V.Lane>,
  _ next: UnsafePointer<V.Lane>?, as: V.Type
) -> (start: Int, first: Int, end: Int) {
  let (start, end) = wholeLines(row, count, streams, as: V.self)
  guard let row, let next else { return (start, end, end) }
  for lead in 0..<16 {
    let first = start + lead * V.laneCount
    if !holdsBack(source, row, first, as: V.self) && !holdsBack(next, row, first, as: V.self) {
      return (start, first, end)
    }
  }
  return (start, start + 4 * V.laneCount, end)
}

/// Writes what of such a row comes before the first store that goes along with reading, and what fills no whole line, which
/// may have to wait for the row after.
@inline(__always)
func writeBeginning<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>?, _ count: Int, _ lines: (start: Int, first: Int, end: Int), streams: Bool,
  _ partialLine: inout PartialLine<V.Lane>, as: V.Type, _ transform: (_ index: Int, _ lanes: Int) -> V
) {
  guard let row else { return }
  writeRow(
    row, count, (lines.start, lines.end), from: lines.start, to: min(lines.first, lines.end), streams: streams,
    &partialLine, as: V.self, transform)
}

/// Writes a row as a whole.
@inline(__always)
func writeRow<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ count: Int, streams: Bool, _ partialLine: inout PartialLine<V.Lane>,
  as: V.Type, _ transform: (_ index: Int, _ lanes: Int) -> V
) {
  let lines = wholeLines(row, count, streams, as: V.self)
  writeRow(
    row, count, lines, from: lines.start, to: lines.end, streams: streams, &partialLine, as: V.self, transform)
}

/// Writes some of the whole lines of a row, and what fills none, which may have to wait for the row after.
@inline(__always)
func writeRow<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>, _ count: Int, _ lines: (start: Int, end: Int), from start: Int,
  to end: Int, streams: Bool, _ partialLine: inout PartialLine<V.Lane>, as: V.Type,
  _ transform: (_ index: Int, _ lanes: Int) -> V
) {
  if lines.start > 0 { partialLine.begin(row, transform(0, lines.start), count: lines.start) }
  var place = start
  while place < end {
    transform(place, V.laneCount).store(row + place, streams: streams)
    place += V.laneCount
  }
  guard lines.end < count else { return }
  let (rest, restCount) = (row + lines.end, count - lines.end)
  let vector = transform(lines.end, restCount)
  if streams { partialLine.keep(rest, vector, count: restCount) } else { vector.store(rest, count: restCount) }
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
