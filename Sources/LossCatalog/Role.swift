/// What an input of a loss is, by the name that files, commands and fixtures use.
package enum Role: String, Hashable, Sendable, CaseIterable {
  case predictions, targets, logits, probabilities, weights
  case logProbabilities = "log-probabilities"
  case targetLogits = "target-logits"
  case classWeights = "class-weights"
  case inputLengths = "input-lengths"
  case targetLengths = "target-lengths"
  case embeddings, labels, first, second, same, anchors, positives, negatives, queries, keys
  case classCenters = "class-centers"
}

/// How a loss uses a role.
package struct RoleUse: Sendable {
  /// What kind of numbers a role holds.
  package enum Kind: Sendable {
    /// Real numbers, a row of the batch a row.
    case matrix
    /// One real number a row of the batch.
    case rowVector
    /// One real number a class.
    case classVector
    /// One real number a sample, where samples are not rows: an utterance.
    case sampleVector
    /// Real numbers in rows of their own: class centers.
    case table
    /// One class index a row of the batch.
    case labels
    /// Integers of any shape, which belong to the batch as a whole.
    case integers
  }

  package let role: Role
  /// The kinds that are understood; the numbers' type or shape decides between several.
  package let kinds: [Kind]
  package let isRequired: Bool
  package let isDifferentiable: Bool

  package init(_ role: Role, _ kinds: Kind..., required: Bool = true, differentiable: Bool = false) {
    self.role = role
    self.kinds = kinds
    isRequired = required
    isDifferentiable = differentiable
  }
}
