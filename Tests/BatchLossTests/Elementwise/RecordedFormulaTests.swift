// What is checked: losses that are not compiled into the kernels but recorded and interpreted — every listed loss
// again under another type, and formulas that use what no listed loss does.
// Against: the compiled kernels, bit for bit in losses and gradients; a plain loop for the others.
// Tolerance: none, except for costs, whose partial sums are added in another order.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("Element-wise losses: formulas of other packages")
struct RecordedFormulaTests {
  @Test("Recorded and compiled formulas give the same bits", arguments: ElementwiseSubject.all)
  func sameBits(_ subject: ElementwiseSubject) throws {
    try check(Float.self)
    try check(Double.self)
    func check<Scalar: LossScalar>(_: Scalar.Type) throws {
      for (rows, columns, gap) in [(1, 1, 0), (1, 255, 0), (2, 256, 1), (3, 257, 0), (5, 1000, 0), (90, 600, 2)] {
        let (predictions, targets) = subject.inputs(count: rows * columns, seed: 51)
        for weights in [nil, randomWeights(count: rows, seed: 52)] {
          var run = ElementwiseRun<Scalar>(
            rows: rows, columns: columns, predictions: predictions, targets: targets, weights: weights)
          run.gaps.predictions = gap
          run.gaps.gradient = gap
          let compiled = try run(subject.loss)
          let recorded = try run(disguised: subject.loss)
          #expect(haveSameBits(recorded.losses, compiled.losses), "\(subject)")
          #expect(haveSameBits(recorded.gradient, compiled.gradient), "\(subject)")
          #expect(recorded.cost.denominator == compiled.cost.denominator)
          #expect(
            abs(recorded.cost.sum - compiled.cost.sum)
              <= ElementwiseReference.laneAdditions * Scalar.unitRoundoff
              * doubles(compiled.losses).reduce(0) { $0 + abs($1) })
          #expect(recorded.isIntact)
          run.isInPlace = true
          let inPlace = try run(disguised: subject.loss)
          #expect(haveSameBits(inPlace.gradient, compiled.gradient), "\(subject)")
          #expect(inPlace.isIntact)
        }
      }
    }
  }

  @Test("NaN and infinity pass through recorded masks as through compiled ones", arguments: ElementwiseSubject.all)
  func specialValues(_ subject: ElementwiseSubject) throws {
    // Probabilities beyond 0…1 would be an error.
    let isProbability = subject.predictions.lowerBound > 0 && subject.predictions.upperBound < 1
    let special: [Double] = isProbability ? [.nan, 0, 1] : [.nan, .infinity, -.infinity, 0, -0.0, 1, -1]
    let predictions = special.flatMap { Array(repeating: $0, count: 3) }
    let targets = (0..<predictions.count).map { Double($0 % 3) / 2 }
    let run = ElementwiseRun<Float>(
      rows: 1, columns: predictions.count, predictions: predictions, targets: targets)
    let (compiled, recorded) = (try run(subject.loss), try run(disguised: subject.loss))
    for (a, b) in [(compiled.losses, recorded.losses), (compiled.gradient, recorded.gradient)] {
      for (x, y) in zip(a, b) { #expect(x.bitPattern == y.bitPattern || (x.isNaN && y.isNaN)) }
    }
  }

  @Test("Every operation of a formula can be recorded")
  func everyOperation() throws {
    let (predictions, targets) = ElementwiseSubject.meanSquaredError.inputs(count: 600, seed: 53)
    let run = ElementwiseRun<Double>(rows: 2, columns: 300, predictions: predictions, targets: targets)
    let outcome = try run(EveryOperation())
    for index in predictions.indices {
      let (x, t) = (predictions[index], targets[index])
      let (loss, derivative) = EveryOperation.plain(x, t)
      #expect(abs(outcome.losses[index] - loss) <= 1e-13 * (abs(loss) + 60), "\(x), \(t)")
      #expect(abs(outcome.gradient[index] * 600 - derivative) <= 1e-13 * (abs(derivative) + 60), "\(x), \(t)")
    }
  }

  @Test("Formulas that use no operation, or one value twice")
  func degenerateFormulas() throws {
    let x = (0..<300).map { Double($0) / 7 }
    let t = (0..<300).map { Double($0 % 5) }
    let run = ElementwiseRun<Double>(rows: 3, columns: 100, predictions: x, targets: t, reduction: .sum)
    struct Identity: ElementwiseLoss {
      func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) { (prediction, target) }
    }
    let identity = try run(Identity())
    #expect(identity.losses == x)
    #expect(identity.gradient == t)
    struct Constant: ElementwiseLoss {
      func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) { (V(2), V(2)) }
    }
    let constant = try run(Constant())
    #expect(constant.losses.allSatisfy { $0 == 2 })
    #expect(constant.gradient.allSatisfy { $0 == 2 })
    struct Shared: ElementwiseLoss {
      func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
        let square = prediction * prediction
        let fourth = square * square
        return (fourth + square, fourth)
      }
    }
    var inPlace = run
    inPlace.isInPlace = true
    for outcome in [try run(Shared()), try inPlace(Shared())] {
      for index in x.indices {
        let square = x[index] * x[index]
        #expect(outcome.losses[index] == square * square + square)
        #expect(outcome.gradient[index] == square * square)
      }
    }
  }

  @Test("The allowed range of a loss of another package is checked")
  func range() throws {
    struct Root: ElementwiseLoss {
      var predictionRange: ClosedRange<Double>? { 0...4 }
      func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
        (prediction.squareRoot(), 0.5 * (V(1) / prediction.squareRoot()))
      }
    }
    let fine = ElementwiseRun<Float>(rows: 1, columns: 2, predictions: [4, 1], targets: [0, 0], reduction: .sum)
    #expect(try fine(Root()).cost.sum == 3)
    expectError(.valueOutOfRange, "predictions", mentioning: "4.5", "row 1, column 0") {
      var run = fine
      (run.rows, run.columns, run.predictions) = (2, 1, [4, 4.5])
      _ = try run(Root())
    }
  }
}

