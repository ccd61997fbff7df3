import BatchLoss
import BatchLossTestSupport
import Testing

// Shapes and labels that do not fit, for every loss on embeddings: the error names the parameter, and no output has been
// written.

@Suite struct EmbeddingErrorTests {
  private func call(
    _ subject: EmbeddingSubject, inputs: [Int: (Int, Int)] = [:], gradients: [Int: (Int, Int)] = [:],
    losses: Int = 4, labels: [Int] = [0, 1, 2, 3], weights: Int? = nil
  ) -> EmbeddingSubject.Call {
    func filled(_ shape: (Int, Int)) -> GuardedBuffer<Float> {
      GuardedBuffer(rows: shape.0, columns: shape.1, [Float](repeating: 0.5, count: shape.0 * shape.1))
    }
    func empty(_ shape: (Int, Int)) -> GuardedBuffer<Float> { GuardedBuffer(rows: shape.0, columns: shape.1) }
    return EmbeddingSubject.Call(
      inputs: (0..<subject.inputs).map { filled(inputs[$0] ?? (4, 3)) },
      gradients: (0..<subject.inputs).map { empty(gradients[$0] ?? (4, 3)) }, losses: empty((1, losses)),
      labels: labels, weights: weights.map { filled((1, $0)) }, engine: .shared)
  }

  private func expect(
    _ parameter: String, _ subject: EmbeddingSubject, _ call: EmbeddingSubject.Call,
    code: BatchLossError.Code = .invalidShape, at location: SourceLocation = #_sourceLocation
  ) {
    expectError(code, parameter, by: { _ = try subject.evaluate(call) }, at: location)
    let areUntouched = (call.gradients + [call.losses]).allSatisfy { $0.isUntouched }
    #expect(areUntouched, sourceLocation: location)
  }

  @Test(arguments: EmbeddingSubject.all) func shapesThatDoNotFit(_ subject: EmbeddingSubject) {
    for (index, names) in subject.names.enumerated() {
      if index > 0 { expect(names.input, subject, call(subject, inputs: [index: (4, 2)])) }
      if index > 0 && names.input != "classCenters" {
        expect(names.input, subject, call(subject, inputs: [index: (3, 3)]))
      }
      expect(names.gradient, subject, call(subject, gradients: [index: (3, 3)]))
      expect(names.gradient, subject, call(subject, gradients: [index: (4, 4)]))
    }
    expect("losses", subject, call(subject, losses: 3))
    expect("losses", subject, call(subject, losses: 5))
    if let name = subject.labelsName {
      expect(name, subject, call(subject, labels: [0, 1, 2]))
      expect(name, subject, call(subject, labels: [0, 1, 2, 3, 0]))
    }
    if subject.isRowWise { expect("weights", subject, call(subject, weights: 3)) }
  }

  @Test(arguments: EmbeddingSubject.all.filter { $0.names.last!.input == "classCenters" })
  func labelsThatNameNoCenter(_ subject: EmbeddingSubject) {
    expect("labels", subject, call(subject, labels: [0, 1, -1, 3]), code: .invalidLabel)
    // The subject takes labels modulo 4; three centers are there.
    expect("labels", subject, call(subject, inputs: [1: (3, 3)], gradients: [1: (3, 3)]), code: .invalidLabel)
    expect("labels", subject, call(subject, inputs: [1: (0, 3)], gradients: [1: (0, 3)]), code: .invalidLabel)
  }
}
