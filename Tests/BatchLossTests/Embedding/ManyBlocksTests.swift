import BatchLoss
import Testing

// Batches of several tiles, their last ones narrower, against plain loops in Double. Gradients against central
// differences along random directions and for some elements of the first and last rows, which the first and last tiles
// hold. Tolerances: `tolerance(_:)`.

@Suite struct ManyBlocksTests {
  /// Whole and partial tiles of both sizes that small batches have.
  private let sizes = [64, 65, 150, 600]

  /// Compares gradient·direction with the slope of `cost`.
  private func checkGradient<Scalar: LossScalar>(
    _ gradient: [Scalar], at x: [Double], _ name: String, limit: Double, step: Double = 1e-5,
    _ cost: ([Double]) -> Double
  ) {
    var samples = Samples(77)
    var directions = (0..<2).map { _ in samples.numbers(x.count) }
    for element in [0, x.count - 1] {
      directions.append(x.indices.map { $0 == element ? 1 : 0 })
    }
    for direction in directions {
      let above = cost(zip(x, direction).map { $0 + step * $1 })
      let below = cost(zip(x, direction).map { $0 - step * $1 })
      let slope = (above - below) / (2 * step)
      let actual = zip(gradient, direction).reduce(0) { $0 + Double($1.0) * $1.1 }
      let scale = gradient.reduce(0) { max($0, Double($1).magnitude) }
      let size = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
      #expect((actual - slope).magnitude < limit * max(scale * size, 1e-3), "\(name): \(actual), not \(slope)")
    }
  }

  // MARK: Distances

  private func contrastiveCost(_ loss: ContrastiveLoss, _ x: [Double], _ columns: Int, _ labels: [Int]) -> [Double]
  {
    let d = referenceDistances(x, columns, loss.distance)
    return labels.indices.map { i in
      labels.indices.reduce(0) { sum, j in
        guard i != j else { return sum }
        let hinge =
          labels[i] == labels[j]
          ? (loss.isLinear ? max(0, d[i][j] - loss.positiveMargin) : d[i][j]) : max(0, loss.margin - d[i][j])
        return sum + 0.5 * (loss.isLinear ? hinge : 0.5 * hinge * hinge)
      }
    }
  }

  private func checkContrastive<Scalar: LossScalar>(_: Scalar.Type, _ loss: ContrastiveLoss, rows: Int) throws {
    let (columns, tolerance) = (5, tolerance(Scalar.self))
    var samples = Samples(UInt64(rows))
    let x = samples.numbers(rows * columns)
    let labels = samples.labels(rows, below: 7)
    let expected = contrastiveCost(loss, x, columns, labels)
    let sum = expected.reduce(0, +)
    var (gradient, losses) = ([Scalar](repeating: 9, count: x.count), [Scalar](repeating: 9, count: rows))
    let embeddings = x.map { Scalar($0) }
    let result = try loss.evaluate(
      embeddings.matrix(columns: columns), labels: labels.span, losses: losses.mutableSpan,
      gradient: gradient.mutableMatrix(columns: columns))
    #expect(relativeError(result.cost.sum, sum) < tolerance.cost)
    #expect(largestError(losses, expected) < 10 * tolerance.cost)
    let pairs = Double(rows * (rows - 1) / 2)
    checkGradient(gradient.map { Double($0) * pairs }, at: x, "\(loss)", limit: tolerance.gradient) {
      contrastiveCost(loss, $0, columns, labels).reduce(0, +)
    }
  }

  @Test func contrastive() throws {
    for rows in sizes {
      for kind in EmbeddingDistance.allCases where rows < 600 || kind == .euclidean {
        let loss = try ContrastiveLoss(margin: 1.25, distance: kind)
        try checkContrastive(Float.self, loss, rows: rows)
        try checkContrastive(Double.self, loss, rows: rows)
      }
      try checkContrastive(
        Double.self, ContrastiveLoss(margin: 0.75, linear: true, positiveMargin: 0.25), rows: rows)
    }
  }

