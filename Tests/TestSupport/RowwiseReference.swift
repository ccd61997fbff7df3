import Glibc

/// What a batch of a row-wise loss must yield, by plain loops in float64.
package struct RowwiseReference: Sendable {
  /// The weighted loss of each row.
  package var losses = Expectation()
  /// The derivative of the cost by each element of the input, row by row.
  package var gradient = Expectation()
  /// The derivative by each target, for losses that have one.
  package var targetGradient = Expectation()
  /// The sum of the weighted losses.
  package var sum = 0.0
  /// How far a sum in blocks may be from it.
  package var sumAllowed = 0.0
  /// How many weighted losses are greater than 0.
  package var active = 0

  /// Roundings on the way to one exponential, logarithm or term: three elementary functions of 3 ulp = 6
  /// roundings each, and a dozen operations.
  static let roundings = 32.0

  /// Terms in one lane are added in the scalar type at most this often before they go to float64.
  static let laneAdditions = 64.0

  /// What float64 itself loses in a sum over a row, here and in the kernels.
  static func accumulation(_ columns: Int) -> Double { Double(columns) / 4 * Double.unitRoundoff }

  fileprivate init() {}

  fileprivate mutating func appendLoss(_ loss: Double, allowed: Double) {
    losses.append(loss, allowed: allowed)
    sum += loss
    sumAllowed += allowed + Double(losses.values.count) * Double.unitRoundoff * abs(loss)
    if loss > 0 { active += 1 }
  }
}

// MARK: - Softmax cross-entropy

