import BatchLoss
import BatchLossCatalog

extension LossEntry {
  /// The distances of all rows of a matrix in the form of a loss, so that they are measured like one. The matrix takes
  /// the place of the losses, and the distance of the first row from the last that of the cost.
  static let pairwiseDistance = LossEntry(
    name: "pairwise-distance", formula: "‖x − y‖", roles: [RoleUse(.embeddings, .matrix)], sample: .pair,
    isRowWise: false, evaluator: PairwiseDistanceEvaluator())
}

private struct PairwiseDistanceEvaluator: LossEvaluator {
  func evaluate<Scalar: LossScalar>(_ problem: LossProblem<Scalar>) throws(BatchLossError) -> LossOutcome {
    guard let rows = problem.matrices[.embeddings], let distances = problem.losses else {
      throw BatchLossError(.invalidShape, parameter: "embeddings", expected: "an input", actual: "none")
    }
    let output = try MutableMatrixView(unsafeElements: distances, rows: rows.rows, columns: rows.rows)
    try PairwiseDistance().evaluate(
      MatrixView(unsafeElements: rows.elements, rows: rows.rows, columns: rows.columns), into: output,
      engine: problem.engine)
    let corner = rows.rows == 0 ? 0 : Double(distances[rows.rows - 1])
    return LossOutcome(cost: Cost(sum: corner, denominator: 1))
  }
}
