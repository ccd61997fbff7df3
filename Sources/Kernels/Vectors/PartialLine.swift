import BatchLossFormulas
import BatchLossKernelInterface

/// The elements at the end of a streamed row that fill no whole cache line, until the row after it does.
///
/// Stored at once they would go through the cache, whose line comes from memory first; every streaming store after them
/// waits for that. Rows that follow each other without a gap have whole lines only, but for the two ends of a block and
/// beside rows that are skipped.
struct PartialLine<Lane: KernelScalar> {
  /// ``PartialLineMemory/count`` elements aligned to 64 bytes, of which the first ones wait.
  private let lanes: UnsafeMutablePointer<Lane>
  private var count = 0
  /// Where the waiting elements end.
  private var end: UnsafeMutablePointer<Lane>?

  @inline(__always)
  init(_ memory: UnsafeMutablePointer<Lane>) {
    lanes = memory
  }

  /// Writes the first elements of a row, up to the end of their line.
  @inline(never)
  mutating func begin<V: KernelVector>(_ row: UnsafeMutablePointer<Lane>, _ head: V, count headCount: Int)
  where V.Lane == Lane {
    guard end == row, count + headCount == V.laneCount else {
      flush(as: V.self)
      head.store(row, count: headCount)
      return
    }
    head.store(lanes + count)
    V.load(lanes).stream(row - count)
    end = nil
  }

  /// Lets the last elements of a row wait, which begin at `place`.
  @inline(never)
  mutating func keep<V: KernelVector>(_ place: UnsafeMutablePointer<Lane>, _ tail: V, count tailCount: Int)
  where V.Lane == Lane {
    flush(as: V.self)
    tail.store(lanes)
    (count, end) = (tailCount, place + tailCount)
  }

  /// Writes what waits.
  @inline(__always)
  mutating func flush<V: KernelVector>(as: V.Type) where V.Lane == Lane {
    guard let place = end else { return }
    V.load(lanes).store(place - count, count: count)
    end = nil
  }

  /// Where the element of `place` lies now.
  @inline(__always)
  func location(_ place: UnsafeMutablePointer<Lane>) -> UnsafeMutablePointer<Lane> {
    guard let end, end - count <= place, place < end else { return place }
    return lanes + (place - (end - count))
  }
}
