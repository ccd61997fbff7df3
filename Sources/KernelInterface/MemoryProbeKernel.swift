/// A pass over memory whose speed limits kernels.
package enum MemoryProbe: String, CaseIterable, Sendable {
  /// Loads alone.
  case read
  /// Loads and ordinary stores to another place.
  case copy
  /// Loads and stores that bypass the cache.
  case streamingCopy
  /// Loads and stores to the same place.
  case update

  /// Bytes that move for one byte of the source.
  package var bytesPerByte: Int { self == .read ? 1 : 2 }
}

/// Runs a probe over `count` elements (a multiple of 64); both addresses are multiples of 64.
package typealias MemoryProbeKernel<Scalar: KernelScalar> =
  @Sendable (
    _ probe: MemoryProbe, _ source: UnsafeMutablePointer<Scalar>, _ destination: UnsafeMutablePointer<Scalar>,
    _ count: Int
  ) -> Double
