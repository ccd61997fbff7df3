// What is checked: the inputs on which other libraries return NaN or lose the gradient — saturated and infinite
// logits (H13, H14), smooth L1 without a smooth part (H17), weights of 0 over NaN (H18), kinks, infinities, NaN.
// Against: the values that the documentation of each loss promises, most of them exact.
// Tolerance: none, unless a value is irrational: then a few units in the last place.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("Element-wise losses: hard cases")
struct ElementwiseHardCaseTests {
  /// Loss and derivative of single elements.
  private func evaluate<Scalar: LossScalar>(
    _ loss: any ElementwiseLoss, _ predictions: [Double], _ targets: [Double], weights: [Double]? = nil,
    as: Scalar.Type
  ) throws -> (losses: [Double], gradient: [Double], cost: Cost) {
    // A row of 40 and one of what is left over would hide nothing: vectors and remainders see every element.
    var run = ElementwiseRun<Scalar>(
      rows: 1, columns: predictions.count, predictions: predictions, targets: targets, weights: weights,
      reduction: .sum)
    let beside = try run(loss)
    let count = 48
    run = ElementwiseRun<Scalar>(
      rows: predictions.count, columns: count,
      predictions: predictions.flatMap { Array(repeating: $0, count: count) },
      targets: targets.flatMap { Array(repeating: $0, count: count) },
      weights: weights?.flatMap { Array(repeating: $0, count: count) }, reduction: .sum)
    let repeated = try run(loss)
    for index in predictions.indices {
      for copy in 0..<count {
        let (a, b) = (repeated.gradient[index * count + copy], beside.gradient[index])
        #expect(a == b || (a.isNaN && b.isNaN))
      }
    }
    return (doubles(beside.losses), doubles(beside.gradient), beside.cost)
  }

  // MARK: Kinks

  @Test("The subgradient is 0 at a kink")
  func kinks() throws {
    try check(Float.self)
    try check(Double.self)
    func check<Scalar: LossScalar>(_: Scalar.Type) throws {
      let atTarget: [any ElementwiseLoss] = [
        MeanAbsoluteError(), try SmoothL1(beta: 0), try Quantile(quantile: 0.9), try Quantile(quantile: 0),
        Huber.standard, LogCosh(), MeanSquaredError(),
      ]
      for loss in atTarget {
        let result = try evaluate(loss, [0, -0.0, 1.5, -3], [0, 0, 1.5, -3], as: Scalar.self)
        #expect(result.gradient.allSatisfy { $0 == 0 }, "\(loss)")
        #expect(result.losses.allSatisfy { $0 == 0 }, "\(loss)")
      }
      let margin = try evaluate(Hinge(), [1, -1, 0.5], [1, -1, 2], as: Scalar.self)
      #expect(margin.gradient == [0, 0, 0])
      let squared = try evaluate(SquaredHinge(), [1, -1, 3], [1, -1, 1], as: Scalar.self)
      #expect(squared.gradient.allSatisfy { $0 == 0 })
      let ends = try evaluate(Huber(delta: 1.5), [1.5, -1.5], [0, 0], as: Scalar.self)
      #expect(ends.gradient == [1.5, -1.5])
      let smooth = try evaluate(SmoothL1(beta: 0.5), [0.5, -0.5], [0, 0], as: Scalar.self)
      #expect(smooth.gradient == [1, -1])
    }
  }

  @Test("H17: smooth L1 with beta 0 is the absolute error, bit for bit")
  func smoothL1WithoutSmoothPart() throws {
    let (predictions, targets) = ElementwiseSubject.meanAbsoluteError.inputs(count: 333, seed: 4)
    let run = ElementwiseRun<Float>(rows: 9, columns: 37, predictions: predictions, targets: targets)
    let (smooth, absolute) = (try run(SmoothL1(beta: 0)), try run(MeanAbsoluteError()))
    #expect(smooth.cost == absolute.cost)
    #expect(haveSameBits(smooth.gradient, absolute.gradient))
    #expect(smooth.gradient.allSatisfy { !$0.isNaN })
  }

