// What is checked: that a row which is confident and right keeps the digits of its loss and of the label's slope, which
// are then made of the other classes' small shares alone, wherever the label stands and whatever is written.
// Against: log1p of the others' shares in Double.
// Tolerance: 10⁻⁶ of the loss. The exponentials are within 4·10⁻⁷ in relative terms; a sum that held the label's 1 in
// a lane of Float would be off by up to 6·10⁻⁸ of that 1, which is 10⁻² of the smallest losses here.

import BatchLoss
import BatchLossTestSupport
import Glibc
import Testing

@Suite("Softmax cross-entropy: confident rows")
struct ConfidentRowTests {
  @Test(
    "The loss of a confident row", arguments: [2, 3, 10, 64, 65, 300, 513, 527, 1000, 1039, 2048, 5000, 9000],
    [9.0, 14, 20])
  func loss(_ columns: Int, _ gap: Double) throws {
    var random = RandomSource(seed: UInt64(columns))
    for label in Set([0, 1, columns / 2, columns - 2, columns - 1]) {
      var logits = (0..<columns).map { _ in Float(-gap - Double.random(in: 0..<1, using: &random)) }
      logits[label] = 0
      let others = logits.indices.reduce(0.0) { $0 + ($1 == label ? 0 : exp(Double(logits[$1]))) }
      let expected = log1p(others)

      let loss = try SoftmaxCrossEntropy()
      let cost = try loss.evaluate(logits.matrix(columns: columns), targets: [label].span)
      #expect(abs(cost.value - expected) <= 1e-6 * expected, "\(columns), \(label): cost alone")

      var gradient = [Float](repeating: 0, count: columns)
      let both = try loss.evaluate(
        logits.matrix(columns: columns), targets: [label].span, gradient: gradient.mutableMatrix(columns: columns))
      #expect(abs(both.value - expected) <= 1e-6 * expected, "\(columns), \(label): with gradient")
      let slope = -others / (1 + others)
      #expect(abs(Double(gradient[label]) - slope) <= 1e-6 * -slope, "\(columns), \(label): the label's slope")

      let weighted = try loss.evaluate(
        logits.matrix(columns: columns), targets: [label].span,
        classWeights: [Float](repeating: 1, count: columns).span)
      #expect(abs(weighted.value - expected) <= 1e-6 * expected, "\(columns), \(label): class weights")

      let inPlace = try loss.evaluateInPlace(logits.mutableMatrix(columns: columns), targets: [label].span)
      #expect(abs(inPlace.value - expected) <= 1e-6 * expected, "\(columns), \(label): in place")
    }
  }

  /// Tolerance: 2·10⁻⁶ of the loss, of which 10⁻⁶ is for the capped logits (rounded to Float those are off by 9·10⁻⁷ each);
  /// on baseline, whose exponentials below −10 are within 70 ulp, 6·10⁻⁶.
  @Test("Under a soft cap", arguments: [2, 10, 64, 65, 527, 1000, 5000], [9.0, 14, 20])
  func softCap(_ columns: Int, _ gap: Double) throws {
    // Logits whose capped values are no floats.
    for top: Float in [3.7, 7.7, 10, 20.0000534] { try softCap(columns, gap, top) }
  }

  private func softCap(_ columns: Int, _ gap: Double, _ top: Float) throws {
    var random = RandomSource(seed: UInt64(columns))
    let cap = 30.0
    let relative = try InstructionSet.current == .baseline ? 6e-6 : 2e-6
    for label in Set([0, columns / 2, columns - 1]) {
      var logits = (0..<columns).map { _ in Float(Double(top) - gap - Double.random(in: 0..<1, using: &random)) }
      logits[label] = top
      let own = cap * tanh(Double(logits[label]) / cap)
      let others = logits.indices.reduce(0.0) {
        $0 + ($1 == label ? 0 : exp(cap * tanh(Double(logits[$1]) / cap) - own))
      }
      let expected = log1p(others)

      let loss = try SoftmaxCrossEntropy(softCap: cap)
      let cost = try loss.evaluate(logits.matrix(columns: columns), targets: [label].span)
      #expect(abs(cost.value - expected) <= relative * expected, "\(columns), \(label): cost alone")

      var gradient = [Float](repeating: 0, count: columns)
      let both = try loss.evaluate(
        logits.matrix(columns: columns), targets: [label].span, gradient: gradient.mutableMatrix(columns: columns))
      #expect(abs(both.value - expected) <= relative * expected, "\(columns), \(label): with gradient")
      // Rows of up to 64 columns keep no more than float32 has beside 1.
      let capSlope = 1 - (own / cap) * (own / cap)
      let slope = -others / (1 + others) * capSlope
      let tolerance = relative * -slope + (columns > 64 ? 0 : 1.2e-7)
      #expect(abs(Double(gradient[label]) - slope) <= tolerance, "\(columns), \(label): the label's slope")
    }
  }
}
