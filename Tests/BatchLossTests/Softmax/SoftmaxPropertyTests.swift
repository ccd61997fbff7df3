// What is checked: what must hold for softmax cross-entropy whatever the numbers are — invariance under a common
// offset, under a permutation of the classes, gradients that add up to 0, one-hot probabilities against labels,
// finite differences, micro-batches.
// Against: the same call on changed arguments.
// Tolerance: none where the arithmetic is the same; else that of RowwiseReference, or of the truncation of a
// finite difference, which two step sizes measure.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("Softmax cross-entropy: properties")
struct SoftmaxPropertyTests {
  static let widths = [1, 2, 10, 33, 64, 65, 300, 5000]

  @Test("A common offset changes no bit", arguments: widths)
  func shiftInvariance(_ columns: Int) throws {
    // Logits are multiples of 2⁻⁸ below 16, so offsets of up to 2¹⁵ leave them exact in Float.
    for soft in [false, true] {
      let problem = SoftmaxProblem.random(
        rows: 18, columns: columns, options: [.classWeights, .weights, .smoothing], soft: soft)
      let expected = try SoftmaxRun<Float>(problem)()
      for offset in [1.0, -1024, 32_000, -32_000] {
        var shifted = problem
        shifted.logits = problem.logits.map { $0 + offset }
        #expect(doubles(converted(shifted.logits, to: Float.self)) == shifted.logits)
        let outcome = try SoftmaxRun<Float>(shifted)()
        #expect(haveSameBits(outcome.losses, expected.losses), "\(columns), \(offset)")
        #expect(haveSameBits(outcome.gradient, expected.gradient), "\(columns), \(offset)")
      }
    }
  }

