import BatchLoss
import BatchLossTestSupport
import Glibc

/// One call of the KL divergence through the public interface, in guarded memory.
struct DivergenceRun<Scalar: LossScalar> {
  var problem: DivergenceProblem
  var reduction = Reduction.batchMean
  var denominator: Double?
  var wantsGradient = true
  var wantsTargetGradient: Bool
  var wantsLosses = true
  /// Elements between the rows of input, targets and the two gradients.
  var gaps = (input: 0, targets: 0, gradient: 0, targetGradient: 0)
  var placement = GuardedBuffer<Scalar>.Placement.end
  var engine = Engine.shared

  init(_ problem: DivergenceProblem) {
    self.problem = problem
    wantsTargetGradient = problem.targetForm == .logits
  }

  /// What came out.
  struct Outcome {
    var cost: Cost
    var losses: [Scalar]
    var gradient: [Scalar]
    var targetGradient: [Scalar]
    /// Whether nothing outside the outputs was written.
    var isIntact: Bool
  }

  /// The divisor that the reduction stands for.
  var expectedDenominator: Double {
    if let denominator { return denominator }
    let (rows, columns) = (Double(problem.rows), Double(problem.columns))
    switch reduction {
    case .mean: return (problem.weights?.reduce(0, +) ?? rows) * columns
    case .meanOverCount: return rows * columns
    case .sum: return 1
    case .batchMean: return rows
    case .meanOverActive: return Double(problem.reference(scale: 0, scalar: Scalar.self).active)
    }
  }

  func callAsFunction() throws -> Outcome {
    let (rows, columns) = (problem.rows, problem.columns)
    func guarded(_ values: [Double], _ rows: Int, _ columns: Int, _ gap: Int = 0) -> GuardedBuffer<Scalar> {
      GuardedBuffer(
        rows: rows, columns: columns, gap: gap, converted(values, to: Scalar.self), placement: placement)
    }
    let x = guarded(problem.input, rows, columns, gaps.input)
    let t = guarded(problem.targets, rows, columns, gaps.targets)
    let w = problem.weights.map { guarded($0, 1, rows) }
    let l = GuardedBuffer<Scalar>(rows: 1, columns: rows)
    let g = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: gaps.gradient, placement: placement)
    let h = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: gaps.targetGradient, placement: placement)
    let before = (x.elements, t.elements)
    let loss = try KLDivergence(
      input: problem.inputForm == .logits ? .logits : .logProbabilities,
      targets: KLDivergence.Targets(rawValue: problem.targetForm.rawValue)!, temperature: problem.temperature)

    let (xs, ts, ls, gs, hs) = (x.readOnlyMemory, t.readOnlyMemory, l.memory, g.memory, h.memory)
    let ws = w?.readOnlyMemory ?? UnsafeBufferPointer<Scalar>(start: nil, count: 0)
    let input = try MatrixView(unsafeElements: xs, rows: rows, columns: columns, stride: x.stride)
    let targets = try MatrixView(unsafeElements: ts, rows: rows, columns: columns, stride: t.stride)
    let weights: Span<Scalar>? = if w != nil { ws.span } else { nil }
    let losses: MutableSpan<Scalar>? = if wantsLosses { ls.mutableSpan } else { nil }
    let gradient: MutableMatrixView<Scalar>? =
      if wantsGradient {
        try MutableMatrixView(unsafeElements: gs, rows: rows, columns: columns, stride: g.stride)
      } else {
        nil
      }
    let targetGradient: MutableMatrixView<Scalar>? =
      if wantsTargetGradient {
        try MutableMatrixView(unsafeElements: hs, rows: rows, columns: columns, stride: h.stride)
      } else {
        nil
      }
    let cost = try loss.evaluate(
      input, targets: targets, weights: weights, reduction: reduction, denominator: denominator, losses: losses,
      gradient: gradient, targetGradient: targetGradient, engine: engine)
    let isIntact =
      x.isIntact && t.isIntact && w?.isIntact ?? true && (wantsLosses ? l.isIntact : l.isUntouched)
      && (wantsGradient ? g.isIntact : g.isUntouched) && (wantsTargetGradient ? h.isIntact : h.isUntouched)
      && haveSameBits(x.elements, before.0) && haveSameBits(t.elements, before.1)
    return Outcome(
      cost: cost, losses: l.elements, gradient: g.elements, targetGradient: h.elements, isIntact: isIntact)
  }
}

// MARK: - Random batches

extension DivergenceProblem {
  /// A batch of random distributions in a form, exact in `Float`.
  static func random(
    rows: Int, columns: Int, input: Input, targets: Targets, weighted: Bool = false, temperature: Double = 1,
    seed: UInt64 = 1
  ) -> DivergenceProblem {
    var random = RandomSource(seed: seed &+ UInt64(columns) << 20)
    func logits() -> [Double] { (0..<rows * columns).map { _ in random.uniform(-8...8) } }
    /// Logarithms of numbers about 1 / columns; rows need not add up to 1, which makes no difference.
    func logarithms() -> [Double] {
      let middle = Double(Float(log2(Double(columns))))
      return (0..<rows * columns).map { _ in Double(Float(random.uniform(-4...0) - middle)) }
    }
    let x = input == .logits ? logits() : logarithms()
    let t: [Double] =
      switch targets {
      case .logits: logits()
      case .logProbabilities: logarithms()
      case .probabilities:
        (0..<rows * columns).map { _ in
          random.next() % 4 == 0 ? 0 : Double(Float(random.uniform(0...2) / Double(columns)))
        }
      }
    var problem = DivergenceProblem(
      rows: rows, columns: columns, inputForm: input, targetForm: targets, input: x, targets: t)
    problem.temperature = temperature
    if weighted { problem.weights = (0..<rows).map { $0 % 5 == 3 ? 0 : random.uniform(0.25...2.25) } }
    return problem
  }

  /// Every pair of forms.
  static let forms: [(input: Input, targets: Targets)] = Input.allCases.flatMap { input in
    Targets.allCases.map { (input, $0) }
  }
}
