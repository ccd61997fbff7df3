// What is checked: calls of the element-wise losses through the public interface — strides, weights for elements
// and for rows, every reduction, explicit denominators, in place, empty batches, worker counts, streaming.
// Against: a plain loop in float64; or another call that must give the same bits.
// Tolerance: that of ElementwiseReference; where two calls are compared, none.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Element-wise losses: calls")
struct ElementwiseEvaluationTests {
  // MARK: Layouts, weights and reductions

  @Test("Strides, weights and reductions, Float", arguments: ElementwiseSubject.all)
  func combinationsOfFloat(_ subject: ElementwiseSubject) throws { try combinations(subject, Float.self) }

  @Test("Strides, weights and reductions, Double", arguments: ElementwiseSubject.all)
  func combinationsOfDouble(_ subject: ElementwiseSubject) throws { try combinations(subject, Double.self) }

  private func combinations<Scalar: LossScalar>(_ subject: ElementwiseSubject, _: Scalar.Type) throws {
    let shapes = [(1, 1), (5, 1), (3, 5), (4, 17), (7, 33), (2, 1000)]
    for (index, (rows, columns)) in shapes.enumerated() {
      let (predictions, targets) = subject.inputs(count: rows * columns, seed: UInt64(index))
      for weightCount in [0, rows, rows * columns] {
        let weights = weightCount == 0 ? nil : randomWeights(count: weightCount, seed: 7)
        for (choice, reduction) in Reduction.allCases.enumerated() {
          var run = ElementwiseRun<Scalar>(
            rows: rows, columns: columns, predictions: predictions, targets: targets, weights: weights)
          run.reduction = reduction
          // Every operand has gaps of its own in one case or another, sometimes none.
          run.gaps = .init(
            predictions: choice % 2 * 3, targets: choice % 3 * 2, weights: (choice + 1) % 2,
            losses: choice / 2 * 5, gradient: (choice + index) % 3)
          try check(run, subject)
        }
      }
    }
  }

  /// Evaluates a batch in every way and compares with the plain loop.
  private func check<Scalar: LossScalar>(_ run: ElementwiseRun<Scalar>, _ subject: ElementwiseSubject) throws {
    let label: Comment = "\(subject), \(run.rows)×\(run.columns), \(run.reduction), \(run.gaps)"
    let unscaled = ElementwiseReference(
      subject, predictions: run.predictions, targets: run.targets, weights: run.elementWeights, scale: 1,
      scalar: Scalar.self)
    let denominator: Double =
      switch run.reduction {
      case .mean: run.elementWeights?.reduce(0, +) ?? Double(run.predictions.count)
      case .meanOverCount: Double(run.predictions.count)
      case .sum: 1
      case .batchMean: Double(run.rows)
      case .meanOverActive: Double(unscaled.active)
      }
    let reference = ElementwiseReference(
      subject, predictions: run.predictions, targets: run.targets, weights: run.elementWeights,
      scale: denominator == 0 ? 0 : 1 / denominator, scalar: Scalar.self)

    let outcome = try run(subject.loss)
    #expect(outcome.isIntact, label)
    #expect(outcome.cost.denominator == denominator, label)
    #expect(mismatch(outcome.cost.sum, reference.sum, allowed: reference.sumAllowed) == nil, label)
    #expect(reference.losses.mismatch(doubles(outcome.losses)) == nil, label)
    #expect(reference.gradient.mismatch(doubles(outcome.gradient)) == nil, label)

    // Fewer outputs: the same numbers in those that are left.
    var other = run
    other.wantsLosses = false
    let withoutLosses = try other(subject.loss)
    #expect(withoutLosses.isIntact, label)
    #expect(haveSameBits(withoutLosses.gradient, outcome.gradient), label)
    #expect(
      mismatch(withoutLosses.cost.sum, reference.sum, allowed: reference.sumAllowed) == nil, label)
    other.wantsGradient = false
    let costAlone = try other(subject.loss)
    #expect(costAlone.isIntact, label)
    #expect(mismatch(costAlone.cost.sum, reference.sum, allowed: reference.sumAllowed) == nil, label)

