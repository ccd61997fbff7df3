import BatchLossFormulas
import BatchLossInstructions

// Rows that are written in whole cache lines, which streaming stores need.

/// Where the whole cache lines of a streamed row begin and end; all whole vectors of one that is not streamed, and
/// nothing without a row.
@inline(__always)
func wholeLines<V: KernelVector>(
  _ row: UnsafeMutablePointer<V.Lane>?, _ count: Int, _ streams: Bool, as: V.Type
) -> (lead: Int, end: Int) {
  guard let row else { return (0, 0) }
  let misaligned = (Int(bitPattern: row) & 63) / MemoryLayout<V.Lane>.stride
  let lead = streams ? min(count, (V.laneCount - misaligned) & (V.laneCount - 1)) : 0
  return (lead, lead + ((count - lead) & -V.laneCount))
}

/// Asks for the line in which a row ends that will be streamed later, if it ends within one: what fills no whole line goes
/// through the cache, and stores after it wait for that line.
@inline(__always)
func prefetchEnd<Lane>(ofStreamed row: UnsafeMutablePointer<Lane>?, _ count: Int) {
  guard let row, Int(bitPattern: row + count) & 63 != 0 else { return }
  batchloss_prefetch_page(UnsafeRawPointer(row + (count - 1)))
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
