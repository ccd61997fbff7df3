import BatchLoss
import BatchLossCatalog
import BatchLossTestSupport

/// A loss with options, batches for it, and its definition.
struct LossCase {
  /// The size of a batch and of its numbers.
  struct Size {
    let rows: Int
    let columns: Int
    let scale: Double
  }

  /// The name in the catalogue.
  let loss: String
  /// What sets this case apart from others of the loss.
  let variant: String
  let options: LossOptions
  let sizes: [Size]
  let inputs: @Sendable (Size, inout RandomSource) -> LossInputs
  /// The cost by the default reduction.
  let cost: @Sendable (LossVariables) -> Variable
  /// How far a float32 gradient may be off, relative to its largest component.
  private(set) var gradientBound = 3e-7

  init(
    _ loss: String, _ variant: String = "", _ values: [OptionName: Double] = [:],
    words: [OptionName: String] = [:], sizes: [Size],
    inputs: @escaping @Sendable (Size, inout RandomSource) -> LossInputs,
    cost: @escaping @Sendable (LossVariables) -> Variable
  ) {
    self.loss = loss
    self.variant = variant
    self.options = LossOptions(values, words: words)
    self.sizes = sizes
    self.inputs = inputs
    self.cost = cost
  }

  static let all = elementwise + rowwise + embedding + sequences

  /// The case with another bound, where cancellation in the gradient itself costs more digits.
  func within(gradient bound: Double) -> LossCase {
    var result = self
    result.gradientBound = bound
    return result
  }

  /// Every shape with every scale.
  static func sizes(_ shapes: [(Int, Int)], scales: [Double]) -> [Size] {
    shapes.flatMap { shape in scales.map { Size(rows: shape.0, columns: shape.1, scale: $0) } }
  }
}

extension RandomSource {
  /// About normal, of variance 1: a sum of twelve uniform numbers.
  mutating func normal() -> Double { (0..<12).reduce(0.0) { sum, _ in sum + uniform(-0.5...0.5) } }

  mutating func index(below count: Int) -> Int { Int(next() % UInt64(count)) }
}

// MARK: - Element by element

extension LossCase {
  private enum Targets { case normal, signs, counts, labels, probabilities }

  /// Predictions about targets, or of their own.
  private static func elementwise(
    _ loss: String, _ variant: String = "", _ options: [OptionName: Double] = [:], role: Role = .predictions,
    targets: Targets = .normal, predictions: @escaping @Sendable (Double) -> Double = { $0 },
    definition: @escaping @Sendable (Variable, Wide) -> Variable
  ) -> LossCase {
    LossCase(
      loss, variant, options, sizes: sizes([(1, 3), (40, 257), (3, 30000)], scales: [0.25, 1, 4]),
      inputs: { size, random in
        var inputs = LossInputs()
        inputs.add(role, size.rows, size.columns, differentiable: true) { _ in
          predictions(size.scale * random.normal())
        }
        inputs.add(.targets, size.rows, size.columns) { _ in
          switch targets {
          case .normal: size.scale * random.normal()
          case .signs: random.index(below: 2) == 0 ? -1 : 1
          case .counts: Double(random.index(below: 5))
          case .labels: Double(random.index(below: 2))
          case .probabilities: random.uniform(0...1)
          }
        }
        return inputs
      },
      cost: { batch in
        mean(
          zip(batch[role], batch.values(.targets)).flatMap { x, t in zip(x, t).map { definition($0, $1) } })
      })
  }

  fileprivate static let elementwise: [LossCase] = [
    elementwise("mean-squared-error", definition: ElementDefinition.squaredError),
    elementwise("mean-absolute-error", definition: ElementDefinition.absoluteError),
    elementwise("huber", "delta 1.5", [.delta: 1.5]) { ElementDefinition.huber($0, $1, delta: 1.5) },
    elementwise("smooth-l1", "beta 0.5", [.beta: 0.5]) { ElementDefinition.smoothL1($0, $1, beta: 0.5) },
    elementwise("log-cosh", definition: ElementDefinition.logCosh),
    elementwise("quantile", "q 0.75", [.quantile: 0.75]) { ElementDefinition.quantile($0, $1, q: 0.75) },
    elementwise("poisson", targets: .counts, definition: ElementDefinition.poisson),
    elementwise(
      "poisson", "rates", [.logInput: 0, .epsilon: 0x1p-20], targets: .counts, predictions: { 0.125 + $0 * $0 }
    ) { ElementDefinition.poissonOfRate($0, $1, epsilon: 0x1p-20) },
    elementwise("hinge", targets: .signs, definition: ElementDefinition.hinge),
    elementwise("squared-hinge", targets: .signs) { ElementDefinition.hinge($0, $1).squared },
    elementwise("binary-cross-entropy", role: .logits, targets: .labels) {
      ElementDefinition.binaryCrossEntropy($0, $1, positiveWeight: 1)
    },
    elementwise(
      "binary-cross-entropy", "positive weight 2.5, smoothing 0.25",
      [.positiveWeight: 2.5, .labelSmoothing: 0.25], role: .logits, targets: .probabilities
    ) { ElementDefinition.binaryCrossEntropy($0, $1 * 0.75 + 0.125, positiveWeight: 2.5) },
    elementwise(
      "binary-cross-entropy", "probabilities", role: .probabilities, targets: .labels,
      predictions: { 0.5 + 0.48 * $0 / (1 + abs($0)) }
    ) { ElementDefinition.binaryCrossEntropyOfProbability($0, $1, positiveWeight: 1) },
    elementwise("focal", role: .logits, targets: .labels) {
      ElementDefinition.focal($0, $1, alpha: 0.25, gamma: 2)
    },
    elementwise("focal", "gamma 1.5", [.gamma: 1.5], role: .logits, targets: .labels) {
      ElementDefinition.focal($0, $1, alpha: 0.25, gamma: 1.5)
    },
  ]
}

