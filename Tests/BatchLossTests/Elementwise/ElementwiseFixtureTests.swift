// What is checked: every case of Tests/Fixtures for the element-wise losses — cost, sum, denominator, losses of
// elements and gradient, in Float and Double, through the public interface.
// Against: PyTorch autograd in float64, with the deviations that generate.py writes out.
// Tolerance: 32 roundings of the terms of the formula for an element (three elementary functions of 3 ulp and a
// dozen operations), and for sums 24 more for the additions within a lane. Denominators are sums of short
// binary fractions and must be exact, infinities and NaN as well.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Element-wise losses: PyTorch fixtures")
struct ElementwiseFixtureTests {
  static let names = [
    "mean-squared-error", "mean-absolute-error", "huber", "smooth-l1", "log-cosh", "quantile", "poisson",
    "hinge", "squared-hinge", "binary-cross-entropy", "focal",
  ]

  @Test("Float", arguments: names)
  func float(_ name: String) throws { try check(name, Float.self) }

  @Test("Double", arguments: names)
  func double(_ name: String) throws { try check(name, Double.self) }

  private func check<Scalar: LossScalar>(_ name: String, _: Scalar.Type) throws {
    let fixture = try Fixture(name)
    #expect(fixture.cases.count >= 20)
    for test in fixture.cases {
      let role = try #require(test.gradients.keys.first)
      let subject = try subject(name, test)
      let (predictions, targets) = (try #require(test.inputs[role]), try #require(test.inputs["targets"]))
      var run = ElementwiseRun<Scalar>(
        rows: predictions.rows, columns: predictions.columns, predictions: predictions.data,
        targets: targets.data, weights: test.inputs["weights"]?.data)
      run.reduction = try #require(Reduction(rawValue: test.options.reduction))
      let outcome = try run(subject.loss)

      let tolerances = ElementwiseReference(
        subject, predictions: predictions.data, targets: targets.data, weights: run.elementWeights,
        scale: test.denominator == 0 ? 0 : 1 / test.denominator, scalar: Scalar.self)
      let label: Comment = "\(name), \(test.name)"
      #expect(outcome.isIntact, label)
      #expect(outcome.cost.denominator == test.denominator, label)
      #expect(
        mismatch(outcome.cost.sum, test.sum, allowed: tolerances.sumAllowed) == nil, label)
      #expect(
        mismatch(
          outcome.cost.value, test.cost, allowed: tolerances.costAllowed(denominator: test.denominator)) == nil,
        label)
      #expect(
        Expectation(test.losses.data, allowed: tolerances.losses.allowed).mismatch(doubles(outcome.losses))
          == nil, label)
      #expect(
        Expectation(test.gradients[role]!.data, allowed: tolerances.gradient.allowed)
          .mismatch(doubles(outcome.gradient)) == nil, label)
    }
  }

  /// The loss of a case, with the formula that tells how its errors grow.
  private func subject(_ name: String, _ test: FixtureCase) throws -> ElementwiseSubject {
    let options = test.options
    switch name {
    case "mean-squared-error": return .meanSquaredError
    case "mean-absolute-error": return .meanAbsoluteError
    case "huber": return .huber(try #require(options.delta))
    case "smooth-l1": return .smoothL1(try #require(options.beta))
    case "log-cosh": return .logCosh
    case "quantile": return .quantile(try #require(options.quantile))
    case "poisson": return .poisson(logInput: options.logInput ?? true, full: options.full ?? false)
    case "hinge": return .hinge
    case "squared-hinge": return .squaredHinge
    case "focal": return .sigmoidFocal(options.alpha, try #require(options.gamma))
    default:
      let (weight, smoothing) = (options.positiveWeight ?? 1, options.labelSmoothing ?? 0)
      return test.gradients["logits"] != nil
        ? .binaryCrossEntropy(weight, smoothing) : .binaryCrossEntropyOfProbabilities(weight, smoothing)
    }
  }
}
