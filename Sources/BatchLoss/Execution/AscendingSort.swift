import BatchLossKernelInterface

/// Sorts numbers that are not negative; NaN comes last.
enum AscendingSort {
  /// `scratch` has room for as many numbers.
  static func run<Scalar: LossScalar>(
    _ values: UnsafeMutablePointer<Scalar>, _ count: Int, scratch: UnsafeMutablePointer<Scalar>
  ) {
    // The bits of numbers that are not negative are ordered as the numbers are.
    if Scalar.self == Float.self {
      radix(
        UnsafeMutableRawPointer(values).assumingMemoryBound(to: UInt32.self), count,
        UnsafeMutableRawPointer(scratch).assumingMemoryBound(to: UInt32.self), passes: 3)
    } else {
      radix(
        UnsafeMutableRawPointer(values).assumingMemoryBound(to: UInt64.self), count,
        UnsafeMutableRawPointer(scratch).assumingMemoryBound(to: UInt64.self), passes: 6)
    }
  }

  /// 11 bits a pass, lowest first. Short arrays by insertion.
  private static func radix<Key: FixedWidthInteger & UnsignedInteger>(
    _ keys: UnsafeMutablePointer<Key>, _ count: Int, _ scratch: UnsafeMutablePointer<Key>, passes: Int
  ) {
    guard count > 192 else {
      for index in stride(from: 1, to: count, by: 1) {
        let key = keys[index]
        var hole = index
        while hole > 0, keys[hole - 1] > key {
          keys[hole] = keys[hole - 1]
          hole -= 1
        }
        keys[hole] = key
      }
      return
    }
    var (source, target) = (keys, scratch)
    withUnsafeTemporaryAllocation(of: Int.self, capacity: 2048) { starts in
      for pass in 0..<passes {
        let shift = Key(11 * pass)
        starts.update(repeating: 0)
        for index in 0..<count { starts[Int(truncatingIfNeeded: source[index] &>> shift) & 2047] += 1 }
        var start = 0
        for digit in 0..<2048 {
          let size = starts[digit]
          starts[digit] = start
          start += size
        }
        for index in 0..<count {
          let digit = Int(truncatingIfNeeded: source[index] &>> shift) & 2047
          target[starts[digit]] = source[index]
          starts[digit] += 1
        }
        swap(&source, &target)
      }
    }
    if source != keys { keys.update(from: source, count: count) }
  }
}