  @Test("Huber is smooth L1 times delta", arguments: [0.25, 1, 4])
  func huberAndSmoothL1(_ delta: Double) throws {
    // Powers of two scale without rounding.
    let (predictions, targets) = ElementwiseSubject.meanAbsoluteError.inputs(count: 333, seed: 4)
    let run = ElementwiseRun<Double>(rows: 9, columns: 37, predictions: predictions, targets: targets)
    let (huber, smooth) = (try run(Huber(delta: delta)), try run(SmoothL1(beta: delta)))
    #expect(zip(huber.gradient, smooth.gradient).allSatisfy { $0 == delta * $1 })
    #expect(zip(huber.losses, smooth.losses).allSatisfy { abs($0 - delta * $1) <= 4e-16 * $0 })
  }

  // MARK: Binary cross-entropy

  @Test("H13: saturated logits keep loss and slope")
  func saturatedLogits() throws {
    try check(Float.self, roundoff: Float.unitRoundoff)
    try check(Double.self, roundoff: Double.unitRoundoff)
    func check<Scalar: LossScalar>(_: Scalar.Type, roundoff: Double) throws {
      let loss = try BinaryCrossEntropy()
      let far = try evaluate(loss, [1000, -1000, 1000, -1000], [0, 1, 1, 0], as: Scalar.self)
      #expect(far.losses == [1000, 1000, 0, 0])
      #expect(far.gradient == [1, -1, 0, 0])
      let wrong = try evaluate(loss, [-50], [1], as: Scalar.self)
      #expect(wrong.losses == [50])
      #expect(wrong.gradient == [-1])
      // e⁻⁵⁰ and not 0: the tail keeps its relative accuracy.
      let right = try evaluate(loss, [-50, 50], [0, 1], as: Scalar.self)
      let tail = 1.9287498479639178e-22
      for index in 0..<2 {
        #expect(abs(right.losses[index] - tail) <= 32 * roundoff * tail)
        #expect(abs(abs(right.gradient[index]) - tail) <= 32 * roundoff * tail)
      }
    }
  }

  @Test("H13: probabilities 0 and 1 cost at most 100 and have the slope of PyTorch")
  func saturatedProbabilities() throws {
    try check(Float.self)
    try check(Double.self)
    func check<Scalar: LossScalar>(_: Scalar.Type) throws {
      let loss = try BinaryCrossEntropyOfProbabilities()
      let result = try evaluate(loss, [0, 1, 0, 1], [1, 0, 0, 1], as: Scalar.self)
      #expect(result.losses == [100, 100, 0, 0])
      #expect(result.gradient.map { Scalar($0) } == [-1 / Scalar(1e-12), 1 / Scalar(1e-12), 0, 0])
      let weighted = try evaluate(
        BinaryCrossEntropyOfProbabilities(positiveWeight: 3), [0, 1], [1, 0], as: Scalar.self)
      #expect(weighted.losses == [300, 100])
    }
  }

  @Test("H14: infinite logits cost 0 with the right label, infinity with a wrong one")
  func infiniteLogits() throws {
    try check(Float.self)
    try check(Double.self)
    func check<Scalar: LossScalar>(_: Scalar.Type) throws {
      let infinity = Double.infinity
      for weight in [1.0, 3.0] {
        let loss = try BinaryCrossEntropy(positiveWeight: weight)
        let right = try evaluate(loss, [infinity, -infinity], [1, 0], as: Scalar.self)
        #expect(right.losses == [0, 0])
        #expect(right.gradient == [0, 0])
        let wrong = try evaluate(loss, [infinity, -infinity, infinity], [0, 1, 0.5], as: Scalar.self)
        #expect(wrong.losses == [infinity, infinity, infinity])
        #expect(wrong.gradient == [1, -weight, 0.5])
      }
      for gamma in [0, 0.5, 2] {
        let loss = try SigmoidFocal(alpha: 0.25, gamma: gamma)
        let right = try evaluate(loss, [infinity, -infinity], [1, 0], as: Scalar.self)
        #expect(right.losses == [0, 0])
        #expect(right.gradient == [0, 0])
        let wrong = try evaluate(loss, [infinity, -infinity], [0, 1], as: Scalar.self)
        #expect(wrong.losses == [infinity, infinity])
        #expect(wrong.gradient == [0.75, -0.25])
      }
    }
  }

