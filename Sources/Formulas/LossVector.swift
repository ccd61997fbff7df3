/// A short vector of real numbers, the currency in which an element-wise loss is written.
///
/// A formula over `LossVector` is written once and runs on every instruction set, in `Float` and in
/// `Double`: each lane is one element of the batch. There are no branches, since lanes differ; choose
/// between two values with ``replacing(with:where:)`` and a mask.
///
/// ```swift
/// let error = prediction - target
/// let magnitude = error.magnitude
/// let isQuadratic = magnitude .< V(delta)
/// ```
///
/// Comparisons follow IEEE 754: every comparison with NaN except `.!=` is false. `minimum`, `maximum` and
/// `clamped` therefore pass NaN of their first argument through.
///
/// The accuracy of the elementary functions, measured over all of `Float`, is listed in
/// `docs/numerics.md`: none is off by more than 3 ulp.
public protocol LossVector: Sendable {
  /// One truth value a lane.
  associatedtype Mask: LossMask

  /// The same value in every lane, rounded to the lanes' format.
  init(_ value: Double)

  /// The lane-wise sum.
  static func + (left: Self, right: Self) -> Self
  /// The lane-wise difference.
  static func - (left: Self, right: Self) -> Self
  /// The lane-wise product.
  static func * (left: Self, right: Self) -> Self
  /// The lane-wise quotient.
  static func / (left: Self, right: Self) -> Self
  /// The lane-wise negation.
  static prefix func - (operand: Self) -> Self

  /// Lanes in which `left` is less than `right`.
  static func .< (left: Self, right: Self) -> Mask
  /// Lanes in which `left` is less than or equal to `right`.
  static func .<= (left: Self, right: Self) -> Mask
  /// Lanes in which `left` equals `right`.
  static func .== (left: Self, right: Self) -> Mask

  /// `other` in the lanes where `mask` is true, `self` elsewhere.
  func replacing(with other: Self, where mask: Mask) -> Self

  /// The smaller of the two; `left` where either is NaN.
  static func minimum(_ left: Self, _ right: Self) -> Self
  /// The larger of the two; `left` where either is NaN.
  static func maximum(_ left: Self, _ right: Self) -> Self

  /// `left * right + addend`, rounded once where the processor has fused multiply-add.
  static func multiplyAdd(_ left: Self, _ right: Self, _ addend: Self) -> Self

  /// The absolute value.
  var magnitude: Self { get }
  /// The square root, correctly rounded; NaN below zero.
  func squareRoot() -> Self
  /// eˣ; 0 below the smallest subnormal, ∞ on overflow.
  static func exp(_ x: Self) -> Self
  /// eˣ for x ≤ 0, faster than ``exp(_:)``; may be 0 where the result would be subnormal.
  static func exp(nonPositive x: Self) -> Self
  /// eˣ − 1 without cancellation near 0.
  static func expMinusOne(_ x: Self) -> Self
  /// The natural logarithm; −∞ at 0, NaN below.
  static func log(_ x: Self) -> Self
  /// log(1 + x) without cancellation near 0; −∞ at −1, NaN below.
  static func log(onePlus x: Self) -> Self
  /// log(1 + x) for 0 ≤ x ≤ 1, faster than ``log(onePlus:)``.
  static func log(onePlusFraction x: Self) -> Self
  /// The hyperbolic tangent.
  static func tanh(_ x: Self) -> Self
}

/// The truth values of the lanes of a ``LossVector``.
public protocol LossMask: Sendable {
  /// Lanes true in both.
  static func .& (left: Self, right: Self) -> Self
  /// Lanes true in either.
  static func .| (left: Self, right: Self) -> Self
  /// Lanes that are false.
  static prefix func .! (operand: Self) -> Self
}

// MARK: - Derived operations

extension LossVector {
  /// Lanes in which `left` is greater than `right`.
  @inlinable @inline(__always)
  public static func .> (left: Self, right: Self) -> Mask { right .< left }

  /// Lanes in which `left` is greater than or equal to `right`.
  @inlinable @inline(__always)
  public static func .>= (left: Self, right: Self) -> Mask { right .<= left }

  /// The sum with one number.
  @inlinable @inline(__always)
  public static func + (left: Self, right: Double) -> Self { left + Self(right) }

  /// The difference with one number.
  @inlinable @inline(__always)
  public static func - (left: Self, right: Double) -> Self { left - Self(right) }

  /// The difference from one number.
  @inlinable @inline(__always)
  public static func - (left: Double, right: Self) -> Self { Self(left) - right }

  /// The product with one number.
  @inlinable @inline(__always)
  public static func * (left: Double, right: Self) -> Self { Self(left) * right }

  /// The smaller of the two; `left` where either is NaN.
  @inlinable @inline(__always)
  public static func minimum(_ left: Self, _ right: Self) -> Self {
    left.replacing(with: right, where: right .< left)
  }

  /// The larger of the two; `left` where either is NaN.
  @inlinable @inline(__always)
  public static func maximum(_ left: Self, _ right: Self) -> Self {
    left.replacing(with: right, where: left .< right)
  }

  /// `self` limited to `low...high`; NaN stays NaN.
  @inlinable @inline(__always)
  public func clamped(to range: ClosedRange<Double>) -> Self {
    .minimum(.maximum(self, Self(range.lowerBound)), Self(range.upperBound))
  }

  /// −1, 0 or 1: the derivative of ``magnitude`` with subgradient 0 at 0; NaN stays NaN.
  @inlinable @inline(__always)
  public var sign: Self {
    let zero = Self(0)
    return self.replacing(with: Self(1), where: zero .< self)
      .replacing(with: Self(-1), where: self .< zero)
  }

  /// log(1 + eˣ), which neither overflows nor cancels.
  @inlinable @inline(__always)
  public static func softplus(_ x: Self) -> Self {
    maximum(x, Self(0)) + log(onePlusFraction: exp(nonPositive: -x.magnitude))
  }

  /// 1 / (1 + e⁻ˣ), accurate in both tails.
  @inlinable @inline(__always)
  public static func sigmoid(_ x: Self) -> Self {
    let tail = exp(nonPositive: -x.magnitude)
    return Self(1).replacing(with: tail, where: x .< Self(0)) / (1 + tail)
  }

  /// The sum with one number.
  @inlinable @inline(__always)
  public static func + (left: Double, right: Self) -> Self { Self(left) + right }
}
