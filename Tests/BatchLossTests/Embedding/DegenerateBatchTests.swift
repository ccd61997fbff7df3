import BatchLoss
import Testing

// Every loss of a labelled batch, with every mining and distance, on batches that have nothing to learn from; and the
// independence of results of the number of workers. The allocating forms are what is called.

@Suite struct DegenerateBatchTests {
  /// What a loss gives, whatever its result is called.
  struct Outcome: Equatable {
    var cost: Cost
    var valid: Int
    var gradient: [Float]
  }

  struct Subject: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Without a positive or without a negative there is no loss at all.
    let needsPositives: Bool
    let needsNegatives: Bool
    /// Longer rows may cost less, so that identical ones still have a direction to go.
    let usesLengths: Bool
    let run: @Sendable ([Float], Int, [Int], Engine) throws -> Outcome
  }

  private static func subject(
    _ name: String, positives: Bool, negatives: Bool, usesLengths: Bool = false, _ loss: some LabelledBatchLoss
  ) -> Subject {
    Subject(
      testDescription: name, needsPositives: positives, needsNegatives: negatives, usesLengths: usesLengths
    ) {
      x, columns, labels, engine in
      let (result, gradient) = try loss.costAndGradient(
        x.matrix(columns: columns), labels: labels.span, engine: engine)
      if let result = result as? MiningResult {
        return Outcome(cost: result.cost, valid: result.valid, gradient: gradient.elements)
      }
      let similarity = try #require(result as? SimilarityResult)
      return Outcome(cost: similarity.cost, valid: similarity.valid, gradient: gradient.elements)
    }
  }

  static let subjects: [Subject] = {
    do {
      var all = [
        subject("SupCon", positives: true, negatives: false, try SupConLoss()),
        subject("SupCon, not normalised", positives: true, negatives: false, try SupConLoss(normalizes: false)),
        subject("NT-Xent", positives: true, negatives: true, try InfoNCELoss()),
        subject(
          "NT-Xent, not normalised", positives: true, negatives: true, usesLengths: true,
          try InfoNCELoss(normalizes: false)),
        subject("multi-similarity", positives: false, negatives: false, try MultiSimilarityLoss()),
      ]
      for distance in EmbeddingDistance.allCases {
        for mining in TripletLoss.Mining.allCases where mining != .given {
          for (smooth, squared) in [(false, false), (true, false), (false, true)] {
            all.append(
              subject(
                "triplet \(distance) \(mining) \(smooth) \(squared)", positives: true, negatives: true,
                try TripletLoss(distance: distance, mining: mining, smooth: smooth, squared: squared)))
          }
        }
        all.append(
          subject(
            "triplet \(distance) hard swap", positives: true, negatives: true,
            try TripletLoss(distance: distance, mining: .batchHard, swap: true)))
        all.append(
          subject(
            "contrastive \(distance)", positives: false, negatives: false, try ContrastiveLoss(distance: distance)))
      }
      return all
    } catch { fatalError("\(error)") }
  }()

  @Test(arguments: subjects) func nothingToLearnFrom(_ subject: Subject) throws {
    var samples = Samples(31)
    let different = samples.numbers(5 * 3).map(Float.init)
    for rows in [0, 1, 2, 5, 130] {
      // Identical rows, and rows of zeros: no direction to go.
      for value: Float in [0, 2] {
        for labels in [[Int](repeating: 4, count: rows), Array(0..<rows), (0..<rows).map { $0 % 2 }] {
          let outcome = try subject.run([Float](repeating: value, count: 3 * rows), 3, labels, .shared)
          #expect(outcome.gradient.count == 3 * rows)
          if value == 0 || !subject.usesLengths { #expect(outcome.gradient.allSatisfy { $0.magnitude < 1e-6 }) }
          #expect(outcome.cost.value.isFinite && outcome.cost.sum >= 0)
          if rows < 2 { #expect(outcome.cost.value == 0) }
        }
      }
    }
    func expectNothing(_ labels: [Int]) throws {
      let outcome = try subject.run(different, 3, labels, .shared)
      #expect(outcome.cost.value == 0 && outcome.gradient.allSatisfy { $0 == 0 })
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

  @Test(arguments: subjects) func workersGiveTheSameBits(_ subject: Subject) throws {
    var samples = Samples(32)
    let (x, labels) = (samples.numbers(333 * 9).map(Float.init), samples.labels(333, below: 7))
    let first = try subject.run(x, 9, labels, engine(workers: 1))
    #expect(first.gradient.allSatisfy { $0.isFinite } && first.cost.sum > 0)
    for workers in [2, 3, 5] { #expect(try subject.run(x, 9, labels, engine(workers: workers)) == first) }
  }

  @Test(arguments: [1, 7, 130]) func allocatingFormsGiveWhatEvaluateGives(rows: Int) throws {
    var samples = Samples(33)
    let (x, y, z) = (
      samples.numbers(rows * 5).map(Float.init), samples.numbers(rows * 5).map(Float.init),
      samples.numbers(rows * 5).map(Float.init)
    )
    let (labels, similar) = (samples.labels(rows, below: rows), (0..<rows).map { $0 % 3 == 0 })
    var (a, b, c) = (x, x, x)

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
