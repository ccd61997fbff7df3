import BatchLossFormulas

/// Class indices of any integer type, as the kernels take them.
enum ClassLabels {
  /// Writes every label as an `Int32`, −1 where it is the ignored one, and returns how many are not.
  /// - Throws: ``BatchLossError`` naming the first label outside 0..<`columns`.
  static func convert<Label: FixedWidthInteger>(
    _ labels: UnsafeBufferPointer<Label>, to classes: UnsafeMutablePointer<Int32>, columns: Int, ignoring: Int?,
    engine: Engine
  ) throws(BatchLossError) -> Int {
    // Concrete types, so that the loop is compiled for each and not run through witness tables.
    let raw = UnsafeRawPointer(labels.baseAddress ?? UnsafePointer(bitPattern: MemoryLayout<Label>.alignment)!)
    let plan = Plan(count: labels.count, classes: classes, columns: columns, ignored: ignoring, engine: engine)
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
    let engine: Engine

    @inline(__always)
    func convert<Label: FixedWidthInteger>(_ labels: UnsafePointer<Label>) throws(BatchLossError) -> Int {
      let blocks = BlockPartition(of: count, blockSize: 16384)
      let found = engine.sum(overBlocks: blocks.blocks) { block, _ in convert(labels, blocks[block]) }
      guard found.sum == 0 else { throw mistake(in: labels) }
      return found.active
    }

    /// How many rows of a block are not ignored, and a sum that is not 0 where a label is no class.
    @inline(__always)
    private func convert<Label: FixedWidthInteger>(_ labels: UnsafePointer<Label>, _ rows: Range<Int>)
      -> PartialSums
    {
      let limit = Int64(columns) - 1
      var ignoredCount = 0
      // Of numbers one of which is negative where a label is no class: gathered without a comparison, so that vectors
      // of every instruction set do it. Which label is wrong is looked for once it is known that one is.
      var signs: Int64 = 0
      if let ignored = ignored.flatMap({ Label(exactly: $0) }) {
        for row in rows {
          let label = Int64(clamping: labels[row])
          let isIgnored = labels[row] == ignored
          ignoredCount &+= isIgnored ? 1 : 0
          signs |= isIgnored ? 0 : label | (limit &- label)
          classes[row] = isIgnored ? -1 : Int32(truncatingIfNeeded: label)
        }
      } else {
        for row in rows {
          let label = Int64(clamping: labels[row])
          signs |= label | (limit &- label)
          classes[row] = Int32(truncatingIfNeeded: label)
        }
      }
      return PartialSums(sum: signs < 0 ? 1 : 0, active: rows.count - ignoredCount)
    }

    /// The error that names the first label that is no class.
    private func mistake<Label: FixedWidthInteger>(in labels: UnsafePointer<Label>) -> BatchLossError {
      let row = (0..<count).first { row in
        let label = Int64(clamping: labels[row])
        return (label < 0 || label >= columns) && labels[row] != ignored.flatMap { Label(exactly: $0) }
      }!
      let exception = ignored.map { " or the ignore index \($0)" } ?? ""
      return BatchLossError(
        .invalidLabel, parameter: "targets",
        expected: "a class from 0 to \(columns - 1)\(exception) in row \(row)", actual: "\(labels[row])")
    }
  }
}
