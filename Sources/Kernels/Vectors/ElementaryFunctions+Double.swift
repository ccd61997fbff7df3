import BatchLossFormulas

// exp, log and their relatives for 8 doubles. Coefficients: Scripts/derive_polynomials.py. Largest errors
// measured: docs/numerics.md.

/// Added and subtracted again, it rounds a double below 2⁵¹ to an integer, which is then in the low bits.
private let roundingShift: Double = 0x1.8p52

extension SIMD8 where Scalar == Double {
  /// x = n·ln 2 + r with |r| ≤ ln 2 / 2 (a little more by rounding); n also as an integer.
  @inline(__always)
  private static func reduced(_ x: Self) -> (integer: SIMD8<Int64>, n: Self, r: Self) {
    let shifted = multiplyAdd(x, Self(repeating: 0x1.71547652b82fep0), Self(repeating: roundingShift))
    let n = shifted - Self(repeating: roundingShift)
    let integer =
      unsafeBitCast(shifted, to: SIMD8<Int64>.self)
      &- SIMD8<Int64>(repeating: Int64(bitPattern: roundingShift.bitPattern))
    var r = multiplyAdd(n, Self(repeating: -0x1.62e42fee00000p-1), x)
    r = multiplyAdd(n, Self(repeating: -0x1.a39ef35793c76p-33), r)
    return (integer, n, r)
  }