  @Test("A permutation of the classes permutes the gradient", arguments: widths)
  func permutationEquivariance(_ columns: Int) throws {
    var random = RandomSource(seed: 3)
    for soft in [false, true] {
      let problem = SoftmaxProblem.random(
        rows: 9, columns: columns, options: [.classWeights, .smoothing, .zLoss], soft: soft)
      let order = Array(0..<columns).shuffled(using: &random)
      func permuted(_ values: [Double]) -> [Double] {
        values.indices.map { values[$0 / columns * columns + order[$0 % columns]] }
      }
      var other = problem
      other.logits = permuted(problem.logits)
      other.classWeights = problem.classWeights.map(permuted)
      switch problem.targets {
      case .labels(let labels): other.targets = .labels(labels.map { order.firstIndex(of: $0)! })
      case .probabilities(let probabilities): other.targets = .probabilities(permuted(probabilities))
      }
      let reference = problem.reference(scale: 1 / problem.meanDenominator, scalar: Float.self)
      let (a, b) = (try SoftmaxRun<Float>(problem)(), try SoftmaxRun<Float>(other)())
      // Each of the two may be off by the tolerance.
      let doubled = reference.gradient.allowed.map { 2 * $0 }
      #expect(
        Expectation(permuted(doubles(a.gradient)), allowed: permuted(doubled)).mismatch(doubles(b.gradient)) == nil)
      #expect(
        Expectation(doubles(a.losses), allowed: reference.losses.allowed.map { 2 * $0 })
          .mismatch(doubles(b.losses)) == nil)
    }
  }

  @Test("The gradient of a row adds up to 0, and to 2λ·lse with a z-loss", arguments: widths)
  func gradientSums(_ columns: Int) throws {
    for zLoss in [0, 0.25] {
      var problem = SoftmaxProblem.random(rows: 20, columns: columns, options: [.smoothing, .classWeights])
      problem.zLoss = zLoss
      var run = SoftmaxRun<Double>(problem)
      run.reduction = .sum
      let gradient = try run().gradient
      for row in 0..<problem.rows {
        let x = problem.logits[row * columns..<(row + 1) * columns]
        let largest = x.max()!
        let logSumExp = log(x.reduce(0) { $0 + exp($1 - largest) }) + largest
        let sum = gradient[row * columns..<(row + 1) * columns].reduce(0, +)
        #expect(abs(sum - 2 * zLoss * logSumExp) <= 1e-13, "\(columns)")
      }
    }
  }

  @Test("One-hot probabilities without class weights equal labels", arguments: widths)
  func oneHot(_ columns: Int) throws {
    let problem = SoftmaxProblem.random(rows: 11, columns: columns, options: [.smoothing, .weights, .softCap])
    guard case .labels(let labels) = problem.targets else { return }
    var other = problem
    other.targets = .probabilities(
      labels.flatMap { label in (0..<columns).map { $0 == label ? 1 : 0 } })
    let reference = problem.reference(scale: 1 / problem.meanDenominator, scalar: Float.self)
    let (a, b) = (try SoftmaxRun<Float>(problem)(), try SoftmaxRun<Float>(other)())
    #expect(a.cost.denominator == b.cost.denominator)
    #expect(reference.losses.mismatch(doubles(b.losses)) == nil)
    #expect(reference.gradient.mismatch(doubles(b.gradient)) == nil)
    #expect(reference.gradient.mismatch(doubles(a.gradient)) == nil)
  }

  @Test("Gradients are the slopes of the losses", arguments: [1, 5, 33, 70])
  func finiteDifferences(_ columns: Int) throws {
    for soft in [false, true] {
      let problem = SoftmaxProblem.random(
        rows: 6, columns: columns, options: [.classWeights, .weights, .smoothing, .zLoss, .softCap], soft: soft)
      var run = SoftmaxRun<Double>(problem)
      run.reduction = .sum
      let gradient = try run().gradient
      func slopes(_ column: Int, _ step: Double) throws -> [Double] {
        func losses(_ step: Double) throws -> [Double] {
          run.problem.logits = problem.logits
          for row in 0..<problem.rows { run.problem.logits[row * columns + column] += step }
          return try run().losses
        }
        return zip(try losses(step), try losses(-step)).map { ($0 - $1) / (2 * step) }
      }
      for column in 0..<columns {
        let step = 0x1p-12
        let (wide, narrow) = (try slopes(column, step), try slopes(column, step / 2))
        for row in 0..<problem.rows {
          let extrapolated = (4 * narrow[row] - wide[row]) / 3
          let allowed = abs(narrow[row] - wide[row]) + 1e-9
          #expect(
            mismatch(gradient[row * columns + column], extrapolated, allowed: allowed) == nil,
            "\(columns) columns, soft \(soft), at \(row), \(column)")
        }
      }
    }
  }

  @Test(
    "H11: micro-batches with the denominator of the batch give its gradient bit for bit", arguments: [5, 64, 300])
  func microBatches(_ columns: Int) throws {
    let problem = SoftmaxProblem.random(
      rows: 40, columns: columns, options: [.classWeights, .weights, .smoothing, .ignoreIndex])
    guard case .labels(let labels) = problem.targets else { return }
    let expected = try SoftmaxRun<Float>(problem)()
    var (sum, gradient) = (Cost(sum: 0, denominator: 0), [Float]())
    for part in [0..<16, 16..<17, 17..<17, 17..<40] {
      var piece = problem
      piece.rows = part.count
      piece.logits = Array(problem.logits[part.lowerBound * columns..<part.upperBound * columns])
      piece.targets = .labels(Array(labels[part]))
      piece.weights = Array(problem.weights![part])
      var run = SoftmaxRun<Float>(piece)
      sum = sum + (try run().cost)
      run.denominator = expected.cost.denominator
      let outcome = try run()
      #expect(outcome.cost.denominator == expected.cost.denominator)
      gradient += outcome.gradient
    }
    #expect(haveSameBits(gradient, expected.gradient))
    #expect(sum.denominator == expected.cost.denominator)
    #expect(abs(sum.value - expected.cost.value) <= 1e-6 * expected.cost.value)
  }

  @Test("The accuracy that the documentation promises", arguments: [10, 1000, 32_000])
  func accuracy(_ columns: Int) throws {
    let problem = SoftmaxProblem.random(rows: max(2, 20_000 / columns), columns: columns)
    let denominator = problem.meanDenominator
    let reference = problem.reference(scale: 1 / denominator, scalar: Float.self)
    let float = try SoftmaxRun<Float>(problem)()
    let double = try SoftmaxRun<Double>(problem)()
    let scale = reference.gradient.values.reduce(0) { max($0, abs($1)) }
    func distance(_ gradient: [Double]) -> Double {
      zip(gradient, reference.gradient.values).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
    }
    #expect(abs(float.cost.sum / reference.sum - 1) <= 1e-6)
    #expect(distance(doubles(float.gradient)) <= 3e-7)
    #expect(abs(double.cost.sum / reference.sum - 1) <= 1e-12)
    #expect(distance(double.gradient) <= 1e-12)
  }
}
