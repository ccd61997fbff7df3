import BatchLoss
import Testing

// Against plain loops over all pairs in Double, gradients against central differences of these loops. Tolerances:
// `tolerance(_:)`; the worker count must not change a bit.

@Suite struct ContrastiveLossTests {
  private func cost(_ loss: ContrastiveLoss, _ distance: Double, similar: Bool) -> Double {
    let hinge =
      similar ? (loss.isLinear ? max(0, distance - loss.positiveMargin) : distance) : max(0, loss.margin - distance)
    return loss.isLinear ? hinge : 0.5 * hinge * hinge
  }

  private func allPairs(_ loss: ContrastiveLoss, _ x: [Double], _ columns: Int, _ labels: [Int]) -> (Double, Int) {
    let distances = referenceDistances(x, columns, loss.distance)
    var (sum, active) = (0.0, 0)
    for i in labels.indices {
      for j in labels.indices where j > i {
        let value = cost(loss, distances[i][j], similar: labels[i] == labels[j])
        sum += value
        if value > 0 { active += 1 }
      }
    }
    return (sum, active)
  }

  private static var losses: [ContrastiveLoss] {
    get throws {
      try EmbeddingDistance.allCases.flatMap { kind in
        [
          try ContrastiveLoss(margin: 1.25, distance: kind),
          try ContrastiveLoss(margin: 0.75, distance: kind, linear: true, positiveMargin: 0.25),
        ]
      }
    }
  }

  private func check<Scalar: LossScalar>(_: Scalar.Type, _ loss: ContrastiveLoss) throws {
    let tolerance = tolerance(Scalar.self)
    for (rows, columns, classes) in [(2, 1, 1), (5, 3, 2), (17, 16, 3), (40, 7, 4), (70, 5, 70)] {
      var samples = Samples(UInt64(rows))
      let x = samples.numbers(rows * columns)
      let labels = samples.labels(rows, below: classes)
      let (sum, active) = allPairs(loss, x, columns, labels)
      let pairs = Double(rows * (rows - 1) / 2)
      var gradient = [Scalar](repeating: -7, count: x.count)
      var losses = [Scalar](repeating: -7, count: rows)
      let embeddings = x.map { Scalar($0) }
      let result = try loss.evaluate(
        embeddings.matrix(columns: columns), labels: labels.span, losses: losses.mutableSpan,
        gradient: gradient.mutableMatrix(columns: columns))
      #expect(relativeError(result.cost.sum, sum) < tolerance.cost)
      #expect(result.cost.denominator == pairs && result.valid == Int(pairs) && result.active == active)
      #expect(relativeError(losses.reduce(0) { $0 + Double($1) }, sum) < 10 * tolerance.cost)
      let expected = finiteDifferences(x) { allPairs(loss, $0, columns, labels).0 / pairs }
      #expect(largestError(gradient, expected) < tolerance.gradient, "\(loss) \(rows)×\(columns)")
    }
  }

  @Test func allPairsMatchPlainLoops() throws {
    for loss in try Self.losses {
      try check(Float.self, loss)
      try check(Double.self, loss)
    }
  }

  private func checkFewSlopes<Scalar: LossScalar>(_: Scalar.Type, columns: Int) throws {
    let (rows, classes) = (150, 30)
    var samples = Samples(UInt64(columns))
    let x = samples.numbers(rows * columns)
    let labels = samples.labels(rows, below: classes)
    // Only pairs of a class, one in thirty, have a slope: x − y.
    var expected = [Double](repeating: 0, count: x.count)
    for i in 0..<rows {
      for j in 0..<rows where labels[i] == labels[j] {
        for column in 0..<columns {
          expected[i * columns + column] += x[i * columns + column] - x[j * columns + column]
        }
      }
    }
    let (loss, embeddings) = (try ContrastiveLoss(margin: 1e-6), x.map { Scalar($0) })
    var gradient = [Scalar](repeating: -7, count: x.count)
    _ = try loss.evaluate(
      embeddings.matrix(columns: columns), labels: labels.span, reduction: .sum,
      gradient: gradient.mutableMatrix(columns: columns))
    #expect(largestError(gradient, expected) < tolerance(Scalar.self).gradient, "\(columns) columns")
  }

  /// Tiles of which most weights are 0 take no product.
  @Test(arguments: [1, 16, 31, 64, 70, 129])
  func fewPairsWithSlopes(columns: Int) throws {
    try checkFewSlopes(Float.self, columns: columns)
    try checkFewSlopes(Double.self, columns: columns)
  }

