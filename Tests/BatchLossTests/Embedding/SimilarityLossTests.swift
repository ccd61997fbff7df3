import BatchLoss
import Foundation
import Testing

// Losses on similarities against their formulas in plain loops, gradients (by embeddings, scale, bias and
// temperature) against central differences of these loops. Tolerances: `tolerance(_:)`.

@Suite struct SimilarityLossTests {
  private let shapes = [(1, 3), (2, 4), (7, 5), (17, 16), (40, 19)]

  private func check<Scalar: LossScalar>(
    _ result: SimilarityResult, _ losses: [Scalar], _ gradient: [Scalar], x: [Double], divisor: Double,
    _ reference: ([Double]) -> [Double], _ name: String
  ) {
    let tolerance = tolerance(Scalar.self)
    let expected = reference(x)
    let sum = expected.reduce(0, +)
    #expect(relativeError(result.cost.sum, sum) < tolerance.cost, "\(name)")
    #expect(result.cost.denominator == divisor, "\(name)")
    #expect(largestError(losses, expected) < 10 * tolerance.cost, "\(name)")
    let slopes = finiteDifferences(x) { reference($0).reduce(0, +) / max(divisor, 1) }
    #expect(largestError(gradient, slopes) < tolerance.gradient, "\(name) \(losses.count)")
  }

  // MARK: Two sets of rows

  private func checkPairs<Scalar: LossScalar>(_: Scalar.Type) throws {
    for (rows, columns) in shapes {
      for normalizes in [true, false] {
        var samples = Samples(UInt64(rows))
        let x = samples.numbers(2 * rows * columns)
        let half = rows * columns
        let similarities = Similarities(columns: columns, normalizes: normalizes)
        func matrix(_ x: [Double]) -> [[Double]] {
          similarities.matrix(Array(x[..<half]), Array(x[half...]))
        }
        let (a, b) = (x[..<half].map { Scalar($0) }, x[half...].map { Scalar($0) })
        var (ga, gb, losses) = (a, b, [Scalar](repeating: 9, count: rows))

        let nce = try InfoNCELoss(temperature: 0.25, normalizes: normalizes).evaluate(
          queries: a.matrix(columns: columns), keys: b.matrix(columns: columns), losses: losses.mutableSpan,
          queryGradient: ga.mutableMatrix(columns: columns), keyGradient: gb.mutableMatrix(columns: columns))
        check(
          nce, losses, ga + gb, x: x, divisor: Double(rows), { ReferenceLosses.infoNCE(matrix($0), 4) }, "InfoNCE")
        checkTemperature(nce, Scalar.self, 0.25, rows) { ReferenceLosses.infoNCE(matrix(x), $0) }

        let clip = try CLIPLoss(temperature: 0.25, normalizes: normalizes).evaluate(
          images: a.matrix(columns: columns), texts: b.matrix(columns: columns), losses: losses.mutableSpan,
          imageGradient: ga.mutableMatrix(columns: columns), textGradient: gb.mutableMatrix(columns: columns))
        check(clip, losses, ga + gb, x: x, divisor: Double(rows), { ReferenceLosses.clip(matrix($0), 4) }, "CLIP")
        checkTemperature(clip, Scalar.self, 0.25, rows) { ReferenceLosses.clip(matrix(x), $0) }

        let sigLIP = try SigLIPLoss(scale: 3, bias: -1, normalizes: normalizes).evaluate(
          images: a.matrix(columns: columns), texts: b.matrix(columns: columns), losses: losses.mutableSpan,
          imageGradient: ga.mutableMatrix(columns: columns), textGradient: gb.mutableMatrix(columns: columns))
        check(
          sigLIP, losses, ga + gb, x: x, divisor: Double(rows), { ReferenceLosses.sigLIP(matrix($0), 3, -1) },
          "SigLIP")
        let s = matrix(x)
        let byScale = finiteDifferences([3, -1]) {
          ReferenceLosses.sigLIP(s, $0[0], $0[1]).reduce(0, +) / Double(rows)
        }
        let actual = [sigLIP.scaleGradient ?? .nan, sigLIP.biasGradient ?? .nan]
        #expect(largestError(actual, byScale) < tolerance(Scalar.self).gradient)

        guard !normalizes else { continue }
        let labels = samples.labels(rows, below: 3)
        let nPairs = try NPairsLoss(regularization: 0.5).evaluate(
          anchors: a.matrix(columns: columns), positives: b.matrix(columns: columns), labels: labels.span,
          losses: losses.mutableSpan, anchorGradient: ga.mutableMatrix(columns: columns),
          positiveGradient: gb.mutableMatrix(columns: columns))
        func reference(_ labels: [Int]) -> ([Double]) -> [Double] {
          { x in
            let losses = ReferenceLosses.nPairs(matrix(x), labels)
            return losses.indices.map { i in
              let range = i * columns..<(i + 1) * columns
              let squares = range.reduce(0) { $0 + x[$1] * x[$1] + x[half + $1] * x[half + $1] }
              return losses[i] + 0.25 * 0.5 * squares
            }
          }
        }
        check(nPairs, losses, ga + gb, x: x, divisor: Double(rows), reference(labels), "n-pairs")
        let alone = try NPairsLoss(regularization: 0.5).evaluate(
          anchors: a.matrix(columns: columns), positives: b.matrix(columns: columns), losses: losses.mutableSpan,
          anchorGradient: ga.mutableMatrix(columns: columns), positiveGradient: gb.mutableMatrix(columns: columns))
        check(alone, losses, ga + gb, x: x, divisor: Double(rows), reference(Array(0..<rows)), "n-pairs")
      }
    }
  }

