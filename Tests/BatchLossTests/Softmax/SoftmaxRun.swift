import BatchLoss
import BatchLossTestSupport

/// One call of softmax cross-entropy through the public interface, in guarded memory.
struct SoftmaxRun<Scalar: LossScalar> {
  var problem: SoftmaxProblem
  var reduction = Reduction.mean
  var denominator: Double?
  var wantsGradient = true
  var wantsLosses = true
  var isInPlace = false
  /// Elements between the rows of logits, probabilities and gradient.
  var gaps = (logits: 0, probabilities: 0, gradient: 0)
  var placement = GuardedBuffer<Scalar>.Placement.end
  var engine = Engine.shared

  init(_ problem: SoftmaxProblem) { self.problem = problem }

  /// What came out.
  struct Outcome {
    var cost: Cost
    var losses: [Scalar]
    var gradient: [Scalar]
    /// Whether nothing outside the outputs, and no input, was written.
    var isIntact: Bool
  }

  /// The divisor that the reduction stands for.
  var expectedDenominator: Double {
    if let denominator { return denominator }
    switch reduction {
    case .mean: return problem.meanDenominator
    case .meanOverCount: return Double(problem.count)
    case .sum: return 1
    case .batchMean: return Double(problem.rows)
    case .meanOverActive: return Double(problem.reference(scale: 0, scalar: Scalar.self).active)
    }
  }

  func callAsFunction() throws -> Outcome {
    let (rows, columns) = (problem.rows, problem.columns)
    let x = guarded(problem.logits, rows, columns, gap: gaps.logits)
    let w = problem.weights.map { guarded($0, 1, rows) }
    let c = problem.classWeights.map { guarded($0, 1, columns) }
    let l = GuardedBuffer<Scalar>(rows: 1, columns: rows)
    let g = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: gaps.gradient, placement: placement)
    var p: GuardedBuffer<Scalar>?
    if case .probabilities(let probabilities) = problem.targets {
      p = guarded(probabilities, rows, columns, gap: gaps.probabilities)
    }
    let before = x.elements
    let loss = try SoftmaxCrossEntropy(
      labelSmoothing: problem.labelSmoothing, ignoreIndex: problem.ignoreIndex, zLoss: problem.zLoss,
      softCap: problem.softCap)

    let (xs, xm, ls, gs) = (x.readOnlyMemory, x.memory, l.memory, g.memory)
    let empty = UnsafeBufferPointer<Scalar>(start: nil, count: 0)
    let (ws, cs, ps) = (w?.readOnlyMemory ?? empty, c?.readOnlyMemory ?? empty, p?.readOnlyMemory ?? empty)
    let logits = try MatrixView(unsafeElements: xs, rows: rows, columns: columns, stride: x.stride)
    let weights: Span<Scalar>? = if w != nil { ws.span } else { nil }
    let classWeights: Span<Scalar>? = if c != nil { cs.span } else { nil }
    let losses: MutableSpan<Scalar>? = if wantsLosses { ls.mutableSpan } else { nil }
    let cost: Cost
    switch problem.targets {
    case .labels(let labels):
      if isInPlace {
        let view = try MutableMatrixView(unsafeElements: xm, rows: rows, columns: columns, stride: x.stride)
        cost = try loss.evaluateInPlace(
          view, targets: labels.span, classWeights: classWeights, weights: weights, reduction: reduction,
          denominator: denominator, losses: losses, engine: engine)
      } else {
        let gradient: MutableMatrixView<Scalar>? =
          if wantsGradient {
            try MutableMatrixView(unsafeElements: gs, rows: rows, columns: columns, stride: g.stride)
          } else {
            nil
          }
        cost = try loss.evaluate(
          logits, targets: labels.span, classWeights: classWeights, weights: weights, reduction: reduction,
          denominator: denominator, losses: losses, gradient: gradient, engine: engine)
      }
    case .probabilities:
      let probabilities = try MatrixView(
        unsafeElements: ps, rows: rows, columns: columns, stride: p!.stride)
      if isInPlace {
        let view = try MutableMatrixView(unsafeElements: xm, rows: rows, columns: columns, stride: x.stride)
        cost = try loss.evaluateInPlace(
          view, probabilities: probabilities, classWeights: classWeights, weights: weights,
          reduction: reduction, denominator: denominator, losses: losses, engine: engine)
      } else {
        let gradient: MutableMatrixView<Scalar>? =
          if wantsGradient {
            try MutableMatrixView(unsafeElements: gs, rows: rows, columns: columns, stride: g.stride)
          } else {
            nil
          }
        cost = try loss.evaluate(
          logits, probabilities: probabilities, classWeights: classWeights, weights: weights,
          reduction: reduction, denominator: denominator, losses: losses, gradient: gradient, engine: engine)
      }
    }
    let isIntact =
      x.isIntact && w?.isIntact ?? true && c?.isIntact ?? true && p?.isIntact ?? true
      && (wantsLosses ? l.isIntact : l.isUntouched)
      && (wantsGradient && !isInPlace ? g.isIntact : g.isUntouched)
      && (isInPlace || haveSameBits(x.elements, before))
    return Outcome(
      cost: cost, losses: l.elements, gradient: isInPlace ? x.elements : g.elements, isIntact: isIntact)
  }

  private func guarded(_ values: [Double], _ rows: Int, _ columns: Int, gap: Int = 0) -> GuardedBuffer<Scalar> {
    GuardedBuffer(
      rows: rows, columns: columns, gap: gap, converted(values, to: Scalar.self), placement: placement)
  }
}

// MARK: - Random batches

extension SoftmaxProblem {
  /// A batch of random logits, exact in `Float`.
  static func random(
    rows: Int, columns: Int, options: Set<Option> = [], soft: Bool = false, seed: UInt64 = 1
  ) -> SoftmaxProblem {
    var random = RandomSource(seed: seed &+ UInt64(columns) << 20)
    let logits = (0..<rows * columns).map { _ in random.uniform(-8...8) }
    let targets: Targets
    if soft {
      // Rows need not add up to 1; a quarter of the classes cannot be.
      targets = .probabilities(
        (0..<rows * columns).map { _ in random.next() % 4 == 0 ? 0 : random.uniform(0...1) / Double(columns) })
    } else {
      targets = .labels((0..<rows).map { _ in Int(random.next() % UInt64(columns)) })
    }
    var problem = SoftmaxProblem(rows: rows, columns: columns, logits: logits, targets: targets)
    if options.contains(.classWeights) {
      problem.classWeights = (0..<columns).map { _ in random.uniform(0.25...2.25) }
    }
    if options.contains(.weights) {
      problem.weights = (0..<rows).map { $0 % 5 == 3 ? 0 : random.uniform(0.25...2.25) }
    }
    if options.contains(.smoothing) { problem.labelSmoothing = 0.1 }
    if options.contains(.zLoss) { problem.zLoss = 0.01 }
    if options.contains(.softCap) { problem.softCap = 5 }
    if options.contains(.ignoreIndex), case .labels(var labels) = problem.targets {
      problem.ignoreIndex = -100
      for row in 0..<rows where row % 4 == 1 { labels[row] = -100 }
      problem.targets = .labels(labels)
    }
    return problem
  }

  enum Option: CaseIterable, Sendable {
    case classWeights, weights, smoothing, ignoreIndex, zLoss, softCap

    /// Every combination of options.
    static let combinations: [Set<Option>] = (0..<64).map { bits in
      Set(allCases.enumerated().filter { bits >> $0.offset & 1 == 1 }.map(\.element))
    }
  }
}
