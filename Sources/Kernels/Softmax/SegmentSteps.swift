import BatchLossFormulas
import BatchLossKernelInterface

/// One vector of a pass along a segment: exponentials of this row and a look at the elements ahead.
///
/// `isCommon` is a constant where a step is called: whether there is a whole vector of everything. Steps in the middle of a
/// segment so have no branches left: in a loop as long as this what the processor takes in at a time is the limit.
typealias SegmentStep = (_ index: Int, _ lanes: Int, _ isCommon: Bool) -> Void

/// How many vectors the gradient of the row before is behind.
///
/// Its first factor comes from a sum that was complete only when this row began, by a long chain. And where logits and
/// gradients begin at the same place of a page and rows are about a page, no load is held back by a store that has the last
/// twelve bits of its address.
private var trail: Int { 12 }

/// Takes all steps of a segment of `count` elements, and writes the gradient of the same segment of the row before; without
/// elements ahead only the latter.
///
/// Lanes go over to float64 by `flush` before their rounding errors can grow. The functions must be named ones that are
/// always inlined, because closures as long as these would stay calls for each vector.
@inline(__always)
func takeSteps<V: KernelVector>(
  _ count: Int, writing output: UnsafeMutablePointer<V.Lane>?, streams: Bool,
  _ partialLine: inout PartialLine<V.Lane>, _ ahead: ReadAhead<V.Lane>?, as: V.Type, _ step: SegmentStep,
  flush: () -> Void,
  gradient: (_ index: Int, _ lanes: Int) -> V
) {
  let lines = wholeLines(output, count, streams, as: V.self)
  var place = lines.start
  if let ahead {
    // The steps with which a whole line of the gradient goes along.
    let first = min(trail * V.laneCount, count & -V.laneCount)
    let last = min(first + (lines.end - lines.start), ahead.wholeLines, count) & -V.laneCount
    place += max(0, last - first)
    // Never stored to where there is none.
    let destination = (output ?? UnsafeMutablePointer(mutating: ahead.start)) + (lines.start - first)
    prefetchPages(after: ahead.start, count, distance: ReadAhead<V.Lane>.distance + 4096)
    if streams { prefetchPages(after: destination, count) }
    var index = 0
    while index < first {
      step(index, V.laneCount, false)
      index += V.laneCount
    }
    var start = 0
    repeat {
      let stretch = min(start + sumStretch(V.self), count)
      while index < stretch {
        if index < last {
          let end = min(stretch, last)
          if streams {
            while index < end {
              step(index, V.laneCount, true)
              gradient(lines.start + (index - first), V.laneCount).stream(destination + index)
              index += V.laneCount
            }
          } else {
            while index < end {
              step(index, V.laneCount, true)
              gradient(lines.start + (index - first), V.laneCount).store(destination + index)
              index += V.laneCount
            }
          }
        } else {
          while index + V.laneCount <= stretch {
            step(index, V.laneCount, false)
            index += V.laneCount
          }
          if index < stretch {
            step(index, stretch - index, false)
            index = stretch
          }
        }
      }
      flush()
      start = stretch
    } while start < count
  }
  if let output {
    writeRow(output, count, lines, from: place, to: lines.end, streams: streams, &partialLine, as: V.self, gradient)
  }
}
