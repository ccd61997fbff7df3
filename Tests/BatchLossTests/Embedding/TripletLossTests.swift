import BatchLoss
import Testing

// Every kind of mining against loops over all n³ triplets in Double, on many small batches, with ties (embeddings
// on a coarse grid). Gradients against central differences of the loops, on batches without ties. The paths for few
// and for many positives of an anchor are both taken. Tolerances: `tolerance(_:)`.

@Suite struct TripletLossTests {
  /// The triplets that a loss finds, the lowest row among equals, and whether the negative is measured from the positive.
  private func forEachTriplet(
    _ loss: TripletLoss, _ d: [[Double]], _ labels: [Int], _ body: (Int, Int, Int, Bool) -> Void
  ) {
    for a in labels.indices {
      let positives = labels.indices.filter { $0 != a && labels[$0] == labels[a] }
      let negatives = labels.indices.filter { labels[$0] != labels[a] }
      guard !positives.isEmpty, !negatives.isEmpty else { continue }
      switch loss.mining {
      case .batchAll: for p in positives { for n in negatives { body(a, p, n, false) } }
      case .batchHard:
        let p = positives.max { d[a][$0] < d[a][$1] || (d[a][$0] == d[a][$1] && $0 > $1) }!
        let n = negatives.min { d[a][$0] < d[a][$1] || (d[a][$0] == d[a][$1] && $0 < $1) }!
        body(a, p, n, loss.swap && d[p][n] < d[a][n])
      case .batchSemiHard:
        for p in positives {
          let beyond = negatives.filter { d[a][$0] > d[a][p] }
          let n =
            beyond.min { d[a][$0] < d[a][$1] || (d[a][$0] == d[a][$1] && $0 < $1) }
            ?? negatives.max { d[a][$0] < d[a][$1] || (d[a][$0] == d[a][$1] && $0 > $1) }!
          body(a, p, n, false)
        }
      case .given: break
      }
    }
  }

  /// Sum, valid and active triplets by brute force.
  private func reference(
    _ loss: TripletLoss, _ x: [Double], _ columns: Int, _ labels: [Int]
  ) -> (sum: Double, valid: Int, active: Int) {
    let d = referenceDistances(x, columns, loss.distance)
    var (sum, valid, active) = (0.0, 0, 0)
    func add(_ positive: Double, _ negative: Double) {
      let u = positive - negative + loss.margin
      let hinge = max(0, u)
      let value = loss.smooth ? max(u, 0) + _log1p(_exp(-u.magnitude)) : loss.squared ? hinge * hinge : hinge
      sum += value
      valid += 1
      if value > 0 { active += 1 }
    }
    forEachTriplet(loss, d, labels) { a, p, n, isSwapped in add(d[a][p], isSwapped ? d[p][n] : d[a][n]) }
    return (sum, valid, active)
  }

  private static var losses: [TripletLoss] {
    get throws {
      var all: [TripletLoss] = []
      for mining in [TripletLoss.Mining.batchHard, .batchSemiHard, .batchAll] {
        for kind in EmbeddingDistance.allCases {
          all.append(try TripletLoss(margin: 0.25, distance: kind, mining: mining))
          all.append(try TripletLoss(margin: 0.5, distance: kind, mining: mining, smooth: true))
          all.append(try TripletLoss(margin: 0.5, distance: kind, mining: mining, squared: true))
        }
      }
      for kind in EmbeddingDistance.allCases {
        all.append(try TripletLoss(margin: 0.25, distance: kind, mining: .batchHard, swap: true))
      }
      return all
    }
  }