  /// Sum, valid, active.
  private func hardestCost(
    _ loss: TripletLoss, _ x: [Double], _ columns: Int, _ labels: [Int]
  ) -> (sum: Double, valid: Int, active: Int) {
    let d = referenceDistances(x, columns, loss.distance)
    var (sum, valid, active) = (0.0, 0, 0)
    for a in labels.indices {
      let far = labels.indices.filter { $0 != a && labels[$0] == labels[a] }.map { d[a][$0] }.max()
      let near = labels.indices.filter { labels[$0] != labels[a] }.map { d[a][$0] }.min()
      guard let far, let near else { continue }
      let u = max(0, far - near + loss.margin)
      sum += u
      valid += 1
      if u > 0 { active += 1 }
    }
    return (sum, valid, active)
  }

  @Test func hardestTriplets() throws {
    for rows in sizes {
      for kind in EmbeddingDistance.allCases where rows < 600 || kind == .euclidean {
        let columns = 4
        var samples = Samples(UInt64(rows + 1))
        let x = samples.numbers(rows * columns)
        // Some classes of one row.
        let labels = samples.labels(rows, below: rows / 3)
        let loss = try TripletLoss(margin: 0.25, distance: kind, mining: .batchHard)
        let expected = hardestCost(loss, x, columns, labels)
        var gradient = x
        let result = try loss.evaluate(
          x.matrix(columns: columns), labels: labels.span, reduction: .sum,
          gradient: gradient.mutableMatrix(columns: columns))
        #expect(relativeError(result.cost.sum, expected.sum) < 1e-10)
        #expect(result.valid == expected.valid && result.active == expected.active)
        // A short step, since every choice of a triplet has a kink where another one takes over.
        checkGradient(gradient, at: x, "\(loss)", limit: 1e-5, step: 1e-7) {
          hardestCost(loss, $0, columns, labels).sum
        }
      }
    }
  }

  /// Equal distances everywhere: the lowest rows are chosen, whatever tiles they are in.
  @Test func hardestTripletsAmongEquals() throws {
    let rows = 200
    // Row i is at (1, i mod 2): same-class rows and others are all at distances 0 or 1.
    let x = (0..<rows).flatMap { [1.0, Double($0 % 2)] }
    let labels = (0..<rows).map { $0 / 2 % 2 }
    let loss = try TripletLoss(margin: 1, mining: .batchHard)
    var gradient = x
    try loss.evaluate(
      x.matrix(columns: 2), labels: labels.span, reduction: .sum, gradient: gradient.mutableMatrix(columns: 2))
    // The farthest positive of every anchor is the first row of its class with the other coordinate; the nearest
    // negative is at distance 0 and has no direction.
    var expected = x.map { _ in 0.0 }
    for a in 0..<rows {
      let p = (0..<rows).first { labels[$0] == labels[a] && $0 % 2 != a % 2 }!
      let direction = x[2 * a + 1] - x[2 * p + 1]
      expected[2 * a + 1] += direction
      expected[2 * p + 1] -= direction
    }
    #expect(gradient == expected)
  }

  /// Classes far from each other but for their twins, and rows of a class so near to each other that only exact distances
  /// tell which is the farthest; some classes with a few of them, others with more than are kept on a list.
  private func checkNearTies<Scalar: LossScalar>(_: Scalar.Type, _ kind: EmbeddingDistance, rows: Int) throws {
    let (columns, own) = (12, 6)
    var samples = Samples(31)
    var (x, labels): ([Double], [Int]) = ([], [])
    var centre: [Double] = []
    while labels.count < rows {
      let number = labels.last.map { $0 + 1 } ?? 0
      if number.isMultiple(of: 2) {
        centre = samples.numbers(columns)
      } else {
        centre = centre.map { $0 + 2e-3 * samples.number() }
      }
      for _ in 0..<(number == 3 ? 20 : own) where labels.count < rows {
        x += centre.map { Double(Scalar($0 + 2e-4 * samples.number())) }
        labels.append(number)
      }
    }
    let loss = try TripletLoss(margin: 0.01, distance: kind, mining: .batchHard)
    let d = referenceDistances(x, columns, kind)
    let embeddings = x.map { Scalar($0) }
    var losses = [Scalar](repeating: 0, count: rows)
    let result = try loss.evaluate(
      embeddings.matrix(columns: columns), labels: labels.span, reduction: .sum,
      losses: losses.mutableSpan)
    var valid = 0
    for a in 0..<rows {
      let far = labels.indices.filter { $0 != a && labels[$0] == labels[a] }.map { d[a][$0] }.max()
      let near = labels.indices.filter { labels[$0] != labels[a] }.map { d[a][$0] }.min()
      guard let far, let near else { continue }
      valid += 1
      #expect(relativeError(Double(losses[a]), max(0, far - near + loss.margin)) < 1e-5, "row \(a) of \(rows)")
    }
    #expect(result.valid == valid)
  }

