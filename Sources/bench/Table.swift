import Foundation

/// Aligned lines with a bar for the fraction of the limit reached.
struct Table {
  private let nameWidth: Int
  private let shapeWidth: Int

  /// A table for rows with these names and shapes.
  init(_ rows: [(name: String, shape: String)]) {
    nameWidth = max(4, rows.map(\.name.count).max() ?? 0)
    shapeWidth = max(5, rows.map(\.shape.count).max() ?? 0)
  }

  var header: String {
    line(
      "name", "shape", ["median ms", "min ms", "spread", "MB moved", "GFLOP", "limit ms", "MiB peak"],
      "of the limit")
  }

  func line(_ row: Measurement) -> String {
    let filled = max(0, min(20, Int((row.fractionOfLimit * 20).rounded())))
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 20 - filled)
    let numbers = [
      String(format: "%.3f", row.medianMilliseconds), String(format: "%.3f", row.minimumMilliseconds),
      String(format: "%.0f%%", row.spread * 100), String(format: "%.1f", Double(row.bytes) / 1e6),
      String(format: "%.2f", row.flops / 1e9), String(format: "%.3f", row.limitMilliseconds),
      "\(row.peakResidentBytes >> 20)",
    ]
    return line(row.name, row.shape, numbers, bar + String(format: " %3.0f%%", row.fractionOfLimit * 100))
  }

  private func line(_ name: String, _ shape: String, _ numbers: [String], _ bar: String) -> String {
    let widths = [11, 11, 8, 10, 9, 11, 10]
    let cells = zip(numbers, widths).map { String(repeating: " ", count: max(1, $1 - $0.count)) + $0 }
    return name.padding(toLength: nameWidth + 2, withPad: " ", startingAt: 0)
      + shape.padding(toLength: shapeWidth, withPad: " ", startingAt: 0) + cells.joined() + "  " + bar
  }
}
