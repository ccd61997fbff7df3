import BatchLoss
import BatchLossTestSupport
import Synchronization
import Testing

// Every loss on embeddings, with every mining and distance, on batches that have nothing to learn from and on batches
// with NaN or infinity; and what must not change a result: the number of workers (not a bit) and the budget (rounding:
// 1e-6 of the cost, 1e-5 of the largest element of the gradient).

@Suite struct DegenerateBatchTests {
  /// With one class only, with classes of one row, and with both.
  private func labelings(_ rows: Int) -> [[Int]] {
    [[Int](repeating: 4, count: rows), Array(0..<rows), (0..<rows).map { $0 % 2 }]
  }

  private func samples(_ subject: EmbeddingSubject, _ rows: Int, _ columns: Int, seed: UInt64) -> [[Float]] {
    var samples = Samples(seed)
    return (0..<subject.inputs).map { _ in samples.numbers(rows * columns).map(Float.init) }
  }

  @Test(arguments: EmbeddingSubject.all) func nothingToLearnFrom(_ subject: EmbeddingSubject) throws {
    for rows in [0, 1, 2, 5, 130] {
      // Identical rows, and rows of zeros: no direction to go.
      for value: Float in [0, 2] {
        for labels in labelings(rows) {
          let x = [Float](repeating: value, count: 3 * rows)
          let outcome = try subject.run([[Float]](repeating: x, count: subject.inputs), 3, labels, .shared)
          #expect(outcome.isIntact && outcome.gradient.count == 3 * rows * subject.inputs)
          if value == 0 || !subject.usesLengths {
            #expect(outcome.gradient.allSatisfy { $0.magnitude < subject.rounding }, "\(rows) rows of \(value)")
          }
          #expect(outcome.cost.value.isFinite && outcome.cost.sum >= 0)
          #expect(outcome.losses.allSatisfy { $0.isFinite && $0 >= 0 })
          #expect(outcome.parameters.allSatisfy { $0?.isFinite ?? true })
          if rows == 0 || (rows == 1 && !subject.costsAlone) { #expect(outcome.cost.value == 0) }
        }
      }
    }
    let different = samples(subject, 5, 3, seed: 31)
    func expectNothing(_ labels: [Int]) throws {
      let outcome = try subject.run(different, 3, labels, .shared)
      #expect(outcome.cost.value == 0 && outcome.gradient.allSatisfy { $0 == 0 })
      #expect(outcome.losses.allSatisfy { $0 == 0 })
    }
    if subject.needsPositives {
      try expectNothing([0, 1, 2, 3, 4])
      #expect(try subject.run(different, 3, [0, 1, 2, 3, 4], .shared).valid == 0)
    }
    if subject.needsNegatives { try expectNothing([7, 7, 7, 7, 7]) }
    // And there is something to learn where there are both.
    let outcome = try subject.run(different, 3, [0, 0, 1, 1, 1], .shared)
    #expect(outcome.cost.sum > 0 && outcome.valid > 0 && outcome.gradient.contains { $0 != 0 })
  }

  /// Even and odd numbers of blocks of tiles; the last engine has more workers than there are processors, or blocks.
  @Test(arguments: EmbeddingSubject.all) func workersGiveTheSameBits(_ subject: EmbeddingSubject) throws {
    for rows in [333, 300] {
      let x = samples(subject, rows, 9, seed: 32)
      var samples = Samples(34)
      let labels = samples.labels(rows, below: 7)
      let first = try subject.run(x, 9, labels, engine(workers: 1))
      #expect(first.gradient.allSatisfy { $0.isFinite } && first.cost.sum > 0 && first.isIntact)
      for workers in [2, 3, 5, 40] {
        #expect(try subject.run(x, 9, labels, engine(workers: workers)) == first)
      }
    }
  }

  /// Calls from blocks of an engine that is at work, and several at once.
  @Test(arguments: EmbeddingSubject.all) func nestedCallsGiveTheSameBits(_ subject: EmbeddingSubject) throws {
    let x = samples(subject, 300, 9, seed: 32)
    var samples = Samples(34)
    let labels = samples.labels(300, below: 7)
    let shared = try engine(workers: 3)
    let first = try subject.run(x, 9, labels, shared)
    let failures = Mutex(0)
    shared.forEachBlock(6) { _, _ in
      let isSame = (try? subject.run(x, 9, labels, shared)) == first
      if !isSame { failures.withLock { $0 += 1 } }
    }
    #expect(failures.withLock { $0 } == 0)
  }

  /// The least budget makes groups of rows, and tiles that are computed twice.
  @Test(arguments: EmbeddingSubject.all) func budgetsGiveTheSameResult(_ subject: EmbeddingSubject) throws {
    let x = samples(subject, 700, 9, seed: 35)
    var samples = Samples(36)
    let labels = samples.labels(700, below: 7)
    let whole = try subject.run(x, 9, labels, engine(workers: 2))
    let grouped = try subject.run(x, 9, labels, engine(workers: 2, budget: 1 << 20))
    #expect(relativeError(grouped.cost.sum, whole.cost.sum) < 1e-6 && grouped.valid == whole.valid)
    #expect(largestError(grouped.losses, whole.losses.map(Double.init)) < 1e-5)
    #expect(largestError(grouped.gradient, whole.gradient.map(Double.init)) < 1e-5)
    for (a, b) in zip(grouped.parameters, whole.parameters) {
      #expect(relativeError(a ?? 0, b ?? 0) < 1e-4, "\(a ?? 0), not \(b ?? 0)")
    }
  }

  @Test func budgetsThatAreTooSmall() {
    expectError(.invalidParameter, "workspaceBudget", mentioning: "1 MiB", "1048575") {
      _ = try engine(workers: 1, budget: (1 << 20) - 1)
    }
  }

  // MARK: Weights of given pairs and triplets

  @Test(arguments: EmbeddingSubject.all.filter(\.isRowWise)) func weightsAreFactors(
    _ subject: EmbeddingSubject
  ) throws {
    let rows = 150
    let x = samples(subject, rows, 5, seed: 39)
    let labels = (0..<rows).map { $0 % 3 }
    let weights = (0..<rows).map { Float($0 % 7) / 2 }
    let plain = try subject.run(x, 5, labels, .shared)
    let weighted = try subject.run(x, 5, labels, weights: weights, .shared)
    let total = weights.reduce(0) { $0 + Double($1) }
    #expect(weighted.cost.denominator == total && weighted.valid == rows)
    let losses = plain.losses.indices.map { Double(plain.losses[$0]) * Double(weights[$0]) }
    #expect(largestError(weighted.losses, losses) < 1e-6)
    #expect(relativeError(weighted.cost.sum, losses.reduce(0, +)) < 1e-6)
    let gradient = plain.gradient.indices.map {
      Double(plain.gradient[$0]) * Double(weights[$0 / 5 % rows]) * Double(rows) / total
    }
    #expect(largestError(weighted.gradient, gradient) < 1e-6)
  }

  /// Rows of weight 0, some of NaN and infinity, count as if they were not there.
  @Test(arguments: EmbeddingSubject.all.filter(\.isRowWise)) func weightZeroSilencesRows(
    _ subject: EmbeddingSubject
  ) throws {
    let rows = 40
    var x = samples(subject, rows, 5, seed: 40)
    let labels = (0..<rows).map { $0 % 3 }
    let kept = (0..<rows).filter { $0 % 4 != 1 }
    let weights = (0..<rows).map { row -> Float in row % 4 == 1 ? 0 : Float(row % 5 + 1) }
    for matrix in x.indices { (x[matrix][5], x[matrix][5 * 9 + 4]) = (.nan, .infinity) }
    func rowsKept(_ elements: [Float], _ columns: Int) -> [Float] {
      kept.flatMap { elements[$0 * columns..<($0 + 1) * columns] }
    }
    let outcome = try subject.run(x, 5, labels, weights: weights, .shared)
    let expected = try subject.run(
      x.map { rowsKept($0, 5) }, 5, kept.map { labels[$0] }, weights: kept.map { weights[$0] }, .shared)
    #expect(outcome.cost == expected.cost && rowsKept(outcome.losses, 1) == expected.losses)
    for matrix in x.indices {
      let gradient = Array(outcome.gradient[matrix * rows * 5..<(matrix + 1) * rows * 5])
      let count = kept.count * 5
      #expect(rowsKept(gradient, 5) == Array(expected.gradient[matrix * count..<(matrix + 1) * count]))
      for row in 0..<rows where weights[row] == 0 {
        #expect(outcome.losses[row] == 0 && gradient[row * 5..<row * 5 + 5].allSatisfy { $0 == 0 })
      }
    }
    let silent = try subject.run(x, 5, labels, weights: weights.map { _ in 0 }, .shared)
    #expect(silent.cost == Cost(sum: 0, denominator: 0) && silent.gradient.allSatisfy { $0 == 0 })
  }

  // MARK: NaN and infinity

  /// NaN reaches the cost. Where rows have losses of their own it reaches nothing else.
  @Test(arguments: EmbeddingSubject.all) func rowsThatAreNoNumbers(_ subject: EmbeddingSubject) throws {
    for rows in [5, 66, 200] {
      let labels = (0..<rows).map { $0 % 2 }
      let clean = samples(subject, rows, 3, seed: 37)
      let expected = try subject.run(clean, 3, labels, .shared)
      for input in 0..<subject.inputs {
        for value in [Float.nan, .infinity, -.infinity, .greatestFiniteMagnitude] {
          let bad = rows / 2
          var x = clean
          x[input][3 * bad + 1] = value
          let outcome = try subject.run(x, 3, labels, engine(workers: 1))
          #expect(outcome.isIntact)
          #expect(try subject.run(x, 3, labels, engine(workers: 3)).hasSameBits(as: outcome))
          if value.isNaN { #expect(outcome.cost.sum.isNaN && outcome.losses[bad].isNaN, "\(rows) rows") }
          guard subject.isRowWise else { continue }
          for row in 0..<rows where row != bad {
            #expect(outcome.losses[row] == expected.losses[row])
            for matrix in 0..<subject.inputs {
              let elements = 3 * (matrix * rows + row)..<3 * (matrix * rows + row + 1)
              #expect(outcome.gradient[elements] == expected.gradient[elements])
            }
          }
        }
      }
    }
  }

  @Test(arguments: EmbeddingSubject.all) func batchesWithoutAnyNumber(_ subject: EmbeddingSubject) throws {
    for rows in [1, 5, 66, 200] {
      for value in [Float.nan, -.nan, .infinity] {
        let x = [[Float]](repeating: [Float](repeating: value, count: 3 * rows), count: subject.inputs)
        for labels in labelings(rows) { #expect(try subject.run(x, 3, labels, .shared).isIntact) }
      }
    }
  }

  /// So many positives that mining searches them by blocks, a third of them NaN or infinite.
  @Test(arguments: EmbeddingSubject.all.filter(\.isMining)) func manyPositivesThatAreNoNumbers(
    _ subject: EmbeddingSubject
  ) throws {
    var samples = Samples(38)
    let rows = 2200
    let others: [Float] = [.nan, .infinity, -.infinity, -.nan]
    var x = samples.numbers(rows).map(Float.init)
    for row in stride(from: 0, to: rows, by: 3) { x[row] = others[row / 3 % 4] }
    let outcome = try subject.run([x], 1, (0..<rows).map { $0 % 2 }, .shared)
    #expect(outcome.isIntact && outcome.cost.sum.isNaN)
  }

  /// Three rows of one class and two of another, all x: the derivatives of a class's columns add up to −5/6 and 5/4 of
  /// x/τ for eight pairs, worked out by hand.
  @Test func identicalRowsThatAreNotNormalised() throws {
    let x = [Float](repeating: 2, count: 15)
    let labels = [0, 1, 0, 1, 0]
    let (_, gradient) = try InfoNCELoss(temperature: 0.5, normalizes: false).costAndGradient(
      x.matrix(columns: 3), labels: labels.span)
    for (row, label) in labels.enumerated() {
      let expected = 2 / (8 * 0.5) * (label == 0 ? -5.0 / 6 : 5.0 / 4)
      for column in 0..<3 { #expect((Double(gradient[row, column]) - expected).magnitude < 1e-6) }
    }
  }

  @Test(arguments: [1, 7, 130]) func allocatingFormsGiveWhatEvaluateGives(rows: Int) throws {
    var samples = Samples(33)
    let (x, y, z) = (
      samples.numbers(rows * 5).map(Float.init), samples.numbers(rows * 5).map(Float.init),
      samples.numbers(rows * 5).map(Float.init)
    )
    let (labels, similar) = (samples.labels(rows, below: rows), (0..<rows).map { $0 % 3 == 0 })
    var (a, b, c) = (x, x, x)

    let batch = try SupConLoss().evaluate(
      x.matrix(columns: 5), labels: labels.span, gradient: a.mutableMatrix(columns: 5))
    let newBatch = try SupConLoss().costAndGradient(x.matrix(columns: 5), labels: labels.span)
    #expect(newBatch.result == batch && newBatch.gradient.elements == a)

    let clip = try CLIPLoss().evaluate(
      images: x.matrix(columns: 5), texts: y.matrix(columns: 5), imageGradient: a.mutableMatrix(columns: 5),
      textGradient: b.mutableMatrix(columns: 5))
    let newClip = try CLIPLoss().costAndGradients(images: x.matrix(columns: 5), texts: y.matrix(columns: 5))
    #expect(newClip.result == clip && newClip.images.elements == a && newClip.texts.elements == b)

    let keys = try InfoNCELoss().evaluate(
      queries: x.matrix(columns: 5), keys: y.matrix(columns: 5), queryGradient: a.mutableMatrix(columns: 5),
      keyGradient: b.mutableMatrix(columns: 5))
    let newKeys = try InfoNCELoss().costAndGradients(queries: x.matrix(columns: 5), keys: y.matrix(columns: 5))
    #expect(newKeys.result == keys && newKeys.queries.elements == a && newKeys.keys.elements == b)

    let pairs = try NPairsLoss().evaluate(
      anchors: x.matrix(columns: 5), positives: y.matrix(columns: 5), anchorGradient: a.mutableMatrix(columns: 5),
      positiveGradient: b.mutableMatrix(columns: 5))
    let newPairs = try NPairsLoss().costAndGradients(anchors: x.matrix(columns: 5), positives: y.matrix(columns: 5))
    #expect(newPairs.result == pairs && newPairs.anchors.elements == a && newPairs.positives.elements == b)

    let near = try ContrastiveLoss(margin: 3).evaluate(
      first: x.matrix(columns: 5), second: y.matrix(columns: 5), similar: similar.span,
      firstGradient: a.mutableMatrix(columns: 5), secondGradient: b.mutableMatrix(columns: 5))
    let newNear = try ContrastiveLoss(margin: 3).costAndGradients(
      first: x.matrix(columns: 5), second: y.matrix(columns: 5), similar: similar.span)
    #expect(newNear.result == near && newNear.first.elements == a && newNear.second.elements == b)

    let triplets = try TripletLoss().evaluate(
      anchors: x.matrix(columns: 5), positives: y.matrix(columns: 5), negatives: z.matrix(columns: 5),
      anchorGradient: a.mutableMatrix(columns: 5), positiveGradient: b.mutableMatrix(columns: 5),
      negativeGradient: c.mutableMatrix(columns: 5))
    let newTriplets = try TripletLoss().costAndGradients(
      anchors: x.matrix(columns: 5), positives: y.matrix(columns: 5), negatives: z.matrix(columns: 5))
    #expect(newTriplets.result == triplets && newTriplets.anchors.elements == a)
    #expect(newTriplets.positives.elements == b && newTriplets.negatives.elements == c)

    let centers = try ArcFaceLoss().evaluate(
      x.matrix(columns: 5), classCenters: y.matrix(columns: 5), labels: labels.span,
      gradient: a.mutableMatrix(columns: 5), classCenterGradient: b.mutableMatrix(columns: 5))
    let newCenters = try ArcFaceLoss().costAndGradients(
      x.matrix(columns: 5), classCenters: y.matrix(columns: 5), labels: labels.span)
    #expect(newCenters.result == centers && newCenters.embeddings.elements == a)
    #expect(newCenters.classCenters.elements == b)
  }
}