  @Test(arguments: [200, 1700]) func hardestTripletsAmongNearTies(rows: Int) throws {
    for kind in EmbeddingDistance.allCases { try checkNearTies(Double.self, kind, rows: rows) }
    try checkNearTies(Float.self, .euclidean, rows: rows)
  }

  /// Numbers whose squares lose digits. Powers of two change no choice, and by them costs are known.
  @Test func hardestTripletsOfTinyRows() throws {
    let (rows, columns) = (300, 16)
    var samples = Samples(17)
    let x = samples.numbers(rows * columns).map { Float($0) }
    let labels = samples.labels(rows, below: 60)
    let plain = try TripletLoss(margin: 0, mining: .batchHard).evaluate(
      x.matrix(columns: columns), labels: labels.span, reduction: .sum)
    for exponent in [-40, -55, -60, -64] {
      let scale = Float(sign: .plus, exponent: exponent, significand: 1)
      let small = x.map { $0 * scale }
      let result = try TripletLoss(margin: 0, mining: .batchHard).evaluate(
        small.matrix(columns: columns), labels: labels.span, reduction: .sum)
      // Distances are sums in float32 before they are in float64.
      let limit = exponent < -60 ? 1e-2 : 1e-5
      #expect(relativeError(result.cost.sum / Double(scale), plain.cost.sum) < limit, "2^\(exponent)")
    }
  }

  // MARK: Batch-all by ranks

  @Test func allTripletsNearAndFar() throws {
    let (rows, columns) = (200, 3)
    var samples = Samples(4)
    let x = samples.numbers(rows * columns)
    let labels = samples.labels(rows, below: 3)
    // Every triplet active, some, and none but those out of order.
    for margin in [10, 0.25, 0] {
      for squared in [false, true] {
        let loss = try TripletLoss(margin: margin, mining: .batchAll, squared: squared)
        func cost(_ x: [Double]) -> (sum: Double, active: Int) {
          let d = referenceDistances(x, columns, loss.distance)
          var (sum, active) = (0.0, 0)
          for a in 0..<rows {
            for p in 0..<rows where p != a && labels[p] == labels[a] {
              for n in 0..<rows where labels[n] != labels[a] {
                let u = max(0, d[a][p] - d[a][n] + margin)
                sum += squared ? u * u : u
                if u > 0 { active += 1 }
              }
            }
          }
          return (sum, active)
        }
        let expected = cost(x)
        var gradient = x
        let result = try loss.evaluate(
          x.matrix(columns: columns), labels: labels.span, reduction: .sum,
          gradient: gradient.mutableMatrix(columns: columns))
        #expect(relativeError(result.cost.sum, expected.sum) < 1e-10 && result.active == expected.active)
        // Some of two million triplets have their kink within the step.
        checkGradient(gradient, at: x, "\(loss)", limit: 1e-4) { cost($0).sum }
        let embeddings = x.map { Float($0) }
        let single = try loss.evaluate(embeddings.matrix(columns: columns), labels: labels.span)
        #expect(relativeError(single.cost.sum, expected.sum) < 1e-5)
      }
    }
  }