/// A batch of softmax cross-entropy.
package struct SoftmaxProblem: Sendable {
  package enum Targets: Sendable {
    case labels([Int])
    case probabilities([Double])
  }

  package var rows: Int
  package var columns: Int
  package var logits: [Double]
  package var targets: Targets
  package var classWeights: [Double]?
  package var weights: [Double]?
  package var labelSmoothing = 0.0
  package var ignoreIndex: Int?
  package var zLoss = 0.0
  package var softCap: Double?

  package init(rows: Int, columns: Int, logits: [Double], targets: Targets) {
    self.rows = rows
    self.columns = columns
    self.logits = logits
    self.targets = targets
  }

  /// The class of a row, nil for rows that have a distribution.
  package func label(_ row: Int) -> Int? {
    if case .labels(let labels) = targets { labels[row] } else { nil }
  }

  /// Whether a row counts for something.
  package func isKept(_ row: Int) -> Bool {
    guard let label = label(row), let ignoreIndex else { return true }
    return label != ignoreIndex
  }

  /// What `.mean` divides by.
  package var meanDenominator: Double {
    var total = 0.0
    for row in 0..<rows where isKept(row) {
      let classWeight = label(row).flatMap { label in classWeights.map { $0[label] } } ?? 1
      total += (weights?[row] ?? 1) * classWeight
    }
    return total
  }

  /// What `.meanOverCount` divides by.
  package var count: Int { (0..<rows).count { isKept($0) } }

  /// Losses and gradient by the definition, with derivatives multiplied by `scale`.
  package func reference<Scalar: BinaryFloatingPoint>(scale: Double, scalar: Scalar.Type) -> RowwiseReference {
    reference(scale: scale, unit: Scalar.unitRoundoff, least: Double(Scalar.leastNormalMagnitude))
  }

  private func reference(scale: Double, unit: Double, least: Double) -> RowwiseReference {
    var result = RowwiseReference()
    let zeros = [Double](repeating: 0, count: columns)
    for row in 0..<rows {
      let weight = weights?[row] ?? 1
      guard isKept(row), weight != 0 else {
        result.appendLoss(0, allowed: 0)
        for zero in zeros { result.gradient.append(zero, allowed: 0) }
        continue
      }
      appendRow(row, weight, scale, unit, least, &result)
    }
    return result
  }

  private func appendRow(
    _ row: Int, _ weight: Double, _ scale: Double, _ unit: Double, _ least: Double,
    _ result: inout RowwiseReference
  ) {
    let x = logits[row * columns..<(row + 1) * columns]
    let z = softCap.map { cap in x.map { cap * tanh($0 / cap) } } ?? Array(x)
    var largest = -Double.infinity
    for value in z where value > largest { largest = value }
    // Kernels take their bearings from the largest of the first 4096.
    var pivot = -Double.infinity
    for value in z.prefix(4096) where value > pivot { pivot = value }
    var sum = 0.0
    for value in z { sum += exp(value - largest) }
    let logSum = log(sum)
    let logSumExp = logSum + largest

    var (loss, mass, terms) = (0.0, 0.0, 0.0)
    // What the sum of the loss rounds away: more than kernels, which add in lanes.
    var lost = 0.0
    var targets = [Double](repeating: 0, count: columns)
    for k in 0..<columns {
      var target: Double =
        switch self.targets {
        case .labels(let labels): labels[row] == k ? 1 : 0
        case .probabilities(let probabilities): probabilities[row * columns + k]
        }
      target = target * (1 - labelSmoothing) + labelSmoothing / Double(columns)
      target *= classWeights?[k] ?? 1
      targets[k] = target
      mass += target
      guard target != 0 else { continue }
      let term = target * (logSum - (z[k] - largest))
      let added = loss + term
      lost += abs(loss) < abs(term) ? (term - added) + loss : (loss - added) + term
      loss = added
      terms += abs(target * (z[k] - largest))
    }
    // A distribution that is none leaves no number in the row.
    if logSum.isNaN { loss = .nan }
    if lost.isFinite { loss += lost }
    loss += zLoss * logSumExp * logSumExp

    let roundings = RowwiseReference.roundings
    let additions = RowwiseReference.laneAdditions
    // How far a capped logit may be off, and with it every difference of two.
    let capped = softCap == nil ? 0 : 2 * roundings * unit * abs(largest)
    let sumError = unit * (roundings + additions) + RowwiseReference.accumulation(columns) + capped
    let drift = pivot.isFinite && largest.isFinite ? abs(largest - pivot) : 0
    let lossError =
      abs(mass) * (sumError + unit * roundings * (abs(logSum) + drift)) + unit * (roundings + additions) * terms
      + abs(zLoss) * 2 * abs(logSumExp) * (sumError + unit * roundings * (abs(logSum) + abs(largest)))
    result.appendLoss(weight * loss, allowed: abs(weight) * lossError + least)

    let total = mass + 2 * zLoss * logSumExp
    let totalError =
      abs(mass) * sumError + abs(zLoss) * 2 * (sumError + unit * roundings * abs(logSumExp))
    for k in 0..<columns {
      let p = exp(z[k] - largest) / sum
      let ratio = softCap.map { tanh(x[x.startIndex + k] / $0) } ?? 0
      let slope = 1 - ratio * ratio
      let pull = total * p
      let inner = pull - targets[k]
      let distance = z[k].isFinite ? abs(z[k] - largest) : 0
      let pullError =
        p * totalError + abs(pull) * (sumError + unit * (roundings + distance) + 2 * capped)
      let error =
        (pullError + unit * roundings * targets[k]) * abs(slope)
        + (softCap == nil ? 0 : unit * roundings * (abs(pull) + targets[k]))
      let outer = scale * weight
      result.gradient.append(
        outer * inner * slope, allowed: abs(outer) * (error + 2 * least * abs(total)) + 4 * least)
    }
  }
}

// MARK: - Kullback-Leibler divergence