  private func checkTemperature<Scalar: LossScalar>(
    _ result: SimilarityResult, _: Scalar.Type, _ temperature: Double, _ rows: Int, _ losses: (Double) -> [Double]
  ) {
    let slope = finiteDifferences([temperature]) { losses(1 / $0[0]).reduce(0, +) / Double(rows) }
    #expect(largestError([result.temperatureGradient ?? .nan], slope) < tolerance(Scalar.self).gradient)
  }

  @Test func pairsMatchPlainLoops() throws {
    try checkPairs(Float.self)
    try checkPairs(Double.self)
  }

  // MARK: Labelled batches

  private func checkLabelled<Scalar: LossScalar>(_: Scalar.Type) throws {
    for (rows, columns) in shapes {
      for normalizes in [true, false] {
        var samples = Samples(UInt64(rows + 50))
        let x = samples.numbers(rows * columns)
        let labels = samples.labels(rows, below: max(2, rows / 4))
        let similarities = Similarities(columns: columns, normalizes: normalizes)
        func matrix(_ x: [Double]) -> [[Double]] { similarities.matrix(x, x) }
        let embeddings = x.map { Scalar($0) }
        var (gradient, losses) = (embeddings, [Scalar](repeating: 9, count: rows))
        let positives = labels.indices.map { i in labels.indices.filter { $0 != i && labels[$0] == labels[i] }.count
        }

        let supCon = try SupConLoss(temperature: 0.25, normalizes: normalizes).evaluate(
          embeddings.matrix(columns: columns), labels: labels.span, losses: losses.mutableSpan,
          gradient: gradient.mutableMatrix(columns: columns))
        let anchors = positives.filter { $0 > 0 }.count
        check(
          supCon, losses, gradient, x: x, divisor: Double(anchors),
          { ReferenceLosses.supCon(matrix($0), 4, labels) }, "SupCon")
        checkTemperature(supCon, Scalar.self, 0.25, max(1, anchors)) {
          ReferenceLosses.supCon(matrix(x), $0, labels)
        }

        let ntXent = try InfoNCELoss(temperature: 0.25, normalizes: normalizes).evaluate(
          embeddings.matrix(columns: columns), labels: labels.span, losses: losses.mutableSpan,
          gradient: gradient.mutableMatrix(columns: columns))
        check(
          ntXent, losses, gradient, x: x, divisor: Double(positives.reduce(0, +)),
          { ReferenceLosses.ntXent(matrix($0), 4, labels) }, "NT-Xent")
        checkTemperature(ntXent, Scalar.self, 0.25, max(1, positives.reduce(0, +))) {
          ReferenceLosses.ntXent(matrix(x), $0, labels)
        }

        let multi = try MultiSimilarityLoss(alpha: 2, beta: 10, base: 0.5, normalizes: normalizes).evaluate(
          embeddings.matrix(columns: columns), labels: labels.span, losses: losses.mutableSpan,
          gradient: gradient.mutableMatrix(columns: columns))
        check(
          multi, losses, gradient, x: x, divisor: rows > 1 ? Double(rows) : 0,
          { ReferenceLosses.multiSimilarity(matrix($0), alpha: 2, beta: 10, base: 0.5, labels) },
          "multi-similarity")
      }
    }
  }

