import Synchronization

/// The blocks of a batch, which workers claim.
///
/// Each worker has a range of its own, the same in every part of a call and in every call of one shape, and takes blocks
/// of another's from the far end once its own are done. So it mostly meets rows that lie in its own caches: where
/// processors share no cache, rows of another one's take several times as long to come.
package final class BlockClaims: Sendable {
  private let capacity: Int
  /// For each range the first block left in the upper half, the end in the lower.
  private nonisolated(unsafe) let ranges: UnsafeMutablePointer<Atomic<UInt64>>
  private let rangesInUse = Atomic<Int>(0)
  /// Atomics from one range to the next, so that no two share a cache line, nor the neighbours that come with one.
  private static let step = 16

  /// For up to `capacity` workers.
  package init(capacity: Int) {
    self.capacity = capacity
    ranges = .allocate(capacity: capacity * Self.step)
    for index in 0..<capacity * Self.step { (ranges + index).initialize(to: Atomic(0)) }
  }

  deinit {
    ranges.deinitialize(count: capacity * Self.step)
    ranges.deallocate()
  }

  /// Offers `count` blocks, fewer than 2³², in as many ranges, one at least; before anyone claims one.
  package func offer(_ count: Int, ranges number: Int) {
    let inUse = max(1, min(number, capacity))
    rangesInUse.store(inUse, ordering: .relaxed)
    for range in 0..<inUse {
      let (start, end) = (count * range / inUse, count * (range + 1) / inUse)
      ranges[range * Self.step].store(UInt64(start) << 32 | UInt64(end), ordering: .relaxed)
    }
  }

  /// A block that nobody else gets; `nil` when none is left. Any number will do for a seat: those beyond the ranges share
  /// them.
  package func claim(seat: Int) -> Int? {
    let inUse = max(1, rangesInUse.load(ordering: .relaxed))
    let own = seat % inUse
    if let block = claim(own, fromFront: true) { return block }
    for distance in 1..<inUse {
      if let block = claim((own + distance) % inUse, fromFront: false) { return block }
    }
    return nil
  }

  private func claim(_ range: Int, fromFront: Bool) -> Int? {
    let left = range * Self.step
    var old = ranges[left].load(ordering: .relaxed)
    while true {
      let (start, end) = (old >> 32, old & 0xffff_ffff)
      guard start < end else { return nil }
      let new = fromFront ? (start + 1) << 32 | end : start << 32 | (end - 1)
      let (exchanged, original) = ranges[left].weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
      if exchanged { return Int(fromFront ? start : end - 1) }
      old = original
    }
  }
}