    // In place: the same bits as beside.
    other = run
    other.isInPlace = true
    other.gaps.gradient = run.gaps.predictions
    let inPlace = try other(subject.loss)
    #expect(inPlace.isIntact, label)
    #expect(haveSameBits(inPlace.gradient, outcome.gradient), label)
    #expect(haveSameBits(inPlace.losses, outcome.losses), label)
  }

  @Test("The allocating convenience gives the same", arguments: ElementwiseSubject.all)
  func convenience(_ subject: ElementwiseSubject) throws {
    func check(_ loss: some ElementwiseLoss) throws {
      let (predictions, targets) = subject.inputs(count: 35, seed: 3)
      var gradient = [Double](repeating: 0, count: 35)
      let cost = try loss.evaluate(
        predictions.matrix(columns: 7), targets: targets.matrix(columns: 7),
        gradient: gradient.mutableMatrix(columns: 7))
      let both = try loss.costAndGradient(
        predictions.matrix(columns: 7), targets: targets.matrix(columns: 7))
      #expect(both.cost == cost)
      #expect(both.gradient.rows == 5)
      #expect(both.gradient.columns == 7)
      #expect(both.gradient.elements == gradient)
    }
    try check(subject.loss)
  }

  // MARK: Finite differences

  @Test("Gradients are the slopes of the losses", arguments: ElementwiseSubject.all)
  func finiteDifferences(_ subject: ElementwiseSubject) throws {
    let count = 400
    let (predictions, targets) = subject.inputs(count: count, seed: 11)
    var run = ElementwiseRun<Double>(
      rows: 1, columns: count, predictions: predictions, targets: targets, reduction: .sum)
    let gradient = try run(subject.loss).gradient
    func slopes(_ step: Double) throws -> [Double] {
      run.predictions = predictions.map { $0 + step }
      let above = try run(subject.loss).losses
      run.predictions = predictions.map { $0 - step }
      let below = try run(subject.loss).losses
      return zip(above, below).map { ($0 - $1) / (2 * step) }
    }
    // Two central differences, extrapolated. Their distance bounds what is left of the truncation; rounding of
    // the losses adds u·|ℓ| / step.
    let step = 0x1p-13
    let (wide, narrow) = (try slopes(step), try slopes(step / 2))
    for index in 0..<count
    where subject.distanceToKink(predictions[index], targets[index]) > 2 * step {
      let extrapolated = (4 * narrow[index] - wide[index]) / 3
      let terms = subject.reference(predictions[index], targets[index])
      let allowed =
        abs(narrow[index] - wide[index]) + 64 * Double.unitRoundoff * (terms.lossScale + 1) / step
      #expect(
        mismatch(gradient[index], extrapolated, allowed: allowed) == nil,
        "\(subject) at \(predictions[index]), \(targets[index])")
    }
  }

  // MARK: Workers

  @Test("H36: the worker count changes no bit", arguments: [1, 2, 7])
  func workerCounts(_ workers: Int) throws {
    let subjects: [ElementwiseSubject] = [.binaryCrossEntropy(1, 0), .huber(1), .sigmoidFocal(0.25, 2)]
    for subject in subjects {
      for (rows, columns, gap) in [(1, 1, 0), (1, 100_003, 0), (333, 301, 0), (333, 301, 5), (20_001, 3, 1)] {
        let (predictions, targets) = subject.inputs(count: rows * columns, seed: 5)
        var run = ElementwiseRun<Float>(
          rows: rows, columns: columns, predictions: predictions, targets: targets,
          weights: randomWeights(count: rows, seed: 6), reduction: .mean)
        run.gaps.predictions = gap
        run.engine = Engine(configuration: try .init(workerCount: 3))
        let expected = try run(subject.loss)
        run.engine = Engine(configuration: try .init(workerCount: workers))
        for reduction in [Reduction.mean, .meanOverActive] {
          run.reduction = reduction
          let outcome = try run(subject.loss)
          #expect(outcome.cost.sum.bitPattern == expected.cost.sum.bitPattern)
          #expect(haveSameBits(outcome.losses, expected.losses))
          if reduction == .mean {
            #expect(outcome.cost.denominator.bitPattern == expected.cost.denominator.bitPattern)
            #expect(haveSameBits(outcome.gradient, expected.gradient))
          }
        }
        run.reduction = .mean
        run.wantsLosses = false
        let withoutLosses = try run(subject.loss)
        #expect(haveSameBits(withoutLosses.gradient, expected.gradient))
      }
    }
  }

  @Test("Calls from several threads at once do not disturb each other")
  func concurrentCalls() async throws {
    let engine = Engine(configuration: try .init(workerCount: 2))
    let subject = ElementwiseSubject.logCosh
    @Sendable func outcome(_ seed: UInt64) throws -> (Double, [Float]) {
      let (predictions, targets) = subject.inputs(count: 40_000, seed: seed)
      var run = ElementwiseRun<Float>(
        rows: 200, columns: 200, predictions: predictions, targets: targets)
      run.engine = engine
      let outcome = try run(subject.loss)
      return (outcome.cost.sum, outcome.gradient)
    }
    let expected = try (0..<4).map { try outcome(UInt64($0)) }
    try await withThrowingTaskGroup(of: (Int, Double, [Float]).self) { group in
      for index in 0..<16 {
        group.addTask {
          let (sum, gradient) = try outcome(UInt64(index % 4))
          return (index % 4, sum, gradient)
        }
      }
      for try await (index, sum, gradient) in group {
        #expect(sum == expected[index].0)
        #expect(haveSameBits(gradient, expected[index].1))
      }
    }
  }

  // MARK: Large batches

  @Test("H8: large batches keep every digit, and streamed gradients are complete")
  func largeBatch() throws {
    // 18 MB of gradient: enough to bypass the cache. A running sum in Float would be off by a percent.
    let (rows, columns) = (4096, 1100)
    let predictions = try Matrix<Float>(rows: rows, columns: columns, repeating: 0.1)
    let targets = try Matrix<Float>(rows: rows, columns: columns, repeating: 0)
    var gradient = try Matrix<Float>(rows: rows, columns: columns, repeating: .nan)
    let count = Double(rows * columns)
    let cost = try MeanSquaredError().evaluate(
      predictions.view, targets: targets.view, gradient: gradient.mutableView)
    let loss = Double(Float(0.1) * Float(0.1))
    #expect(abs(cost.sum - count * loss) <= 16 * Float.unitRoundoff * count * loss)
    #expect(abs(cost.value - loss) <= 16 * Float.unitRoundoff * loss)
    let expected = Float(0.2) * Float(1 / count)
    let wrong = gradient.elements.withUnsafeBufferPointer { elements in
      elements.indices.first { elements[$0] != expected }
    }
    #expect(wrong == nil)
  }

  // MARK: Micro-batches

  @Test("H11: micro-batches with the denominator of the batch give its gradient bit for bit")
  func microBatches() throws {
    let (rows, columns) = (24, 19)
    for subject in ElementwiseSubject.all {
      let (predictions, targets) = subject.inputs(count: rows * columns, seed: 9)
      let weights = randomWeights(count: rows * columns, seed: 10)
      let whole = ElementwiseRun<Float>(
        rows: rows, columns: columns, predictions: predictions, targets: targets, weights: weights)
      let expected = try whole(subject.loss)
      var sum = Cost(sum: 0, denominator: 0)
      var gradient: [Float] = []
      for part in [0..<1, 1..<8, 8..<8, 8..<24] {
        let elements = part.lowerBound * columns..<part.upperBound * columns
        var run = ElementwiseRun<Float>(
          rows: part.count, columns: columns, predictions: Array(predictions[elements]),
          targets: Array(targets[elements]), weights: Array(weights[elements]))
        let alone = try run(subject.loss)
        sum = sum + alone.cost
        run.denominator = expected.cost.denominator
        let outcome = try run(subject.loss)
        #expect(outcome.cost.denominator == expected.cost.denominator)
        gradient += outcome.gradient
      }
      #expect(haveSameBits(gradient, expected.gradient), "\(subject)")
      #expect(sum.denominator == expected.cost.denominator)
      #expect(abs(sum.value - expected.cost.value) <= 1e-6 * abs(expected.cost.value), "\(subject)")
    }
  }

  // MARK: Empty batches

  @Test("H12: no rows or no columns cost 0", arguments: Reduction.allCases)
  func emptyBatches(_ reduction: Reduction) throws {
    for (rows, columns) in [(0, 0), (0, 3), (3, 0)] {
      var run = ElementwiseRun<Float>(
        rows: rows, columns: columns, predictions: [], targets: [], reduction: reduction)
      let outcome = try run(MeanSquaredError())
      #expect(outcome.isIntact)
      #expect(outcome.cost.sum == 0)
      #expect(outcome.cost.value == 0)
      let expected: Double = reduction == .sum ? 1 : reduction == .batchMean ? Double(rows) : 0
      #expect(outcome.cost.denominator == expected, "\(rows)×\(columns)")
      run.denominator = 4
      #expect(try run(Huber()).cost == Cost(sum: 0, denominator: 4))
    }
  }
}
