// What is checked: rows so long that the largest element is guessed while they are read, and exponentials are taken
// again for the gradient: where the largest comes late, in steps, or not at all, and where it is the label's.
// Against: the definition in plain loops in float64 (SoftmaxProblem.reference); for confident rows, log1p of the others'
// shares.
// Tolerance: that of RowwiseReference; 10⁻⁶ of the loss and of the label's slope for confident rows,
// and what float64 rounds of the 1 beside the others' shares.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("Softmax cross-entropy: long rows")
struct LongRowTests {
  /// 16 MiB of gradient and more, so that it bypasses the cache.
  private static let (rows, columns) = (470, 9011)

  /// Largest elements that come late, in steps, or not at all.
  private static func lateLargest(_ options: Set<SoftmaxProblem.Option>) -> SoftmaxProblem {
    var problem = SoftmaxProblem.random(rows: rows, columns: columns, options: options)
    for row in 0..<rows {
      let first = row * columns
      switch row % 7 {
      case 0:  // Steps, small and large, each above all before.
        for step in 1...12 { problem.logits[first + step * 700 + row] = 8 + Double(step * (row % 5) * 2) }
      case 1:  // The first elements, and whole stretches between, are impossible.
        for column in 0..<1100 { problem.logits[first + column] = -.infinity }
        for column in 3000..<5000 { problem.logits[first + column] = -.infinity }
      case 2:  // The very last element.
        problem.logits[first + columns - 1] = 8 + Double(row)
      case 3:  // Just above and just below what makes a stretch be done again.
        problem.logits[first + 4000] = 11.75 + Double(row % 3) / 2
      case 4:  // Far down, and rising by much.
        for column in 0..<columns { problem.logits[first + column] += Double(column / 2000) * 100 - 3e4 }
      case 5:  // One class only.
        for column in 0..<columns where column != 8000 { problem.logits[first + column] = -.infinity }
      default: break
      }
      // What is ignored or weighs nothing may hold anything.
      if options.contains(.ignoreIndex), row % 20 == 1 { problem.logits[first + 5] = .nan }
      if options.contains(.weights), row % 20 == 3 { problem.logits[first + 6000] = .nan }
    }
    if case .labels(var labels) = problem.targets {
      for row in 0..<rows where row % 7 == 5 && labels[row] >= 0 { labels[row] = 8000 }
      for row in 0..<rows where row % 7 == 1 && labels[row] >= 0 { labels[row] = 2000 + row }
      if problem.classWeights != nil { problem.classWeights![labels[0]] = 0 }
      problem.targets = .labels(labels)
    }
    return problem
  }

