import BatchLossFormulas
import Glibc

/// An element-wise loss under test beside a plain formula of it in float64.
package struct ElementwiseSubject: Sendable, CustomStringConvertible {
  /// The loss with its options.
  package let description: String
  /// The loss.
  package let loss: any ElementwiseLoss
  /// The formula, one element at a time.
  package let reference: @Sendable (_ prediction: Double, _ target: Double) -> Terms
  /// What predictions are drawn from.
  package let predictions: ClosedRange<Double>
  /// What targets are drawn from.
  package let targets: Targets
  /// How far a prediction is from where the derivative jumps.
  package let distanceToKink: @Sendable (_ prediction: Double, _ target: Double) -> Double

  /// What the formula yields, with the sum of the magnitudes of the terms that were added on the way: an
  /// evaluation in rounded arithmetic is off by a small multiple of the unit roundoff times these scales.
  package struct Terms: Sendable {
    package var loss: Double
    package var derivative: Double
    package var lossScale: Double
    package var derivativeScale: Double
  }

  /// The kinds of targets.
  package enum Targets: Sendable {
    case real(ClosedRange<Double>)
    case signs
    case counts
    /// Labels 0 and 1, and probabilities between.
    case probabilities
  }

  fileprivate init(
    _ description: String, _ loss: any ElementwiseLoss, predictions: ClosedRange<Double> = -4...4,
    targets: Targets = .real(-4...4),
    distanceToKink: @escaping @Sendable (Double, Double) -> Double = { _, _ in .infinity },
    reference: @escaping @Sendable (Double, Double) -> Terms
  ) {
    self.description = description
    self.loss = loss
    self.predictions = predictions
    self.targets = targets
    self.distanceToKink = distanceToKink
    self.reference = reference
  }
}

// MARK: - Every element-wise loss

extension ElementwiseSubject {
  /// Every element-wise loss with several values of its options.
  package static let all: [ElementwiseSubject] = [
    meanSquaredError, meanAbsoluteError, huber(1), huber(1.5), huber(0.25), smoothL1(1), smoothL1(0.5),
    smoothL1(0), logCosh, quantile(0.5), quantile(0.9), quantile(0.125), quantile(0),
    poisson(logInput: true, full: false), poisson(logInput: true, full: true),
    poisson(logInput: false, full: false), poisson(logInput: false, full: true), hinge, squaredHinge,
    binaryCrossEntropy(1, 0), binaryCrossEntropy(2.5, 0), binaryCrossEntropy(0.5, 0.1),
    binaryCrossEntropyOfProbabilities(1, 0), binaryCrossEntropyOfProbabilities(2.5, 0),
    binaryCrossEntropyOfProbabilities(0.5, 0.1), sigmoidFocal(0.25, 2), sigmoidFocal(nil, 1.5),
    sigmoidFocal(0.75, 0.5), sigmoidFocal(0.5, 0),
  ]

  package static let meanSquaredError = ElementwiseSubject("mean squared error", MeanSquaredError()) { x, t in
    let e = x - t
    return Terms(loss: e * e, derivative: 2 * e, lossScale: e * e, derivativeScale: abs(2 * e))
  }

  package static let meanAbsoluteError = ElementwiseSubject(
    "mean absolute error", MeanAbsoluteError(), distanceToKink: { abs($0 - $1) }
  ) { x, t in absolute(x - t) }

  private static func absolute(_ e: Double) -> Terms {
    Terms(loss: abs(e), derivative: e > 0 ? 1 : e < 0 ? -1 : e, lossScale: abs(e), derivativeScale: 1)
  }

  package static func huber(_ delta: Double) -> ElementwiseSubject {
    ElementwiseSubject("Huber, delta \(delta)", try! Huber(delta: delta)) { x, t in
      let e = x - t
      let isQuadratic = abs(e) <= delta
      let loss = isQuadratic ? e * e / 2 : delta * (abs(e) - delta / 2)
      return Terms(
        loss: loss, derivative: isQuadratic ? e : e < 0 ? -delta : e > 0 ? delta : e, lossScale: loss,
        derivativeScale: min(abs(e), delta))
    }
  }

