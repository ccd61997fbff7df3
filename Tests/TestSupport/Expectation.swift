/// Numbers that a computation must meet, each with the largest difference that rounding explains.
///
/// Infinities must be met exactly, and NaN by NaN.
package struct Expectation: Sendable {
  package var values: [Double] = []
  package var allowed: [Double] = []

  package init() {}

  package init(_ values: [Double], allowed: [Double]) {
    self.values = values
    self.allowed = allowed
  }

  /// Adds a number. A tolerance that is not a finite number allows no difference.
  package mutating func append(_ value: Double, allowed: Double) {
    values.append(value)
    self.allowed.append(allowed.isFinite ? allowed : 0)
  }

  /// The first number that is missed, or `nil`.
  package func mismatch(_ actual: [Double]) -> Mismatch? {
    guard actual.count == values.count else {
      return Mismatch(index: -1, actual: Double(actual.count), expected: Double(values.count), allowed: 0)
    }
    for index in values.indices {
      let (value, expected) = (actual[index], values[index])
      if value == expected || (value.isNaN && expected.isNaN) { continue }
      if abs(value - expected) <= allowed[index] && expected.isFinite { continue }
      return Mismatch(index: index, actual: value, expected: expected, allowed: allowed[index])
    }
    return nil
  }
}

/// A number that is further from the expected one than rounding explains.
package struct Mismatch: Equatable, Sendable, CustomStringConvertible {
  /// The position, or −1 when the counts differ.
  package var index: Int
  package var actual: Double
  package var expected: Double
  package var allowed: Double

  package var description: String {
    index < 0
      ? "\(actual) numbers instead of \(expected)"
      : "at \(index): \(actual) instead of \(expected), off by \(abs(actual - expected)), allowed \(allowed)"
  }
}

/// Whether one number meets another.
package func mismatch(_ actual: Double, _ expected: Double, allowed: Double) -> Mismatch? {
  Expectation([expected], allowed: [allowed.isFinite ? allowed : 0]).mismatch([actual])
}

extension BinaryFloatingPoint {
  /// The unit roundoff u: a rounded operation yields the exact result times 1 + d with |d| ≤ u.
  package static var unitRoundoff: Double { Double(ulpOfOne) / 2 }
}

/// The array in `Double`.
@_specialize(where Scalar == Float)
@_specialize(where Scalar == Double)
package func doubles<Scalar: BinaryFloatingPoint>(_ values: [Scalar]) -> [Double] {
  var result: [Double] = []
  result.reserveCapacity(values.count)
  for value in values { result.append(Double(value)) }
  return result
}

/// The array rounded to another format.
@_specialize(where Scalar == Float)
@_specialize(where Scalar == Double)
package func converted<Scalar: BinaryFloatingPoint>(_ values: [Double], to: Scalar.Type) -> [Scalar] {
  var result: [Scalar] = []
  result.reserveCapacity(values.count)
  for value in values { result.append(Scalar(value)) }
  return result
}

/// Whether two arrays hold the same bits, NaN and the sign of zero included.
package func haveSameBits<Scalar: BitwiseCopyable>(_ left: [Scalar], _ right: [Scalar]) -> Bool {
  left.withUnsafeBytes { left in right.withUnsafeBytes { right in left.elementsEqual(right) } }
}
