import BatchLossFormulas

/// What a batch of an element-wise loss must yield, by a plain loop in float64.
package struct ElementwiseReference: Sendable {
  /// The weighted loss of each element.
  package var losses = Expectation()
  /// The derivative of the cost by each prediction.
  package var gradient = Expectation()
  /// The sum of the weighted losses.
  package var sum = 0.0
  /// How far a sum in blocks may be from it.
  package var sumAllowed = 0.0
  /// How many weighted losses are greater than 0.
  package var active = 0

  /// How many roundings separate a formula in vector arithmetic from the exact one, at most: three elementary
  /// functions one after another, each within 3 ulp = 6 roundings, and 14 operations.
  package static let roundings = 32.0

  /// Losses in one lane are added in the scalar type this often before they go to float64; each adds a
  /// rounding of the partial sum.
  package static let laneAdditions = 24.0

  /// Evaluates a batch.
  /// - Parameters:
  ///   - weights: One an element.
  ///   - scale: What the derivatives are multiplied by, 1 over the denominator.
  ///   - scalar: The type whose rounding is allowed for.
  package init<Scalar: BinaryFloatingPoint>(
    _ subject: ElementwiseSubject, predictions: [Double], targets: [Double], weights: [Double]?,
    scale: Double, scalar: Scalar.Type
  ) {
    let unit = Self.roundings * Scalar.unitRoundoff
    // exp(nonPositive:) and the scaling by weights may yield 0 for a subnormal result.
    let floor = 8 * Double(Scalar.leastNormalMagnitude)
    for index in predictions.indices {
      let weight = weights?[index] ?? 1
      if weight == 0 {
        losses.append(0, allowed: 0)
        gradient.append(0, allowed: 0)
        continue
      }
      let terms = subject.reference(predictions[index], targets[index])
      let loss = weight * terms.loss
      let magnitude = abs(weight) * terms.lossScale
      losses.append(loss, allowed: unit * magnitude + floor)
      gradient.append(
        weight * terms.derivative * scale,
        allowed: unit * abs(weight * scale) * terms.derivativeScale + floor)
      sum += loss
      sumAllowed += unit * magnitude + Self.laneAdditions * Scalar.unitRoundoff * abs(loss) + floor
      if loss > 0 { active += 1 }
    }
    // The reference itself adds in float64.
    sumAllowed += Double(predictions.count) * Double.unitRoundoff * abs(sum)
  }

  /// The largest difference allowed for sum over denominator.
  package func costAllowed(denominator: Double) -> Double { sumAllowed / abs(denominator) * 1.0000001 }
}