  @Test func labelledBatchesMatchPlainLoops() throws {
    try checkLabelled(Float.self)
    try checkLabelled(Double.self)
  }

  // MARK: Class centres

  private func checkCenters<Scalar: LossScalar>(_: Scalar.Type) throws {
    for (rows, columns, classes) in [(1, 3, 1), (5, 4, 3), (30, 17, 20)] {
      var samples = Samples(UInt64(rows))
      let (x, centers) = (samples.numbers(rows * columns), samples.numbers(classes * columns))
      let labels = samples.labels(rows, below: classes)
      let similarities = Similarities(columns: columns, normalizes: true)
      let (a, c) = (x.map { Scalar($0) }, centers.map { Scalar($0) })
      var (ga, gc, losses) = (a, c, [Scalar](repeating: 9, count: rows))
      func reference(_ margin: @escaping (Double) -> Double) -> ([Double]) -> [Double] {
        {
          let s = similarities.matrix(Array($0[..<x.count]), Array($0[x.count...]))
          return ReferenceLosses.marginSoftmax(s, scale: 8, labels, margin)
        }
      }
      // With the larger margin most angles exceed π.
      for margin in [0.5, 2.5] {
        let arc = try ArcFaceLoss(margin: margin, scale: 8).evaluate(
          a.matrix(columns: columns), classCenters: c.matrix(columns: columns), labels: labels.span,
          losses: losses.mutableSpan, gradient: ga.mutableMatrix(columns: columns),
          classCenterGradient: gc.mutableMatrix(columns: columns))
        check(
          arc, losses, ga + gc, x: x + centers, divisor: Double(rows),
          reference { cosine in
            let angle = _acos(cosine)
            return angle + margin <= .pi ? _cos(angle + margin) : cosine - margin * _sin(margin)
          }, "ArcFace \(margin)")
      }
      let cosFace = try CosFaceLoss(margin: 0.25, scale: 8).evaluate(
        a.matrix(columns: columns), classCenters: c.matrix(columns: columns), labels: labels.span,
        losses: losses.mutableSpan, gradient: ga.mutableMatrix(columns: columns),
        classCenterGradient: gc.mutableMatrix(columns: columns))
      check(
        cosFace, losses, ga + gc, x: x + centers, divisor: Double(rows), reference { $0 - 0.25 }, "CosFace")
    }
  }

  @Test func classCentersMatchPlainLoops() throws {
    try checkCenters(Float.self)
    try checkCenters(Double.self)
  }

