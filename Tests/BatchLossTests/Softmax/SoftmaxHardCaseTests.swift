// What is checked: the inputs on which other libraries fail — batches without a row that counts (H1, H12), ignored
// rows beside weights and smoothing (H2), weights of 0 (H3), masked classes (H4), common offsets (H5), labels out
// of range (H7), silenced rows (H18) — in every reduction, in narrow and in wide rows.
// Against: what the documentation promises, mostly exact values.
// Tolerance: none, unless a value is irrational: then a few units in the last place.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("Softmax cross-entropy: hard cases")
struct SoftmaxHardCaseTests {
  /// Narrow rows, wide rows, rows of several segments.
  static let widths = [3, 64, 65, 4100]

  private func run(
    rows: Int, columns: Int, _ logits: [Double], _ labels: [Int], reduction: Reduction = .mean,
    _ change: (inout SoftmaxProblem) -> Void = { _ in }
  ) throws -> SoftmaxRun<Float>.Outcome {
    var problem = SoftmaxProblem(rows: rows, columns: columns, logits: logits, targets: .labels(labels))
    problem.ignoreIndex = -100
    change(&problem)
    var run = SoftmaxRun<Float>(problem)
    run.reduction = reduction
    let outcome = try run()
    run.isInPlace = true
    let inPlace = try run()
    #expect(inPlace.isIntact && outcome.isIntact)
    for (a, b) in zip(outcome.gradient, inPlace.gradient) { #expect(a == b || (a.isNaN && b.isNaN)) }
    return outcome
  }

  private func random(_ count: Int) -> [Double] {
    var random = RandomSource(seed: 77)
    return (0..<count).map { _ in random.uniform(-4...4) }
  }

  // MARK: H1, H2, H3, H12, H18: what does not count

  @Test("H1: a batch of ignored rows costs 0, with a gradient of 0", arguments: Reduction.allCases)
  func ignoredBatch(_ reduction: Reduction) throws {
    for columns in Self.widths {
      let logits = (0..<3 * columns).map { $0 % 2 == 0 ? Double.nan : .infinity }
      let outcome = try run(
        rows: 3, columns: columns, logits, [-100, -100, -100], reduction: reduction
      ) { $0.labelSmoothing = 0.1 }
      #expect(outcome.cost.value == 0)
      #expect(outcome.cost.sum == 0)
      #expect(outcome.cost.denominator == (reduction == .sum ? 1 : reduction == .batchMean ? 3 : 0))
      #expect(outcome.losses == [0, 0, 0])
      #expect(outcome.gradient.allSatisfy { $0 == 0 })
    }
  }

  @Test("H2: an ignored row changes nothing, beside weights and smoothing", arguments: widths)
  func ignoredRow(_ columns: Int) throws {
    let logits = random(columns)
    let classWeights = random(columns).map { abs($0) + 0.25 }
    let poison = [Double](repeating: .nan, count: columns)
    func change(_ problem: inout SoftmaxProblem) {
      problem.labelSmoothing = 0.2
      problem.classWeights = classWeights
      problem.zLoss = 0.125
    }
    let alone = try run(rows: 1, columns: columns, logits, [columns - 1], change)
    let before = try run(rows: 2, columns: columns, poison + logits, [-100, columns - 1], change)
    let after = try run(rows: 2, columns: columns, logits + poison, [columns - 1, -100], change)
    #expect(alone.cost == before.cost)
    #expect(alone.cost == after.cost)
    #expect(haveSameBits(Array(after.gradient.prefix(columns)), alone.gradient))
    #expect(haveSameBits(Array(before.gradient.suffix(columns)), alone.gradient))
    #expect(after.gradient.suffix(columns).allSatisfy { $0 == 0 })
    #expect(before.gradient.prefix(columns).allSatisfy { $0 == 0 })
    #expect(before.losses[0] == 0)
  }

  @Test("The ignore index may be a class", arguments: widths)
  func ignoredClass(_ columns: Int) throws {
    let logits = random(4 * columns)
    let outcome = try run(rows: 4, columns: columns, logits, [0, 1, 2, 1]) { $0.ignoreIndex = 1 }
    #expect(outcome.cost.denominator == 2)
    #expect(outcome.losses[1] == 0 && outcome.losses[3] == 0)
    #expect(outcome.losses[0] > 0 && outcome.losses[2] > 0)
  }

  @Test("H3: class weights of 0", arguments: widths)
  func weightlessClasses(_ columns: Int) throws {
    let logits = random(2 * columns)
    var weights = [Double](repeating: 1, count: columns)
    weights[0] = 0
    let none = try run(rows: 2, columns: columns, logits, [0, 0]) { $0.classWeights = weights }
    #expect(none.cost == Cost(sum: 0, denominator: 0))
    #expect(none.cost.value == 0)
    #expect(none.gradient.allSatisfy { $0 == 0 })
    let one = try run(rows: 2, columns: columns, logits, [0, 1]) { $0.classWeights = weights }
    #expect(one.cost.denominator == 1)
    #expect(one.losses[0] == 0)
    #expect(one.gradient.prefix(columns).allSatisfy { $0 == 0 })
    let alone = try run(rows: 1, columns: columns, Array(logits.suffix(columns)), [1])
    #expect(haveSameBits(Array(one.gradient.suffix(columns)), alone.gradient))
    // Negative weights, which PyTorch takes as well.
    let negative = try run(rows: 2, columns: columns, logits, [0, 1], reduction: .sum) {
      $0.weights = [-1, 2]
    }
    let plain = try run(rows: 2, columns: columns, logits, [0, 1], reduction: .sum)
    #expect(negative.losses == [-plain.losses[0], 2 * plain.losses[1]])
  }

  @Test("H12: no rows, no columns", arguments: Reduction.allCases)
  func emptyBatches(_ reduction: Reduction) throws {
    for (rows, columns) in [(0, 0), (0, 3), (0, 100)] {
      let outcome = try run(rows: rows, columns: columns, [], [], reduction: reduction)
      #expect(outcome.cost.value == 0)
      #expect(outcome.cost.denominator == (reduction == .sum ? 1 : 0))
    }
  }

  @Test("H18: a row of weight 0 may hold anything", arguments: widths)
  func silencedRow(_ columns: Int) throws {
    for poison in [Double.nan, .infinity, -.infinity] {
      var logits = random(3 * columns)
      for column in 0..<columns where column % 3 != 1 { logits[columns + column] = poison }
      let outcome = try run(rows: 3, columns: columns, logits, [0, 1, 2]) { $0.weights = [1.5, 0, 2] }
      #expect(outcome.cost.sum.isFinite)
      #expect(outcome.cost.denominator == 3.5)
      #expect(outcome.losses[1] == 0)
      #expect(outcome.gradient[columns..<2 * columns].allSatisfy { $0 == 0 })
      #expect(outcome.gradient.allSatisfy { $0.isFinite })
      // With a distribution, which may be anything as well.
      var problem = SoftmaxProblem(
        rows: 2, columns: columns, logits: Array(logits.prefix(2 * columns)),
        targets: .probabilities(
          Array(repeating: 0.5, count: columns) + Array(repeating: poison, count: columns)))
      problem.weights = [1, 0]
      let soft = try SoftmaxRun<Float>(problem)()
      #expect(soft.cost.sum.isFinite)
      #expect(soft.losses[1] == 0)
      #expect(soft.gradient.suffix(columns).allSatisfy { $0 == 0 })
    }
  }

  // MARK: H4: masked classes

  @Test("H4: masked classes cost nothing where their target is 0", arguments: widths)
  func maskedClasses(_ columns: Int) throws {
    // All but two classes are masked; those are equal.
    var logits = [Double](repeating: -.infinity, count: columns)
    (logits[1], logits[columns - 1]) = (7, 7)
    let outcome = try run(rows: 1, columns: columns, logits, [1])
    #expect(abs(Double(outcome.losses[0]) - M_LN2) <= 4 * Float.unitRoundoff)
    for column in 0..<columns {
      let expected: Float = column == 1 ? -0.5 : column == columns - 1 ? 0.5 : 0
      #expect(abs(outcome.gradient[column] - expected) <= 1e-7)
      if expected == 0 { #expect(outcome.gradient[column] == 0) }
    }
    // The label itself is masked: infinite, with the gradient that pulls it up.
    let impossible = try run(rows: 1, columns: columns, logits, [0])
    #expect(impossible.cost.value == .infinity)
    #expect(impossible.gradient[0] == -1)
    #expect(impossible.gradient.allSatisfy { $0.isFinite })
    // Smoothing asks for something of every class.
    let smoothed = try run(rows: 1, columns: columns, logits, [1]) { $0.labelSmoothing = 0.1 }
    #expect(smoothed.cost.value == .infinity)
    // But nothing of a class of weight 0, wherever in its vector and segment it is.
    for weight in [0, 0.5] {
      var classWeights = logits.map { $0 == -.infinity ? 0.0 : 1 }
      classWeights[0] = weight
      let outcome = try run(rows: 1, columns: columns, logits, [1]) {
        $0.labelSmoothing = 0.1
        $0.classWeights = classWeights
      }
      if weight == 0 {
        #expect(abs(Double(outcome.losses[0]) - M_LN2 * (0.9 + 0.2 / Double(columns))) <= 4 * Float.unitRoundoff)
      } else {
        #expect(outcome.losses[0] == .infinity)
      }
      for column in 0..<columns where classWeights[column] == 0 { #expect(outcome.gradient[column] == 0) }
    }
    // Probability 0 on a masked class costs nothing, more is infinite.
    var probabilities = [Double](repeating: 0, count: columns)
    (probabilities[1], probabilities[columns - 1]) = (0.5, 0.5)
    var problem = SoftmaxProblem(
      rows: 1, columns: columns, logits: logits, targets: .probabilities(probabilities))
    let possible = try SoftmaxRun<Float>(problem)()
    #expect(abs(possible.cost.value - M_LN2) <= 4 * Float.unitRoundoff)
    #expect(possible.gradient.allSatisfy { abs($0) <= 1e-7 })
    probabilities[0] = 0.25
    problem.targets = .probabilities(probabilities)
    #expect(try SoftmaxRun<Float>(problem)().cost.value == .infinity)
  }

  @Test("H4: rows without a distribution are NaN, and only they", arguments: widths)
  func undefinedRows(_ columns: Int) throws {
    let fine = random(columns)
    var plus = random(columns)
    plus[columns / 2] = .infinity
    var broken = random(columns)
    broken[columns - 1] = .nan
    for row in [Array(repeating: -.infinity, count: columns), plus, broken] {
      let outcome = try run(rows: 3, columns: columns, fine + row + fine, [0, 1, 2])
      #expect(outcome.cost.value.isNaN)
      #expect(outcome.losses[1].isNaN)
      #expect(outcome.gradient[columns..<2 * columns].allSatisfy { $0.isNaN })
      #expect(outcome.losses[0].isFinite && outcome.losses[2].isFinite)
      #expect(outcome.gradient.prefix(columns).allSatisfy { $0.isFinite })
      #expect(outcome.gradient.suffix(columns).allSatisfy { $0.isFinite })
      let probabilities = [Double](repeating: 0.25, count: 3 * columns)
      let soft = try SoftmaxRun<Float>(
        SoftmaxProblem(
          rows: 3, columns: columns, logits: fine + row + fine, targets: .probabilities(probabilities)))()
      #expect(soft.losses[1].isNaN)
      #expect(soft.gradient[columns..<2 * columns].allSatisfy { $0.isNaN })
      #expect(soft.losses[0].isFinite && soft.losses[2].isFinite)
    }
  }

  @Test("A first segment of masked classes", arguments: [4096, 4097, 5000, 9000])
  func maskedSegment(_ columns: Int) throws {
    var logits = [Double](repeating: -.infinity, count: columns)
    for column in max(0, columns - 700)..<columns { logits[column] = Double(column % 13) - 50 }
    var problem = SoftmaxProblem(
      rows: 1, columns: columns, logits: logits, targets: .labels([columns - 3]))
    for soft in [false, true] {
      if soft {
        problem.targets = .probabilities(logits.map { $0.isFinite ? 1.0 / 1024 : 0 })
      }
      let reference = problem.reference(scale: 1, scalar: Float.self)
      let outcome = try SoftmaxRun<Float>(problem)()
      #expect(outcome.losses[0].isFinite)
      #expect(reference.losses.mismatch(doubles(outcome.losses)) == nil)
      #expect(reference.gradient.mismatch(doubles(outcome.gradient)) == nil)
    }
  }

  // MARK: H5: offsets

  @Test("H5: common offsets of any size", arguments: widths)
  func offsets(_ columns: Int) throws {
    for offset in [0, 1e4, 1e6, 1e8, -1e8, 1e30] {
      let outcome = try run(rows: 1, columns: columns, Array(repeating: offset, count: columns), [columns - 1])
      let expected = log(Double(columns))
      #expect(abs(Double(outcome.losses[0]) - expected) <= 8 * Float.unitRoundoff * expected)
      #expect(abs(outcome.gradient[0] - 1 / Float(columns)) <= 1e-7)
    }
    // Across the range of Float: nothing overflows.
    var logits = [Double](repeating: -3e38, count: columns)
    logits[columns - 1] = 3e38
    let right = try run(rows: 1, columns: columns, logits, [columns - 1])
    #expect(right.losses == [0])
    #expect(right.gradient.allSatisfy { $0 == 0 })
    let wrong = try run(rows: 1, columns: columns, logits, [0])
    #expect(wrong.losses[0] == .infinity || wrong.losses[0] > 3e38)
    #expect(wrong.gradient[0] == -1)
    #expect(wrong.gradient[columns - 1] == 1)
  }

  @Test("Certain rows: the loss underflows to what is left, never below 0", arguments: widths)
  func certainRows(_ columns: Int) throws {
    for gap in [1.0, 8, 17, 30, 80, 200] {
      var logits = [Double](repeating: 0, count: columns)
      logits[1] = gap
      let outcome = try run(rows: 1, columns: columns, logits, [1])
      let expected = log1p(Double(columns - 1) * exp(-gap))
      #expect(outcome.losses[0] >= 0)
      // A narrow row adds up to 64 exponentials in one lane, each with a rounding of a sum of about 1.
      #expect(abs(Double(outcome.losses[0]) - expected) <= 64 * Float.unitRoundoff * max(1, expected))
    }
  }

  @Test("One class: certain, whatever its logit is")
  func oneClass() throws {
    let outcome = try run(rows: 4, columns: 1, [0, 1e30, -1e30, 5], [0, 0, 0, 0]) { $0.labelSmoothing = 0.3 }
    #expect(outcome.losses == [0, 0, 0, 0])
    #expect(outcome.gradient == [0, 0, 0, 0])
  }

  @Test("Smoothing of 1 forgets the label", arguments: widths)
  func fullSmoothing(_ columns: Int) throws {
    let logits = random(columns)
    let first = try run(rows: 1, columns: columns, logits, [0]) { $0.labelSmoothing = 1 }
    let last = try run(rows: 1, columns: columns, logits, [columns - 1]) { $0.labelSmoothing = 1 }
    #expect(haveSameBits(first.losses, last.losses))
    #expect(haveSameBits(first.gradient, last.gradient))
  }
}