// MARK: - Row by row

extension LossCase {
  private static let rowSizes = sizes(
    [(30, 2), (50, 10), (20, 100), (10, 1000), (2, 10000)], scales: [1, 8])

  private static func softmax(
    _ variant: String = "", _ options: [OptionName: Double] = [:], classWeights: Bool = false,
    probabilities: Bool = false, smoothing: Wide = 0, zLoss: Wide = 0, softCap: Wide? = nil
  ) -> LossCase {
    LossCase(
      "softmax-cross-entropy", variant, options, sizes: rowSizes,
      inputs: { size, random in
        var inputs = LossInputs()
        inputs.add(.logits, size.rows, size.columns, differentiable: true) { _ in size.scale * random.normal() }
        if probabilities {
          inputs.add(.targets, size.rows, size.columns) { _ in random.uniform(0...1) / Double(size.columns) }
        } else {
          inputs.add(
            .targets, shape: [size.rows], (0..<size.rows).map { _ in random.index(below: size.columns) })
        }
        if classWeights {
          inputs.add(.classWeights, 1, size.columns, shape: [size.columns]) { _ in random.uniform(0.5...2) }
        }
        return inputs
      },
      cost: { batch in
        let columns = batch[.logits][0].count
        let weights = classWeights ? batch.values(.classWeights)[0] : [Wide](repeating: 1, count: columns)
        var denominator: Wide = 0
        let losses = batch[.logits].enumerated().map { row, x in
          var targets = [Wide](repeating: 0, count: columns)
          if probabilities {
            targets = batch.values(.targets)[row]
            for k in 0..<columns {
              targets[k] = weights[k] * (targets[k] * (1 - smoothing) + smoothing / Wide(columns))
            }
            denominator += 1
          } else {
            let label = batch.integers(.targets)[row]
            for k in 0..<columns { targets[k] = weights[k] * smoothing / Wide(columns) }
            targets[label] += weights[label] * (1 - smoothing)
            denominator += weights[label]
          }
          return RowDefinition.softmaxCrossEntropy(x, targets: targets, zLoss: zLoss, softCap: softCap)
        }
        return sum(losses) / denominator
      })
  }

  private static func divergence(
    _ variant: String, _ options: [OptionName: Double] = [:], inputs role: Role, targets: Role,
    temperature: Wide = 1
  ) -> LossCase {
    LossCase(
      "kl-divergence", variant, options, sizes: rowSizes,
      inputs: { size, random in
        var inputs = LossInputs()
        inputs.add(role, size.rows, size.columns, differentiable: true) { _ in
          let x = size.scale * random.normal()
          return role == .logits ? x : -abs(x) - 0.25
        }
        inputs.add(targets, size.rows, size.columns, differentiable: targets == .targetLogits) { _ in
          targets == .targetLogits ? size.scale * random.normal() : random.uniform(0...1)
        }
        return inputs
      },
      cost: { batch in
        let rows = batch[role].indices.map { row in
          let logQ =
            role == .logits
            ? RowDefinition.logSoftmax(batch[role][row], temperature: temperature) : batch[role][row]
          let divergence =
            targets == .targetLogits
            ? RowDefinition.divergence(
              logP: RowDefinition.logSoftmax(batch[targets][row], temperature: temperature), logQ: logQ)
            : RowDefinition.divergence(p: batch.values(targets)[row], logQ: logQ)
          return temperature * temperature * divergence
        }
        return mean(rows)
      })
  }

  fileprivate static let rowwise: [LossCase] = [
    softmax(),
    softmax("smoothing 0.25, class weights", [.labelSmoothing: 0.25], classWeights: true, smoothing: 0.25),
    softmax("probabilities", probabilities: true),
    softmax("z-loss 2⁻¹⁰", [.zLoss: 0x1p-10], zLoss: 0x1p-10),
    softmax("soft cap 30", [.softCap: 30], softCap: 30),
    softmax("soft cap 4", [.softCap: 4], softCap: 4),
    divergence("log-probabilities, probabilities", inputs: .logProbabilities, targets: .targets),
    divergence("logits, probabilities", inputs: .logits, targets: .targets),
    divergence("logits on both sides", inputs: .logits, targets: .targetLogits),
    divergence(
      "logits on both sides, T = 2", [.temperature: 2], inputs: .logits, targets: .targetLogits, temperature: 2),
  ]
}
