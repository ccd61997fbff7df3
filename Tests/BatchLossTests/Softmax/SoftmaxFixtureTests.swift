// What is checked: every case of Tests/Fixtures for softmax cross-entropy — cost, sum, denominator, losses of rows
// and gradient, beside the logits and in their place, in Float and Double.
// Against: PyTorch autograd in float64, with the deviations that generate.py writes out.
// Tolerance: that of RowwiseReference, which follows each rounding of a row through exponentials, sum and
// logarithm; denominators, infinities and NaN exactly.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Softmax cross-entropy: PyTorch fixtures")
struct SoftmaxFixtureTests {
  @Test("Float")
  func float() throws { try check(Float.self) }

  @Test("Double")
  func double() throws { try check(Double.self) }

  private func check<Scalar: LossScalar>(_: Scalar.Type) throws {
    let fixture = try Fixture("softmax-cross-entropy")
    #expect(fixture.cases.count >= 170)
    for test in fixture.cases {
      let logits = try #require(test.inputs["logits"])
      let targets = try #require(test.inputs["targets"])
      var problem = SoftmaxProblem(
        rows: logits.rows, columns: logits.columns, logits: logits.data,
        targets: targets.shape.count == 1 ? .labels(targets.data.map { Int($0) }) : .probabilities(targets.data))
      problem.classWeights = test.inputs["class-weights"]?.data
      problem.weights = test.inputs["weights"]?.data
      problem.labelSmoothing = test.options.labelSmoothing ?? 0
      problem.ignoreIndex = test.options.ignoreIndex
      problem.zLoss = test.options.zLoss ?? 0
      problem.softCap = test.options.softCap
      var run = SoftmaxRun<Scalar>(problem)
      run.reduction = try #require(Reduction(rawValue: test.options.reduction))
      let tolerances = problem.reference(
        scale: test.denominator == 0 ? 0 : 1 / test.denominator, scalar: Scalar.self)
      let label: Comment = "\(test.name)"
      for isInPlace in [false, true] {
        run.isInPlace = isInPlace
        let outcome = try run()
        #expect(outcome.isIntact, label)
        #expect(outcome.cost.denominator == test.denominator, label)
        #expect(mismatch(outcome.cost.sum, test.sum, allowed: tolerances.sumAllowed) == nil, label)
        #expect(
          mismatch(
            outcome.cost.value, test.cost, allowed: tolerances.sumAllowed / max(test.denominator, 1e-300)) == nil,
          label)
        #expect(
          Expectation(test.losses.data, allowed: tolerances.losses.allowed).mismatch(doubles(outcome.losses))
            == nil, label)
        #expect(
          Expectation(test.gradients["logits"]!.data, allowed: tolerances.gradient.allowed)
            .mismatch(doubles(outcome.gradient)) == nil, label)
      }
    }
  }
}
