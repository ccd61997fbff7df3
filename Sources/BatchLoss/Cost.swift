/// What a batch costs: the reduction of all its losses, in float64.
///
/// `value` is `sum / denominator`. Where nothing contributes (no rows, all rows ignored, weights that add
/// up to 0) the denominator is 0, the value is 0 and the gradient is exactly 0, and the caller can tell.
/// Micro-batches combine by adding sums and denominators.
public struct Cost: Hashable, Sendable {
  /// The sum of the weighted losses.
  public let sum: Double
  /// What the sum is divided by.
  public let denominator: Double

  /// A cost of a sum over a denominator.
  public init(sum: Double, denominator: Double) {
    self.sum = sum
    self.denominator = denominator
  }

  /// `sum / denominator`, or 0 where the denominator is 0; NaN stays NaN.
  public var value: Double { denominator == 0 && !sum.isNaN ? 0 : sum / denominator }

  /// The cost of two batches together.
  public static func + (left: Cost, right: Cost) -> Cost {
    Cost(sum: left.sum + right.sum, denominator: left.denominator + right.denominator)
  }
}