  package static func smoothL1(_ beta: Double) -> ElementwiseSubject {
    ElementwiseSubject(
      "smooth L1, beta \(beta)", try! SmoothL1(beta: beta),
      distanceToKink: { beta == 0 ? abs($0 - $1) : .infinity }
    ) { x, t in
      let e = x - t
      if beta == 0 { return absolute(e) }
      let isQuadratic = abs(e) < beta
      let loss = isQuadratic ? e * e / beta / 2 : abs(e) - beta / 2
      return Terms(
        loss: loss, derivative: isQuadratic ? e / beta : e < 0 ? -1 : e > 0 ? 1 : e, lossScale: loss,
        derivativeScale: min(abs(e) / beta, 1))
    }
  }

  package static let logCosh = ElementwiseSubject("log-cosh", LogCosh()) { x, t in
    let e = x - t
    let isSmall = abs(e) < 1
    let loss = isSmall ? log1p(sinh(e) * sinh(e)) / 2 : abs(e) + log1p(exp(-2 * abs(e))) - M_LN2
    return Terms(
      loss: loss, derivative: tanh(e), lossScale: isSmall ? loss : abs(e), derivativeScale: abs(tanh(e)))
  }

  package static func quantile(_ q: Double) -> ElementwiseSubject {
    ElementwiseSubject(
      "quantile \(q)", try! Quantile(quantile: q), distanceToKink: { abs($0 - $1) }
    ) { x, t in
      let slope = x < t ? -q : x > t ? 1 - q : x == t ? 0 : .nan
      let loss = slope == 0 ? 0 : slope * (x - t)
      return Terms(loss: loss, derivative: slope, lossScale: abs(x - t), derivativeScale: 1)
    }
  }

  package static func poisson(logInput: Bool, full: Bool) -> ElementwiseSubject {
    ElementwiseSubject(
      "Poisson, \(logInput ? "log rates" : "rates")\(full ? ", full" : "")",
      try! Poisson(logInput: logInput, full: full), predictions: logInput ? -3...3 : 0.125...6, targets: .counts
    ) { x, t in
      var terms: Terms
      if logInput {
        let product = t == 0 ? 0 : t * x
        terms = Terms(
          loss: exp(x) - product, derivative: exp(x) - t, lossScale: exp(x) + abs(product),
          derivativeScale: exp(x) + abs(t))
      } else {
        let shifted = x + 1e-8
        let product = t == 0 ? 0 : t * log(shifted)
        let ratio = t == 0 ? 0 : t / shifted
        terms = Terms(
          loss: x - product, derivative: 1 - ratio, lossScale: abs(x) + abs(product) + abs(t),
          derivativeScale: 1 + abs(ratio))
      }
      if full && t > 1 {
        terms.loss += t * log(t) - t + log(2 * Double.pi * t) / 2
        terms.lossScale += t * log(t) + t + log(2 * Double.pi * t)
      }
      return terms
    }
  }

  package static let hinge = ElementwiseSubject(
    "hinge", Hinge(), targets: .signs, distanceToKink: { abs(1 - $0 * $1) }
  ) { x, t in
    let shortfall = 1 - t * x
    return Terms(
      loss: shortfall <= 0 ? 0 : shortfall, derivative: shortfall <= 0 ? 0 : -t, lossScale: 1 + abs(t * x),
      derivativeScale: abs(t))
  }

  package static let squaredHinge = ElementwiseSubject("squared hinge", SquaredHinge(), targets: .signs) { x, t in
    let shortfall = 1 - t * x
    let m = shortfall < 0 ? 0 : shortfall
    return Terms(
      loss: m * m, derivative: -2 * t * m, lossScale: m * m + 2 * m * (1 + abs(t * x)),
      derivativeScale: 2 * abs(t) * (1 + abs(t * x)))
  }

  package static func binaryCrossEntropy(_ weight: Double, _ smoothing: Double) -> ElementwiseSubject {
    ElementwiseSubject(
      "binary cross-entropy, positive weight \(weight), smoothing \(smoothing)",
      try! BinaryCrossEntropy(positiveWeight: weight, labelSmoothing: smoothing), predictions: -12...12,
      targets: .probabilities
    ) { x, t in
      let y = t * (1 - smoothing) + smoothing / 2
      let (positive, negative) = (weight * softplus(-x), softplus(x))
      let loss = (y == 0 ? 0 : y * positive) + (y == 1 ? 0 : (1 - y) * negative)
      let up = (1 - y) * sigmoid(x)
      let down = weight * y * sigmoid(-x)
      // Smoothing leaves y and 1 − y with an absolute error of a rounding of 1.
      let uncertain: Double = smoothing == 0 ? 0 : 1
      return Terms(
        loss: loss, derivative: up - down, lossScale: loss + uncertain * (positive + negative),
        derivativeScale: up + down + uncertain * (weight + 1))
    }
  }