  @Test("Focal loss: infinite logits with a target between", arguments: [0, 0.5, 1.5, 2])
  func focalBetween(_ gamma: Double) throws {
    let loss = try SigmoidFocal(alpha: 0.25, gamma: gamma)
    let infinity = Double.infinity
    for (logit, target) in [(infinity, 0.75), (-infinity, 0.75), (infinity, 0.25)] {
      let result = try evaluate(loss, [logit], [target], as: Double.self)
      // Half of the mass or more is wrong, and costs all there is.
      #expect(result.losses == [infinity])
      let wrong = logit > 0 ? 1 - target : target
      let slope = (logit > 0 ? 1 : -1) * (0.25 * target + 0.75 * (1 - target)) * pow(wrong, gamma + 1)
      #expect(abs(result.gradient[0] - slope) <= 1e-15)
    }
  }

  @Test("Focal loss keeps the slope of a right label while it is a number", arguments: [0.5, 0.875])
  func focalTail(_ gamma: Double) throws {
    try check(Float.self, [20, 46, 52, 60], within: 1e-5)
    try check(Double.self, [46, 200, 354, 400], within: 1e-12)
    func check<Scalar: LossScalar>(_: Scalar.Type, _ logits: [Double], within tolerance: Double) throws {
      let loss = try SigmoidFocal(alpha: 0.25, gamma: gamma)
      let result = try evaluate(loss, logits, logits.map { _ in 1 }, as: Scalar.self)
      for (logit, found) in zip(logits, result.gradient) {
        // u = t/(1 + t) with t = e^−x, whose square is 0 here beside t: −α·t^(1 + γ)·(1 + γ).
        let slope = -0.25 * (1 + gamma) * exp(-(1 + gamma) * logit)
        if abs(slope) < Double(Scalar.leastNormalMagnitude) { continue }
        #expect(abs(found - slope) <= (tolerance + 2 * exp(-logit)) * abs(slope), "\(logit)")
      }
    }
  }

  @Test("Log-cosh is the same on both sides of where its form changes")
  func logCoshBorders() throws {
    let errors = [1, 1.0.nextDown, 1.0.nextUp, 0.75, 1.25]
    let result = try evaluate(LogCosh(), errors, errors.map { _ in 0 }, as: Double.self)
    for (index, error) in errors.enumerated() {
      #expect(abs(result.losses[index] - log(cosh(error))) <= 4e-16)
      #expect(abs(result.gradient[index] - tanh(error)) <= 4e-16)
    }
  }

  @Test("Binary cross-entropy of logits and of probabilities agree where both are accurate")
  func logitsAndProbabilities() throws {
    let logits = (-200...200).map { Double($0) / 20 }
    let targets = logits.indices.map { Double($0 % 5) / 4 }
    for (weight, smoothing) in [(1.0, 0.0), (2.5, 0), (0.5, 0.25)] {
      let ofLogits = try BinaryCrossEntropy(positiveWeight: weight, labelSmoothing: smoothing)
      let ofProbabilities = try BinaryCrossEntropyOfProbabilities(
        positiveWeight: weight, labelSmoothing: smoothing)
      let probabilities = logits.map { 1 / (1 + exp(-$0)) }
      let a = try evaluate(ofLogits, logits, targets, as: Double.self)
      let b = try evaluate(ofProbabilities, probabilities, targets, as: Double.self)
      for index in logits.indices {
        // 1 − p has lost up to e¹⁰ roundings.
        let p = probabilities[index]
        #expect(abs(a.losses[index] - b.losses[index]) <= 1e-10)
        #expect(abs(a.gradient[index] - b.gradient[index] * p * (1 - p)) <= 1e-10)
      }
    }
  }