/// A loss under another type: the package has no compiled kernel for it.
private struct Disguised<Loss: ElementwiseLoss>: ElementwiseLoss {
  let loss: Loss
  init(_ loss: Loss) { self.loss = loss }
  var predictionRange: ClosedRange<Double>? { loss.predictionRange }
  func evaluate<V: LossVector>(prediction: V, target: V) -> (loss: V, derivative: V) {
    loss.evaluate(prediction: prediction, target: target)
  }
}

extension ElementwiseRun {
  /// Evaluates a loss under another type.
  fileprivate func callAsFunction(disguised loss: some ElementwiseLoss) throws -> Outcome {
    try self(Disguised(loss))
  }
}

/// A formula with every operation there is.
private struct EveryOperation: ElementwiseLoss {
  func evaluate<V: LossVector>(prediction x: V, target t: V) -> (loss: V, derivative: V) {
    let magnitude = x.magnitude
    let fraction = V.minimum(magnitude, V(1))
    let isBetween = (t .< x) .& .!(x .>= V(3))
    let isEdge = (x .== t) .| (x .<= V(-3)) .| (x .> V(3.5))
    var loss = V.multiplyAdd(x, t, V(1)) / (2 + magnitude)
    loss = loss + V.exp(0.5 * x) - V.exp(nonPositive: -magnitude) + V.expMinusOne(0.25 * t)
    loss = loss + V.log(1 + magnitude) + V.log(onePlus: magnitude) + V.log(onePlusFraction: fraction)
    loss = loss + V.tanh(x) + V.sigmoid(t) + V.softplus(x - t) + magnitude.squareRoot()
    let derivative = x.clamped(to: -2...2) + V.maximum(x, t) - 1 + t.sign
    return (
      loss.replacing(with: -loss, where: isBetween), derivative.replacing(with: V(0.5), where: isEdge)
    )
  }

  static func plain(_ x: Double, _ t: Double) -> (Double, Double) {
    var loss = (x * t + 1) / (2 + abs(x)) + exp(x / 2) - exp(-abs(x)) + expm1(t / 4)
    loss += 2 * log1p(abs(x)) + log1p(min(abs(x), 1)) + tanh(x) + 1 / (1 + exp(-t)) + log1p(exp(x - t))
    loss += abs(x).squareRoot()
    if t < x && !(x >= 3) { loss = -loss }
    let derivative = max(-2, min(2, x)) + max(x, t) - 1 + (t > 0 ? 1 : t < 0 ? -1 : 0)
    return (loss, x == t || x <= -3 || x > 3.5 ? 0.5 : derivative)
  }
}
