/// Hands out arrays of one buffer, each aligned to 64 bytes.
///
/// The layout of a call is written once and run twice: first to measure, then over memory.
struct Arena {
  private var next: UnsafeMutableRawPointer
  private(set) var bytes = 0

  fileprivate init(_ base: UnsafeMutableRawPointer) { next = base }

  /// Uninitialised memory for `count` elements.
  mutating func array<Element: BitwiseCopyable>(
    of _: Element.Type, _ count: Int
  ) -> UnsafeMutablePointer<Element> {
    let size = (max(count, 0) * MemoryLayout<Element>.stride + 63) & ~63
    defer {
      next += size
      bytes += size
    }
    return next.assumingMemoryBound(to: Element.self)
  }
}

extension Workspace {
  /// The arrays of `layout` in this workspace; valid until the next call.
  func arrays<Layout>(_ layout: (inout Arena) -> Layout) -> Layout {
    var measure = Arena(UnsafeMutableRawPointer(bitPattern: 64)!)
    _ = layout(&measure)
    var arena = Arena(UnsafeMutableRawPointer(buffer(of: UInt8.self, count: measure.bytes)))
    return layout(&arena)
  }
}