  /// eʳ − 1 for |r| ≤ ln 2 / 2.
  @inline(__always)
  private static func expMinusOne(reduced r: Self) -> Self {
    var tail = multiplyAdd(
      Self(repeating: 0x1.1e3d38167643fp-29), r, Self(repeating: 0x1.af6bd06ad5913p-26))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.27e5b4212a5a0p-22))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.71ddf03018d18p-19))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.a01a0136b7bd1p-16))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.a01a01b3771bbp-13))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.6c16c16c30382p-10))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.111111110ec73p-7))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.5555555555503p-5))
    tail = multiplyAdd(tail, r, Self(repeating: 0x1.555555555555bp-3))
    tail = multiplyAdd(tail, r, Self(repeating: 0.5))
    return multiplyAdd(tail, r * r, r)
  }

  /// 2ⁿ for −126 ≤ n ≤ 127.
  @inline(__always)
  private static func power(ofTwo n: SIMD8<Int64>) -> Self {
    unsafeBitCast((n &+ SIMD8<Int64>(repeating: 1023)) &<< SIMD8<Int64>(repeating: 52), to: Self.self)
  }

  /// Takes over the sign of `x`, that of zero included, where the sign is not negative already.
  @inline(__always)
  private func withSign(of x: Self) -> Self {
    let sign = unsafeBitCast(x, to: SIMD8<UInt64>.self) & SIMD8<UInt64>(repeating: 0x8000_0000_0000_0000)
    return unsafeBitCast(unsafeBitCast(self, to: SIMD8<UInt64>.self) | sign, to: Self.self)
  }

  @inline(__always)
  public static func exp(_ x: Self) -> Self {
    let limited = minimum(maximum(x, Self(repeating: -746)), Self(repeating: 710))
    let (integer, _, r) = reduced(limited)
    // Two factors, so that neither leaves the range where the product is subnormal or overflows.
    let half = integer &>> SIMD8<Int64>(repeating: 1)
    let mantissa = Self(repeating: 1) + expMinusOne(reduced: r)
    return mantissa * power(ofTwo: half) * power(ofTwo: integer &- half)
  }

  @inline(__always)
  public static func exp(nonPositive x: Self) -> Self {
    // Below −1022.5·ln 2 the exponent's bits are 0, and so is the factor 2ⁿ.
    let limited = maximum(x, Self(repeating: -709))
    // The shift carries the exponent's bias as well: its low bits, moved up, are 2ⁿ. NaN passes through the
    // arithmetic, whatever its payload makes of that factor.
    let shift = Self(repeating: roundingShift + 1023)
    let shifted = multiplyAdd(limited, Self(repeating: 0x1.71547652b82fep0), shift)
    let power = unsafeBitCast(
      unsafeBitCast(shifted, to: SIMD8<Int64>.self) &<< SIMD8<Int64>(repeating: 52), to: Self.self)
    let n = shifted - shift
    var r = multiplyAdd(n, Self(repeating: -0x1.62e42fee00000p-1), limited)
    r = multiplyAdd(n, Self(repeating: -0x1.a39ef35793c76p-33), r)
    return multiplyAdd(expMinusOne(reduced: r), power, power)
  }

  @inline(__always)
  static var lowestExponent: Double { -709 }

  @inline(__always)
  static var exponentShift: Double { roundingShift + 1023 }

  @inline(__always)
  static func exp(_ x: Self, shift: Self) -> Self {
    let shifted = multiplyAdd(x, Self(repeating: 0x1.71547652b82fep0), shift)
    let power = unsafeBitCast(
      unsafeBitCast(shifted, to: SIMD8<Int64>.self) &<< SIMD8<Int64>(repeating: 52), to: Self.self)
    let n = shifted - shift
    var r = multiplyAdd(n, Self(repeating: -0x1.62e42fee00000p-1), x)
    r = multiplyAdd(n, Self(repeating: -0x1.a39ef35793c76p-33), r)
    return multiplyAdd(expMinusOne(reduced: r), power, power)
  }

  @inline(__always)
  static func exp(ofSummand x: Self) -> Self { exp(nonPositive: x) }

  @inline(__always)
  public static func expMinusOne(_ x: Self) -> Self {
    let limited = minimum(maximum(x, Self(repeating: -38)), Self(repeating: 710))
    let (integer, _, r) = reduced(limited)
    let half = integer &>> SIMD8<Int64>(repeating: 1)
    let (first, second) = (power(ofTwo: half), power(ofTwo: integer &- half))
    // 2ⁿ·(eʳ − 1) + (2ⁿ − 1), halved where 2ⁿ itself would overflow.
    let scaled = expMinusOne(reduced: r) * first
    let result = multiplyAdd(scaled, second, multiplyAdd(first, second, Self(repeating: -1)))
    return result.replacing(with: (scaled + first) * second, where: Self(repeating: 700) .< limited)
      .withSign(of: x)
  }

  /// log(1 + f) + k·ln 2 for √½ ≤ 1 + f < √2.
  @inline(__always)
  private static func log(onePlusReduced f: Self, exponent k: Self) -> Self {
    let s = f / (Self(repeating: 2) + f)
    let z = s * s
    var residue = multiplyAdd(
      Self(repeating: 0x1.2ef06c255b517p-3), z, Self(repeating: 0x1.39a3f9405dc3dp-3))
    residue = multiplyAdd(residue, z, Self(repeating: 0x1.746626924d4c9p-3))
    residue = multiplyAdd(residue, z, Self(repeating: 0x1.c71c528d6763fp-3))
    residue = multiplyAdd(residue, z, Self(repeating: 0x1.2492494137639p-2))
    residue = multiplyAdd(residue, z, Self(repeating: 0x1.9999999980d5dp-2))
    residue = multiplyAdd(residue, z, Self(repeating: 0x1.555555555558fp-1))
    // log(1 + f) = f − f²/2 + s·(f²/2 + z·residue), since 2s = f − s·f.
    let halfSquare = Self(repeating: 0.5) * f * f
    let low = multiplyAdd(
      s, multiplyAdd(residue, z, halfSquare), k * Self(repeating: 0x1.a39ef35793c76p-33))
    return multiplyAdd(k, Self(repeating: 0x1.62e42fee00000p-1), f - (halfSquare - low))
  }

  /// Splits a positive normal number into 2ᵏ·(1 + f).
  @inline(__always)
  private static func split(_ x: Self) -> (k: SIMD8<Int64>, mantissa: Self) {
    let bits = unsafeBitCast(x, to: SIMD8<Int64>.self)
    let k = (bits &- SIMD8<Int64>(repeating: 0x3fe6_a09e_667f_3bcd)) &>> SIMD8<Int64>(repeating: 52)
    let mantissa = bits &- (k &<< SIMD8<Int64>(repeating: 52))
    return (k, unsafeBitCast(mantissa, to: Self.self))
  }

  /// A small integer as a double.
  @inline(__always)
  private static func double(_ integer: SIMD8<Int64>) -> Self {
    let bits = integer &+ SIMD8<Int64>(repeating: Int64(bitPattern: roundingShift.bitPattern))
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
    let normal = x.replacing(with: x * Self(repeating: 0x1p52), where: isSubnormal)
    let (k, mantissa) = split(normal)
    let exponent = double(k).replacing(with: double(k) - Self(repeating: 52), where: isSubnormal)
    return log(onePlusReduced: mantissa - Self(repeating: 1), exponent: exponent)
      .withLogarithmLimits(of: x)
  }

  @inline(__always)
  public static func log(onePlus x: Self) -> Self {
    let sum = Self(repeating: 1) + x
    let (k, mantissa) = split(sum)
    // What rounding took from 1 + x, on the scale of the mantissa; nothing where x alone decides.
    let lost = (x - (sum - Self(repeating: 1))) * power(ofTwo: SIMD8<Int64>(repeating: 0) &- k)
    let correction = lost.replacing(with: Self(repeating: 0), where: Self(repeating: 0x1p120) .< x)
    return log(onePlusReduced: (mantissa - Self(repeating: 1)) + correction, exponent: double(k))
      .withLogarithmLimits(of: sum)
      .withSign(of: x)
  }

  @inline(__always)
  public static func log(onePlusFraction x: Self) -> Self {
    // log(1 + x) = log 2 + log(1 + (x − 1)/2) above √2 − 1.
    let one = Self(repeating: 1)
    let isLarge = Self(repeating: 0x1.a827ap-2) .< x
    let f = x.replacing(with: (x - one) * Self(repeating: 0.5), where: isLarge)
    return log(onePlusReduced: f, exponent: Self(repeating: 0).replacing(with: one, where: isLarge))
  }

  @inline(__always)
  public static func tanh(_ x: Self) -> Self {
    // With t = e^(−2|x|): (1 − t) / (1 + t) from t − 1 where that is less than ½, 1 − 2t / (1 + t) from t elsewhere.
    // The last difference rounds once, where a quotient just below 1 would double what its parts have lost.
    let one = Self(repeating: 1)
    let magnitude = x.magnitude
    let (integer, _, r) = reduced(maximum(.zero - (magnitude + magnitude), Self(repeating: -80)))
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