  private func check<Scalar: LossScalar>(
    _: Scalar.Type, _ loss: TripletLoss, rows: Int, columns: Int, classes: Int, seed: UInt64
  ) throws {
    let tolerance = tolerance(Scalar.self)
    var samples = Samples(seed)
    let x = samples.numbers(rows * columns)
    let labels = samples.labels(rows, below: classes)
    let expected = reference(loss, x, columns, labels)
    var gradient = [Scalar](repeating: 9, count: x.count)
    var losses = [Scalar](repeating: 9, count: rows)
    let (embeddings, classes) = (x.map { Scalar($0) }, labels.map { Int32($0) })
    let result = try loss.evaluate(
      embeddings.matrix(columns: columns), labels: classes.span,
      losses: losses.mutableSpan, gradient: gradient.mutableMatrix(columns: columns))
    #expect(result.valid == expected.valid)
    #expect(result.active == expected.active)
    #expect(relativeError(result.cost.sum, expected.sum) < tolerance.cost, "\(loss) \(rows)×\(columns)")
    #expect(relativeError(losses.reduce(0) { $0 + Double($1) }, expected.sum) < 10 * tolerance.cost)
    let valid = Double(max(1, expected.valid))
    // A short step: among many triplets some are near their kink.
    let slopes = finiteDifferences(x, step: 1e-7) { reference(loss, $0, columns, labels).sum / valid }
    #expect(largestError(gradient, slopes) < 10 * tolerance.gradient, "\(loss) \(rows)×\(columns) \(classes)")
  }

  @Test func miningMatchesBruteForce() throws {
    for loss in try Self.losses {
      for (index, shape) in [(3, 2, 2), (8, 3, 3), (13, 17, 2), (24, 4, 5)].enumerated() {
        try check(
          Float.self, loss, rows: shape.0, columns: shape.1, classes: shape.2, seed: UInt64(index + 20))
        try check(
          Double.self, loss, rows: shape.0, columns: shape.1, classes: shape.2, seed: UInt64(index + 90))
      }
    }
  }

  /// More positives than the path that looks at every pair takes.
  @Test func manyPositives() throws {
    for kind in EmbeddingDistance.allCases {
      for squared in [false, true] {
        let loss = try TripletLoss(margin: 0.25, distance: kind, mining: .batchAll, squared: squared)
        try check(Float.self, loss, rows: 90, columns: 2, classes: 2, seed: 1)
        try check(Double.self, loss, rows: 90, columns: 2, classes: 2, seed: 2)
      }
    }
  }

  /// Counts are exact with ties at the margin too: squared distances of a grid are integers, as the margin is.
  @Test func tiesAreCountedExactly() throws {
    for seed in 0..<200 {
      var samples = Samples(UInt64(seed))
      let rows = 2 + samples.label(below: seed % 10 == 0 ? 120 : 20)
      let x = samples.labels(rows * 2, below: 4).map(Double.init)
      let labels = samples.labels(rows, below: 1 + samples.label(below: 4))
      for mining in [TripletLoss.Mining.batchHard, .batchSemiHard, .batchAll] {
        for squared in [false, true] {
          let loss = try TripletLoss(margin: 2, distance: .squaredEuclidean, mining: mining, squared: squared)
          let expected = reference(loss, x, 2, labels)
          let embeddings = x.map(Float.init)
          let result = try loss.evaluate(embeddings.matrix(columns: 2), labels: labels.span)
          #expect(result.valid == expected.valid && result.active == expected.active)
          #expect(result.cost.sum == expected.sum)
        }
      }
    }
  }

  /// Among equals the lowest row gets the gradient, and the anchor where both sides are as near to the negative: squared
  /// distances of a grid and their gradients are integers.
  @Test func tiesGoToTheLowestRow() throws {
    for seed in 0..<100 {
      var samples = Samples(UInt64(seed + 500))
      let rows = 3 + samples.label(below: 20)
      let x = samples.labels(rows * 2, below: 4).map(Double.init)
      let labels = samples.labels(rows, below: 1 + samples.label(below: 4))
      let d = referenceDistances(x, 2, .squaredEuclidean)
      for (mining, swap) in [(TripletLoss.Mining.batchHard, false), (.batchHard, true), (.batchSemiHard, false)] {
        let loss = try TripletLoss(margin: 2, distance: .squaredEuclidean, mining: mining, swap: swap)
        var expected = x.map { _ in 0.0 }
        func push(_ i: Int, _ j: Int, _ slope: Double) {
          for column in 0..<2 {
            let difference = 2 * slope * (x[2 * i + column] - x[2 * j + column])
            expected[2 * i + column] += difference
            expected[2 * j + column] -= difference
          }
        }
        forEachTriplet(loss, d, labels) { a, p, n, isSwapped in
          guard d[a][p] - (isSwapped ? d[p][n] : d[a][n]) + 2 > 0 else { return }
          push(a, p, 1)
          push(isSwapped ? p : a, n, -1)
        }
        var gradient = x
        try loss.evaluate(
          x.matrix(columns: 2), labels: labels.span, reduction: .sum, gradient: gradient.mutableMatrix(columns: 2))
        #expect(gradient == expected, "\(mining) \(swap) \(seed)")
      }
    }
  }

