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
    let count = labels.count
    func run<Concrete: FixedWidthInteger>(_: Concrete.Type) throws(BatchLossError) -> Int {
      try convert(
        raw.assumingMemoryBound(to: Concrete.self), count, to: classes, columns: columns, ignoring: ignoring)
    }
    switch (Label.bitWidth, Label.isSigned) {
    case (8, true): return try run(Int8.self)
    case (8, false): return try run(UInt8.self)
    case (16, true): return try run(Int16.self)
    case (16, false): return try run(UInt16.self)
    case (32, true): return try run(Int32.self)
    case (32, false): return try run(UInt32.self)
    case (64, true): return try run(Int64.self)
    case (64, false): return try run(UInt64.self)
    default:
      return try convert(
        raw.assumingMemoryBound(to: Label.self), count, to: classes, columns: columns, ignoring: ignoring)
    }
  }

  private static func convert<Label: FixedWidthInteger>(
    _ labels: UnsafePointer<Label>, _ count: Int, to classes: UnsafeMutablePointer<Int32>, columns: Int,
    ignoring: Int?
  ) throws(BatchLossError) -> Int {
    let ignored = ignoring.flatMap { Label(exactly: $0) }
    let end = Label(clamping: columns)
    var kept = 0
    for row in 0..<count {
      let label = labels[row]
      if label == ignored {
        classes[row] = -1
      } else if label >= 0, label < end {
        classes[row] = Int32(truncatingIfNeeded: label)
        kept += 1
      } else if label == Label.max, label >= 0, Int(label) < columns {
        // The type ends before the classes do.
        classes[row] = Int32(truncatingIfNeeded: label)
        kept += 1
      } else {
        let exception = ignoring.map { " or the ignore index \($0)" } ?? ""
        throw BatchLossError(
          .invalidLabel, parameter: "targets",
          expected: "a class from 0 to \(columns - 1)\(exception) in row \(row)", actual: "\(label)")
      }
    }
    return kept
  }
}
