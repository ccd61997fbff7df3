// What is checked: the KL divergence — every fixture, every pair of forms at many widths, temperatures, weights,
// reductions and strides, worker counts, streaming; zeros and infinities (H15), directions and divisors (H16),
// invariances, finite differences, errors.
// Against: PyTorch autograd in float64; the definition in plain loops in float64 (DivergenceProblem.reference).
// Tolerance: that of RowwiseReference: roundings of the terms p·log p and p·log q; where two calls are compared or
// a value is exact, none.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("KL divergence")
struct DivergenceTests {
  // MARK: Fixtures

  @Test("PyTorch fixtures, Float")
  func floatFixtures() throws { try checkFixtures(Float.self) }

  @Test("PyTorch fixtures, Double")
  func doubleFixtures() throws { try checkFixtures(Double.self) }

  private func checkFixtures<Scalar: LossScalar>(_: Scalar.Type) throws {
    let fixture = try Fixture("kl-divergence")
    #expect(fixture.cases.count >= 80)
    for test in fixture.cases {
      let role = test.inputs["logits"] != nil ? "logits" : "log-probabilities"
      let input = try #require(test.inputs[role])
      let targetRole = test.inputs["targets"] != nil ? "targets" : "target-logits"
      let form: DivergenceProblem.Targets =
        targetRole == "target-logits"
        ? .logits : test.options.logTargets == true ? .logProbabilities : .probabilities
      var problem = DivergenceProblem(
        rows: input.rows, columns: input.columns, inputForm: role == "logits" ? .logits : .logProbabilities,
        targetForm: form, input: input.data, targets: try #require(test.inputs[targetRole]).data)
      problem.temperature = test.options.temperature ?? 1
      problem.weights = test.inputs["weights"]?.data
      var run = DivergenceRun<Scalar>(problem)
      run.reduction = try #require(Reduction(rawValue: test.options.reduction))
      let tolerances = problem.reference(
        scale: test.denominator == 0 ? 0 : 1 / test.denominator, scalar: Scalar.self)
      let label: Comment = "\(test.name)"
      let outcome = try run()
      #expect(outcome.isIntact, label)
      #expect(outcome.cost.denominator == test.denominator, label)
      #expect(mismatch(outcome.cost.sum, test.sum, allowed: tolerances.sumAllowed) == nil, label)
      #expect(
        Expectation(test.losses.data, allowed: tolerances.losses.allowed).mismatch(doubles(outcome.losses)) == nil,
        label)
      #expect(
        Expectation(test.gradients[role]!.data, allowed: tolerances.gradient.allowed)
          .mismatch(doubles(outcome.gradient)) == nil, label)
      if let expected = test.gradients["target-logits"] {
        #expect(
          Expectation(expected.data, allowed: tolerances.targetGradient.allowed)
            .mismatch(doubles(outcome.targetGradient)) == nil, label)
      }
    }
  }

  // MARK: Widths, forms, options

  /// Evaluates a batch and compares everything with the definition.
  @discardableResult
  private func check<Scalar: LossScalar>(
    _ run: DivergenceRun<Scalar>, at location: SourceLocation = #_sourceLocation
  ) throws -> DivergenceRun<Scalar>.Outcome {
    let problem = run.problem
    let label: Comment =
      """
      \(problem.rows)×\(problem.columns) \(Scalar.self) \(problem.inputForm) \(problem.targetForm) \
      T \(problem.temperature) \(run.reduction) \(run.gaps)
      """
    let denominator = run.expectedDenominator
    let reference = problem.reference(scale: denominator == 0 ? 0 : 1 / denominator, scalar: Scalar.self)
    let outcome = try run()
    #expect(outcome.isIntact, label, sourceLocation: location)
    #expect(outcome.cost.denominator == denominator, label, sourceLocation: location)
    #expect(
      mismatch(outcome.cost.sum, reference.sum, allowed: reference.sumAllowed) == nil, label,
      sourceLocation: location)
    #expect(reference.losses.mismatch(doubles(outcome.losses)) == nil, label, sourceLocation: location)
    #expect(reference.gradient.mismatch(doubles(outcome.gradient)) == nil, label, sourceLocation: location)
    if run.wantsTargetGradient {
      #expect(
        reference.targetGradient.mismatch(doubles(outcome.targetGradient)) == nil, label,
        sourceLocation: location)
    }
    return outcome
  }

  @Test("Every pair of forms at every width", arguments: Array(1...40) + [63, 64, 65, 100, 255, 256, 257, 1000])
  func widths(_ columns: Int) throws {
    for (index, form) in DivergenceProblem.forms.enumerated() {
      for rows in [1, 7] {
        try check(
          DivergenceRun<Float>(.random(rows: rows, columns: columns, input: form.input, targets: form.targets)))
      }
      let hasLogits = form.input == .logits || form.targets == .logits
      var run = DivergenceRun<Double>(
        .random(
          rows: 6, columns: columns, input: form.input, targets: form.targets, weighted: true,
          temperature: hasLogits ? 2.5 : 1))
      run.gaps = (input: 1, targets: 2, gradient: 3, targetGradient: index)
      run.reduction = Reduction.allCases[(columns + index) % Reduction.allCases.count]
      try check(run)
    }
  }

  @Test("Wide rows", arguments: [5000, 40_000, 200_000])
  func wideRows(_ columns: Int) throws {
    for form in DivergenceProblem.forms {
      try check(
        DivergenceRun<Float>(.random(rows: 1, columns: columns, input: form.input, targets: form.targets)))
    }
    try check(DivergenceRun<Double>(.random(rows: 1, columns: columns, input: .logits, targets: .logits)))
  }

  @Test("Temperatures, weights, reductions and strides", arguments: [0.5, 1, 2, 8])
  func options(_ temperature: Double) throws {
    for (index, form) in DivergenceProblem.forms.enumerated() {
      guard temperature == 1 || form.input == .logits || form.targets == .logits else { continue }
      for weighted in [false, true] {
        for (choice, reduction) in Reduction.allCases.enumerated() {
          let problem = DivergenceProblem.random(
            rows: 13, columns: 37, input: form.input, targets: form.targets, weighted: weighted,
            temperature: temperature, seed: UInt64(index))
          var run = DivergenceRun<Float>(problem)
          run.reduction = reduction
          run.gaps = (input: choice % 2 * 3, targets: choice, gradient: choice % 3, targetGradient: 4 - choice)
          let outcome = try check(run)
          // Fewer outputs: the same numbers in those that are left.
          run.wantsGradient = false
          let withoutGradient = try run()
          #expect(withoutGradient.isIntact)
          #expect(withoutGradient.cost == outcome.cost)
          #expect(haveSameBits(withoutGradient.losses, outcome.losses))
          if run.wantsTargetGradient {
            #expect(haveSameBits(withoutGradient.targetGradient, outcome.targetGradient))
          }
          run.wantsTargetGradient = false
          run.wantsLosses = false
          let costAlone = try run()
          #expect(costAlone.isIntact)
          #expect(costAlone.cost == outcome.cost)
        }
      }
    }
  }

  // MARK: H15: zeros and infinities

  private func evaluate(
    _ inputForm: DivergenceProblem.Input, _ input: [Double], _ targetForm: DivergenceProblem.Targets,
    _ targets: [Double]
  ) throws -> (loss: Double, gradient: [Double], targetGradient: [Double]) {
    // The same row at once narrow, and repeated until it is wide: impossible classes add nothing.
    let problem = DivergenceProblem(
      rows: 1, columns: input.count, inputForm: inputForm, targetForm: targetForm, input: input, targets: targets)
    let single = try DivergenceRun<Float>(problem)()
    let double = try DivergenceRun<Double>(problem)()
    #expect(single.isIntact && double.isIntact)
    #expect(
      single.losses[0].isNaN == double.losses[0].isNaN
        && (single.losses[0].isNaN || abs(Double(single.losses[0]) - double.losses[0]) <= 1e-5
          || Double(single.losses[0]) == double.losses[0])
    )
    return (double.losses[0], double.gradient, double.targetGradient)
  }

  @Test("H15: a target of 0 contributes exactly 0, even where q is 0")
  func zeroTargets() throws {
    let infinity = Double.infinity
    let plain = try evaluate(.logProbabilities, [-0.5, -1], .probabilities, [0.25, 0.75])
    for impossible in [-infinity, -3] {
      let masked = try evaluate(.logProbabilities, [impossible, -0.5, -1], .probabilities, [0, 0.25, 0.75])
      #expect(masked.loss == plain.loss)
      #expect(masked.gradient == [0] + plain.gradient)
    }
    let logs = try evaluate(.logProbabilities, [-infinity, -0.5], .logProbabilities, [-infinity, -0.25])
    #expect(abs(logs.loss - exp(-0.25) * 0.25) <= 1e-15)
    #expect(logs.gradient[0] == 0)
    let logits = try evaluate(.logits, [-infinity, 1, 2], .probabilities, [0, 0.5, 0.5])
    #expect(logs.loss.isFinite && logits.gradient.allSatisfy { $0.isFinite })
    #expect(logits.gradient[0] == 0)
    let both = try evaluate(.logits, [-infinity, 1, 2], .logits, [-infinity, 1, 2])
    #expect(both.loss == 0)
    #expect(both.gradient.allSatisfy { abs($0) <= 1e-16 })
    #expect(both.targetGradient.allSatisfy { abs($0) <= 1e-16 })
  }

  @Test(
    "H15: a target so unlikely that it is 0 costs nothing where q is 0", arguments: [0.5, 0.9, 1, 2], [3, 37, 70])
  func vanishingTargets(_ temperature: Double, _ columns: Int) throws {
    // Relative to the largest, e^−300 is 0 in Float. Rows with it stand between others.
    var problem = DivergenceProblem.random(
      rows: 3, columns: columns, input: .logits, targets: .logits, temperature: temperature)
    let plain = try DivergenceRun<Float>(problem)()
    let place = columns + columns / 2
    for impossible in [-Double.infinity, -Double(Float.greatestFiniteMagnitude)] {
      (problem.input[place], problem.targets[place]) = (impossible, -600)
      let outcome = try DivergenceRun<Float>(problem)()
      var masked = problem
      masked.targets[place] = -.infinity
      let reference = try DivergenceRun<Float>(masked)()
      #expect(outcome.isIntact && reference.isIntact)
      #expect(outcome.losses[1].isFinite)
      #expect(abs(outcome.losses[1] - reference.losses[1]) <= 4 * Float.ulpOfOne * reference.losses[1])
      #expect(outcome.gradient[place] == 0 && outcome.targetGradient[place] == 0)
      for (a, b) in zip(outcome.gradient + outcome.targetGradient, reference.gradient + reference.targetGradient) {
        #expect(abs(a - b) <= 1e-6)
      }
      for row in [0, 2] {
        let elements = row * columns..<(row + 1) * columns
        #expect(haveSameBits(Array(outcome.gradient[elements]), Array(plain.gradient[elements])))
        #expect(haveSameBits(Array(outcome.targetGradient[elements]), Array(plain.targetGradient[elements])))
      }
    }
    // A target that is not 0 there costs infinity still.
    (problem.input[place], problem.targets[place]) = (-.infinity, 0)
    #expect(try DivergenceRun<Float>(problem)().losses[1] == .infinity)
  }

  @Test("H15: a target where q is 0 costs infinity")
  func impossibleTargets() throws {
    let infinity = Double.infinity
    #expect(try evaluate(.logProbabilities, [-infinity, -1], .probabilities, [0.5, 0.5]).loss == infinity)
    #expect(try evaluate(.logProbabilities, [-infinity, -1], .logProbabilities, [-1, -1]).loss == infinity)
    #expect(try evaluate(.logits, [-infinity, 1], .probabilities, [0.25, 0.75]).loss == infinity)
    #expect(try evaluate(.logits, [-infinity, 1], .logits, [1, 1]).loss == infinity)
    let gradient = try evaluate(.logProbabilities, [-infinity, -1], .probabilities, [0.5, 0.5]).gradient
    #expect(gradient == [-0.5, -0.5])
  }

  @Test("H15: infinity where q is 0 in the very class that the target gives most", arguments: [3, 37])
  func impossibleLargestTarget(_ columns: Int) throws {
    var (input, target) = (Array(repeating: 0.0, count: columns), Array(repeating: 0.0, count: columns))
    (input[0], input[1], target[0], target[1]) = (-.infinity, 1, 2, 1)
    let result = try evaluate(.logits, input, .logits, target)
    #expect(result.loss == .infinity)
    let (q, p) = (softmax(input), softmax(target))
    for column in 0..<columns { #expect(abs(result.gradient[column] - (q[column] - p[column])) <= 1e-15) }
    // p·(log p − log q − KL)
    #expect(result.targetGradient.dropFirst().allSatisfy { $0 == -.infinity })
    #expect(!result.targetGradient[0].isFinite)
  }

  private func softmax(_ logits: [Double]) -> [Double] {
    let exponentials = logits.map { exp($0 - logits.max()!) }
    return exponentials.map { $0 / exponentials.reduce(0, +) }
  }

  @Test(
    "Where the target is largest the input lies far below others", arguments: [20, 33, 70, 1000],
    [(gap: 20.0, depth: -40.0), (0.125, -20), (0.125, -1000), (4, -8), (1, -1.5)])
  func lowInputAtLargestTarget(_ columns: Int, _ shape: (gap: Double, depth: Double)) throws {
    let isFused = try InstructionSet.current != .baseline
    for temperature in [1, 2.0] {
      for place in [0, 17, columns - 1] {
        var problem = DivergenceProblem.random(
          rows: 3, columns: columns, input: .logits, targets: .logits, temperature: temperature, seed: 7)
        for column in 0..<columns {
          // Between 0 and 1.
          problem.input[columns + column] = 0.5 + problem.input[columns + column] / 16
          problem.targets[columns + column] = 0.5 + problem.targets[columns + column] / 16
        }
        problem.input[columns + place] = shape.depth
        problem.targets[columns + place] = 1 + shape.gap
        let reference = problem.reference(scale: 1.0 / 3, scalar: Double.self)
        let outcome = try DivergenceRun<Float>(problem)()
        let (loss, row) = (reference.losses.values[1], columns..<2 * columns)
        #expect(
          abs(Double(outcome.losses[1]) - loss) <= 1e-6 * loss + 1e-7, "\(shape) \(temperature) \(place)")
        for (found, expected) in [
          (outcome.gradient, reference.gradient.values), (outcome.targetGradient, reference.targetGradient.values),
        ] {
          let largest = expected[row].map(abs).max()!
          // Sums of a thousand terms of one size are off by their own roundings, small exponentials by more without
          // fused multiply-add.
          let tolerance = (columns < 100 ? 4e-7 : 8e-7) * (isFused ? 1 : 2)
          for index in row { #expect(abs(Double(found[index]) - expected[index]) <= tolerance * largest) }
        }
      }
    }
  }

  @Test("Logits of the order of the largest numbers", arguments: [33, 64, 513])
  func hugeLogits(_ columns: Int) throws {
    let huge = Double(Float.greatestFiniteMagnitude)
    func check(_ input: [Double], _ target: [Double], line: SourceLocation = #_sourceLocation) throws {
      let problem = DivergenceProblem(
        rows: 1, columns: columns, inputForm: .logits, targetForm: .logits, input: input, targets: target)
      let reference = problem.reference(scale: 1, scalar: Double.self)
      let outcome = try DivergenceRun<Float>(problem)()
      let loss = reference.losses.values[0]
      #expect(abs(Double(outcome.losses[0]) - loss) <= 1e-6 * loss, sourceLocation: line)
      #expect(!outcome.gradient.contains { $0.isNaN }, sourceLocation: line)
      #expect(!outcome.targetGradient.contains { $0.isNaN }, sourceLocation: line)
    }
    // A class masked by the least number, which the target gives most.
    var (input, target) = (Array(repeating: 0.0, count: columns), Array(repeating: 0.875, count: columns))
    (input[0], target[0]) = (-huge, 1)
    try check(input, target)
    // A target of 0 among differences that overflow.
    (input, target) = (Array(repeating: 0, count: columns), Array(repeating: -.infinity, count: columns))
    (input[1], input[2]) = (0.5 * huge, -0.5 * huge)
    (target[0], target[1], target[2]) = (0.125, -5, 0)
    try check(input, target)
  }

  @Test("NaN or infinity where the target is largest stays in its row", arguments: [20, 70])
  func undefinedInputAtLargestTarget(_ columns: Int) throws {
    let fine = DivergenceProblem.random(rows: 3, columns: columns, input: .logits, targets: .logits)
    let plain = try DivergenceRun<Float>(fine)()
    for value in [Double.nan, .infinity, -.infinity] {
      for place in [0, 16, columns - 1] {
        var problem = fine
        // Two of them tie: in one lane if the first is in column 0, in two if not.
        problem.targets[columns + place] = 9
        problem.targets[columns + 16] = 9
        problem.input[columns + place] = value
        let outcome = try DivergenceRun<Float>(problem)()
        #expect(value == -.infinity ? outcome.losses[1] == .infinity : outcome.losses[1].isNaN)
        #expect(outcome.targetGradient[columns..<2 * columns].contains { !$0.isFinite })
        for row in [0, 2] {
          let elements = row * columns..<(row + 1) * columns
          #expect(outcome.losses[row] == plain.losses[row])
          #expect(haveSameBits(Array(outcome.gradient[elements]), Array(plain.gradient[elements])))
          #expect(haveSameBits(Array(outcome.targetGradient[elements]), Array(plain.targetGradient[elements])))
        }
      }
    }
  }

  @Test("Targets of 0 alone cost nothing, and pull at nothing")
  func noMass() throws {
    let result = try evaluate(.logProbabilities, [-1, -2], .probabilities, [0, 0])
    #expect(result.loss == 0)
    #expect(result.gradient.allSatisfy { $0 == 0 })
    let logits = try evaluate(.logits, [1, 5], .probabilities, [0, 0])
    #expect(logits.loss == 0)
    #expect(logits.gradient.allSatisfy { $0 == 0 })
  }

  @Test("Rows without a distribution are NaN, and only they", arguments: [3, 70])
  func undefinedRows(_ columns: Int) throws {
    for form in DivergenceProblem.forms {
      let fine = DivergenceProblem.random(rows: 3, columns: columns, input: form.input, targets: form.targets)
      var rows = [Array(repeating: Double.nan, count: columns)]
      if form.input == .logits {
        rows += [-Double.infinity, .infinity].map { Array(repeating: $0, count: columns) }
      }
      for row in rows {
        var problem = fine
        problem.input.replaceSubrange(columns..<2 * columns, with: row)
        let outcome = try DivergenceRun<Float>(problem)()
        #expect(outcome.cost.value.isNaN, "\(form), \(row[0])")
        if form.targets == .logits {
          #expect(outcome.targetGradient[columns..<2 * columns].allSatisfy { $0.isNaN })
        }
        #expect(outcome.losses[1].isNaN)
        #expect(outcome.losses[0].isFinite && outcome.losses[2].isFinite)
        #expect(outcome.gradient.prefix(columns).allSatisfy { $0.isFinite })
        #expect(outcome.gradient.suffix(columns).allSatisfy { $0.isFinite })
        // Silenced, such a row is nothing.
        problem.weights = [1, 0, 1]
        let silenced = try DivergenceRun<Float>(problem)()
        #expect(silenced.cost.sum.isFinite)
        #expect(silenced.losses[1] == 0)
        #expect(silenced.gradient[columns..<2 * columns].allSatisfy { $0 == 0 })
        if form.targets == .logits {
          #expect(silenced.targetGradient[columns..<2 * columns].allSatisfy { $0 == 0 })
        }
      }
    }
  }

  // MARK: H16: direction and divisors

  @Test("H16: the direction is KL(p‖q), the default divisor the rows")
  func directionAndDivisors() throws {
    let (p, q) = ([0.25, 0.75], [0.5, 0.5])
    let expected = 0.25 * log(0.5) + 0.75 * log(1.5)
    let input = q.map { log($0) }
    let (two, twice) = (input + input, p + p)
    let loss = try KLDivergence()
    let cost = try loss.evaluate(two.matrix(columns: 2), targets: twice.matrix(columns: 2))
    #expect(abs(cost.sum - 2 * expected) <= 1e-15)
    #expect(cost.denominator == 2)
    #expect(abs(cost.value - expected) <= 1e-15)
    let mean = try loss.evaluate(
      two.matrix(columns: 2), targets: twice.matrix(columns: 2), reduction: .mean)
    #expect(mean.denominator == 4)
    let sum = try loss.evaluate(two.matrix(columns: 2), targets: twice.matrix(columns: 2), reduction: .sum)
    #expect(sum.denominator == 1)
  }

  @Test("H12: no rows, no columns", arguments: Reduction.allCases)
  func emptyBatches(_ reduction: Reduction) throws {
    for (rows, columns) in [(0, 0), (0, 3), (3, 0)] {
      var run = DivergenceRun<Float>(
        DivergenceProblem(
          rows: rows, columns: columns, inputForm: .logits, targetForm: .probabilities, input: [], targets: []))
      run.reduction = reduction
      let outcome = try run()
      #expect(outcome.isIntact)
      #expect(outcome.cost.value == 0)
      #expect(outcome.cost.denominator == (reduction == .sum ? 1 : reduction == .batchMean ? Double(rows) : 0))
      #expect(outcome.losses.allSatisfy { $0 == 0 })
    }
  }

  // MARK: Properties

  @Test("Offsets of logits change no bit, equal logits cost 0", arguments: [1, 2, 33, 64, 300, 5000])
  func offsets(_ columns: Int) throws {
    let problem = DivergenceProblem.random(rows: 5, columns: columns, input: .logits, targets: .logits)
    let expected = try DivergenceRun<Float>(problem)()
    for (first, second) in [(1024.0, 0.0), (0, -32_000), (-512, 8192)] {
      var shifted = problem
      shifted.input = problem.input.map { $0 + first }
      shifted.targets = problem.targets.map { $0 + second }
      let outcome = try DivergenceRun<Float>(shifted)()
      #expect(haveSameBits(outcome.losses, expected.losses))
      #expect(haveSameBits(outcome.gradient, expected.gradient))
      #expect(haveSameBits(outcome.targetGradient, expected.targetGradient))
    }
    var equal = problem
    equal.targets = problem.input
    let outcome = try DivergenceRun<Float>(equal)()
    #expect(outcome.cost.sum == 0)
    #expect(outcome.losses.allSatisfy { $0 == 0 })
    #expect(outcome.targetGradient.allSatisfy { $0 == 0 })
    #expect(outcome.gradient.allSatisfy { abs($0) <= 1e-7 })
  }

  @Test("A permutation of the classes permutes the gradients", arguments: [2, 33, 300])
  func permutation(_ columns: Int) throws {
    var random = RandomSource(seed: 5)
    let order = Array(0..<columns).shuffled(using: &random)
    func permuted(_ values: [Double]) -> [Double] {
      values.indices.map { values[$0 / columns * columns + order[$0 % columns]] }
    }
    for form in DivergenceProblem.forms {
      let problem = DivergenceProblem.random(rows: 4, columns: columns, input: form.input, targets: form.targets)
      var other = problem
      other.input = permuted(problem.input)
      other.targets = permuted(problem.targets)
      let reference = problem.reference(scale: 0.25, scalar: Double.self)
      let outcome = try DivergenceRun<Double>(other)()
      #expect(reference.losses.mismatch(outcome.losses) == nil)
      #expect(
        Expectation(permuted(reference.gradient.values), allowed: permuted(reference.gradient.allowed))
          .mismatch(outcome.gradient) == nil)
    }
  }

  @Test("Gradients by logits add up to 0 in each row", arguments: [1, 5, 64, 1000])
  func gradientSums(_ columns: Int) throws {
    for targets in DivergenceProblem.Targets.allCases {
      let outcome = try DivergenceRun<Double>(
        .random(rows: 6, columns: columns, input: .logits, targets: targets, temperature: 3))()
      for row in 0..<6 {
        let range = row * columns..<(row + 1) * columns
        #expect(abs(outcome.gradient[range].reduce(0, +)) <= 1e-14)
        if targets == .logits { #expect(abs(outcome.targetGradient[range].reduce(0, +)) <= 1e-14) }
      }
    }
  }

  @Test("Gradients are the slopes of the losses", arguments: [1, 4, 33])
  func finiteDifferences(_ columns: Int) throws {
    for form in DivergenceProblem.forms {
      let hasLogits = form.input == .logits || form.targets == .logits
      let problem = DivergenceProblem.random(
        rows: 5, columns: columns, input: form.input, targets: form.targets, weighted: true,
        temperature: hasLogits ? 1.5 : 1)
      var run = DivergenceRun<Double>(problem)
      run.reduction = .sum
      let outcome = try run()
      func slopes(ofTargets: Bool, _ column: Int, _ step: Double) throws -> [Double] {
        func losses(_ step: Double) throws -> [Double] {
          run.problem = problem
          for index in stride(from: column, to: problem.rows * columns, by: columns) {
            if ofTargets { run.problem.targets[index] += step } else { run.problem.input[index] += step }
          }
          return try run().losses
        }
        return zip(try losses(step), try losses(-step)).map { ($0 - $1) / (2 * step) }
      }
      for ofTargets in form.targets == .logits ? [false, true] : [false] {
        let gradient = ofTargets ? outcome.targetGradient : outcome.gradient
        for column in 0..<columns {
          let step = 0x1p-12
          let (wide, narrow) = (
            try slopes(ofTargets: ofTargets, column, step), try slopes(ofTargets: ofTargets, column, step / 2)
          )
          for row in 0..<problem.rows {
            let extrapolated = (4 * narrow[row] - wide[row]) / 3
            #expect(
              mismatch(
                gradient[row * columns + column], extrapolated, allowed: abs(narrow[row] - wide[row]) + 1e-9)
                == nil,
              "\(form), \(columns) columns, at \(row), \(column)")
          }
        }
      }
    }
  }

  // MARK: Workers and memory

  @Test("H36: the worker count changes no bit", arguments: [1, 2, 7])
  func workerCounts(_ workers: Int) throws {
    for (rows, columns) in [(1, 1), (20_001, 3), (3001, 33), (301, 1000), (5, 40_000)] {
      let problem = DivergenceProblem.random(
        rows: rows, columns: columns, input: .logits, targets: .logits, weighted: true, temperature: 2)
      var run = DivergenceRun<Float>(problem)
      run.reduction = .mean
      run.engine = Engine(configuration: try .init(workerCount: 3))
      let expected = try run()
      run.engine = Engine(configuration: try .init(workerCount: workers))
      let outcome = try run()
      #expect(outcome.cost.sum.bitPattern == expected.cost.sum.bitPattern)
      #expect(outcome.cost.denominator == expected.cost.denominator)
      #expect(haveSameBits(outcome.losses, expected.losses))
      #expect(haveSameBits(outcome.gradient, expected.gradient))
      #expect(haveSameBits(outcome.targetGradient, expected.targetGradient))
    }
  }

  @Test("In place and in new matrices as in matrices given", arguments: [1, 7, 64, 1003, 5000, 40_000])
  func otherForms(_ columns: Int) throws {
    for (index, form) in DivergenceProblem.forms.enumerated() {
      for rows in [1, columns > 1003 ? 3 : 90] {
        let problem = DivergenceProblem.random(
          rows: rows, columns: columns, input: form.input, targets: form.targets, weighted: true,
          seed: UInt64(index))
        try checkOtherForms(problem, Float.self)
        try checkOtherForms(problem, Double.self)
      }
    }
    // Large enough for stores that bypass the cache.
    if columns == 1003 {
      for form in DivergenceProblem.forms {
        try checkOtherForms(
          .random(rows: 4200, columns: columns, input: form.input, targets: form.targets), Float.self)
      }
    }
  }

  private func checkOtherForms<Scalar: LossScalar>(_ problem: DivergenceProblem, _: Scalar.Type) throws {
    let expected = try DivergenceRun<Scalar>(problem)()
    let loss = try KLDivergence(
      input: problem.inputForm == .logits ? .logits : .logProbabilities,
      targets: KLDivergence.Targets(rawValue: problem.targetForm.rawValue)!)
    let columns = problem.columns
    var input = converted(problem.input, to: Scalar.self)
    let targets = converted(problem.targets, to: Scalar.self)
    let numbers = problem.weights.map { converted($0, to: Scalar.self) }
    let one = try loss.costAndGradient(
      input.matrix(columns: columns), targets: targets.matrix(columns: columns), weights: numbers?.span)
    #expect(one.cost == expected.cost && haveSameBits(one.gradient.elements, expected.gradient))
    guard problem.targetForm == .logits else {
      let cost = try loss.evaluateInPlace(
        input.mutableMatrix(columns: columns), targets: targets.matrix(columns: columns), weights: numbers?.span)
      #expect(cost == expected.cost && haveSameBits(input, expected.gradient))
      return
    }
    let both = try loss.costAndGradients(
      input.matrix(columns: columns), targets: targets.matrix(columns: columns), weights: numbers?.span)
    #expect(both.cost == expected.cost && haveSameBits(both.gradient.elements, expected.gradient))
    #expect(haveSameBits(both.targetGradient.elements, expected.targetGradient))
    var targetGradient = targets
    let cost = try loss.evaluateInPlace(
      input.mutableMatrix(columns: columns), targets: targets.matrix(columns: columns), weights: numbers?.span,
      targetGradient: targetGradient.mutableMatrix(columns: columns))
    #expect(cost == expected.cost && haveSameBits(input, expected.gradient))
    #expect(haveSameBits(targetGradient, expected.targetGradient))
  }

  @Test("In place where nothing contributes")
  func inPlaceWithoutDenominator() throws {
    let rows: [Float] = [0.5, 1, -2, 3, 0, 1]
    for (weights, reduction, input) in [
      ([1, -1], Reduction.mean, rows), ([0, 0], .mean, rows), ([1, 1], .meanOverActive, rows),
      ([1, 1], .meanOverActive, [.nan, 1, 2, 3, 0, 1]),
    ] as [([Float], Reduction, [Float])] {
      let loss = try KLDivergence(input: .logits, targets: .logits)
      // Equal rows cost nothing, so that none is active.
      let targets = reduction == .mean ? input.map { $0 * $0 } : input
      var (losses, gradient): ([Float], [Float]) = ([7, 7], Array(repeating: 7, count: 6))
      let cost = try loss.evaluate(
        input.matrix(columns: 3), targets: targets.matrix(columns: 3), weights: weights.span, reduction: reduction,
        losses: losses.mutableSpan, gradient: gradient.mutableMatrix(columns: 3))
      var (inPlace, others): ([Float], [Float]) = (input, [7, 7])
      let again = try loss.evaluateInPlace(
        inPlace.mutableMatrix(columns: 3), targets: targets.matrix(columns: 3), weights: weights.span,
        reduction: reduction, losses: others.mutableSpan)
      #expect(cost.denominator == 0 && again.denominator == 0)
      #expect(again.sum.bitPattern == cost.sum.bitPattern && haveSameBits(others, losses))
      #expect(inPlace.allSatisfy { $0 == 0 } && gradient.allSatisfy { $0 == 0 })
    }
  }

  @Test("Gradients that bypass the cache are complete")
  func streaming() throws {
    var run = DivergenceRun<Float>(
      .random(rows: 4200, columns: 1003, input: .logits, targets: .logits, temperature: 2))
    run.gaps.gradient = 1
    try check(run)
    run = DivergenceRun<Float>(.random(rows: 4200, columns: 1008, input: .logits, targets: .probabilities))
    run.placement = .line
    try check(run)
  }

  @Test("H11: micro-batches with the denominator of the batch give its gradient bit for bit")
  func microBatches() throws {
    let columns = 21
    let problem = DivergenceProblem.random(
      rows: 30, columns: columns, input: .logits, targets: .logits, weighted: true, temperature: 2)
    let expected = try DivergenceRun<Float>(problem)()
    var (sum, gradient) = (Cost(sum: 0, denominator: 0), [Float]())
    for part in [0..<1, 1..<17, 17..<17, 17..<30] {
      var piece = problem
      piece.rows = part.count
      piece.input = Array(problem.input[part.lowerBound * columns..<part.upperBound * columns])
      piece.targets = Array(problem.targets[part.lowerBound * columns..<part.upperBound * columns])
      piece.weights = Array(problem.weights![part])
      var run = DivergenceRun<Float>(piece)
      sum = sum + (try run().cost)
      run.denominator = expected.cost.denominator
      gradient += try run().gradient
    }
    #expect(haveSameBits(gradient, expected.gradient))
    #expect(sum.denominator == expected.cost.denominator)
    #expect(abs(sum.value - expected.cost.value) <= 1e-6 * expected.cost.value)
  }

  // MARK: Errors

  /// One call on 3 × 4; outputs must be untouched after it throws.
  private func call(
    _ loss: KLDivergence, targets: (Int, Int) = (3, 4), weights: Int = 3, losses: Int = 3,
    gradient: (Int, Int) = (3, 4), targetGradient: (Int, Int)? = nil, denominator: Double? = nil
  ) throws {
    let l = GuardedBuffer<Float>(rows: 1, columns: losses)
    let g = GuardedBuffer<Float>(rows: gradient.0, columns: gradient.1)
    let (hRows, hColumns) = targetGradient ?? (3, 4)
    let h = GuardedBuffer<Float>(rows: hRows, columns: hColumns)
    defer {
      #expect(l.isUntouched)
      #expect(g.isUntouched)
      #expect(h.isUntouched)
    }
    let ones = [Float](repeating: 1, count: 100)
    let (ls, gs, hs) = (l.memory, g.memory, h.memory)
    let input = try MatrixView(ones.span, rows: 3, columns: 4)
    let t = try MatrixView(ones.span, rows: targets.0, columns: targets.1)
    let gradientView = try MutableMatrixView(unsafeElements: gs, rows: g.rows, columns: g.columns)
    let targetView: MutableMatrixView<Float>? =
      if targetGradient != nil {
        try MutableMatrixView(unsafeElements: hs, rows: h.rows, columns: h.columns)
      } else {
        nil
      }
    try loss.evaluate(
      input, targets: t, weights: ones.span.extracting(first: weights), denominator: denominator,
      losses: ls.mutableSpan, gradient: gradientView, targetGradient: targetView)
  }

  @Test("Errors name the parameter and leave outputs alone")
  func errors() throws {
    for bad in [0, -1, Double.nan, .infinity] {
      expectError(.invalidParameter, "temperature", mentioning: "\(bad)") {
        _ = try KLDivergence(input: .logits, temperature: bad)
      }
    }
    expectError(.unsupportedCombination, "temperature", mentioning: "2") { _ = try KLDivergence(temperature: 2) }
    let loss = try KLDivergence(input: .logits, targets: .logits)
    for shape in [(2, 4), (4, 3), (3, 5), (0, 0)] {
      let came = "\(shape.0)×\(shape.1)"
      expectError(.invalidShape, "targets", mentioning: "3×4", came) { try call(loss, targets: shape) }
      expectError(.invalidShape, "gradient", mentioning: "3×4", came) { try call(loss, gradient: shape) }
      expectError(.invalidShape, "targetGradient", mentioning: "3×4", came) {
        try call(loss, targetGradient: shape)
      }
    }
    for count in [0, 2, 4] {
      expectError(.invalidShape, "weights", mentioning: "3", "\(count)") { try call(loss, weights: count) }
      expectError(.invalidShape, "losses", mentioning: "3", "\(count)") { try call(loss, losses: count) }
    }
    for bad in [0, -2, Double.nan, .infinity] {
      expectError(.invalidParameter, "denominator", mentioning: "\(bad)") { try call(loss, denominator: bad) }
    }
    for form in [KLDivergence.Targets.probabilities, .logProbabilities] {
      let other = try KLDivergence(input: .logits, targets: form)
      expectError(.unsupportedCombination, "targetGradient", mentioning: form.rawValue) {
        try call(other, targetGradient: (3, 4))
      }
    }
  }
}
