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

/// A loss as the commands know it.
package struct LossEntry: Sendable {
  package let name: String
  package let formula: String
  package let roles: [RoleUse]
  package let options: [OptionName]
  package let defaultReduction: Reduction
  /// Whether losses are counted an element, not a row.
  package let isElementwise: Bool
  /// Whether rows can be evaluated in parts.
  package let isRowWise: Bool
  package let evaluator: any LossEvaluator

  package init(
    name: String, formula: String, roles: [RoleUse], options: [OptionName] = [],
    defaultReduction: Reduction = .mean, isElementwise: Bool = false, isRowWise: Bool = true,
    evaluator: any LossEvaluator
  ) {
    self.name = name
    self.formula = formula
    self.roles = roles
    self.options = options
    self.defaultReduction = defaultReduction
    self.isElementwise = isElementwise
    self.isRowWise = isRowWise
    self.evaluator = evaluator
  }
}

/// The losses by name; a new one is added here.
package enum LossCatalog {
  package static let entries: [LossEntry] =
    LossEntry.elementwise + [.softmaxCrossEntropy, .klDivergence]

  package static subscript(name: String) -> LossEntry? { entries.first { $0.name == name } }
}
