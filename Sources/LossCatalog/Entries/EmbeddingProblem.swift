import BatchLoss

// What the entries of losses on embeddings share.

extension LossProblem {
  /// Whether a batch with labels is given. It and the other roles exclude each other, and one of the two is needed.
  func isLabelledBatch(insteadOf others: [Role]) throws(BatchLossError) -> Bool {
    func isGiven(_ role: Role) -> Bool { matrices[role] != nil || integers[role] != nil }
    let isLabelled = isGiven(.embeddings) || isGiven(.labels)
    let hasOthers = others.contains(where: isGiven)
    guard isLabelled != hasOthers else {
      throw BatchLossError(
        .unsupportedCombination, parameter: "\(Role.embeddings.rawValue), \(others[0].rawValue)",
        expected: "one of the two", actual: hasOthers ? "both" : "none")
    }
    return isLabelled
  }

  /// Which pairs are similar, from numbers that are 1 and 0.
  func similar() throws(BatchLossError) -> [Bool] {
    let same = try labels(.same)
    for (row, value) in same.enumerated() where value != 0 && value != 1 {
      throw BatchLossError(
        .invalidLabel, parameter: Role.same.rawValue, expected: "0 or 1 in row \(row)", actual: "\(value)")
    }
    return same.map { $0 == 1 }
  }
}

/// A loss whose given rows count by their weights alone.
protocol WeightedRowsEvaluator: LossEvaluator {}

extension WeightedRowsEvaluator {
  func denominator<Scalar: LossScalar>(
    _ problem: LossProblem<Scalar>, rows: Int, columns: Int, reduction: Reduction
  ) -> Double { rowDenominator(problem.span(.weights), rows: rows, reduction: reduction) }
}

extension LossOptions {
  func distance() throws(BatchLossError) -> EmbeddingDistance { try choice(.distance, default: .euclidean) }
}

extension LossOutcome {
  init(_ result: MiningResult) {
    self.init(cost: result.cost, details: [("valid", Double(result.valid)), ("active", Double(result.active))])
  }

  /// A result with the derivatives by parameters that the loss has, where gradients were asked for.
  init(_ result: SimilarityResult, _ derivatives: [(name: String, value: Double?)] = []) {
    self.init(
      cost: result.cost,
      details: [("valid", Double(result.valid))]
        + derivatives.compactMap { name, value in value.map { (name, $0) } })
  }
}

/// Calls the library, whose parameters have other names than the roles, and puts those of the roles into errors.
func renaming<Result>(
  _ names: [String: Role], _ body: () throws(BatchLossError) -> Result
) throws(BatchLossError) -> Result {
  do {
    return try body()
  } catch {
    guard let role = names[error.parameter] else { throw error }
    throw BatchLossError(error.code, parameter: role.rawValue, expected: error.expected, actual: error.actual)
  }
}
