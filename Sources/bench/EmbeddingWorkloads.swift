import BatchLossCatalog

extension Workload {
  /// Losses on embeddings, and the distances that some are made of.
  static let embeddings: [Workload] = [
    pairwiseDistance,
    given(
      "contrastive-pairs", loss: "contrastive", rows: [.first, .second],
      integers: { [InputRecipe(.same, $0[.rows], content: .labels(0..<2))] }),
    labelled("contrastive-all", loss: "contrastive", gradient: .products),
    given("triplet", loss: "triplet", rows: [.anchors, .positives, .negatives]),
    labelled("triplet-hard", loss: "triplet", mining: "batch-hard", gradient: .rows),
    labelled("triplet-semi-hard", loss: "triplet", mining: "batch-semi-hard", gradient: .rows),
    labelled(
      "triplet-all", loss: "triplet", mining: "batch-all", shapes: [[512, 128, 16], [8192, 128, 64]],
      gradient: .products),
    matched("clip", shapes: [[4096, 512]], options: [.temperature: temperature]),
    matched("siglip", shapes: [[4096, 512]]),
    labelled(
      "supervised-contrastive", loss: "supervised-contrastive", options: [.temperature: temperature],
      gradient: .products),
    matched("info-nce", shapes: [[4096, 128], [65536, 128]], options: [.temperature: temperature]),
    matched("n-pairs", roles: (.anchors, .positives), shapes: [[4096, 128]]),
    labelled("multi-similarity", loss: "multi-similarity", gradient: .products),
    centres("arc-face"), centres("cos-face"),
    given(
      "cosine-embedding", loss: "cosine-embedding", rows: [.first, .second],
      integers: { [InputRecipe(.same, $0[.rows], content: .labels(0..<2))] }),
  ]

  private static let temperature = 0.1

  /// Distances of embeddings lie about 1, so that a margin of 1 leaves some pairs inside and some outside.
  private static func embeddings(_ role: Role, _ shape: Dimensions, differentiable: Bool = true) -> InputRecipe {
    InputRecipe(
      role, shape[.rows], shape[.columns], content: .normal(scale: 1 / (2 * Double(shape[.columns])).squareRoot()),
      differentiable: differentiable)
  }

  /// The operations of one product of all rows with all rows.
  private static func square(_ shape: Dimensions) -> Double {
    2 * Double(shape[.rows]) * Double(shape[.rows]) * Double(shape[.columns])
  }

  private static let pairwiseDistance = Workload(
    "pairwise-distance", entry: .pairwiseDistance, shapes: [Dimensions([.rows: 4096, .columns: 128])],
    inputs: { [embeddings(.embeddings, $0, differentiable: false)] },
    // The matrix is there without gradients too.
    traffic: { ($0[.rows] * $0[.columns] + $0[.rows] * $0[.rows], 0) },
    products: { (square($0) / 2, 0) }, columnsName: .depth)

  /// Row i of one matrix with row i of others: no products.
  private static func given(
    _ name: String, loss: String, rows roles: [Role],
    integers: @escaping @Sendable (Dimensions) -> [InputRecipe] = { _ in [] }
  ) -> Workload {
    Workload(
      name, entry: LossCatalog[loss], shapes: [Dimensions([.rows: 65536, .columns: 128])],
      inputs: { shape in roles.map { embeddings($0, shape) } + integers(shape) },
      traffic: { (roles.count * $0[.rows] * $0[.columns], roles.count * $0[.rows] * $0[.columns]) })
  }

  /// How the gradient of a labelled batch comes about.
  private enum Gradient {
    /// By a product of the weights of all pairs.
    case products
    /// From the rows of the few pairs that were chosen.
    case rows
  }

  /// All pairs of a batch: half of them by symmetry, and, as weights of (i, j) and (j, i) can be added, one product
  /// for the gradient.
  private static func labelled(
    _ name: String, loss: String, mining: String? = nil, shapes: [[Int]] = [[4096, 128, 64]],
    options: [OptionName: Double] = [:], gradient: Gradient
  ) -> Workload {
    Workload(
      name, entry: LossCatalog[loss], options: LossOptions(options, words: mining.map { [.mining: $0] } ?? [:]),
      shapes: shapes.map { Dimensions([.rows: $0[0], .columns: $0[1], .classes: $0[2]]) },
      inputs: {
        [embeddings(.embeddings, $0), InputRecipe(.labels, $0[.rows], content: .classes($0[.classes]))]
      },
      traffic: { ($0[.rows] * $0[.columns], $0[.rows] * $0[.columns]) },
      products: { (square($0) / 2, gradient == .products ? square($0) : 0) }, columnsName: .depth)
  }

  /// Queries and keys: nothing is symmetric, and each side has a gradient of its own.
  private static func matched(
    _ name: String, roles: (Role, Role) = (.queries, .keys), shapes: [[Int]], options: [OptionName: Double] = [:]
  ) -> Workload {
    Workload(
      name, options: LossOptions(options), shapes: shapes.map { Dimensions([.rows: $0[0], .columns: $0[1]]) },
      inputs: { [embeddings(roles.0, $0), embeddings(roles.1, $0)] },
      traffic: { (2 * $0[.rows] * $0[.columns], 2 * $0[.rows] * $0[.columns]) },
      products: { (square($0), 2 * square($0)) }, columnsName: .depth)
  }

  /// Rows and the centres of classes.
  private static func centres(_ name: String) -> Workload {
    /// The operations of one product of all rows with all centres.
    @Sendable func product(_ shape: Dimensions) -> Double {
      2 * Double(shape[.rows]) * Double(shape[.classes]) * Double(shape[.columns])
    }
    return Workload(
      name, options: LossOptions([.scale: 16]),
      shapes: [Dimensions([.rows: 1024, .columns: 512, .classes: 10000])],
      inputs: { shape in
        let classes = Dimensions([.rows: shape[.classes], .columns: shape[.columns]])
        return [
          embeddings(.embeddings, shape), embeddings(.classCenters, classes),
          InputRecipe(.labels, shape[.rows], content: .labels(0..<shape[.classes])),
        ]
      },
      traffic: {
        let numbers = ($0[.rows] + $0[.classes]) * $0[.columns]
        return (numbers, numbers)
      },
      products: { (product($0), 2 * product($0)) }, columnsName: .depth)
  }
}
