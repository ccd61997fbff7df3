import BatchLossCatalog

extension Workload {
  /// Every workload; a new one is added here.
  static let all: [Workload] = elementwise + softmax + klDivergence + embeddings + [ctc]

  private static let elementwiseShape = Dimensions([.rows: 4096, .columns: 4096])

  private static let elementwise: [Workload] = [
    elementwise("mean-squared-error"), elementwise("mean-absolute-error"), elementwise("huber"),
    elementwise("smooth-l1"), elementwise("log-cosh"), elementwise("quantile", options: [.quantile: 0.9]),
    elementwise("poisson", targets: .uniform(0...4)), elementwise("hinge", targets: .coin(-1, 1)),
    elementwise("squared-hinge", targets: .coin(-1, 1)),
    elementwise("binary-cross-entropy", .logits, targets: .coin(0, 1)),
    elementwise(
      "binary-cross-entropy-probabilities", of: "binary-cross-entropy", .probabilities, .uniform(0.001...0.999),
      targets: .coin(0, 1)),
    elementwise("focal", .logits, targets: .coin(0, 1)),
  ]

  private static func elementwise(
    _ name: String, of loss: String? = nil, _ role: Role = .predictions,
    _ predictions: InputRecipe.Content = .normal(scale: 2), targets: InputRecipe.Content = .normal(scale: 1),
    options: [OptionName: Double] = [:]
  ) -> Workload {
    Workload(
      name, entry: LossCatalog[loss ?? name], options: LossOptions(options), shapes: [elementwiseShape],
      inputs: {
        [
          InputRecipe(role, $0[.rows], $0[.columns], content: predictions, differentiable: true),
          InputRecipe(.targets, $0[.rows], $0[.columns], content: targets),
        ]
      },
      traffic: { (2 * $0[.rows] * $0[.columns], $0[.rows] * $0[.columns]) }, evaluatesInPlace: true)
  }

  private static let softmax: [Workload] = [
    softmax("softmax-cross-entropy"),
    softmax("softmax-cross-entropy-suite", shapes: [[65536, 10], [8192, 1000], [1024, 32000], [256, 128256]]),
    // With class weights as well.
    softmax("softmax-cross-entropy-smoothed", options: [.labelSmoothing: 0.1], weighted: true),
    softmax("softmax-cross-entropy-label-smoothing", options: [.labelSmoothing: 0.1]),
    softmax("softmax-cross-entropy-weighted", weighted: true),
    softmax("softmax-cross-entropy-capped", options: [.softCap: 30]),
    Workload(
      "softmax-cross-entropy-probabilities", entry: LossCatalog["softmax-cross-entropy"], shapes: [rowwiseShape],
      inputs: {
        [
          InputRecipe(.logits, $0[.rows], $0[.columns], content: .normal(scale: 2), differentiable: true),
          probabilities($0),
        ]
      },
      traffic: { (2 * $0[.rows] * $0[.columns], $0[.rows] * $0[.columns]) }, evaluatesInPlace: true,
      columnsName: .classes),
  ]

  private static let rowwiseShape = Dimensions([.rows: 8192, .columns: 1000])

  /// Of a mean sum of 1.
  private static func probabilities(_ shape: Dimensions) -> InputRecipe {
    InputRecipe(.targets, shape[.rows], shape[.columns], content: .uniform(0...2 / Double(max(1, shape[.columns]))))
  }

  /// Weighted means class weights.
  private static func softmax(
    _ name: String, shapes: [[Int]] = [[8192, 1000]], options: [OptionName: Double] = [:], weighted: Bool = false
  ) -> Workload {
    Workload(
      name, entry: LossCatalog["softmax-cross-entropy"],
      options: LossOptions(options),
      shapes: shapes.map { Dimensions([.rows: $0[0], .columns: $0[1]]) },
      inputs: { shape in
        let (rows, columns) = (shape[.rows], shape[.columns])
        return [
          InputRecipe(.logits, rows, columns, content: .normal(scale: 2), differentiable: true),
          InputRecipe(.targets, rows, content: .labels(0..<columns)),
        ] + (weighted ? [InputRecipe(.classWeights, columns, content: .uniform(0.5...1.5))] : [])
      },
      traffic: { ($0[.rows] * $0[.columns], $0[.rows] * $0[.columns]) }, evaluatesInPlace: true,
      columnsName: .classes)
  }

  private static let klDivergence = [
    Workload(
      "kl-divergence", shapes: [rowwiseShape],
      inputs: {
        [
          InputRecipe(.logits, $0[.rows], $0[.columns], content: .normal(scale: 2), differentiable: true),
          InputRecipe(.targetLogits, $0[.rows], $0[.columns], content: .normal(scale: 2), differentiable: true),
        ]
      },
      traffic: { (2 * $0[.rows] * $0[.columns], 2 * $0[.rows] * $0[.columns]) }, columnsName: .classes),
    Workload(
      "kl-divergence-probabilities", entry: LossCatalog["kl-divergence"], shapes: [rowwiseShape],
      inputs: {
        [
          InputRecipe(
            .logProbabilities, $0[.rows], $0[.columns], content: .uniform(-12 ... -4), differentiable: true),
          probabilities($0),
        ]
      },
      traffic: { (2 * $0[.rows] * $0[.columns], $0[.rows] * $0[.columns]) }, columnsName: .classes),
  ]

  private static let ctc = Workload(
    "ctc",
    shapes: [
      [500, 64, 32, 100], [1000, 16, 1000, 80], [150, 128, 5000, 20], [50, 1024, 32, 10],
    ].map { Dimensions([.time: $0[0], .batch: $0[1], .classes: $0[2], .labels: $0[3]]) },
    inputs: {
      [
        InputRecipe(
          .logits, $0[.batch], $0[.time], $0[.classes], content: .normal(scale: 1), differentiable: true),
        InputRecipe(.targets, $0[.batch], $0[.labels], content: .labels(1..<max(2, $0[.classes]))),
      ]
    },
    traffic: { ($0[.time] * $0[.batch] * $0[.classes], $0[.time] * $0[.batch] * $0[.classes]) },
    evaluatesInPlace: true)
}
