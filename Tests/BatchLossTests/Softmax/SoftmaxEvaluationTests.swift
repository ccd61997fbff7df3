// What is checked: softmax cross-entropy through the public interface — every width at which the kernels change
// their ways, every combination of options, strides, outputs, in place, reductions, worker counts, streaming.
// Against: the definition in plain loops in float64 (SoftmaxProblem.reference); or another call that must give the
// same bits.
// Tolerance: that of RowwiseReference for sums and elements; where two calls are compared, none.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Softmax cross-entropy: calls")
struct SoftmaxEvaluationTests {
  /// Evaluates a batch and compares everything with the definition.
  @discardableResult
  private func check<Scalar: LossScalar>(
    _ run: SoftmaxRun<Scalar>, _ words: String = "", at location: SourceLocation = #_sourceLocation
  ) throws -> SoftmaxRun<Scalar>.Outcome {
    let problem = run.problem
    let label: Comment = "\(problem.rows)×\(problem.columns) \(Scalar.self) \(run.reduction) \(run.gaps) \(words)"
    let denominator = run.expectedDenominator
    let reference = problem.reference(scale: denominator == 0 ? 0 : 1 / denominator, scalar: Scalar.self)
    let outcome = try run()
    #expect(outcome.isIntact, label, sourceLocation: location)
    #expect(outcome.cost.denominator == denominator, label, sourceLocation: location)
    #expect(
      mismatch(outcome.cost.sum, reference.sum, allowed: reference.sumAllowed) == nil, label,
      sourceLocation: location)
    if run.wantsLosses {
      #expect(reference.losses.mismatch(doubles(outcome.losses)) == nil, label, sourceLocation: location)
    }
    if run.wantsGradient {
      #expect(reference.gradient.mismatch(doubles(outcome.gradient)) == nil, label, sourceLocation: location)
    }
    return outcome
  }

  // MARK: Widths

  @Test("Narrow rows", arguments: Array(1...40) + [63, 64])
  func narrowRows(_ columns: Int) throws {
    // About the number of rows that go through together: 16 of Float, 8 of Double.
    for rows in [1, 7, 8, 9, 15, 16, 17, 33] { try checkWidth(rows: rows, columns: columns) }
  }

  @Test(
    "Wide rows",
    arguments: [
      65, 79, 80, 81, 100, 127, 192, 255, 256, 257, 1000, 1024, 1025, 2048, 2050, 4095, 4096, 4097, 5000, 8193,
    ])
  func wideRows(_ columns: Int) throws { try checkWidth(rows: columns > 4000 ? 2 : 5, columns: columns) }

  @Test("Very wide rows", arguments: [40_000, 200_000])
  func veryWideRows(_ columns: Int) throws {
    for options: Set<SoftmaxProblem.Option> in [[], [.classWeights, .weights, .smoothing, .zLoss, .softCap]] {
      try check(SoftmaxRun<Float>(.random(rows: 2, columns: columns, options: options)), "\(options)")
      try check(SoftmaxRun<Float>(.random(rows: 2, columns: columns, options: options, soft: true)), "\(options)")
    }
    try check(SoftmaxRun<Double>(.random(rows: 1, columns: columns)))
  }

  private func checkWidth(rows: Int, columns: Int) throws {
    let everything = Set(SoftmaxProblem.Option.allCases)
    for options in [[], everything] {
      for soft in [false, true] {
        let problem = SoftmaxProblem.random(rows: rows, columns: columns, options: options, soft: soft)
        try check(SoftmaxRun<Float>(problem), "\(options.count) options, soft \(soft)")
        var run = SoftmaxRun<Double>(problem)
        run.gaps = (logits: 3, probabilities: 1, gradient: 2)
        try check(run, "\(options.count) options, soft \(soft)")
      }
    }
  }

  // MARK: Options

  @Test("Every combination of options", arguments: [1, 3, 16, 64, 65, 130])
  func combinations(_ columns: Int) throws {
    for (index, options) in SoftmaxProblem.Option.combinations.enumerated() {
      for soft in [false, true] where !(soft && options.contains(.ignoreIndex)) {
        let problem = SoftmaxProblem.random(
          rows: 19, columns: columns, options: options, soft: soft, seed: UInt64(index))
        var float = SoftmaxRun<Float>(problem)
        float.reduction = Reduction.allCases[index % Reduction.allCases.count]
        float.gaps = (logits: index % 2 * 5, probabilities: index % 3, gradient: index % 4)
        try checkOutputs(float, "\(options), soft \(soft)")
        var double = SoftmaxRun<Double>(problem)
        double.reduction = float.reduction
        try check(double, "\(options), soft \(soft)")
      }
    }
  }

  @Test("Every combination of options in rows of several segments")
  func combinationsInWideRows() throws {
    for (index, options) in SoftmaxProblem.Option.combinations.enumerated() {
      for soft in [false, true] where !(soft && options.contains(.ignoreIndex)) {
        let problem = SoftmaxProblem.random(
          rows: 2, columns: 4099, options: options, soft: soft, seed: UInt64(index))
        try check(SoftmaxRun<Float>(problem), "\(options), soft \(soft)")
      }
    }
  }

  /// The same batch with fewer outputs and in place: the same numbers in those that are left.
  private func checkOutputs<Scalar: LossScalar>(_ run: SoftmaxRun<Scalar>, _ words: String) throws {
    let outcome = try check(run, words)
    var other = run
    other.isInPlace = true
    let inPlace = try other()
    #expect(inPlace.isIntact, "\(words)")
    #expect(haveSameBits(inPlace.gradient, outcome.gradient), "\(words)")
    #expect(haveSameBits(inPlace.losses, outcome.losses), "\(words)")
    #expect(inPlace.cost == outcome.cost, "\(words)")
    other = run
    other.wantsLosses = false
    let withoutLosses = try other()
    #expect(withoutLosses.isIntact, "\(words)")
    #expect(haveSameBits(withoutLosses.gradient, outcome.gradient), "\(words)")
    #expect(withoutLosses.cost == outcome.cost, "\(words)")
    other.wantsGradient = false
    other.wantsLosses = true
    let lossesAlone = try other()
    #expect(lossesAlone.isIntact, "\(words)")
    #expect(haveSameBits(lossesAlone.losses, outcome.losses), "\(words)")
    #expect(lossesAlone.cost == outcome.cost, "\(words)")
  }

  @Test("Strides change no bit", arguments: [5, 33, 64, 65, 300, 5000])
  func strides(_ columns: Int) throws {
    for soft in [false, true] {
      let problem = SoftmaxProblem.random(
        rows: 21, columns: columns, options: [.classWeights, .smoothing], soft: soft)
      var run = SoftmaxRun<Float>(problem)
      let expected = try run()
      for gap in [1, 7, 16, 100] {
        run.gaps = (logits: gap, probabilities: gap / 2, gradient: gap + 1)
        let outcome = try run()
        #expect(outcome.isIntact)
        #expect(outcome.cost == expected.cost)
        #expect(haveSameBits(outcome.gradient, expected.gradient))
        run.isInPlace = true
        let inPlace = try run()
        #expect(inPlace.isIntact)
        #expect(haveSameBits(inPlace.gradient, expected.gradient))
        run.isInPlace = false
      }
    }
  }

  @Test("The allocating convenience gives the same")
  func convenience() throws {
    let problem = SoftmaxProblem.random(rows: 7, columns: 12)
    guard case .labels(let labels) = problem.targets else { return }
    let logits = converted(problem.logits, to: Float.self)
    let expected = try SoftmaxRun<Float>(problem)()
    let both = try SoftmaxCrossEntropy().costAndGradient(logits.matrix(columns: 12), targets: labels.span)
    #expect(both.cost == expected.cost)
    #expect(both.gradient.rows == 7)
    #expect(haveSameBits(both.gradient.elements, expected.gradient))

    let shares = logits.map { $0 * $0 }
    var gradient = logits
    let cost = try SoftmaxCrossEntropy().evaluate(
      logits.matrix(columns: 12), probabilities: shares.matrix(columns: 12),
      gradient: gradient.mutableMatrix(columns: 12))
    let soft = try SoftmaxCrossEntropy().costAndGradient(
      logits.matrix(columns: 12), probabilities: shares.matrix(columns: 12))
    #expect(soft.cost == cost && haveSameBits(soft.gradient.elements, gradient))
  }

  @Test("Labels of every integer type")
  func labelTypes() throws {
    let problem = SoftmaxProblem.random(rows: 40, columns: 100)
    guard case .labels(let labels) = problem.targets else { return }
    let expected = try SoftmaxRun<Float>(problem)()
    let logits = converted(problem.logits, to: Float.self)
    func check<Label: FixedWidthInteger>(_: Label.Type) throws {
      let typed = labels.map { Label($0) }
      var gradient = logits
      let cost = try SoftmaxCrossEntropy().evaluate(
        logits.matrix(columns: 100), targets: typed.span, gradient: gradient.mutableMatrix(columns: 100))
      #expect(cost == expected.cost)
      #expect(haveSameBits(gradient, expected.gradient))
    }
    try check(Int8.self)
    try check(UInt8.self)
    try check(Int16.self)
    try check(UInt16.self)
    try check(Int32.self)
    try check(UInt32.self)
    try check(Int64.self)
    try check(UInt64.self)
    try check(UInt.self)
    try check(Int128.self)
  }

  // MARK: Workers

  @Test("H36: the worker count changes no bit", arguments: [1, 2, 7])
  func workerCounts(_ workers: Int) throws {
    for (rows, columns) in [(1, 1), (30_001, 3), (9000, 10), (1999, 64), (700, 257), (9, 20_000)] {
      let problem = SoftmaxProblem.random(
        rows: rows, columns: columns, options: [.weights, .smoothing, .ignoreIndex])
      var run = SoftmaxRun<Float>(problem)
      run.engine = Engine(configuration: try .init(workerCount: 3))
      let expected = try run()
      run.engine = Engine(configuration: try .init(workerCount: workers))
      for isInPlace in [false, true] {
        run.isInPlace = isInPlace
        let outcome = try run()
        #expect(outcome.isIntact)
        #expect(outcome.cost.sum.bitPattern == expected.cost.sum.bitPattern)
        #expect(outcome.cost.denominator == expected.cost.denominator)
        #expect(haveSameBits(outcome.losses, expected.losses))
        #expect(haveSameBits(outcome.gradient, expected.gradient))
      }
    }
  }

  @Test("Repeated calls allocate no scratch memory", arguments: [10, 1000])
  func workspaces(_ columns: Int) throws {
    let problem = SoftmaxProblem.random(rows: 300, columns: columns, options: [.softCap])
    guard case .labels(let labels) = problem.targets else { return }
    var logits = converted(problem.logits, to: Float.self)
    let engine = Engine(configuration: try .init(workerCount: 1))
    let loss = try SoftmaxCrossEntropy(softCap: 30)
    for _ in 0..<5 {
      try loss.evaluateInPlace(logits.mutableMatrix(columns: columns), targets: labels.span, engine: engine)
    }
    let allocations = engine.workspaceAllocations
    for _ in 0..<20 {
      try loss.evaluateInPlace(logits.mutableMatrix(columns: columns), targets: labels.span, engine: engine)
    }
    #expect(engine.workspaceAllocations == allocations)
  }

  // MARK: Streaming

  @Test("Gradients that bypass the cache are complete", arguments: [16, 1000, 4200, 9000])
  func streaming(_ columns: Int) throws {
    // 17 MB and more of gradient; rows start at any address but a multiple of a cache line.
    let rows = 4_300_000 / columns
    for (options, soft): (Set<SoftmaxProblem.Option>, Bool) in [
      ([.ignoreIndex], false), ([.classWeights, .smoothing, .softCap, .weights], false), ([.smoothing], true),
    ] {
      var run = SoftmaxRun<Float>(
        .random(rows: rows, columns: columns, options: options, soft: soft))
      run.gaps.gradient = 1
      try check(run, "\(options)")
      run.gaps.gradient = 0
      run.placement = .line
      try check(run, "\(options)")
    }
  }
}
