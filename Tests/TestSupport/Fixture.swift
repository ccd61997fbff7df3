import Foundation

/// The cases of one loss in `Tests/Fixtures`, evaluated by PyTorch in float64; see `generate.py` there.
package struct Fixture: Decodable, Sendable {
  package let loss: String
  package let cases: [FixtureCase]

  /// Reads `Tests/Fixtures/<loss>.json`, found from the place of this source file.
  package init(_ loss: String) throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let file = folder.appendingPathComponent("Fixtures/\(loss).json")
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    self = try decoder.decode(Fixture.self, from: Data(contentsOf: file))
  }
}

/// One evaluation: what goes in and what must come out.
package struct FixtureCase: Decodable, Sendable, CustomStringConvertible {
  package let name: String
  package let options: FixtureOptions
  package let inputs: [String: FixtureTensor]
  package let cost: Double
  package let sum: Double
  package let denominator: Double
  package let losses: FixtureTensor
  package let gradients: [String: FixtureTensor]

  package var description: String { name }
}

/// The options of a case; those that the loss does not have, or the case leaves at their default, are nil.
package struct FixtureOptions: Decodable, Sendable {
  package let reduction: String
  package let delta, beta, quantile, positiveWeight, labelSmoothing, alpha, gamma: Double?
  package let zLoss, softCap, temperature: Double?
  package let logInput, full, logTargets: Bool?
  package let ignoreIndex: Int?
}

/// A tensor in row-major order. Every input is exact in `Float`.
package struct FixtureTensor: Decodable, Sendable {
  package let shape: [Int]
  package let data: [Double]

  /// The first axis.
  package var rows: Int { shape[0] }
  /// The second axis; 1 for a vector.
  package var columns: Int { shape.count > 1 ? shape[1] : 1 }
}
