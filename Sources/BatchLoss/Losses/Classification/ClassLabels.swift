import BatchLossFormulas

/// Class indices of any integer type, as the kernels take them.
enum ClassLabels {
  /// Writes every label as an `Int32`, −1 where it is the ignored one, and returns how many are not.
  /// - Throws: ``BatchLossError`` naming the first label outside 0..<`columns`.
  static func convert<Label: FixedWidthInteger>(
    _ labels: UnsafeBufferPointer<Label>, to classes: UnsafeMutablePointer<Int32>, columns: Int, ignoring: Int?
  ) throws(BatchLossError) -> Int {
    // Concrete types, so that the loop is compiled for each and not run through witness tables.
    let raw = UnsafeRawPointer(labels.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Label>.alignment)!)
    let plan = Plan(count: labels.count, classes: classes, columns: columns, ignored: ignoring)
    switch (Label.bitWidth, Label.isSigned) {
    case (8, true): return try plan.convert(raw.assumingMemoryBound(to: Int8.self))
    case (8, false): return try plan.convert(raw.assumingMemoryBound(to: UInt8.self))
    case (16, true): return try plan.convert(raw.assumingMemoryBound(to: Int16.self))
    case (16, false): return try plan.convert(raw.assumingMemoryBound(to: UInt16.self))
    case (32, true): return try plan.convert(raw.assumingMemoryBound(to: Int32.self))
    case (32, false): return try plan.convert(raw.assumingMemoryBound(to: UInt32.self))
    case (64, true): return try plan.convert(raw.assumingMemoryBound(to: Int64.self))
    case (64, false): return try plan.convert(raw.assumingMemoryBound(to: UInt64.self))
    default: return try plan.convert(raw.assumingMemoryBound(to: Label.self))
    }
  }

  private struct Plan {
    let count: Int
    let classes: UnsafeMutablePointer<Int32>
    let columns: Int
    let ignored: Int?

    @inline(__always)
    func convert<Label: FixedWidthInteger>(_ labels: UnsafePointer<Label>) throws(BatchLossError) -> Int {
      let ignored = self.ignored.flatMap { Label(exactly: $0) }
      let (hasIgnored, ignoredLabel) = (ignored != nil, ignored ?? 0)
      var kept = 0
      for row in 0..<count {
        // A label that fits in no `Int` is no class.
        let label = Int(clamping: labels[row])
        if hasIgnored && labels[row] == ignoredLabel {
          classes[row] = -1
        } else if label >= 0 && label < columns {
          classes[row] = Int32(truncatingIfNeeded: label)
          kept += 1
        } else {
          let exception = self.ignored.map { " or the ignore index \($0)" } ?? ""
          throw BatchLossError(
            .invalidLabel, parameter: "targets",
            expected: "a class from 0 to \(columns - 1)\(exception) in row \(row)", actual: "\(labels[row])")
        }
      }
      return kept
    }
  }
}
