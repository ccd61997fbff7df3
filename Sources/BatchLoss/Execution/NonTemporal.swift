/// When gradients are written past the cache.
enum NonTemporal {
  /// Bytes of gradient from which it will not be found in the cache again anyway.
  static let threshold = min(Processor.lastLevelCacheBytes / 2, 16 << 20)

  static func isWorthwhile<Scalar>(_ memory: RowMajor<Scalar>) -> Bool {
    memory.count * MemoryLayout<Scalar>.stride >= threshold
  }
}