  @Test("Focal loss with gamma 0 and no alpha is binary cross-entropy")
  func focalWithoutFocus() throws {
    let subject = ElementwiseSubject.binaryCrossEntropy(1, 0)
    let (predictions, targets) = subject.inputs(count: 700, seed: 21)
    let run = ElementwiseRun<Double>(rows: 7, columns: 100, predictions: predictions, targets: targets)
    let (focal, plain) = (try run(SigmoidFocal(alpha: nil, gamma: 0)), try run(BinaryCrossEntropy()))
    for index in predictions.indices {
      #expect(abs(focal.losses[index] - plain.losses[index]) <= 4e-16 * (1 + plain.losses[index]))
      #expect(abs(focal.gradient[index] - plain.gradient[index]) <= 4e-16)
    }
  }

  // MARK: Silence

  @Test("H18: a weight of 0 silences NaN and infinity, in elements and rows", arguments: ElementwiseSubject.all)
  func silence(_ subject: ElementwiseSubject) throws {
    let (rows, columns) = (3, 37)
    var (predictions, targets) = subject.inputs(count: rows * columns, seed: 31)
    for (index, poison) in [Double.nan, .infinity, -.infinity].enumerated() {
      // A probability of infinity would be an error, not a number.
      if subject.predictions.lowerBound >= 0 && poison.isInfinite { continue }
      predictions[columns + index] = poison
      predictions[columns + 20 + index] = poison
      targets[columns + 30 + index] = poison
    }
    var byElement = [Double](repeating: 2, count: rows * columns)
    for index in columns..<2 * columns { byElement[index] = 0 }
    for weights in [[2, 0, 2], byElement] {
      let run = ElementwiseRun<Float>(
        rows: rows, columns: columns, predictions: predictions, targets: targets, weights: weights)
      let outcome = try run(subject.loss)
      #expect(outcome.cost.sum.isFinite)
      #expect(outcome.cost.denominator == Double(4 * columns))
      #expect(outcome.losses[columns..<2 * columns].allSatisfy { $0 == 0 })
      #expect(outcome.gradient[columns..<2 * columns].allSatisfy { $0 == 0 })
      #expect(outcome.gradient.allSatisfy { $0.isFinite })
    }
  }

  @Test("Weights that add up to 0 cost 0, with a gradient of 0")
  func noWeight() throws {
    let run = ElementwiseRun<Float>(
      rows: 2, columns: 20, predictions: Array(repeating: 3, count: 40), targets: Array(repeating: 1, count: 40),
      weights: [0, 0])
    let outcome = try run(MeanSquaredError())
    #expect(outcome.cost == Cost(sum: 0, denominator: 0))
    #expect(outcome.cost.value == 0)
    #expect(outcome.gradient.allSatisfy { $0 == 0 })
    #expect(outcome.losses.allSatisfy { $0 == 0 })
  }

  // MARK: NaN and infinity

