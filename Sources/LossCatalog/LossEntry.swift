import BatchLoss

/// Evaluates one named loss from inputs by role.
package protocol LossEvaluator: Sendable {
  /// The cost, losses and gradients of a problem.
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome

  /// What `.mean` and its relatives contribute to the divisor from these rows, from labels and weights alone;
  /// the numbers of all parts add up to the divisor of the batch. `rows` and `columns` are those of the batch part.
  func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) throws(BatchLossError) -> Double
}

extension LossEvaluator {
  /// Losses that are evaluated whole never ask.
  package func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) -> Double { 1 }
}

/// A loss as the commands know it.
package struct LossEntry: Sendable {
  package let name: String
  package let formula: String
  package let roles: [RoleUse]
  package let options: [OptionName]
  package let defaultReduction: Reduction
  /// What has a loss of its own.
  package enum Sample: Sendable {
    case element, row
    /// Every row with every row.
    case pair
    /// All frames of one utterance; the utterances are the first axis, or the second in time-major order.
    case utterance
  }

  package let sample: Sample
  /// Whether rows have losses of their own where none of the inputs is a batch of `embeddings`.
  private let isRowWise: Bool
  package let evaluator: any LossEvaluator

  package init(
    name: String, formula: String, roles: [RoleUse], options: [OptionName] = [],
    defaultReduction: Reduction = .mean, sample: Sample = .row, isRowWise: Bool = true,
    evaluator: any LossEvaluator
  ) {
    self.name = name
    self.formula = formula
    self.roles = roles
    self.options = options
    self.defaultReduction = defaultReduction
    self.sample = sample
    self.isRowWise = isRowWise
    self.evaluator = evaluator
  }

  /// Whether the rows of these inputs can be evaluated in parts: embeddings are compared with each other.
  package func isRowWise(given roles: [Role]) -> Bool { isRowWise && !roles.contains(.embeddings) }

  /// The shape of the losses of a batch, from the shape of the input that leads it.
  package func lossesShape(leading: [Int], options: LossOptions) -> [Int] {
    switch sample {
    case .element: leading
    case .row: Array(leading.dropLast())
    case .pair: [leading.first ?? 0, leading.first ?? 0]
    case .utterance: leading.count == 3 ? [leading[options.flag(.timeMajor) ? 1 : 0]] : []
    }
  }
}

/// The losses by name; a new one is added here.
package enum LossCatalog {
  package static let entries: [LossEntry] =
    LossEntry.elementwise + [
      .softmaxCrossEntropy, .klDivergence, .contrastive, .triplet, .infoNCE, .supervisedContrastive, .clip, .sigLIP,
      .nPairs, .multiSimilarity, .arcFace, .cosFace, .cosineEmbedding, .ctc,
    ]

  package static subscript(name: String) -> LossEntry? { entries.first { $0.name == name } }
}
