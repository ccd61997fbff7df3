import BatchLossFormulas

#if BATCHLOSS_X86_V4
  import _Builtin_intrinsics.intel
#endif

// exp, log and their relatives for 16 floats. Coefficients: Scripts/derive_polynomials.py. Largest errors
// over every float, measured: docs/numerics.md.

/// Added and subtracted again, it rounds a float below 2²² to an integer, which is then in the low bits.
private let roundingShift: Float = 0x1.8p23

extension SIMD16 where Scalar == Float {
  /// x = n·ln 2 + r with |r| ≤ ln 2 / 2 (a little more by rounding); n also as an integer.
  @inline(__always)
  private static func reduced(_ x: Self) -> (integer: SIMD16<Int32>, n: Self, r: Self) {
    let shifted = multiplyAdd(x, Self(repeating: 0x1.715476p0), Self(repeating: roundingShift))
    let n = shifted - Self(repeating: roundingShift)
    let integer =
      unsafeBitCast(shifted, to: SIMD16<Int32>.self)
      &- SIMD16<Int32>(repeating: Int32(bitPattern: roundingShift.bitPattern))
    var r = multiplyAdd(n, Self(repeating: -0x1.62e4p-1), x)
    r = multiplyAdd(n, Self(repeating: -0x1.7f7d1cp-20), r)
    return (integer, n, r)
  }

