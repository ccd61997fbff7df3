import Glibc

// The losses by their definitions (docs/losses.md), one sample at a time, in numbers that can be differentiated.

// MARK: - Element by element

/// Losses of a prediction x and a target t.
package enum ElementDefinition {
  package static func squaredError(_ x: Variable, _ t: Wide) -> Variable { (x - t).squared }

  package static func absoluteError(_ x: Variable, _ t: Wide) -> Variable { (x - t).magnitude }

  package static func huber(_ x: Variable, _ t: Wide, delta: Wide) -> Variable {
    let e = (x - t).magnitude
    return e.value <= delta ? 0.5 * e.squared : delta * (e - delta / 2)
  }

  package static func smoothL1(_ x: Variable, _ t: Wide, beta: Wide) -> Variable {
    let e = (x - t).magnitude
    return e.value < beta ? e.squared / (2 * beta) : e - beta / 2
  }

  package static func logCosh(_ x: Variable, _ t: Wide) -> Variable { BatchLossTestSupport.logCosh(x - t) }

  package static func quantile(_ x: Variable, _ t: Wide, q: Wide) -> Variable {
    let e = t - x
    return e.value > 0 ? q * e : e.value < 0 ? (q - 1) * e : 0 * e
  }

  /// Of the logarithm of the rate.
  package static func poisson(_ x: Variable, _ t: Wide) -> Variable { exp(x) - t * x }

  /// Of the rate.
  package static func poissonOfRate(_ x: Variable, _ t: Wide, epsilon: Wide) -> Variable {
    x - t * log(x + epsilon)
  }

  package static func hinge(_ x: Variable, _ t: Wide) -> Variable { (1 - t * x).positivePart }

  package static func binaryCrossEntropy(_ x: Variable, _ y: Wide, positiveWeight q: Wide) -> Variable {
    q * y * softplus(-x) + (1 - y) * softplus(x)
  }

  package static func binaryCrossEntropyOfProbability(_ p: Variable, _ y: Wide, positiveWeight q: Wide) -> Variable
  {
    -(q * y * log(p)) - (1 - y) * log(1 - p)
  }

  /// With y either 0 or 1.
  package static func focal(_ x: Variable, _ y: Wide, alpha: Wide, gamma: Wide) -> Variable {
    let wrong = y == 1 ? -x : x
    return (y == 1 ? alpha : 1 - alpha) * exp(gamma * log(sigmoid(wrong))) * softplus(wrong)
  }
}

// MARK: - Row by row

/// Losses of a row.
package enum RowDefinition {
  /// With τ the targets after smoothing and class weights.
  package static func softmaxCrossEntropy(
    _ x: [Variable], targets: [Wide], zLoss: Wide = 0, softCap: Wide? = nil
  ) -> Variable {
    let z = softCap.map { cap in x.map { cap * tanh($0 / cap) } } ?? x
    let normaliser = logSumExp(z)
    let terms = zip(z, targets).filter { $0.1 != 0 }.map { $0.1 * (normaliser - $0.0) }
    return sum(terms) + zLoss * normaliser.squared
  }

  package static func logSoftmax(_ x: [Variable], temperature: Wide = 1) -> [Variable] {
    let scaled = x.map { $0 / temperature }
    let normaliser = logSumExp(scaled)
    return scaled.map { $0 - normaliser }
  }

  /// Σ p·(log p − log q), from logarithms.
  package static func divergence(logP: [Variable], logQ: [Variable]) -> Variable {
    sum(zip(logP, logQ).map { exp($0) * ($0 - $1) })
  }

  /// Of the probabilities of a fixed target; those of 0 add nothing.
  package static func divergence(p: [Wide], logQ: [Variable]) -> Variable {
    sum(zip(p, logQ).filter { $0.0 != 0 }.map { p, q in p * (Glibc.log(p) - q) })
  }
}

// MARK: - Rows against rows

/// Distances and similarities, and losses made of them.
package enum EmbeddingDefinition {
  package static func unit(_ x: [Variable]) -> [Variable] {
    let norm = dot(x, x).squareRoot
    return x.map { $0 / norm }
  }

  package static func squaredDistance(_ x: [Variable], _ y: [Variable]) -> Variable {
    let difference = zip(x, y).map { $0 - $1 }
    return dot(difference, difference)
  }

  package static func distance(_ x: [Variable], _ y: [Variable]) -> Variable { squaredDistance(x, y).squareRoot }

  package static func cosine(_ x: [Variable], _ y: [Variable]) -> Variable { dot(unit(x), unit(y)) }

  /// xᵢ·yⱼ
  package static func similarities(_ x: [[Variable]], _ y: [[Variable]]) -> [[Variable]] {
    x.map { row in y.map { dot(row, $0) } }
  }

  package static func contrastive(_ d: Variable, similar: Bool, margin: Wide) -> Variable {
    similar ? 0.5 * d.squared : 0.5 * (margin - d).positivePart.squared
  }

  package static func linearContrastive(
    _ d: Variable, similar: Bool, margin: Wide, positiveMargin: Wide
  ) -> Variable { similar ? (d - positiveMargin).positivePart : (margin - d).positivePart }

  package static func triplet(_ positive: Variable, _ negative: Variable, margin: Wide) -> Variable {
    (positive - negative + margin).positivePart
  }

  /// Of a row of similarities over the temperature: the positive is at `target`.
  package static func contrast(_ row: [Variable], target: Int) -> Variable { logSumExp(row) - row[target] }

  /// Of a margin m added to the angle whose cosine is c.
  package static func angularMargin(_ c: Variable, _ m: Wide) -> Variable {
    // θ + m exceeds π where cos θ falls below −cos m.
    c.value < -Glibc.cos(m)
      ? c - m * Glibc.sin(m) : Glibc.cos(m) * c - Glibc.sin(m) * (1 - c.squared).squareRoot
  }
}

// MARK: - Sequences

/// Connectionist temporal classification by its forward recursion in logarithms.
package enum SequenceDefinition {
  package static func ctc(logProbabilities frames: [[Variable]], target: [Int], blank: Int) -> Variable {
    let states = target.reduce(into: [blank]) { $0 += [$1, blank] }
    /// The logarithm of what reaches each state, nil where nothing does.
    var reached: [Variable?] = states.indices.map { $0 < 2 ? frames[0][states[$0]] : nil }
    for frame in frames.dropFirst() {
      reached = states.indices.map { state in
        var sources = [reached[state]]
        if state > 0 { sources.append(reached[state - 1]) }
        if state > 1, states[state] != blank, states[state] != states[state - 2] {
          sources.append(reached[state - 2])
        }
        let given = sources.compactMap { $0 }
        return given.isEmpty ? nil : logSumExp(given) + frame[states[state]]
      }
    }
    return -logSumExp(reached.suffix(2).compactMap { $0 })
  }
}
