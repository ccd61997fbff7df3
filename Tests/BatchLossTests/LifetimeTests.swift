// Views keep what they look at alive. Each array here is mentioned for the last time where its view is made, so
// an optimiser that let go of it then would have the call read other memory. Exact comparisons.

import BatchLoss
import Testing

@Suite struct LifetimeTests {
  /// Not a constant: a constant would lie in the program's data and outlive everything.
  private var low: Float { Float(CommandLine.arguments.count) * -100 }

  @Test func arrayOfLastMention() throws {
    let elements: [Float] = [0, low, 0, 0, low * 2, 0]
    let view = try elements.matrix(columns: 3)
    #expect(view[0, 1] == low)
    #expect(view[1, 1] == low * 2)
  }

  @Test func spanOfLastMention() throws {
    let elements: [Float] = [0, low, 0, 0, low * 2, 0]
    let view = try elements.span.matrix(columns: 3)
    #expect(view[1, 1] == low * 2)
  }

  @Test func mutableArrayOfLastMention() throws {
    var elements: [Float] = [0, low, 0, 0, low * 2, 0]
    let view = try elements.mutableMatrix(columns: 3)
    let same = view.view
    #expect(same[0, 1] == low)
    #expect(same[1, 1] == low * 2)
  }

  @Test func argumentsOfLastMention() throws {
    let logits: [Float] = [0, low, 0, 0, low, 0]
    let labels = [1, 1]
    let cost = try SoftmaxCrossEntropy().evaluate(logits.matrix(columns: 3), targets: labels.span)
    #expect(abs(cost.value - (Double(-low) + 0.6931471805599453)) < 1e-4)
  }
}