/// A batch of the KL divergence.
package struct DivergenceProblem: Sendable {
  package enum Input: String, Sendable, CaseIterable { case logProbabilities, logits }
  package enum Targets: String, Sendable, CaseIterable { case probabilities, logProbabilities, logits }

  package var rows: Int
  package var columns: Int
  package var inputForm: Input
  package var targetForm: Targets
  package var input: [Double]
  package var targets: [Double]
  package var temperature = 1.0
  package var weights: [Double]?

  package init(
    rows: Int, columns: Int, inputForm: Input, targetForm: Targets, input: [Double], targets: [Double]
  ) {
    self.rows = rows
    self.columns = columns
    self.inputForm = inputForm
    self.targetForm = targetForm
    self.input = input
    self.targets = targets
  }

  /// Losses and gradients by the definition, with derivatives multiplied by `scale`.
  package func reference<Scalar: BinaryFloatingPoint>(scale: Double, scalar: Scalar.Type) -> RowwiseReference {
    reference(scale: scale, unit: Scalar.unitRoundoff, least: Double(Scalar.leastNormalMagnitude))
  }

  private func reference(scale: Double, unit: Double, least: Double) -> RowwiseReference {
    var result = RowwiseReference()
    for row in 0..<rows {
      let weight = weights?[row] ?? 1
      if weight == 0 {
        result.appendLoss(0, allowed: 0)
        for _ in 0..<columns {
          result.gradient.append(0, allowed: 0)
          result.targetGradient.append(0, allowed: 0)
        }
      } else {
        appendRow(row, weight, scale, unit, least, &result)
      }
    }
    return result
  }

  /// Logarithms of a distribution relative to their normaliser, which is separate: log p = value − normaliser.
  private func logarithms(_ values: ArraySlice<Double>, isLogits: Bool) -> (values: [Double], normaliser: Double) {
    guard isLogits else { return (Array(values), 0) }
    var largest = -Double.infinity
    for value in values where value > largest { largest = value }
    let shifted = values.map { ($0 - largest) / temperature }
    var sum = 0.0
    for value in shifted { sum += exp(value) }
    return (shifted, log(sum))
  }

  private func appendRow(
    _ row: Int, _ weight: Double, _ scale: Double, _ unit: Double, _ least: Double,
    _ result: inout RowwiseReference
  ) {
    let range = row * columns..<(row + 1) * columns
    let (logQ, qNormaliser) = logarithms(input[range], isLogits: inputForm == .logits)
    let logP: [Double]
    var pNormaliser = 0.0
    var p: [Double]
    switch targetForm {
    case .probabilities:
      p = Array(targets[range])
      logP = p.map { log($0) }
    case .logProbabilities:
      logP = Array(targets[range])
      p = logP.map { exp($0) }
    case .logits:
      (logP, pNormaliser) = logarithms(targets[range], isLogits: true)
      p = logP.map { exp($0 - pNormaliser) }
    }
    var (divergence, mass, terms) = (0.0, 0.0, 0.0)
    for k in 0..<columns where p[k] != 0 {
      divergence += p[k] * ((logP[k] - pNormaliser) - (logQ[k] - qNormaliser))
      mass += p[k]
      terms += p[k] * (abs(logP[k]) + abs(logQ[k]))
    }
    let square = temperature * temperature
    let effort =
      unit * (RowwiseReference.roundings + RowwiseReference.laneAdditions)
      + RowwiseReference.accumulation(columns)
    // The arguments of exponentials are differences over T: their rounding is relative to their size.
    let error = effort * (2 * terms + mass * (abs(qNormaliser) + abs(pNormaliser) + 2))
    result.appendLoss(
      weight * square * divergence, allowed: abs(weight) * square * error + least * Double(columns))

    let outer = scale * weight
    for k in 0..<columns {
      switch inputForm {
      case .logProbabilities:
        result.gradient.append(
          -outer * square * p[k],
          allowed: abs(outer) * square * effort * p[k] * (1 + finite(logP[k])) + 4 * least)
      case .logits:
        let q = exp(logQ[k] - qNormaliser)
        result.gradient.append(
          outer * temperature * (q * mass - p[k]),
          allowed: abs(outer) * temperature * effort
            * (q * mass * (2 + finite(logQ[k])) + p[k] * (2 + finite(logP[k]))) + 4 * least)
      }
      guard targetForm == .logits else { continue }
      let difference = (logP[k] - pNormaliser) - (logQ[k] - qNormaliser)
      let magnitude = finite(logP[k]) + finite(logQ[k]) + abs(pNormaliser) + abs(qNormaliser) + abs(divergence) + 2
      result.targetGradient.append(
        p[k] == 0 ? 0 : outer * temperature * p[k] * (difference - divergence),
        allowed: abs(outer) * temperature * p[k]
          * (effort * magnitude * (2 + finite(logP[k])) + 2 * error) + 4 * least)
    }
  }

  /// The magnitude of a number, 0 where it is not finite.
  private func finite(_ x: Double) -> Double { x.isFinite ? abs(x) : 0 }
}
