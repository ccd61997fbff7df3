import BatchLossKernelInterface

/// The largest error of an elementary function seen so far, and where.
///
/// The unit is the distance of the floating-point numbers about the exact result, so that a correctly
/// rounded function has an error of at most ½. An infinite result counts as the power of two after the
/// largest finite number; NaN where the exact result is none, or the reverse, is an infinite error.
package struct WorstError<Scalar: BinaryFloatingPoint & Sendable>: Sendable {
  package var ulp = 0.0
  package var argument: Scalar = 0
  package var result: Scalar = 0
  package var points = 0

  package init() {}

  /// The worse of two.
  package mutating func merge(_ other: Self) {
    points += other.points
    guard !(other.ulp <= ulp) else { return }
    (ulp, argument, result) = (other.ulp, other.argument, other.result)
  }
}

// MARK: - Float

extension WorstError where Scalar == Float {
  /// Takes the results of a kernel for arguments in the domain of the function.
  package mutating func update(
    _ function: ElementaryFunction, arguments: UnsafePointer<Float>, exact: UnsafePointer<Double>,
    results: UnsafePointer<Float>, count: Int
  ) {
    let limit = 0x1p128
    let flushes = function.flushesSubnormals
    let leastExponent: UInt64 = function.isTermOfSum ? 1022 : 1023 - 126
    for index in 0..<count {
      var (y, value) = (exact[index], Double(results[index]))
      if y > limit { y = limit }
      if y < -limit { y = -limit }
      if value > limit { value = limit }
      if value < -limit { value = -limit }
      let exponent = max((y.bitPattern >> 52) & 0x7ff, leastExponent)
      // 1 / ulp(y)
      let scale = Double(bitPattern: (2046 + 23 - exponent) << 52)
      let error = abs(value - y) * scale
      if error <= ulp { continue }
      if y.isNaN && value.isNaN { continue }
      if flushes && value == 0 && abs(y) < 0x1p-126 { continue }
      (ulp, argument, result) = (error.isNaN ? .infinity : error, arguments[index], results[index])
    }
    points += count
  }
}

// MARK: - Double

#if arch(x86_64)
  extension WorstError where Scalar == Double {
    /// Takes the results of a kernel for arguments in the domain of the function.
    package mutating func update(
      _ function: ElementaryFunction, arguments: UnsafePointer<Double>, exact: UnsafePointer<Float80>,
      results: UnsafePointer<Double>, count: Int
    ) {
      let limit: Float80 = 0x1p1024
      for index in 0..<count {
        let y = max(-limit, min(limit, exact[index]))
        let value = max(-limit, min(limit, Float80(results[index])))
        if exact[index].isNaN && results[index].isNaN { continue }
        let unit = max(y.magnitude.binade.ulp * 0x1p11, 0x1p-1074)
        let error = Double(abs(value - y) / unit)
        if error <= ulp && !exact[index].isNaN && !results[index].isNaN { continue }
        if function.flushesSubnormals && value == 0 && abs(y) < 0x1p-1022 { continue }
        let isWrong = exact[index].isNaN != results[index].isNaN || error.isNaN
        (ulp, argument, result) = (isWrong ? .infinity : error, arguments[index], results[index])
      }
      points += count
    }
  }
#endif

// MARK: - Arguments

/// The arguments at which functions and number formats change their ways: zeros, subnormals, infinities, NaN
/// of several payloads, and the borders of ranges with their neighbours on both sides.
package func specialArguments<Scalar: BinaryFloatingPoint>(_: Scalar.Type) -> [Scalar] {
  var borders: [Scalar] = [
    0, .leastNonzeroMagnitude, .leastNormalMagnitude, .ulpOfOne, .ulpOfOne / 2, .greatestFiniteMagnitude,
    0.34657359, 0.41421356, 0.5, 0.70710678, 0.69314718, 1, 1.41421356, 2, 9, 18, 38, 40, 80, 87.33654,
    88.02969, 88.72284, 89, 103.27893, 103.97208, 104, 700, 708.3964185322641, 709.4361393, 709.782712893384,
    710, 744.4400719213812, 745.1332191019412, 746, 0x1p-12, 0x1p-24, 0x1p-53, 0x1p22, 0x1p23, 0x1p24, 0x1p52,
    0x1p60, 0x1p53, 0x1p120,
  ]
  borders += borders.flatMap { [$0.nextUp, $0.nextDown, $0.nextUp.nextUp, $0.nextDown.nextDown] }
  borders += borders.map { -$0 }
  return borders + [.infinity, -.infinity, .nan, -.nan]
}

/// NaN of every kind: both signs, quiet and signalling, many payloads.
package let specialNaN: (float: [Float], double: [Double]) = {
  var float: [Float] = []
  var double: [Double] = []
  for bit in 0..<22 {
    for high: UInt32 in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0000, 0xff80_0000] {
      float.append(Float(bitPattern: high | 1 << UInt32(bit)))
    }
  }
  for bit in 0..<51 {
    for high: UInt64 in [0x7ff8, 0xfff8, 0x7ff0, 0xfff0] {
      double.append(Double(bitPattern: high << 48 | 1 << UInt64(bit)))
    }
  }
  return (float, double)
}()