  /// The case of pytorch-metric-learning's miner tests: embeddings 0…8, their hardest triplets by hand.
  @Test func hardestTripletsOfALine() throws {
    let x = (0..<9).map { Double($0) }
    let labels = [0, 0, 1, 1, 0, 2, 1, 1, 1]
    let (a, p, n) = ([0, 1, 2, 3, 4, 6, 7, 8], [4, 4, 8, 8, 0, 2, 2, 2], [2, 2, 1, 4, 3, 5, 5, 5])
    let loss = try TripletLoss(margin: 3, mining: .batchHard)
    let expected = a.indices.reduce(0.0) {
      $0 + max(0, (x[a[$1]] - x[p[$1]]).magnitude - (x[a[$1]] - x[n[$1]]).magnitude + 3)
    }
    let result = try loss.evaluate(x.matrix(columns: 1), labels: labels.span)
    #expect(result.valid == 8 && result.cost.sum == expected)
  }

  private func checkGiven<Scalar: LossScalar>(_: Scalar.Type, _ loss: TripletLoss) throws {
    let tolerance = tolerance(Scalar.self)
    for (rows, columns) in [(1, 3), (4, 5), (12, 16), (20, 35)] {
      var samples = Samples(UInt64(rows + 3))
      let x = samples.numbers(3 * rows * columns)
      let weights = (0..<rows).map { 0.5 + Double($0 % 3) }
      func sum(_ x: [Double]) -> Double {
        (0..<rows).reduce(0) { total, row in
          func part(_ index: Int) -> ArraySlice<Double> {
            let start = (index * rows + row) * columns
            return x[start..<start + columns]
          }
          let near = referenceDistance(part(0), part(1), loss.distance)
          var far = referenceDistance(part(0), part(2), loss.distance)
          if loss.swap { far = min(far, referenceDistance(part(1), part(2), loss.distance)) }
          let u = near - far + loss.margin
          let hinge = max(0, u)
          let value = loss.smooth ? hinge + _log1p(_exp(-u.magnitude)) : loss.squared ? hinge * hinge : hinge
          return total + weights[row] * value
        }
      }
      let size = rows * columns
      func role(_ index: Int) -> [Scalar] { x[index * size..<(index + 1) * size].map { Scalar($0) } }
      var (ga, gp, gn) = (role(0), role(0), role(0))
      let scalarWeights = weights.map { Scalar($0) }
      let (anchors, positives, negatives) = (role(0), role(1), role(2))
      let result = try loss.evaluate(
        anchors: anchors.matrix(columns: columns), positives: positives.matrix(columns: columns),
        negatives: negatives.matrix(columns: columns), weights: scalarWeights.span,
        anchorGradient: ga.mutableMatrix(columns: columns), positiveGradient: gp.mutableMatrix(columns: columns),
        negativeGradient: gn.mutableMatrix(columns: columns))
      let divisor = weights.reduce(0, +)
      #expect(relativeError(result.cost.value, sum(x) / divisor) < tolerance.cost)
      #expect(result.valid == rows)
      #expect(largestError(ga + gp + gn, finiteDifferences(x) { sum($0) / divisor }) < tolerance.gradient)
    }
  }

  @Test func givenTripletsMatchPlainLoops() throws {
    for kind in EmbeddingDistance.allCases {
      for swap in [false, true] {
        for (smooth, squared) in [(false, false), (true, false), (false, true)] {
          let loss = try TripletLoss(margin: 0.5, distance: kind, swap: swap, smooth: smooth, squared: squared)
          try checkGiven(Float.self, loss)
          try checkGiven(Double.self, loss)
        }
      }
    }
  }