  /// More positives than are compared with every negative. The losses of some anchors by loops; the gradient against
  /// differences of the cost itself.
  @Test func thousandsOfPositives() throws {
    let rows = 2300
    var samples = Samples(9)
    let x = samples.numbers(rows * 2)
    let labels = (0..<rows).map { $0 % 2 }
    let loss = try TripletLoss(margin: 0.25, mining: .batchAll)
    var (gradient, losses) = (x, [Double](repeating: 0, count: rows))
    try loss.evaluate(
      x.matrix(columns: 2), labels: labels.span, reduction: .batchMean, losses: losses.mutableSpan,
      gradient: gradient.mutableMatrix(columns: 2))
    let embeddings = x.map(Float.init)
    let single = try loss.evaluate(embeddings.matrix(columns: 2), labels: labels.span, reduction: .batchMean)
    let sum = losses.reduce(0, +)
    #expect(relativeError(single.cost.sum, sum) < 1e-5)
    for a in stride(from: 0, to: rows, by: 231) {
      let d = (0..<rows).map { referenceDistance(x[2 * a..<2 * a + 2], x[2 * $0..<2 * $0 + 2], .euclidean) }
      var sum = 0.0
      for p in 0..<rows where p != a && labels[p] == labels[a] {
        for n in 0..<rows where labels[n] != labels[a] { sum += max(0, d[p] - d[n] + 0.25) }
      }
      #expect(relativeError(losses[a], sum) < 1e-10)
    }
    checkGradient(gradient, at: x, "\(loss)", limit: 1e-4) { x in
      let cost = try? loss.evaluate(x.matrix(columns: 2), labels: labels.span, reduction: .batchMean).cost.value
      return cost ?? .nan
    }
  }

  // MARK: Similarities

  private func checkSimilarities<Scalar: LossScalar>(
    _: Scalar.Type, rows: Int, temperature: Double, normalizes: Bool, budget: Int = 256 << 20
  ) throws {
    let (columns, tolerance, engine) = (6, tolerance(Scalar.self), try engine(workers: 2, budget: budget))
    var samples = Samples(UInt64(rows))
    let similarities = Similarities(columns: columns, normalizes: normalizes)
    let half = rows * columns
    // More keys than queries for InfoNCE.
    let more = half + 40 * columns
    let x = samples.numbers(half + more)
    let labels = samples.labels(rows, below: 9)
    let scale = 1 / temperature
    let (a, b) = (x[..<half].map { Scalar($0) }, x[half...].map { Scalar($0) })
    let texts = Array(b[..<half])
    func check(
      _ name: String, _ result: SimilarityResult, _ losses: [Scalar], _ gradient: [Scalar], at x: [Double],
      _ reference: ([Double], Double) -> [Double]
    ) {
      let expected = reference(x, scale)
      let divisor = result.cost.denominator
      #expect(relativeError(result.cost.sum, expected.reduce(0, +)) < tolerance.cost, "\(name) \(rows)")
      #expect(largestError(losses, expected) < 10 * tolerance.cost, "\(name) \(rows)")
      checkGradient(gradient, at: x, "\(name) \(rows) \(scale)", limit: tolerance.gradient) {
        reference($0, scale).reduce(0, +) / divisor
      }
      let step = 1e-5 * scale
      let slope =
        (reference(x, scale + step).reduce(0, +) - reference(x, scale - step).reduce(0, +)) / (2 * step * divisor)
      #expect(((result.scaleGradient ?? .nan) - slope).magnitude < tolerance.gradient, "\(name)")
    }
    func matrix(_ x: [Double], _ split: Int) -> [[Double]] {
      similarities.matrix(Array(x[..<split]), Array(x[split...]))
    }

    var (ga, gb, losses) = (a, b, [Scalar](repeating: 9, count: rows))
    let nce = try InfoNCELoss(temperature: temperature, normalizes: normalizes).evaluate(
      queries: a.matrix(columns: columns), keys: b.matrix(columns: columns), losses: losses.mutableSpan,
      queryGradient: ga.mutableMatrix(columns: columns), keyGradient: gb.mutableMatrix(columns: columns),
      engine: engine)
    check("InfoNCE", nce, losses, ga + gb, at: x) { ReferenceLosses.infoNCE(matrix($0, half), $1) }

    var gt = texts
    let clip = try CLIPLoss(temperature: temperature, normalizes: normalizes).evaluate(
      images: a.matrix(columns: columns), texts: texts.matrix(columns: columns), losses: losses.mutableSpan,
      imageGradient: ga.mutableMatrix(columns: columns), textGradient: gt.mutableMatrix(columns: columns),
      engine: engine)
    check("CLIP", clip, losses, ga + gt, at: Array(x[..<(2 * half)])) { ReferenceLosses.clip(matrix($0, half), $1) }

    let supCon = try SupConLoss(temperature: temperature, normalizes: normalizes).evaluate(
      a.matrix(columns: columns), labels: labels.span, losses: losses.mutableSpan,
      gradient: ga.mutableMatrix(columns: columns), engine: engine)
    check("SupCon", supCon, losses, ga, at: Array(x[..<half])) {
      ReferenceLosses.supCon(similarities.matrix($0, $0), $1, labels)
    }
  }

