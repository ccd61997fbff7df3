import BatchLossKernelInterface
import Glibc

// What each elementary function should yield, and how far from it a kernel may be.

extension ElementaryFunction {
  /// The function by the C library in float64, whose error is far below what matters for `Float`.
  package func exact(_ x: Double) -> Double {
    switch self {
    case .exp, .expOfNonPositive, .expOfSummand: Glibc.exp(x)
    case .expMinusOne: Glibc.expm1(x)
    case .log: Glibc.log(x)
    case .logOnePlus, .logOnePlusFraction: Glibc.log1p(x)
    case .root: x.squareRoot()
    case .inverseRoot: x == 0 ? 0 : 1 / x.squareRoot()
    case .tanh: Glibc.tanh(x)
    case .softplus: (x < 0 ? 0 : x) + Glibc.log1p(Glibc.exp(-abs(x)))
    case .sigmoid: x < 0 ? Glibc.exp(x) / (1 + Glibc.exp(x)) : 1 / (1 + Glibc.exp(-x))
    }
  }

  #if arch(x86_64)
    /// The function by the C library in the 64-bit mantissa of the x87, the yardstick for `Double`.
    package func exact(_ x: Float80) -> Float80 {
      switch self {
      case .exp, .expOfNonPositive, .expOfSummand: Glibc.exp(x)
      case .expMinusOne: Glibc.expm1(x)
      case .log: Glibc.log(x)
      case .logOnePlus, .logOnePlusFraction: Glibc.log1p(x)
      case .root: x.squareRoot()
      case .inverseRoot: x == 0 ? 0 : 1 / x.squareRoot()
      case .tanh: Glibc.tanh(x)
      case .softplus: (x < 0 ? 0 : x) + Glibc.log1p(Glibc.exp(-abs(x)))
      case .sigmoid: x < 0 ? Glibc.exp(x) / (1 + Glibc.exp(x)) : 1 / (1 + Glibc.exp(-x))
      }
    }
  #endif

  /// The arguments for which the function promises a value; NaN belongs to every domain.
  package var domain: ClosedRange<Double> {
    switch self {
    case .expOfNonPositive, .expOfSummand: -Double.infinity...0
    case .logOnePlusFraction: 0...1
    case .root, .inverseRoot: 0...Double.infinity
    default: -Double.infinity...Double.infinity
    }
  }

  /// Whether a result below the smallest normal number may be 0.
  package var flushesSubnormals: Bool {
    switch self {
    case .expOfNonPositive, .expOfSummand, .softplus, .sigmoid: true
    default: false
    }
  }

  /// Whether results below ½ are terms of a sum near 1, whose errors in `Float` count in units of the last place of ½.
  package var isTermOfSum: Bool { self == .expOfSummand }

  /// Whether f(−0) is −0.
  package var keepsNegativeZero: Bool {
    switch self {
    case .expMinusOne, .logOnePlus, .tanh: true
    default: false
    }
  }

  /// The largest error, in units of the last place of the exact result, that `docs/numerics.md` states.
  package var statedError: Double { 3 }
}
