import BatchLoss
import BatchLossCatalog
import BatchLossTestSupport
import Testing

// Given pairs and triplets in parts, as the command streams them, against all at once: losses and gradients bit for bit,
// the cost but for the order of additions.

@Suite struct PartsOfGivenRowsTests {
  private struct Inputs {
    let rows: Int
    let columns: Int
    let matrices: [Role: GuardedBuffer<Float>]
    let same: [Int64]

    /// The inputs of some rows, with memory for their outputs.
    func problem(_ part: Range<Int>) -> (
      LossProblem<Float>, losses: GuardedBuffer<Float>, gradients: [Role: GuardedBuffer<Float>]
    ) {
      var problem = LossProblem<Float>()
      let losses = GuardedBuffer<Float>(rows: 1, columns: part.count)
      var gradients: [Role: GuardedBuffer<Float>] = [:]
      for (role, matrix) in matrices {
        let columns = matrix.columns
        let elements = part.lowerBound * columns..<part.upperBound * columns
        problem.matrices[role] = Rows(
          elements: UnsafeBufferPointer(rebasing: matrix.readOnlyMemory[elements]), rows: part.count,
          columns: columns)
        if role != .weights {
          gradients[role] = GuardedBuffer(rows: part.count, columns: columns)
          problem.gradients[role] = gradients[role]!.memory
        }
      }
      problem.losses = losses.memory
      return (problem, losses, gradients)
    }
  }

  private func inputs(_ roles: [Role], weighted: Bool) -> Inputs {
    var samples = Samples(41)
    let (rows, columns) = (301, 7)
    var matrices: [Role: GuardedBuffer<Float>] = [:]
    for role in roles {
      matrices[role] = GuardedBuffer(rows: rows, columns: columns, samples.numbers(rows * columns).map(Float.init))
    }
    if weighted { matrices[.weights] = GuardedBuffer(rows: rows, columns: 1, (0..<rows).map { Float($0 % 4) }) }
    return Inputs(rows: rows, columns: columns, matrices: matrices, same: (0..<rows).map { Int64($0 % 2) })
  }

  private func check(_ name: String, _ inputs: Inputs, _ reduction: Reduction) throws {
    let entry = try #require(LossCatalog[name])
    try inputs.same.withUnsafeBufferPointer { same in
      func evaluate(_ part: Range<Int>, denominator: Double?, reduction: Reduction) throws -> (
        LossOutcome, losses: [Float], gradients: [Role: [Float]]
      ) {
        var (problem, losses, gradients) = inputs.problem(part)
        if name != "triplet" { problem.integers[.same] = UnsafeBufferPointer(rebasing: same[part]) }
        problem.reduction = reduction
        problem.denominator = denominator
        let outcome = try entry.evaluator.evaluate(problem)
        #expect(losses.isIntact && gradients.values.allSatisfy(\.isIntact))
        return (outcome, losses.elements, gradients.mapValues { $0.elements })
      }
      let whole = try evaluate(0..<inputs.rows, denominator: nil, reduction: reduction)
      let parts = [0..<128, 128..<129, 129..<inputs.rows]
      let denominator = try parts.reduce(0) { total, part in
        reduction == .meanOverActive
          ? total + (try evaluate(part, denominator: nil, reduction: reduction).0.cost.denominator)
          : total
            + (try entry.evaluator.denominator(
              inputs.problem(part).0, rows: part.count, columns: inputs.columns, reduction: reduction))
      }
      #expect(denominator == whole.0.cost.denominator * (reduction == .sum ? 3 : 1))
      let divisor = whole.0.cost.denominator
      var (outcome, losses) = (LossOutcome(cost: Cost(sum: 0, denominator: divisor)), [Float]())
      var gradients: [Role: [Float]] = [:]
      for part in parts {
        let result = try evaluate(part, denominator: divisor, reduction: .sum)
        outcome.add(result.0)
        losses += result.losses
        gradients.merge(result.gradients) { $0 + $1 }
      }
      #expect(relativeError(outcome.cost.sum, whole.0.cost.sum) < 1e-12 && outcome.cost.denominator == divisor)
      #expect(outcome.details.map(\.name) == ["valid", "active"])
      #expect(outcome.details.map(\.value) == whole.0.details.map(\.value))
      #expect(losses == whole.losses && gradients == whole.gradients)
    }
  }

  @Test(arguments: ["contrastive", "cosine-embedding", "triplet"], [true, false])
  func partsGiveWhatTheWholeGives(name: String, weighted: Bool) throws {
    let roles: [Role] = name == "triplet" ? [.anchors, .positives, .negatives] : [.first, .second]
    for reduction in Reduction.allCases { try check(name, inputs(roles, weighted: weighted), reduction) }
  }

  @Test func batchesStayWhole() throws {
    for (name, roles) in [("contrastive", [Role.first, .second, .same]), ("triplet", [.anchors])] {
      let entry = try #require(LossCatalog[name])
      #expect(entry.isRowWise(given: roles) && !entry.isRowWise(given: [.embeddings, .labels]))
    }
    for entry in LossCatalog.entries where entry.roles.contains(where: { $0.role == .embeddings }) {
      #expect(!entry.isRowWise(given: [.embeddings, .labels]))
    }
    for name in ["info-nce", "clip", "siglip", "n-pairs"] {
      #expect(try #require(LossCatalog[name]).isRowWise(given: [.queries, .keys]) == false)
    }
  }
}
