/// How losses become one cost: what their sum is divided by.
public enum Reduction: String, Hashable, Sendable, CaseIterable {
  /// The number of contributing samples; with weights their sum, as PyTorch's cross-entropy divides.
  case mean
  /// The number of contributing samples whatever their weights.
  case meanOverCount
  /// 1.
  case sum
  /// The number of rows of the batch.
  case batchMean
  /// The number of losses greater than 0. It is known only after all losses are, so a gradient takes a
  /// second pass.
  case meanOverActive
}
