import Glibc

/// Uninitialised memory, asked for in huge pages where there is much of it.
///
/// A batch that comes back after other work has pushed its page tables out of the caches waits for them page after page:
/// with pages of 2 MiB in place of 4 KiB there are 512 times fewer. Linux gives them on request where it has some to spare.
package enum LargeMemory {
  private static let hugePage = 2 << 20

  /// Memory to be deallocated by its caller.
  package static func allocate(byteCount: Int, alignment: Int = 64) -> UnsafeMutableRawPointer {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: alignment)
    #if os(Linux)
      let start = (UInt(bitPattern: memory) + UInt(hugePage - 1)) & ~UInt(hugePage - 1)
      let end = (UInt(bitPattern: memory) + UInt(byteCount)) & ~UInt(hugePage - 1)
      if start < end { _ = madvise(UnsafeMutableRawPointer(bitPattern: start), Int(end - start), MADV_HUGEPAGE) }
    #endif
    return memory
  }
}