  @Test("Largest elements that come late", arguments: [false, true])
  func lateLargest(hasOptions: Bool) throws {
    var run = SoftmaxRun<Float>(
      Self.lateLargest(hasOptions ? [.classWeights, .weights, .zLoss, .ignoreIndex] : []))
    let reference = run.problem.reference(scale: 1 / run.expectedDenominator, scalar: Float.self)
    func check() throws {
      let outcome = try run()
      #expect(outcome.isIntact)
      #expect(mismatch(outcome.cost.sum, reference.sum, allowed: reference.sumAllowed) == nil)
      #expect(reference.losses.mismatch(doubles(outcome.losses)) == nil)
      if run.wantsGradient { #expect(reference.gradient.mismatch(doubles(outcome.gradient)) == nil) }
    }
    try check()
    run.placement = .line
    try check()
    run.wantsGradient = false
    try check()
    run.wantsGradient = true
    run.gaps = (logits: 3, probabilities: 0, gradient: 1)
    try check()
    run.isInPlace = true
    try check()
  }

  @Test("H36: workers, place and micro-batches change no bit")
  func sameBits() throws {
    var run = SoftmaxRun<Float>(Self.lateLargest([.weights, .ignoreIndex]))
    run.engine = Engine(configuration: try .init(workerCount: 1))
    let expected = try run()
    for workers in [2, 3, 7] {
      run.engine = Engine(configuration: try .init(workerCount: workers))
      run.isInPlace = workers == 3
      let outcome = try run()
      #expect(outcome.isIntact)
      #expect(outcome.cost.sum.bitPattern == expected.cost.sum.bitPattern)
      #expect(haveSameBits(outcome.losses, expected.losses))
      #expect(haveSameBits(outcome.gradient, expected.gradient))
    }
    // Few enough rows that their gradient does not bypass the cache.
    run.isInPlace = false
    run.denominator = expected.cost.denominator
    run.problem.logits.removeLast((Self.rows - 40) * Self.columns)
    run.problem.weights?.removeLast(Self.rows - 40)
    if case .labels(let labels) = run.problem.targets { run.problem.targets = .labels(Array(labels[..<40])) }
    run.problem.rows = 40
    let part = try run()
    #expect(haveSameBits(part.losses, Array(expected.losses[..<40])))
    #expect(haveSameBits(part.gradient, Array(expected.gradient[..<(40 * Self.columns)])))
  }

  @Test("Rows without a distribution are NaN, and only they")
  func undefinedRows() throws {
    let (rows, columns) = (Self.rows, Self.columns)
    var problem = SoftmaxProblem.random(rows: rows, columns: columns)
    guard case .labels(var labels) = problem.targets else { return }
    let undefined: [Int: (value: Double, columns: Range<Int>)] = [
      3: (.nan, 5000..<5001), 4: (.infinity, 5000..<5001), 9: (-.infinity, 0..<columns), 10: (.nan, 7..<8),
      11: (.infinity, 0..<1), 20: (.nan, columns - 1..<columns), 21: (.infinity, columns - 2..<columns),
      30: (.nan, 600..<601), 31: (.infinity, 8999..<9000), 40: (.nan, 0..<columns),
    ]
    for (row, poison) in undefined {
      for column in poison.columns { problem.logits[row * columns + column] = poison.value }
    }
    (labels[30], labels[31]) = (600, 8999)
    problem.targets = .labels(labels)
    var run = SoftmaxRun<Float>(problem)
    run.reduction = .sum
    for (wantsGradient, isInPlace) in [(true, false), (false, false), (true, true)] {
      (run.wantsGradient, run.isInPlace) = (wantsGradient, isInPlace)
      let outcome = try run()
      #expect(outcome.isIntact)
      for row in 0..<rows {
        let isUndefined = undefined[row] != nil
        #expect(outcome.losses[row].isNaN == isUndefined, "row \(row)")
        guard wantsGradient else { continue }
        let gradient = outcome.gradient[row * columns..<(row + 1) * columns]
        #expect(gradient.allSatisfy { $0.isNaN } == isUndefined, "row \(row)")
        #expect(gradient.contains { $0.isNaN } == isUndefined, "row \(row)")
      }
    }
  }

  @Test("Confident rows keep the digits of loss and slope", arguments: [0.5, 3.9, 4.1, 9, 14, 20])
  func confidentRows(_ gap: Double) throws {
    let (rows, columns) = (Self.rows, Self.columns)
    var random = RandomSource(seed: 5)
    // Other classes further down the longer the row, or their sum would decide.
    let floor = gap + 12
    var logits = (0..<rows * columns).map { _ in Float(-floor - Double.random(in: 0..<1, using: &random)) }
    let labels = (0..<rows).map { ($0 * 1999) % columns }
    for row in 0..<rows {
      logits[row * columns] = Float(-gap)
      logits[row * columns + labels[row]] = 0
    }
    var losses = [Float](repeating: 0, count: rows)
    var gradient = [Float](repeating: 0, count: rows * columns)
    let output = losses.mutableSpan
    try SoftmaxCrossEntropy().evaluate(
      logits.matrix(columns: columns), targets: labels.span, reduction: .sum, losses: output,
      gradient: gradient.mutableMatrix(columns: columns))
    for row in 0..<rows {
      let others = (row * columns..<(row + 1) * columns).reduce(0.0) {
        $0 + ($1 == row * columns + labels[row] ? 0 : exp(Double(logits[$1])))
      }
      let (expected, slope) = (log1p(others), others / (1 + others))
      #expect(abs(Double(losses[row]) - expected) <= 1e-6 * expected + 0x1p-50, "row \(row)")
      #expect(abs(Double(gradient[row * columns + labels[row]]) + slope) <= 1e-6 * slope + 0x1p-50, "row \(row)")
    }
  }
}
