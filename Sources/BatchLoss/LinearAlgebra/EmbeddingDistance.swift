import BatchLossKernelInterface

/// How far two embeddings x and y are from each other.
///
/// There is no ε inside: identical rows have distance exactly 0, where the subgradient is 0.
public enum EmbeddingDistance: String, Hashable, Sendable, CaseIterable {
  /// ‖x − y‖.
  case euclidean
  /// ‖x − y‖².
  case squaredEuclidean = "squared-euclidean"
  /// 1 − x·y / (‖x‖·‖y‖). A row of zeros has similarity 0, so distance 1, to all others, and gradient 0.
  case cosine

  var form: DistanceForm {
    switch self {
    case .euclidean: .root
    case .squaredEuclidean: .squared
    case .cosine: .half
    }
  }

  var pairForm: PairDistanceForm {
    switch self {
    case .euclidean: .root
    case .squaredEuclidean: .squared
    case .cosine: .cosine
    }
  }

  var preparation: RowPreparation { self == .cosine ? .normalization : .centering }
}