  /// eʳ − 1 for |r| ≤ ln 2 / 2.
  @inline(__always)
  private static func expMinusOne(reduced r: Self) -> Self {
    var tail = multiplyAdd(Self(repeating: 0x1.6a247cp-10), r, Self(repeating: 0x1.1239d4p-7))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.5558f0p-5))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.555492p-3))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.fffffcp-2))
    return multiplyAdd(tail, r * r, r)
  }

  /// 2ⁿ for −126 ≤ n ≤ 127.
  @inline(__always)
  private static func power(ofTwo n: SIMD16<Int32>) -> Self {
    unsafeBitCast((n &+ SIMD16<Int32>(repeating: 127)) &<< SIMD16<Int32>(repeating: 23), to: Self.self)
  }

  /// Takes over the sign of `x`, that of zero included, where the sign is not negative already.
  @inline(__always)
  private func withSign(of x: Self) -> Self {
    let sign = unsafeBitCast(x, to: SIMD16<UInt32>.self) & SIMD16<UInt32>(repeating: 0x8000_0000)
    return unsafeBitCast(unsafeBitCast(self, to: SIMD16<UInt32>.self) | sign, to: Self.self)
  }

  @inline(__always)
  public static func exp(_ x: Self) -> Self {
    let limited = minimum(maximum(x, Self(repeating: -104)), Self(repeating: 89))
    let (integer, _, r) = reduced(limited)
    // Two factors, so that neither leaves the range where the product is subnormal or overflows.
    let half = integer &>> SIMD16<Int32>(repeating: 1)
    let mantissa = Self(repeating: 1) + expMinusOne(reduced: r)
    return mantissa * power(ofTwo: half) * power(ofTwo: integer &- half)
  }

  @inline(__always)
  public static func exp(nonPositive x: Self) -> Self {
    // Below −126.5·ln 2 the exponent's bits are 0, and so is the factor 2ⁿ.
    let limited = maximum(x, Self(repeating: -88))
    // The shift carries the exponent's bias as well: its low bits, moved up, are 2ⁿ. NaN passes through the
    // arithmetic, whatever its payload makes of that factor.
    let shift = Self(repeating: roundingShift + 127)
    let shifted = multiplyAdd(limited, Self(repeating: 0x1.715476p0), shift)
    let power = unsafeBitCast(
      unsafeBitCast(shifted, to: SIMD16<Int32>.self) &<< SIMD16<Int32>(repeating: 23), to: Self.self)
    let n = shifted - shift
    var r = multiplyAdd(n, Self(repeating: -0x1.62e4p-1), limited)
    r = multiplyAdd(n, Self(repeating: -0x1.7f7d1cp-20), r)
    return multiplyAdd(expMinusOne(reduced: r), power, power)
  }

  @inline(__always)
  static var lowestExponent: Float { -88.03 }

  @inline(__always)
  static var exponentShift: Float { roundingShift + 127 }

  @inline(__always)
  static func exp(_ x: Self, shift: Self) -> Self {
    let shifted = multiplyAdd(x, Self(repeating: 0x1.715476p0), shift)
    let power = unsafeBitCast(
      unsafeBitCast(shifted, to: SIMD16<Int32>.self) &<< SIMD16<Int32>(repeating: 23), to: Self.self)
    let n = shifted - shift
    var r = multiplyAdd(n, Self(repeating: -0x1.62e4p-1), x)
    r = multiplyAdd(n, Self(repeating: -0x1.7f7d1cp-20), r)
    return multiplyAdd(expMinusOne(reduced: r), power, power)
  }

  #if BATCHLOSS_X86_V4
    /// The bits of 2^(j/32) less those of j in thirty-seconds: what is missing when j has been moved to the top of the
    /// significand, and 127 to the exponent.
    @inline(__always)
    private static var powersOfTwo: (Self, Self) {
      let low = SIMD16<UInt32>(
        0, 0xfffecd87, 0xfffdaac3, 0xfffc980f, 0xfffb95c2, 0xfffaa43a, 0xfff9c3d3, 0xfff8f4f0,
        0xfff837f0, 0xfff78d3a, 0xfff6f532, 0xfff67043, 0xfff5fed7, 0xfff5a15b, 0xfff5583f, 0xfff523f6)
      let high = SIMD16<UInt32>(
        0xfff504f3, 0xfff4fbaf, 0xfff508a4, 0xfff52c4d, 0xfff5672a, 0xfff5b9be, 0xfff6248c, 0xfff6a81e,
        0xfff744fd, 0xfff7fbb8, 0xfff8ccdf, 0xfff9b907, 0xfffac0c7, 0xfffbe4ba, 0xfffd257d, 0xfffe83b3)
      return (unsafeBitCast(low, to: Self.self), unsafeBitCast(high, to: Self.self))
    }

    @inline(__always)
    static func exp(ofSummand x: Self) -> Self {
      // x = n·ln 2 / 32 + r, with ln 2 in one piece: the error grows with n, which the factor more than makes up
      // for. Two registers hold 2^(j/32), so that a parabola is enough for eʳ. At the lowest exponent all bits of the
      // factor are 0.
      let limited = maximum(x, Self(repeating: lowestExponent))
      let shift = Self(repeating: roundingShift + 127 * 32)
      let shifted = multiplyAdd(limited, Self(repeating: 0x1.715476p5), shift)
      let bits = unsafeBitCast(shifted, to: SIMD16<UInt32>.self)
      let (low, high) = powersOfTwo
      let missing = _mm512_permutex2var_ps(low, unsafeBitCast(shifted, to: SIMD8<Int64>.self), high)
      let power = unsafeBitCast(
        (bits &<< SIMD16<UInt32>(repeating: 18)) &+ unsafeBitCast(missing, to: SIMD16<UInt32>.self), to: Self.self)
      let r = multiplyAdd(shifted - shift, Self(repeating: -0x1.62e430p-6), limited)
      let slope = multiplyAdd(Self(repeating: 0x1.fffffep-2), r, Self(repeating: 0x1.0000f6p0))
      return multiplyAdd(slope, r * power, power)
    }
  #else
    @inline(__always)
    static func exp(ofSummand x: Self) -> Self {
      // As above, with ln 2 in one piece: the error grows with n, which the factor 2ⁿ more than makes up for.
      let limited = maximum(x, Self(repeating: -88))
      let shift = Self(repeating: roundingShift + 127)
      let shifted = multiplyAdd(limited, Self(repeating: 0x1.715476p0), shift)
      let power = unsafeBitCast(
        unsafeBitCast(shifted, to: SIMD16<Int32>.self) &<< SIMD16<Int32>(repeating: 23), to: Self.self)
      let r = multiplyAdd(shifted - shift, Self(repeating: -0x1.62e430p-1), limited)
      var slope = multiplyAdd(Self(repeating: 0x1.0fa826p-7), r, Self(repeating: 0x1.573a68p-5))
      slope = multiplyAdd(slope, r, Self(repeating: 0x1.555a6ap-3))
      slope = multiplyAdd(slope, r, Self(repeating: 0x1.fffdc6p-2))
      slope = multiplyAdd(slope, r, Self(repeating: 0x1.fffff6p-1))
      return multiplyAdd(slope, r * power, power)
    }
  #endif

  @inline(__always)
  public static func expMinusOne(_ x: Self) -> Self {
    let limited = minimum(maximum(x, Self(repeating: -18)), Self(repeating: 89))
    let (integer, _, r) = reduced(limited)
    let half = integer &>> SIMD16<Int32>(repeating: 1)
    let (first, second) = (power(ofTwo: half), power(ofTwo: integer &- half))
    // 2ⁿ·(eʳ − 1) + (2ⁿ − 1), halved where 2ⁿ itself would overflow.
    let scaled = expMinusOne(reduced: r) * first
    let result = multiplyAdd(scaled, second, multiplyAdd(first, second, Self(repeating: -1)))
    return result.replacing(with: (scaled + first) * second, where: Self(repeating: 80) .< limited)
      .withSign(of: x)
  }

  /// log(1 + f) + k·ln 2 for √½ ≤ 1 + f < √2.
  @inline(__always)
  private static func log(onePlusReduced f: Self, exponent k: Self) -> Self {
    var tail = multiplyAdd(Self(repeating: -0x1.41f448p-4), f, Self(repeating: 0x1.07cf9ep-3))
    tail = multiplyAdd(tail, f, Self(repeating: -0x1.0cde9cp-3))
    tail = multiplyAdd(tail, f, Self(repeating: 0x1.226e68p-3))
    tail = multiplyAdd(tail, f, Self(repeating: -0x1.5478c4p-3))
    tail = multiplyAdd(tail, f, Self(repeating: 0x1.99a596p-3))
    tail = multiplyAdd(tail, f, Self(repeating: -0x1.00021ep-2))
    tail = multiplyAdd(tail, f, Self(repeating: 0x1.55554ap-2))
    let square = f * f
    let cubic = multiplyAdd(tail * square, f, k * Self(repeating: 0x1.7f7d1cp-20))
    let correction = multiplyAdd(square, Self(repeating: -0.5), cubic)
    return multiplyAdd(k, Self(repeating: 0x1.62e4p-1), f + correction)
  }

  /// Splits a positive normal number into 2ᵏ·(1 + f).
  @inline(__always)
  private static func split(_ x: Self) -> (k: SIMD16<Int32>, mantissa: Self) {
    let bits = unsafeBitCast(x, to: SIMD16<Int32>.self)
    let k = (bits &- SIMD16<Int32>(repeating: 0x3f35_04f3)) &>> SIMD16<Int32>(repeating: 23)
    let mantissa = bits &- (k &<< SIMD16<Int32>(repeating: 23))
    return (k, unsafeBitCast(mantissa, to: Self.self))
  }

  /// A small integer as a float.
  @inline(__always)
  private static func float(_ integer: SIMD16<Int32>) -> Self {
    let bits = integer &+ SIMD16<Int32>(repeating: Int32(bitPattern: roundingShift.bitPattern))
    return unsafeBitCast(bits, to: Self.self) - Self(repeating: roundingShift)
  }

  /// Puts the values of log at 0, below 0, at ∞ and NaN in place.
  @inline(__always)
  private func withLogarithmLimits(of x: Self) -> Self {
    let infinity = Self(repeating: .infinity)
    return self.replacing(with: Self(repeating: -.infinity), where: x .== .zero)
      .replacing(with: Self(repeating: .nan), where: x .< .zero)
      .replacing(with: x, where: .!(x .< infinity))
  }

  @inline(__always)
  public static func log(_ x: Self) -> Self {
    let isSubnormal = x .< Self(repeating: .leastNormalMagnitude)
    let normal = x.replacing(with: x * Self(repeating: 0x1p23), where: isSubnormal)
    let (k, mantissa) = split(normal)
    let exponent = float(k).replacing(with: float(k) - Self(repeating: 23), where: isSubnormal)
    return log(onePlusReduced: mantissa - Self(repeating: 1), exponent: exponent)
      .withLogarithmLimits(of: x)
  }

  @inline(__always)
  public static func log(onePlus x: Self) -> Self {
    let sum = Self(repeating: 1) + x
    let (k, mantissa) = split(sum)
    // What rounding took from 1 + x, on the scale of the mantissa; nothing where x alone decides.
    let lost = (x - (sum - Self(repeating: 1))) * power(ofTwo: SIMD16<Int32>(repeating: 0) &- k)
    let correction = lost.replacing(with: Self(repeating: 0), where: Self(repeating: 0x1p60) .< x)
    return log(onePlusReduced: (mantissa - Self(repeating: 1)) + correction, exponent: float(k))
      .withLogarithmLimits(of: sum)
      .withSign(of: x)
  }

  @inline(__always)
  public static func log(onePlusFraction x: Self) -> Self {
    #if BATCHLOSS_FUSED
      // x + x²·q(x), with the even and the odd powers of q side by side: half the latency.
      let square = x * x
      var even = multiplyAdd(Self(repeating: -0x1.a933d6p-9), square, Self(repeating: -0x1.d29d22p-5))
      var odd = multiplyAdd(Self(repeating: 0x1.453f5ap-6), square, Self(repeating: 0x1.b25396p-4))
      even = multiplyAdd(even, square, Self(repeating: -0x1.397576p-3))
      odd = multiplyAdd(odd, square, Self(repeating: 0x1.92f69ep-3))
      even = multiplyAdd(even, square, Self(repeating: -0x1.ff0f8ap-3))
      odd = multiplyAdd(odd, square, Self(repeating: 0x1.554c80p-2))
      even = multiplyAdd(even, square, Self(repeating: -0x1.ffffbep-2))
      return multiplyAdd(square, multiplyAdd(odd, x, even), x)
    #else
      // The form above needs its products unrounded to stay within 3 ulp.
      // log(1 + x) = log 2 + log(1 + (x − 1)/2) above √2 − 1.
      let one = Self(repeating: 1)
      let isLarge = Self(repeating: 0x1.a827ap-2) .< x
      let f = x.replacing(with: (x - one) * Self(repeating: 0.5), where: isLarge)
      return log(onePlusReduced: f, exponent: Self(repeating: 0).replacing(with: one, where: isLarge))
    #endif
  }

  @inline(__always)
  public static func tanh(_ x: Self) -> Self {
    // With t = e^(−2|x|): (1 − t) / (1 + t) from t − 1 where that is less than ½, 1 − 2t / (1 + t) from t elsewhere.
    // The last difference rounds once, where a quotient just below 1 would double what its parts have lost.
    let one = Self(repeating: 1)
    let magnitude = x.magnitude
    let (integer, _, r) = reduced(maximum(.zero - (magnitude + magnitude), Self(repeating: -40)))
    let (power, fraction) = (power(ofTwo: integer), expMinusOne(reduced: r))
    let tail = multiplyAdd(fraction, power, power)
    let decay = multiplyAdd(fraction, power, power - one)
    let isLarge = Self(repeating: 0.55) .< magnitude
    let numerator = (.zero - decay).replacing(with: .zero - (tail + tail), where: isLarge)
    let quotient = numerator / (Self(repeating: 2) + decay).replacing(with: one + tail, where: isLarge)
    let result = quotient.replacing(with: one + quotient, where: isLarge)
    return result.withSign(of: x)
  }
}
