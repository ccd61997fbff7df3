/// The cost of pairs or triplets and how many there were.
public struct MiningResult: Hashable, Sendable {
  /// The reduction of all losses.
  public let cost: Cost
  /// How many pairs or triplets had a loss.
  public let valid: Int
  /// How many of these losses are greater than 0.
  public let active: Int
}