  @Test func labelsMustNameACenter() throws {
    let (x, labels) = ([1.0, 2], [0, 1])
    #expect(throws: BatchLossError.self) {
      try ArcFaceLoss().evaluate(x.matrix(columns: 1), classCenters: [1.0].matrix(columns: 1), labels: labels.span)
    }
  }

  // MARK: Published values, hard cases

  @Test func cosineEmbedding() throws {
    let (x, y): ([Double], [Double]) = ([3, 4, 1, 0, 1, 0, 0, 0], [3, 4, 1, 1, -1, 0, 1, 2])
    let similar = [true, false, false, true]
    var (gx, gy, losses) = (x, x, [Double](repeating: 9, count: 4))
    let result = try CosineEmbeddingLoss(margin: 0.5).evaluate(
      first: x.matrix(columns: 2), second: y.matrix(columns: 2), similar: similar.span, losses: losses.mutableSpan,
      firstGradient: gx.mutableMatrix(columns: 2), secondGradient: gy.mutableMatrix(columns: 2))
    #expect(losses[0] == 0 && losses[2] == 0 && losses[3] == 1 && result.valid == 4 && result.active == 2)
    #expect((losses[1] - (0.5.squareRoot() - 0.5)).magnitude < 1e-15)
    // A similar pair of one direction and the pair with a row of zeros have nowhere to go.
    #expect(gx[0...1].allSatisfy { $0.magnitude < 1e-16 } && gx[4...] == [0, 0, 0, 0] && gy[6...] == [0, 0])
  }

  @Test func largeSimilaritiesNeitherOverflowNorCancel() throws {
    // One temperature makes the logits ±10⁶; the positive has all of the probability.
    let x: [Float] = [1, 0, -1, 0, 0, 1]
    var (gx, gy) = (x, x)
    let result = try CLIPLoss(temperature: 1e-6).evaluate(
      images: x.matrix(columns: 2), texts: x.matrix(columns: 2), imageGradient: gx.mutableMatrix(columns: 2),
      textGradient: gy.mutableMatrix(columns: 2))
    #expect(result.cost.value == 0 && (gx + gy).allSatisfy { $0 == 0 })
    let wrong: [Float] = [-1, 0, 1, 0, 0, -1]
    let far = try InfoNCELoss(temperature: 1e-6).evaluate(
      queries: x.matrix(columns: 2), keys: wrong.matrix(columns: 2))
    #expect(relativeError(far.cost.value, (2e6 + 2e6 + 1e6) / 3) < 1e-6)
  }

  /// Logits that are all but equal: no number may stand in for a similarity without an exponential.
  @Test(arguments: [1e30, 1e34, 1e36, 1e44, 1e50]) func temperaturesBeyondFloat(temperature: Double) throws {
    var samples = Samples(41)
    let (rows, columns) = (150, 6)
    let x = samples.numbers(rows * columns).map(Float.init)
    let y = samples.numbers(rows * columns).map(Float.init)
    let labels = (0..<rows).map { $0 % 5 }
    // Gradients of the temperature come with those of the rows.
    var gradient = x
    let results = [
      try InfoNCELoss(temperature: temperature).evaluate(
        queries: x.matrix(columns: columns), keys: y.matrix(columns: columns),
        queryGradient: gradient.mutableMatrix(columns: columns)),
      try CLIPLoss(temperature: temperature).evaluate(
        images: x.matrix(columns: columns), texts: y.matrix(columns: columns),
        imageGradient: gradient.mutableMatrix(columns: columns)),
      try SupConLoss(temperature: temperature).evaluate(
        x.matrix(columns: columns), labels: labels.span, gradient: gradient.mutableMatrix(columns: columns)),
    ]
    for (result, others) in zip(results, [rows, rows, rows - 1]) {
      #expect(relativeError(result.cost.value, log(Double(others))) < 1e-6)
      #expect(try #require(result.temperatureGradient).isFinite)
    }
  }

  @Test func degenerateBatches() throws {
    for rows in [0, 1, 4] {
      // Rows of zeros; one class, and only different ones.
      let x = [Float](repeating: 0, count: 3 * rows)
      for labels in [[Int](repeating: 1, count: rows), Array(0..<rows)] {
        var gradient = [Float](repeating: 5, count: 3 * rows)
        let losses: [SimilarityResult] = [
          try SupConLoss().evaluate(
            x.matrix(columns: 3), labels: labels.span, gradient: gradient.mutableMatrix(columns: 3)),
          try InfoNCELoss().evaluate(
            x.matrix(columns: 3), labels: labels.span, gradient: gradient.mutableMatrix(columns: 3)),
          try MultiSimilarityLoss().evaluate(
            x.matrix(columns: 3), labels: labels.span, gradient: gradient.mutableMatrix(columns: 3)),
        ]
        #expect(gradient.allSatisfy { $0 == 0 })
        #expect(losses.allSatisfy { $0.cost.value.isFinite && $0.cost.value >= 0 })
      }
      var (gx, gy) = (x, x)
      let clip = try CLIPLoss().evaluate(
        images: x.matrix(columns: 3), texts: x.matrix(columns: 3), imageGradient: gx.mutableMatrix(columns: 3),
        textGradient: gy.mutableMatrix(columns: 3))
      #expect((gx + gy).allSatisfy { $0 == 0 } && (rows < 2) == (clip.cost.value == 0))
    }
  }

  @Test func workersGiveTheSameBits() throws {
    var samples = Samples(5)
    let (x, y) = (samples.numbers(700 * 20).map(Float.init), samples.numbers(700 * 20).map(Float.init))
    let labels = samples.labels(700, below: 9)
    var first: [[Float]]?
    for workers in [1, 2, 7] {
      let engine = try engine(workers: workers)
      var (a, b, c) = (x, x, x)
      let supCon = try SupConLoss().evaluate(
        x.matrix(columns: 20), labels: labels.span, gradient: a.mutableMatrix(columns: 20), engine: engine)
      let clip = try CLIPLoss().evaluate(
        images: x.matrix(columns: 20), texts: y.matrix(columns: 20), imageGradient: b.mutableMatrix(columns: 20),
        textGradient: c.mutableMatrix(columns: 20), engine: engine)
      let all = [a, b, c, [Float(supCon.cost.sum), Float(clip.cost.sum), Float(clip.scaleGradient ?? .nan)]]
      if let first { #expect(first == all) } else { first = all }
    }
  }

  /// Beyond the budget CLIP computes similarities twice; the result is the same but for rounding.
  @Test func budgetDoesNotChangeTheResult() throws {
    var samples = Samples(6)
    let (x, y) = (samples.numbers(1100 * 8).map(Float.init), samples.numbers(1100 * 8).map(Float.init))
    var (a, b) = (x, x)
    let whole = try CLIPLoss().evaluate(
      images: x.matrix(columns: 8), texts: y.matrix(columns: 8), imageGradient: a.mutableMatrix(columns: 8))
    let streamed = try CLIPLoss().evaluate(
      images: x.matrix(columns: 8), texts: y.matrix(columns: 8), imageGradient: b.mutableMatrix(columns: 8),
      engine: engine(workers: 2, budget: 1 << 20))
    #expect(relativeError(streamed.cost.sum, whole.cost.sum) < 1e-7)
    #expect(largestError(b, a.map(Double.init)) < 1e-5)
  }

  @Test func memoryBetweenRowsIsLeftAlone() throws {
    let x: [Float] = [1, 2, 7, 3, -1, 7, 0, 1, 7]
    var gradient = [Float](repeating: 5, count: 12)
    let view = try MatrixView(x.span, rows: 3, columns: 2, stride: 3)
    let labels = [0, 0, 1]
    try SupConLoss().evaluate(
      view, labels: labels.span,
      gradient: MutableMatrixView(gradient.mutableSpan, rows: 3, columns: 2, stride: 4))
    for row in 0..<3 { #expect(gradient[4 * row + 2] == 5 && gradient[4 * row + 3] == 5) }
    let packed: [Float] = [1, 2, 3, -1, 0, 1]
    var expected = packed
    try SupConLoss().evaluate(
      packed.matrix(columns: 2), labels: labels.span, gradient: expected.mutableMatrix(columns: 2))
    for row in 0..<3 {
      for column in 0..<2 { #expect(expected[2 * row + column] == gradient[4 * row + column]) }
    }
  }

  @Test func parametersAreChecked() throws {
    #expect(throws: BatchLossError.self) { try InfoNCELoss(temperature: 0) }
    #expect(throws: BatchLossError.self) { try CLIPLoss(temperature: -1) }
    #expect(throws: BatchLossError.self) { try SigLIPLoss(scale: .nan) }
    #expect(throws: BatchLossError.self) { try MultiSimilarityLoss(alpha: 0) }
    #expect(throws: BatchLossError.self) { try ArcFaceLoss(margin: 4) }
    #expect(throws: BatchLossError.self) { try CosineEmbeddingLoss(margin: 2) }
    let x: [Float] = [1, 2, 3]
    #expect(throws: BatchLossError.self) {
      try InfoNCELoss().evaluate(queries: x.matrix(columns: 1), keys: x.matrix(columns: 3))
    }
    var gradient: [Float] = [7, 7]
    #expect(throws: BatchLossError.self) {
      try CLIPLoss().evaluate(
        images: x.matrix(columns: 1), texts: x.matrix(columns: 1), imageGradient: gradient.mutableMatrix(columns: 1)
      )
    }
    #expect(gradient == [7, 7])
  }
}