  @Test(arguments: [TripletLoss.Mining.batchHard, .batchSemiHard, .batchAll])
  func workersGiveTheSameBits(mining: TripletLoss.Mining) throws {
    var samples = Samples(8)
    let x = samples.numbers(700 * 20).map(Float.init)
    let labels = samples.labels(700, below: 9)
    let loss = try TripletLoss(mining: mining)
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

  /// A small budget makes groups of anchors of a matrix of all distances; the cost is the same.
  @Test func budgetDoesNotChangeTheResult() throws {
    var samples = Samples(8)
    let x = samples.numbers(3000 * 4).map(Float.init)
    let labels = samples.labels(3000, below: 40)
    let loss = try TripletLoss(mining: .batchAll)
    var (large, small) = (x, x)
    let a = try loss.evaluate(x.matrix(columns: 4), labels: labels.span, gradient: large.mutableMatrix(columns: 4))
    let b = try loss.evaluate(
      x.matrix(columns: 4), labels: labels.span, gradient: small.mutableMatrix(columns: 4),
      engine: engine(workers: 2, budget: 1 << 20))
    #expect(a == b)
    #expect(largestError(small, large.map(Double.init)) < 1e-5)
  }

  @Test func degenerateBatches() throws {
    for loss in try Self.losses {
      // No rows, one row, one class, all classes different, identical rows, rows of zeros.
      let batches: [([Double], [Int])] = [
        ([], []), ([1, 2], [0]), ([1, 2, 3, 4], [5, 5]), ([1, 2, 3, 4], [5, 6]),
        ([1, 2, 1, 2, 1, 2], [0, 0, 1]), ([0, 0, 0, 0, 0, 0], [0, 0, 1]),
      ]
      for (x, labels) in batches {
        var gradient = x.map { _ in 9.0 }
        let result = try loss.evaluate(
          x.matrix(columns: 2), labels: labels.span, gradient: gradient.mutableMatrix(columns: 2))
        // Directions of equal rows cancel up to rounding, their differences exactly.
        let limit = loss.distance == .cosine ? 1e-15 : 0
        #expect(gradient.allSatisfy { $0.magnitude <= limit })
        if labels.count < 3 { #expect(result.cost == Cost(sum: 0, denominator: 0) && result.valid == 0) }
      }
    }
  }

  /// NaN is no loss above 0: nothing is active, and the gradient is that of a denominator of 0.
  @Test func anchorsOfNaNAreNotActive() throws {
    let x = [Float](repeating: .nan, count: 8)
    let labels = [0, 0, 1, 1]
    for mining in [TripletLoss.Mining.batchHard, .batchSemiHard] {
      var gradient = [Float](repeating: 7, count: 8)
      let result = try TripletLoss(mining: mining).evaluate(
        x.matrix(columns: 2), labels: labels.span, reduction: .meanOverActive,
        gradient: gradient.mutableMatrix(columns: 2))
      #expect(result.cost.denominator == 0 && result.cost.sum.isNaN, "\(mining)")
      #expect(gradient.allSatisfy { $0 == 0 }, "\(mining)")
    }
  }

  @Test func meanOverActive() throws {
    let x: [Double] = [0, 1, 10]
    let loss = try TripletLoss(margin: 9.5, mining: .batchAll)
    // u = 1 − 10 + 9.5 and 1 − 9 + 9.5.
    let labels = [0, 0, 1]
    let result = try loss.evaluate(x.matrix(columns: 1), labels: labels.span, reduction: .meanOverActive)
    #expect(result.cost == Cost(sum: 2, denominator: 2))
    let near = try TripletLoss(margin: 9, mining: .batchAll).evaluate(
      x.matrix(columns: 1), labels: labels.span, reduction: .meanOverActive)
    #expect(near.cost == Cost(sum: 1, denominator: 1) && near.valid == 2 && near.active == 1)
  }

  @Test func parametersAreChecked() throws {
    #expect(throws: BatchLossError.self) { try TripletLoss(margin: -1) }
    #expect(throws: BatchLossError.self) { try TripletLoss(smooth: true, squared: true) }
    #expect(throws: BatchLossError.self) { try TripletLoss(mining: .batchAll, swap: true) }
    let (x, labels) = ([1.0, 2], [0, 1, 1])
    #expect(throws: BatchLossError.self) {
      try TripletLoss(mining: .given).evaluate(x.matrix(columns: 1), labels: labels.span)
    }
    #expect(throws: BatchLossError.self) {
      try TripletLoss(mining: .batchHard).evaluate(x.matrix(columns: 1), labels: labels.span)
    }
  }
}
