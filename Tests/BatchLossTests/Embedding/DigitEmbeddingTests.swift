import BatchLoss
import BatchLossCatalog
import BatchLossTensorFiles
import Foundation
import Testing

// Every loss on embeddings of the catalogue on real rows: handwritten digits in 16 principal components, 1797 of them
// with labels, and 256 pairs, triplets and views. Against: PyTorch and pytorch-metric-learning in float64
// (Examples/embeddings/make_data.py). Tolerance: 1e-10 in Double; in Float 1e-6 for costs and 1e-5 of the largest
// element for gradients. Mining in Float may choose another of two candidates that all but tie, in which case rows of
// the gradient jump; there only the cost and the norm of the gradient are compared.

@Suite("Losses on embeddings of digits")
struct DigitEmbeddingTests {
  @Test("Costs and gradients in Double", arguments: DigitExample.cases)
  func doubles(_ example: DigitExample) throws {
    try check(example, as: Double.self, cost: 1e-10, gradient: 1e-10, rows: true)
  }

  @Test("Costs and gradients in Float", arguments: DigitExample.cases)
  func floats(_ example: DigitExample) throws {
    try check(example, as: Float.self, cost: 1e-6, gradient: 1e-5, rows: !example.chooses)
  }

  @Test("Every loss on embeddings is among them")
  func coverage() {
    let rows: Set<Role> = [.embeddings, .first, .anchors, .queries]
    let losses = LossCatalog.entries.filter { entry in entry.roles.contains { rows.contains($0.role) } }.map(\.name)
    #expect(losses.count == 11)
    #expect(Set(DigitExample.cases.map(\.loss)) == Set(losses))
  }

  private func check<Scalar: LossScalar>(
    _ example: DigitExample, as: Scalar.Type, cost: Double, gradient: Double, rows: Bool
  ) throws {
    let entry = try #require(LossCatalog[example.loss])
    let memory = Memory<Scalar>()
    var problem = LossProblem<Scalar>()
    problem.options = try example.lossOptions()
    for name in example.inputs {
      let role = try #require(Role(rawValue: name))
      let tensor = try MappedTensor(opening: DigitExample.folder.appending(path: "\(name).npy").path)
      problem.shapes[role] = tensor.shape
      guard tensor.elementType == .float32 else {
        problem.integers[role] = UnsafeBufferPointer(
          memory.allocate(try tensor.withElements(as: UInt8.self) { $0.map(Int64.init) }))
        continue
      }
      let values = try tensor.withElements(as: Float.self) { $0.map { Scalar($0) } }
      problem.matrices[role] = Rows(
        elements: UnsafeBufferPointer(memory.allocate(values)), rows: tensor.shape[0], columns: tensor.shape[1])
      problem.gradients[role] = memory.allocate([Scalar](repeating: .nan, count: values.count))
    }
    let outcome = try entry.evaluator.evaluate(problem)

    #expect(relativeError(outcome.cost.value, example.cost) < cost)
    for (name, slope) in example.parameters {
      let found = outcome.details.first { $0.name == name }
      #expect(relativeError(found?.value ?? .nan, slope) < gradient, "\(name)")
    }
    let differentiable = Set(entry.roles.filter(\.isDifferentiable).map(\.role.rawValue))
    #expect(Set(example.gradients.keys) == differentiable.intersection(example.inputs))
    for (name, truth) in example.gradients {
      let values = try #require(Role(rawValue: name).flatMap { problem.gradients[$0] })
      let norm = values.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
      #expect(relativeError(norm, truth.norm) < gradient, "norm of \(name)")
      guard rows else { continue }
      for (row, expected) in truth.rows {
        let start = try #require(Int(row)) * expected.count
        let error = zip(values[start..<start + expected.count], expected).map { (Double($0) - $1).magnitude }.max()
        // Said this way round, NaN fails.
        #expect((error ?? .nan) / truth.largest < gradient, "row \(row) of \(name)")
      }
    }
  }

  /// Memory for the time of one test.
  private final class Memory<Scalar: LossScalar> {
    private var blocks: [UnsafeMutableRawPointer] = []

    func allocate<Element>(_ values: [Element]) -> UnsafeMutableBufferPointer<Element> {
      let buffer = UnsafeMutableBufferPointer<Element>.allocate(capacity: max(1, values.count))
      blocks.append(UnsafeMutableRawPointer(buffer.baseAddress!))
      _ = buffer.initialize(from: values)
      return UnsafeMutableBufferPointer(rebasing: buffer[..<values.count])
    }

    deinit { blocks.forEach { $0.deallocate() } }
  }
}

/// One evaluation of `Examples/embeddings`.
struct DigitExample: Decodable, Sendable, CustomTestStringConvertible {
  struct Gradient: Decodable, Sendable {
    let norm: Double
    let largest: Double
    /// Some of its rows, by their number.
    let rows: [String: [Double]]
  }

  enum Option: Decodable, Sendable {
    case number(Double)
    case word(String)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let flag = try? container.decode(Bool.self) {
        self = .number(flag ? 1 : 0)
      } else if let number = try? container.decode(Double.self) {
        self = .number(number)
      } else {
        self = .word(try container.decode(String.self))
      }
    }
  }

  let loss: String
  let options: [String: Option]
  let inputs: [String]
  let cost: Double
  /// Whether candidates are chosen by their distance.
  let chooses: Bool
  let parameters: [String: Double]
  let gradients: [String: Gradient]

  var testDescription: String { "\(loss) of \(inputs[0])" }

  func lossOptions() throws -> LossOptions {
    var result = LossOptions()
    for (name, option) in options {
      let key = try #require(OptionName(rawValue: name))
      switch option {
      case .number(let value): result.values[key] = value
      case .word(let word): result.words[key] = word
      }
    }
    return result
  }

  static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Examples/embeddings")

  private struct File: Decodable { let cases: [DigitExample] }

  static let cases: [DigitExample] = {
    guard let data = try? Data(contentsOf: folder.appending(path: "expected.json")),
      let file = try? JSONDecoder().decode(File.self, from: data)
    else { return [] }
    return file.cases
  }()
}
