import BatchLossFormulas
import BatchLossKernelInterface

/// One vector of a pass along a segment: exponentials of this row, the gradient of the one before from
/// `lines.first + index` on, and a look at the elements ahead.
///
/// `isCommon` and `streams` are constants where a step is called, so that the steps in the middle of a segment have no
/// branches left: as long as the loop is, what the processor takes in at a time is its limit.
typealias SegmentStep = (_ index: Int, _ lanes: Int, _ isCommon: Bool, _ streams: Bool) -> Void

/// Takes all steps of a segment of `count` elements. Common ones have a whole vector of everything.
///
/// Lanes go over to float64 by `flush` before their rounding errors can grow. The functions must be named ones that are
/// always inlined, because closures as long as these would stay calls for each vector.
@inline(__always)
func takeSteps<V: KernelVector>(
  _ count: Int, _ lines: (start: Int, first: Int, end: Int), of output: UnsafeMutablePointer<V.Lane>,
  _ ahead: ReadAhead<V.Lane>, streams: Bool, as: V.Type, _ step: SegmentStep, flush: () -> Void
) {
  let common = min(lines.end - lines.first, ahead.wholeLines, count) & -V.laneCount
  var index = 0
  while index < count {
    let stretch = min(index + sumStretch(V.self), count)
    prefetchPages(after: ahead.start + index, stretch - index, distance: ReadAhead<V.Lane>.distance + 4096)
    if streams { prefetchPages(after: output + index, stretch - index) }
    let commonStretch = min(stretch, common)
    if streams {
      while index < commonStretch {
        step(index, V.laneCount, true, true)
        index += V.laneCount
      }
    } else {
      while index < commonStretch {
        step(index, V.laneCount, true, false)
        index += V.laneCount
      }
    }
    while index + V.laneCount <= stretch {
      step(index, V.laneCount, false, streams)
      index += V.laneCount
    }
    if index < stretch {
      step(index, stretch - index, false, streams)
      index = stretch
    }
    flush()
  }
}
