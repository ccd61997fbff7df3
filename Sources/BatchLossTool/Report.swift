import BatchLoss
import Foundation

/// The result of an evaluation, for people and for programs.
struct Report {
  let loss: String
  let rows: Int
  let columns: Int
  let reduction: String
  let cost: Cost
  let details: [(name: String, value: Double)]
  let seconds: Double
  let workers: Int
  let instructionSet: String
  let scalar: String
  let outputs: [String]

  /// A few aligned lines.
  func summary() -> String {
    var lines = [
      ("loss", loss), ("shape", "\(rows) × \(columns), \(scalar)"), ("cost", "\(cost.value) (\(reduction))"),
      ("sum", "\(cost.sum)"), ("denominator", "\(cost.denominator)"),
    ]
    // Counts are whole numbers.
    lines += details.map { ($0.name, Int(exactly: $0.value).map { "\($0)" } ?? "\($0.value)") }
    lines.append(("time", timing(seconds, workers: workers, instructionSet)))
    lines += outputs.map { ("wrote", $0) }
    return alignedLines(lines)
  }
}

extension Report: Encodable {
  private struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(loss, forKey: Key("loss"))
    try container.encode(rows, forKey: Key("rows"))
    try container.encode(columns, forKey: Key("columns"))
    try container.encode(reduction, forKey: Key("reduction"))
    try container.encode(cost.value, forKey: Key("cost"))
    try container.encode(cost.sum, forKey: Key("sum"))
    try container.encode(cost.denominator, forKey: Key("denominator"))
    try container.encode(seconds, forKey: Key("seconds"))
    try container.encode(workers, forKey: Key("workers"))
    try container.encode(instructionSet, forKey: Key("instructionSet"))
    try container.encode(scalar, forKey: Key("scalar"))
    for detail in details { try container.encode(detail.value, forKey: Key(detail.name)) }
  }
}

/// One object on one line; numbers that JSON lacks are the strings "inf", "-inf" and "nan".
func jsonLine(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
  return String(decoding: try encoder.encode(value), as: UTF8.self)
}

/// Names and values in two columns.
func alignedLines(_ lines: [(name: String, value: String)]) -> String {
  let width = (lines.map(\.name.count).max() ?? 0) + 2
  return lines.map { $0.name.padding(toLength: width, withPad: " ", startingAt: 0) + $0.value }
    .joined(separator: "\n")
}

func timing(_ seconds: Double, workers: Int, _ instructionSet: String) -> String {
  String(format: "%.3f ms, ", seconds * 1e3) + "\(workers) workers, \(instructionSet)"
}