  private func checkPairs<Scalar: LossScalar>(_: Scalar.Type, _ loss: ContrastiveLoss) throws {
    let tolerance = tolerance(Scalar.self)
    for (rows, columns) in [(1, 1), (3, 5), (9, 16), (20, 35)] {
      var samples = Samples(UInt64(rows))
      let (x, y) = (samples.numbers(rows * columns), samples.numbers(rows * columns))
      let similar = (0..<rows).map { $0 % 2 == 0 }
      let weights = (0..<rows).map { $0 == 4 ? 0 : 0.5 + Double($0) }
      func sum(_ x: [Double], _ y: [Double]) -> Double {
        (0..<rows).reduce(0) { total, row in
          let range = row * columns..<(row + 1) * columns
          let distance = referenceDistance(x[range], y[range], loss.distance)
          return total + weights[row] * cost(loss, distance, similar: similar[row])
        }
      }
      var (gx, gy) = (x.map { _ in Scalar(9) }, x.map { _ in Scalar(9) })
      let scalarWeights = weights.map { Scalar($0) }
      let (first, second) = (x.map { Scalar($0) }, y.map { Scalar($0) })
      let result = try loss.evaluate(
        first: first.matrix(columns: columns), second: second.matrix(columns: columns),
        similar: similar.span, weights: scalarWeights.span, firstGradient: gx.mutableMatrix(columns: columns),
        secondGradient: gy.mutableMatrix(columns: columns))
      let divisor = weights.reduce(0, +)
      #expect(relativeError(result.cost.value, sum(x, y) / divisor) < tolerance.cost)
      #expect(largestError(gx, finiteDifferences(x) { sum($0, y) / divisor }) < tolerance.gradient)
      #expect(largestError(gy, finiteDifferences(y) { sum(x, $0) / divisor }) < tolerance.gradient)
    }
  }

  @Test func givenPairsMatchPlainLoops() throws {
    for loss in try Self.losses {
      try checkPairs(Float.self, loss)
      try checkPairs(Double.self, loss)
    }
  }

  @Test func workersGiveTheSameBits() throws {
    var samples = Samples(5)
    let x = samples.numbers(700 * 20).map(Float.init)
    let labels = samples.labels(700, below: 9)
    let loss = try ContrastiveLoss(margin: 2)
    var first: (MiningResult, [Float])?
    for workers in [1, 2, 7] {
      var gradient = x
      let result = try loss.evaluate(
        x.matrix(columns: 20), labels: labels.span, gradient: gradient.mutableMatrix(columns: 20),
        engine: engine(workers: workers))
      if let first {
        #expect(first.0 == result && first.1 == gradient)
      } else {
        first = (result, gradient)
      }
    }
  }

  @Test func degenerateBatches() throws {
    for kind in EmbeddingDistance.allCases {
      let loss = try ContrastiveLoss(distance: kind)
      for rows in [0, 1] {
        var gradient = [Float](repeating: 5, count: 3 * rows)
        let (embeddings, labels) = ([Float](repeating: 1, count: 3 * rows), [Int](repeating: 0, count: rows))
        let result = try loss.evaluate(
          embeddings.matrix(columns: 3), labels: labels.span,
          gradient: gradient.mutableMatrix(columns: 3))
        #expect(result.cost.value == 0 && result.valid == 0 && gradient.allSatisfy { $0 == 0 })
      }
      // Identical rows of different classes cost ½·margin², without a direction to go; so do rows of zeros.
      for value: Float in [0, 2] {
        var gradient = [Float](repeating: 5, count: 12)
        let (embeddings, labels) = ([Float](repeating: value, count: 12), [0, 0, 1, 2])
        try loss.evaluate(
          embeddings.matrix(columns: 3), labels: labels.span,
          gradient: gradient.mutableMatrix(columns: 3))
        #expect(gradient.allSatisfy { $0 == 0 })
      }
    }
  }

  @Test func errorsComeBeforeOutput() throws {
    let loss = try ContrastiveLoss()
    var gradient: [Float] = [1, 2]
    let (embeddings, labels) = ([Float](repeating: 0, count: 2), [1])
    #expect(throws: BatchLossError.self) {
      try loss.evaluate(
        embeddings.matrix(columns: 1), labels: labels.span,
        gradient: gradient.mutableMatrix(columns: 1))
    }
    #expect(gradient == [1, 2])
    #expect(throws: BatchLossError.self) { try ContrastiveLoss(margin: -1) }
    #expect(throws: BatchLossError.self) { try ContrastiveLoss(margin: .nan) }
    #expect(throws: BatchLossError.self) { try ContrastiveLoss(positiveMargin: 1) }
  }
}
