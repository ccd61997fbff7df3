import BatchLossKernelInterface
import Glibc

/// A strided matrix in memory of its own whose surroundings are watched.
///
/// What lies before the first element, between the rows and after the last element holds a NaN of a known
/// pattern: a kernel that reads it yields NaN, and one that writes it is found by ``isIntact``. Right behind
/// the buffer lies a page that may not be touched at all, so that reading beyond the end ends the test.
package final class GuardedBuffer<Scalar: KernelScalar> {
  /// Where the matrix lies in its memory.
  package enum Placement: Sendable {
    /// The last element is the last before the forbidden page; the start has whatever alignment results.
    case end
    /// The first element starts a cache line.
    case line
  }

  package let rows: Int
  package let columns: Int
  package let stride: Int
  /// The first element.
  package let base: UnsafeMutablePointer<Scalar>

  private let mapping: UnsafeMutableRawPointer
  private let mappedBytes: Int
  private let usable: UnsafeMutableBufferPointer<Scalar>

  /// The elements from the first to the last, gaps included.
  package var extent: Int { rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns }

  /// A matrix of the given elements, row by row.
  package init(
    rows: Int, columns: Int, gap: Int = 0, _ elements: [Scalar]? = nil, placement: Placement = .end
  ) {
    self.rows = rows
    self.columns = columns
    stride = columns + gap
    let page = sysconf(Int32(_SC_PAGESIZE))
    let size = MemoryLayout<Scalar>.stride
    let extent = rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns
    let bytes = (extent * size + 256 + page - 1) / page * page
    mappedBytes = bytes + page
    mapping = mmap(nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    precondition(mapping != MAP_FAILED, "no memory for \(mappedBytes) bytes")
    precondition(mprotect(mapping + bytes, page, PROT_NONE) == 0)
    usable = UnsafeMutableBufferPointer(
      start: mapping.bindMemory(to: Scalar.self, capacity: bytes / size), count: bytes / size)
    fill(usable.baseAddress!, usable.count, with: canary(Scalar.self))
    base = usable.baseAddress! + (placement == .end ? bytes / size - extent : 128 / size)
    if let elements {
      precondition(elements.count == rows * columns)
      elements.withUnsafeBufferPointer { source in
        for row in 0..<rows where columns > 0 {
          (base + row * stride).update(from: source.baseAddress! + row * columns, count: columns)
        }
      }
    }
  }

  deinit { munmap(mapping, mappedBytes) }

  /// The memory that a view is made of: exactly up to the last element.
  package var memory: UnsafeMutableBufferPointer<Scalar> {
    UnsafeMutableBufferPointer(start: base, count: extent)
  }

  /// The memory for reading.
  package var readOnlyMemory: UnsafeBufferPointer<Scalar> { UnsafeBufferPointer(memory) }

  /// The elements row by row.
  package var elements: [Scalar] {
    var result: [Scalar] = []
    result.reserveCapacity(rows * columns)
    for row in 0..<rows {
      result.append(contentsOf: UnsafeBufferPointer(start: base + row * stride, count: columns))
    }
    return result
  }

  /// Whether everything outside the matrix holds what it held.
  package var isIntact: Bool {
    let canary = canary(Scalar.self)
    var start = usable.baseAddress!
    for row in 0..<(columns == 0 ? 0 : rows) {
      let next = base + row * stride
      guard holds(start, next - start, canary) else { return false }
      start = next + columns
    }
    return holds(start, usable.baseAddress! + usable.count - start, canary)
  }

  /// Whether no element, and nothing outside, has ever been written.
  package var isUntouched: Bool { holds(usable.baseAddress!, usable.count, canary(Scalar.self)) }
}

/// A NaN that no computation yields.
private func canary<Scalar: KernelScalar>(_: Scalar.Type) -> Scalar {
  Scalar.self == Float.self
    ? Float(bitPattern: 0x7fe5_a5a5) as! Scalar : Double(bitPattern: 0x7ffa_5a5a_5a5a_5a5a) as! Scalar
}

private func fill<Scalar>(_ start: UnsafeMutablePointer<Scalar>, _ count: Int, with value: Scalar) {
  start.update(repeating: value, count: count)
}

/// Whether memory repeats one value, bit for bit.
private func holds<Scalar>(_ start: UnsafeMutablePointer<Scalar>, _ count: Int, _ value: Scalar) -> Bool {
  guard count > 0 else { return true }
  let size = MemoryLayout<Scalar>.stride
  return withUnsafeBytes(of: value) { memcmp(start, $0.baseAddress!, size) == 0 }
    && memcmp(start, start + 1, (count - 1) * size) == 0
}
