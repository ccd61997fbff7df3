import Glibc

/// The size of a page of memory.
let pageSize = sysconf(Int32(_SC_PAGESIZE))

/// Gives the pages of a mapping back to the system; they are read again if touched again.
///
/// The range is widened to the page where it begins, which the neighbouring range may have left, and cut
/// to the page where it ends, unless that is the end of the mapping.
func releasePages(of mapping: UnsafeRawBufferPointer, in range: Range<Int>) {
  let begin = range.lowerBound / pageSize * pageSize
  let end = range.upperBound == mapping.count ? mapping.count : range.upperBound / pageSize * pageSize
  guard begin < end, let base = mapping.baseAddress else { return }
  // Only advice: a failure costs memory and nothing else.
  _ = madvise(UnsafeMutableRawPointer(mutating: base + begin), end - begin, Int32(MADV_DONTNEED))
}
