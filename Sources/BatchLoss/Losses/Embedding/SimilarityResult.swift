/// The cost of a loss on similarities a·s + b and its derivatives by their parameters.
public struct SimilarityResult: Hashable, Sendable {
  /// The reduction of all losses.
  public let cost: Cost
  /// How many losses there were: anchors, or pairs where the loss is one of pairs.
  public let valid: Int
  /// The scale a of similarities: 1/temperature.
  public let scale: Double
  /// ∂cost/∂a; `nil` when no gradient was asked for.
  public let scaleGradient: Double?
  /// ∂cost/∂b; `nil` when no gradient was asked for.
  public let biasGradient: Double?

  /// ∂cost/∂temperature, where a = 1/temperature; `nil` when no gradient was asked for.
  public var temperatureGradient: Double? { scaleGradient.map { -$0 * scale * scale } }
}