  /// Logits of a short range, which share one shift.
  @Test func shortRanges() throws {
    for rows in sizes {
      try checkSimilarities(Float.self, rows: rows, temperature: 0.25, normalizes: true)
      try checkSimilarities(Double.self, rows: rows, temperature: 0.25, normalizes: rows > 100)
    }
  }

  /// Beyond the budget tiles are computed twice, and queries come in groups.
  @Test func shortRangesBeyondTheBudget() throws {
    try checkSimilarities(Float.self, rows: 600, temperature: 0.25, normalizes: true, budget: 1 << 20)
    try checkSimilarities(Double.self, rows: 600, temperature: 0.25, normalizes: false, budget: 1 << 20)
  }

  /// Logits of a long range, whose largest is looked for in each row.
  @Test func longRanges() throws {
    try checkSimilarities(Float.self, rows: 150, temperature: 0.02, normalizes: true)
    try checkSimilarities(Double.self, rows: 150, temperature: 0.002, normalizes: true)
  }

  /// A loss of 7·e⁻²⁰ has its digits, not only its distance from 0.
  @Test func nearlyCertainPairs() throws {
    let x = (0..<64).map { Float($0 % 9 == 0 ? 1 : 0) }
    let expected: Double = 7 * _exp(-20.0)
    let clip = try CLIPLoss(temperature: 0.05).evaluate(images: x.matrix(columns: 8), texts: x.matrix(columns: 8))
    #expect(((clip.cost.value - expected) / expected).magnitude < 1e-5)
    let nce = try InfoNCELoss(temperature: 0.05).evaluate(queries: x.matrix(columns: 8), keys: x.matrix(columns: 8))
    #expect(((nce.cost.value - expected) / expected).magnitude < 1e-5)
  }

  // MARK: Held tiles

  /// More tiles between the two sweeps of SupCon than a last-level cache of 32 MiB has room for; beyond the budget they
  /// are computed twice.
  @Test func tilesBeyondTheCache() throws {
    let (rows, columns) = (4200, 6)
    var samples = Samples(91)
    let x = samples.numbers(rows * columns).map { Float($0) }
    let labels = samples.labels(rows, below: 50)
    func evaluate(_ engine: Engine) throws -> (sum: Double, gradient: [Float]) {
      var gradient = [Float](repeating: 9, count: x.count)
      let result = try SupConLoss(temperature: 0.5).evaluate(
        x.matrix(columns: columns), labels: labels.span, gradient: gradient.mutableMatrix(columns: columns),
        engine: engine)
      return (result.cost.sum, gradient)
    }
    let one = try evaluate(engine(workers: 1))
    let three = try evaluate(engine(workers: 3))
    #expect(one.sum == three.sum && one.gradient == three.gradient)
    let twice = try evaluate(engine(workers: 2, budget: 1 << 20))
    #expect(relativeError(twice.sum, one.sum) < 1e-6)
    let scale = one.gradient.reduce(0) { max($0, $1.magnitude) }
    #expect(zip(one.gradient, twice.gradient).allSatisfy { ($0 - $1).magnitude < 1e-5 * scale })
  }
}