  @Test("NaN stays where it is, in loss and derivative", arguments: ElementwiseSubject.all)
  func notANumber(_ subject: ElementwiseSubject) throws {
    try check(Float.self, [.nan, -.nan, Float(bitPattern: 0x7fc1_2345), Float(bitPattern: 0xffd4_3210)])
    try check(Double.self, [.nan, -.nan, Double(bitPattern: 0x7ff8_1234_5678_9abc)])
    func check<Scalar: LossScalar>(_: Scalar.Type, _ poisons: [Scalar]) throws {
      let count = 50
      let (predictions, targets) = subject.inputs(count: count, seed: 41)
      for poison in poisons {
        for position in [0, 15, 31, 33, 49] {
          var x = converted(predictions, to: Scalar.self)
          x[position] = poison
          let (cost, losses, gradient) = try evaluate(subject.loss, x, converted(targets, to: Scalar.self))
          #expect(cost.value.isNaN)
          for index in 0..<count {
            #expect(losses[index].isNaN == (index == position), "\(subject)")
            #expect(gradient[index].isNaN == (index == position), "\(subject)")
          }
        }
      }
    }
    func evaluate<Scalar: LossScalar>(
      _ loss: some ElementwiseLoss, _ x: [Scalar], _ t: [Scalar]
    ) throws -> (Cost, [Scalar], [Scalar]) {
      var (losses, gradient) = (x, x)
      let cost = try loss.evaluate(
        x.matrix(columns: x.count), targets: t.matrix(columns: t.count),
        losses: losses.mutableMatrix(columns: x.count), gradient: gradient.mutableMatrix(columns: x.count))
      return (cost, losses, gradient)
    }
  }

  @Test("Infinite predictions give the limits")
  func infinitePredictions() throws {
    let infinity = Double.infinity
    let expected: [(any ElementwiseLoss, [Double])] = [
      (MeanSquaredError(), [infinity, -infinity]), (MeanAbsoluteError(), [1, -1]),
      (try Huber(delta: 1.5), [1.5, -1.5]), (try SmoothL1(beta: 0.5), [1, -1]),
      (try SmoothL1(beta: 0), [1, -1]), (LogCosh(), [1, -1]), (try Quantile(quantile: 0.25), [0.75, -0.25]),
    ]
    for (loss, slopes) in expected {
      for result in [
        try evaluate(loss, [infinity, -infinity], [0, 0], as: Float.self),
        try evaluate(loss, [infinity, -infinity], [0, 0], as: Double.self),
      ] {
        #expect(result.losses == [infinity, infinity], "\(loss)")
        #expect(result.gradient == slopes, "\(loss)")
      }
    }
    let hinge = try evaluate(Hinge(), [infinity, -infinity], [1, 1], as: Float.self)
    #expect(hinge.losses == [0, infinity])
    #expect(hinge.gradient == [0, -1])
    let quantile = try evaluate(Quantile(quantile: 0), [-infinity, infinity], [0, 0], as: Float.self)
    #expect(quantile.losses == [0, infinity])
    #expect(quantile.gradient == [0, 1])
  }

  @Test("Large and small errors neither overflow nor vanish")
  func extremeErrors() throws {
    let result = try evaluate(LogCosh(), [700, -700, 1e-3, 0x1p-20], [0, 0, 0, 0], as: Float.self)
    let expected = [700 - 0.6931471805599453, 700 - 0.6931471805599453, 4.9999991666669e-7, 0x1p-41]
    for (value, exact) in zip(result.losses, expected) {
      #expect(abs(value - exact) <= 16 * Float.unitRoundoff * exact)
    }
    let tiny = try evaluate(LogCosh(), [1e-30], [0], as: Double.self)
    #expect(abs(tiny.losses[0] - 5e-61) <= 1e-15 * 5e-61)
    #expect(tiny.gradient[0] == 1e-30)
    let poisson = try evaluate(Poisson(), [-200, 88], [0, 0], as: Float.self)
    #expect(poisson.losses[0] == 0)
    #expect(poisson.gradient[0] == 0)
    #expect(poisson.losses[1].isFinite)
    // A count of 0 at a rate of 0 costs nothing, even where its logarithm is −∞.
    let zero = try evaluate(
      Poisson(logInput: false, full: true, epsilon: 0), [0, 2], [0, 0], as: Float.self)
    #expect(zero.losses == [0, 2])
    #expect(zero.gradient == [1, 1])
    let impossible = try evaluate(Poisson(), [-.infinity, -.infinity], [0, 2], as: Float.self)
    #expect(impossible.losses == [0, .infinity])
    #expect(impossible.gradient == [0, -2])
  }
}

extension Huber {
  fileprivate static var standard: Huber { try! Huber(delta: 1) }
}
