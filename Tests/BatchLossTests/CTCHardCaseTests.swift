import BatchLoss
import Foundation
import Testing

// The cases in which other implementations fail or disagree, each with the decision taken here; exact
// comparisons unless a tolerance is given.

@Suite struct CTCHardCaseTests {
  /// `others` classes of logit −∞ change nothing, but many classes go another way than few.
  private func sample(
    _ logits: [[Double]], _ labels: [Int], blank: Int = 0, others: Int = 0
  ) -> CTCSample {
    let masked = [Double](repeating: -.infinity, count: others)
    return CTCSample(
      batch: 1, time: logits.count, classes: (logits.first?.count ?? 1) + others, blank: blank,
      logits: logits.flatMap { $0 + masked }, labels: [labels], inputLengths: [logits.count])
  }

  @Test func infeasibleTargets() throws {
    var batch = CTCSample(
      batch: 3, time: 2, classes: 3, logits: [Double](repeating: 0, count: 18),
      labels: [[1, 1], [1, 2], [2, 1, 2]],
      inputLengths: [2, 2, 2])
    let infinite = try CTCRun()(batch, Float.self)
    #expect(infinite.losses[0] == .infinity && infinite.losses[2] == .infinity)
    #expect(infinite.cost.value == .infinity)
    #expect(infinite.gradient[0..<6].allSatisfy { $0 == 0 } && infinite.gradient[12...].allSatisfy { $0 == 0 })
    #expect(infinite.gradient[6..<12].contains { $0 != 0 })
    let zeroed = try CTCRun(zeroInfinity: true, reduction: .mean)(batch, Double.self)
    #expect(zeroed.losses[0] == 0 && zeroed.losses[2] == 0)
    // Zeroed utterances count: log 9 / 2 / 3.
    #expect(abs(zeroed.cost.value - log(9) / 6) < 1e-15)
    #expect(zeroed.gradient[0..<6].allSatisfy { $0 == 0 } && zeroed.gradient[12...].allSatisfy { $0 == 0 })
    batch = CTCSample(
      batch: 2, time: 2, classes: 3, logits: [Double](repeating: 0, count: 12), labels: [[1, 1], [1, 2]],
      inputLengths: [2, 2])
    #expect(
      abs(try CTCRun(zeroInfinity: true, reduction: .mean)(batch, Double.self).cost.value - 0.5493061443) < 1e-10)
  }

  @Test(arguments: [0, 200])
  func maskedClasses(others: Int) throws {
    // A label of logit −∞ everywhere has probability 0.
    let never = sample([[0, -.infinity, 0], [0, -.infinity, 0]], [1], others: others)
    for input in CTCLoss.Input.allCases {
      let result = try CTCRun(input: input)(never, Float.self)
      #expect(result.losses == [.infinity])
      #expect(result.gradient.allSatisfy { $0 == 0 })
      #expect(try CTCRun(input: input, zeroInfinity: true)(never, Float.self).losses == [0])
    }
    // One frame in which it may be: label in the first frame, blank in the second.
    let once = sample([[0, 0, -.infinity], [0, -.infinity, -.infinity]], [1], others: others)
    let result = try CTCRun()(once, Double.self)
    #expect(abs(result.cost.value - log(2)) < 1e-15)
    #expect(largestDifference(Array(result.gradient.prefix(2)), [0.5, -0.5]) < 1e-15)
    #expect(result.gradient.dropFirst(2).allSatisfy { abs($0) < 1e-15 })
    // Log-probabilities of which all that the target needs are −∞ in one frame.
    let gone = try CTCRun(input: .logProbabilities)(
      sample([[-1, -1], [-.infinity, -.infinity], [-1, -1]], [1], others: others), Float.self)
    #expect(gone.losses == [.infinity] && gone.gradient.allSatisfy { $0 == 0 })
  }

  @Test func emptyTargetsAndFrames() throws {
    let empty = CTCSample(
      batch: 3, time: 2, classes: 3, logits: [Double](repeating: 0, count: 18), labels: [[], [], [1]],
      inputLengths: [2, 0, 0])
    let result = try CTCRun()(empty, Double.self)
    #expect(abs(result.losses[0] - 2 * log(3)) < 1e-15)
    #expect(result.losses[1] == 0 && result.losses[2] == .infinity)
    #expect(result.gradient[6...].allSatisfy { $0 == 0 })
    // One class, the blank.
    let single = sample([[3], [-2], [0]], [])
    let alone = try CTCRun()(single, Float.self)
    #expect(alone.losses == [0] && alone.gradient == [0, 0, 0])
    // So many frames of it that they lie in lanes.
    let frames = sample((0..<20).map { [Double($0 * 7 % 13 - 6)] }, [])
    let (float, double) = (try CTCRun()(frames, Float.self), try CTCRun()(frames, Double.self))
    #expect(float.losses == [0] && float.gradient.allSatisfy { $0 == 0 })
    #expect(double.losses == [0] && double.gradient.allSatisfy { $0 == 0 })
  }

  @Test func emptyBatch() throws {
    let nothing = CTCSample(batch: 0, time: 0, classes: 3, logits: [], labels: [], inputLengths: [])
    let mean = try CTCRun(reduction: .mean)(nothing, Float.self).cost
    #expect(mean.value == 0 && mean.denominator == 0)
    #expect(try CTCRun()(nothing, Float.self).cost == Cost(sum: 0, denominator: 1))
  }

  @Test func neverNegative() throws {
    // From optax's issue: the true loss is 1.71e-15.
    let certain = sample([[0, 17], [0, 17]], [1])
    #expect(try CTCRun()(certain, Float.self).losses[0] >= 0)
    let loss = try CTCRun()(certain, Double.self).losses[0]
    #expect(loss >= 0 && loss < 4e-15)
    var generator = SplitMix(state: 12)
    for deviation in [0.0, 40, 200] {
      let batch = CTCSample.random(
        batch: 20, time: 9, classes: 2, labels: 1, deviation: deviation, ragged: false, using: &generator)
      #expect(try CTCRun()(batch, Float.self).losses.allSatisfy { $0 >= 0 })
    }
  }

  @Test(arguments: CTCLoss.Layout.allCases, [7, 150])
  func paddedFramesAreNeverRead(layout: CTCLoss.Layout, classes: Int) throws {
    for isInPlace in [false, true] { try paddedFrames(layout, classes, isInPlace: isInPlace) }
  }

  private func paddedFrames(_ layout: CTCLoss.Layout, _ classes: Int, isInPlace: Bool) throws {
    var generator = SplitMix(state: 21)
    let clean = CTCSample.random(batch: 5, time: 19, classes: classes, labels: 3, using: &generator)
    var poisoned = clean
    for utterance in 0..<clean.batch {
      for index in (utterance * 19 + clean.inputLengths[utterance]) * classes..<(utterance + 1) * 19 * classes {
        poisoned.logits[index] = index % 2 == 0 ? .nan : .infinity
      }
    }
    for input in CTCLoss.Input.allCases {
      let run = CTCRun(layout: layout, input: input, isInPlace: isInPlace)
      let (expected, result) = (try run(clean, Float.self), try run(poisoned, Float.self))
      #expect(expected.losses == result.losses && expected.gradient == result.gradient)
      for utterance in 0..<clean.batch {
        let padding =
          (utterance * 19 + clean.inputLengths[utterance]) * classes..<(utterance + 1) * 19 * classes
        #expect(result.gradient[padding].allSatisfy { $0 == 0 })
      }
    }
  }

  @Test(arguments: [0, 200, 700])
  func undefinedFrames(others: Int) throws {
    for bad in [Double.nan, .infinity] {
      let frames = [[0.0, 1, 2], [0, bad, 1], [1, 0, 0]]
      for input in CTCLoss.Input.allCases {
        let result = try CTCRun(input: input)(sample(frames, [1], others: others), Float.self)
        #expect(result.losses[0].isNaN && result.gradient.allSatisfy { $0.isNaN })
      }
      // In a class that the target does not have: read as a logit, not read as a log-probability.
      let elsewhere = sample(frames, [2], others: others)
      let logits = try CTCRun()(elsewhere, Double.self)
      #expect(logits.losses[0].isNaN && logits.gradient.allSatisfy { $0.isNaN })
      let logProbabilities = try CTCRun(input: .logProbabilities)(elsewhere, Double.self)
      #expect(logProbabilities.losses[0].isFinite && logProbabilities.gradient.allSatisfy { $0.isFinite })
      // Undefined comes before impossible.
      let impossible = sample([[0, bad, -.infinity], [0, 0, -.infinity]], [2], others: others)
      #expect(try CTCRun()(impossible, Float.self).losses[0].isNaN)
    }
    let lowest = try CTCRun()(sample([[-.infinity, -.infinity]], [1], others: others), Double.self)
    #expect(lowest.losses[0].isNaN)
  }

  @Test(arguments: [30, 200])
  func gradientRowsAddUpToZero(classes: Int) throws {
    var generator = SplitMix(state: 31)
    func sumsOfRows<Scalar: LossScalar>(_ batch: CTCSample, _: Scalar.Type) throws -> [Double] {
      let gradient = try CTCRun()(batch, Scalar.self).gradient
      return (0..<160).map { gradient[$0 * classes..<($0 + 1) * classes].reduce(0) { $0 + Double($1) } }
    }
    for deviation in [0.5, 8, 100] {
      let batch = CTCSample.random(
        batch: 4, time: 40, classes: classes, labels: 12, deviation: deviation, using: &generator)
      #expect(try sumsOfRows(batch, Float.self).allSatisfy { abs($0) < 1e-6 })
      #expect(try sumsOfRows(batch, Double.self).allSatisfy { abs($0) < 2e-15 })
    }
  }

  @Test(arguments: [0, 200])
  func enormousLogits(others: Int) throws {
    for scale in [1e6, 1e30] {
      let right = sample([[scale, 0], [0, scale], [scale, 0]], [1], others: others)
      let result = try CTCRun()(right, Float.self)
      #expect(result.losses == [0] && result.gradient.allSatisfy { abs($0) < 1e-6 })
      let wrong = try CTCRun()(sample([[scale, 0], [scale, 0]], [1], others: others), Float.self)
      #expect(abs(Double(wrong.losses[0]) / scale - 1) < 1e-6)
      for frame in 0..<2 {
        let row = Array(wrong.gradient[frame * (2 + others)..<(frame + 1) * (2 + others)])
        #expect(largestDifference(row, [0.5, -0.5] + [Double](repeating: 0, count: others)) < 1e-6)
      }
    }
  }

  // MARK: Reductions and workers

  @Test func reductions() throws {
    var generator = SplitMix(state: 5)
    let batch = CTCSample.random(batch: 6, time: 12, classes: 5, labels: 4, using: &generator)
    let sum = try CTCRun()(batch, Double.self)
    let lengths = batch.targetLengths.map { Double(max($0, 1)) }
    let mean = try CTCRun(reduction: .mean)(batch, Double.self)
    #expect(abs(mean.cost.value - zip(sum.losses, lengths).reduce(0) { $0 + $1.0 / $1.1 } / 6) < 1e-14)
    #expect(mean.losses == sum.losses)
    for (index, gradient) in mean.gradient.enumerated() {
      #expect(abs(gradient - sum.gradient[index] / lengths[index / 60] / 6) < 1e-15)
    }
    for reduction in [Reduction.meanOverCount, .batchMean] {
      let result = try CTCRun(reduction: reduction)(batch, Double.self)
      #expect(abs(result.cost.value - sum.losses.reduce(0, +) / 6) < 1e-14)
    }
    let micro = try CTCRun(reduction: .mean, denominator: 24)(batch, Double.self)
    #expect(micro.cost.denominator == 24 && micro.cost.sum == mean.cost.sum)
    #expect(zip(micro.gradient, mean.gradient).allSatisfy { abs($0 * 4 - $1) < 1e-16 })
  }

  @Test func weights() throws {
    var generator = SplitMix(state: 8)
    let batch = CTCSample.random(batch: 6, time: 12, classes: 5, labels: 4, using: &generator)
    let weights = [0.5, 2, -1, 1, 0.25, 4]
    let lengths = batch.targetLengths.map { Double(max($0, 1)) }
    let plain = try CTCRun()(batch, Double.self)
    let expected = zip(plain.losses, weights).map { $0 * $1 }
    for (reduction, divisor) in [(Reduction.sum, 1.0), (.meanOverCount, 6), (.batchMean, 6), (.mean, 6.75)] {
      for isInPlace in [false, true] {
        let result = try CTCRun(reduction: reduction, weights: weights, isInPlace: isInPlace)(batch, Double.self)
        let shares = lengths.map { reduction == .mean ? 1 / $0 : 1 }
        #expect(largestDifference(result.losses, expected) < 1e-14)
        #expect(result.cost.denominator == divisor)
        #expect(abs(result.cost.sum - zip(expected, shares).reduce(0) { $0 + $1.0 * $1.1 }) < 1e-13)
        let gradient = plain.gradient.enumerated().map { index, derivative in
          derivative * weights[index / 60] * shares[index / 60] / divisor
        }
        #expect(largestDifference(result.gradient, gradient) < 1e-15)
      }
    }
  }

  /// Utterances of weight 0 may hold what they like, and an infeasible target keeps the sign of its weight.
  @Test func zeroWeights() throws {
    var generator = SplitMix(state: 9)
    var batch = CTCSample.random(batch: 3, time: 6, classes: 4, labels: 2, using: &generator)
    batch.inputLengths = [6, 6, 6]
    batch.labels = [[1], [2, 2], [1, 1, 1, 1]]
    for index in 24..<48 { batch.logits[index] = .nan }
    let result = try CTCRun(reduction: .mean, weights: [2, 0, 0])(batch, Float.self)
    let alone = try CTCRun(reduction: .mean, weights: [1, 0, 0])(batch, Float.self)
    #expect(result.cost.denominator == 2 && result.cost.value == alone.cost.value && result.cost.value.isFinite)
    #expect(result.losses[1] == 0 && result.losses[2] == 0)
    #expect(result.gradient == alone.gradient && result.gradient[..<24].contains { $0 != 0 })
    #expect(result.gradient[24...].allSatisfy { $0 == 0 })
    let signed = try CTCRun(weights: [1, 0, -1])(batch, Float.self)
    #expect(signed.losses[2] == -.infinity && signed.gradient[48...].allSatisfy { $0 == 0 })
    // Weights that add up to 0: value 0 and gradient 0.
    let none = CTCRun(reduction: .mean, weights: [1, 0, -1], isInPlace: true)
    let feasible = CTCSample.random(batch: 3, time: 9, classes: 4, labels: 2, using: &generator)
    let balanced = try none(feasible, Float.self)
    #expect(balanced.cost.denominator == 0 && balanced.cost.value == 0)
    #expect(balanced.gradient.allSatisfy { $0 == 0 })
  }

  /// Where the denominator is 0 the gradient is 0, even of an utterance that is undefined.
  @Test(arguments: [5, 200], CTCLoss.Input.allCases)
  func denominatorOfZero(classes: Int, input: CTCLoss.Input) throws {
    var generator = SplitMix(state: 10)
    var batch = CTCSample.random(
      batch: 3, time: 9, classes: classes, labels: 2, ragged: false, using: &generator)
    batch.logits[2 * classes] = .nan
    for isInPlace in [false, true] {
      for (weights, isUndefined) in [([1.0, 0, -1], true), ([0, 0, 0], false), ([0, 1, -1], false)] {
        let run = CTCRun(input: input, reduction: .mean, weights: weights, isInPlace: isInPlace)
        let result = try run(batch, Float.self)
        #expect(result.cost.denominator == 0 && result.cost.value.isNaN == isUndefined)
        #expect(isUndefined || result.cost.value == 0)
        #expect(result.gradient.allSatisfy { $0 == 0 }, "\(weights)")
      }
    }
  }

  /// A zeroed utterance adds nothing, but its weight counts in the mean.
  @Test func weightsWithZeroInfinity() throws {
    var generator = SplitMix(state: 11)
    var batch = CTCSample.random(batch: 3, time: 4, classes: 4, labels: 1, ragged: false, using: &generator)
    batch.labels = [[1], [1, 1, 1], [2, 3]]
    let plain = try CTCRun(zeroInfinity: true)(batch, Double.self)
    for isInPlace in [false, true] {
      let run = CTCRun(zeroInfinity: true, reduction: .mean, weights: [2, 3, -1], isInPlace: isInPlace)
      let result = try run(batch, Double.self)
      #expect(result.losses == [2 * plain.losses[0], 0, -plain.losses[2]])
      #expect(result.cost.denominator == 4)
      #expect(abs(result.cost.sum - (2 * plain.losses[0] - plain.losses[2] / 2)) < 1e-14)
      let factors = [2.0 / 4, 0, -1.0 / 2 / 4]
      let expected = plain.gradient.enumerated().map { $1 * factors[$0 / 16] }
      #expect(largestDifference(result.gradient, expected) < 1e-15)
      #expect(result.gradient[16..<32].allSatisfy { $0 == 0 })
    }
  }

  @Test func sameBitsForEveryWorkerCount() throws {
    var generator = SplitMix(state: 6)
    for (deviation, classes) in [(1.0, 19), (60, 19), (3, 150)] {
      let batch = CTCSample.random(
        batch: 23, time: 31, classes: classes, labels: 9, deviation: deviation, using: &generator)
      for layout in CTCLoss.Layout.allCases {
        for input in CTCLoss.Input.allCases {
          try checkSameBits(CTCRun(layout: layout, input: input, reduction: .mean), batch, Float.self)
          try checkSameBits(CTCRun(layout: layout, input: input, reduction: .mean), batch, Double.self)
        }
      }
    }
  }

  private func checkSameBits<Scalar: LossScalar>(_ run: CTCRun, _ batch: CTCSample, _: Scalar.Type) throws {
    let one = try run(batch, Scalar.self)
    for workers in [2, 7] {
      var parallel = run
      parallel.workers = workers
      let many = try parallel(batch, Scalar.self)
      #expect(many.cost == one.cost && many.losses == one.losses && many.gradient == one.gradient)
    }
  }

  /// So many short utterances that a worker is handed several at a time; with one that is much longer, one by one.
  @Test(arguments: [false, true]) func sameBitsForManyUtterances(hasLong: Bool) throws {
    var generator = SplitMix(state: 8)
    var batch = CTCSample.random(batch: 300, time: 40, classes: 7, labels: 3, ragged: !hasLong, using: &generator)
    if hasLong { for utterance in 1..<300 { batch.inputLengths[utterance] = 3 + utterance % 5 } }
    try checkSameBits(CTCRun(reduction: .mean), batch, Float.self)
  }

  @Test func newMatrix() throws {
    var generator = SplitMix(state: 9)
    let batch = CTCSample.random(batch: 5, time: 21, classes: 9, labels: 4, using: &generator)
    let logits = batch.logits.map { Float($0) }
    let (labels, lengths, frames) = (batch.padded, batch.targetLengths, batch.inputLengths)
    let targets = CTCTargets(padded: labels.span, batch: 5, lengths: lengths.span)
    var gradient = [Float](repeating: 7, count: logits.count)
    let cost = try CTCLoss(zeroInfinity: true).evaluate(
      logits.matrix(columns: 9), targets: targets, inputLengths: frames.span,
      gradient: gradient.mutableMatrix(columns: 9))
    let both = try CTCLoss(zeroInfinity: true).costAndGradient(
      logits.matrix(columns: 9), targets: targets, inputLengths: frames.span)
    #expect(both.cost == cost && both.gradient.elements == gradient)
  }

  @Test(arguments: CTCLoss.Layout.allCases, [9, 150])
  func repeatedCallsAllocateNothing(layout: CTCLoss.Layout, classes: Int) throws {
    var generator = SplitMix(state: 7)
    let batch = CTCSample.random(batch: 4, time: 20, classes: classes, labels: 5, using: &generator)
    let logits = (layout == .batchMajor ? batch.logits : batch.timeMajor).map { Float($0) }
    var gradient = [Float](repeating: 0, count: logits.count)
    let (labels, lengths, frames) = (batch.padded, batch.targetLengths, batch.inputLengths)
    let engine = Engine(configuration: try .init(workerCount: 1))
    var allocations: [Int] = []
    for _ in 0..<3 {
      try CTCLoss(layout: layout).evaluate(
        logits.matrix(columns: classes),
        targets: CTCTargets(padded: labels.span, batch: 4, lengths: lengths.span),
        inputLengths: frames.span, gradient: gradient.mutableMatrix(columns: classes), engine: engine)
      allocations.append(engine.workspaceAllocations)
    }
    #expect(allocations[1] == allocations[0] && allocations[2] == allocations[0])
  }
}