  package static func binaryCrossEntropyOfProbabilities(
    _ weight: Double, _ smoothing: Double
  ) -> ElementwiseSubject {
    ElementwiseSubject(
      "binary cross-entropy of probabilities, positive weight \(weight), smoothing \(smoothing)",
      try! BinaryCrossEntropyOfProbabilities(positiveWeight: weight, labelSmoothing: smoothing),
      predictions: 0.00390625...0.99609375, targets: .probabilities
    ) { p, t in
      let y = t * (1 - smoothing) + smoothing / 2
      let (positive, negative) = (-weight * max(log(p), -100), -max(log1p(-p), -100))
      let loss = y * positive + (1 - y) * negative
      let variance = max(p * (1 - p), 1e-12)
      let (up, down) = ((1 - y) * p, weight * y * (1 - p))
      let uncertain: Double = smoothing == 0 ? 0 : 1
      return Terms(
        loss: loss, derivative: (up - down) / variance, lossScale: loss + uncertain * (positive + negative),
        derivativeScale: (up + down + uncertain * (weight * (1 - p) + p)) / variance)
    }
  }

  package static func sigmoidFocal(_ alpha: Double?, _ gamma: Double) -> ElementwiseSubject {
    ElementwiseSubject(
      "focal, alpha \(alpha.map { "\($0)" } ?? "none"), gamma \(gamma)",
      try! SigmoidFocal(alpha: alpha, gamma: gamma), predictions: -12...12, targets: .probabilities
    ) { x, t in
      let entropy = (t == 0 ? 0 : t * softplus(-x)) + (t == 1 ? 0 : (1 - t) * softplus(x))
      let miss = (1 - t) * sigmoid(x) + t * sigmoid(-x)
      let factor = alpha.map { $0 * t + (1 - $0) * (1 - t) } ?? 1
      let power = gamma == 0 ? 1 : pow(miss, gamma)
      let slope = (1 - t) * sigmoid(x) - t * sigmoid(-x)
      let turn = gamma == 0 || miss == 0 ? 0 : gamma * (1 - 2 * t) * sigmoid(x) * sigmoid(-x) / miss
      // The exponential of γ·log u turns the rounding of its argument into a relative error.
      let growth = 1 + (miss == 0 ? 0 : abs(gamma * log(miss)))
      return Terms(
        loss: factor * power * entropy, derivative: factor * power * (slope + turn * entropy),
        lossScale: factor * power * entropy * growth,
        derivativeScale: factor * power * (abs(slope) + abs(turn) * entropy + miss) * growth)
    }
  }

  private static func softplus(_ x: Double) -> Double { max(x, 0) + log1p(exp(-abs(x))) }
  private static func sigmoid(_ x: Double) -> Double { x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)) }
}

// MARK: - Inputs

extension ElementwiseSubject {
  /// Predictions and targets that are exact in `Float`, the same for a seed.
  package func inputs(count: Int, seed: UInt64) -> (predictions: [Double], targets: [Double]) {
    var random = RandomSource(seed: seed)
    var (x, t): ([Double], [Double]) = ([], [])
    x.reserveCapacity(count)
    t.reserveCapacity(count)
    for _ in 0..<count {
      x.append(random.uniform(predictions))
      switch targets {
      case .real(let range): t.append(random.uniform(range))
      case .signs: t.append(random.next() & 1 == 0 ? -1 : 1)
      case .counts: t.append(Double(random.next() % 7))
      case .probabilities:
        let choice = random.next() % 4
        t.append(choice == 0 ? 0 : choice == 1 ? 1 : random.uniform(0...1))
      }
    }
    return (x, t)
  }
}

/// Weights that are exact in `Float`, an eighth of them 0.
package func randomWeights(count: Int, seed: UInt64) -> [Double] {
  var random = RandomSource(seed: seed)
  return (0..<count).map { _ in random.next() % 8 == 0 ? 0 : random.uniform(0.25...3) }
}
