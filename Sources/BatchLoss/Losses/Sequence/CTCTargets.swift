import BatchLossFormulas

/// The label sequences of a batch of utterances, as rows of a padded array or one after the other.
///
/// Labels are class indices of any integer type; the blank is not written between them.
///
/// ```swift
/// CTCTargets(padded: labels.span, batch: 64)                         // 64 rows, all of full length
/// CTCTargets(padded: labels.span, batch: 64, lengths: lengths.span)  // what follows a length is not read
/// CTCTargets(concatenated: labels.span, lengths: lengths.span)
/// ```
///
/// Nothing is checked here: the call that the targets are given to checks them against its logits.
public struct CTCTargets<Label: FixedWidthInteger & BitwiseCopyable>: ~Escapable {
  /// The number of utterances.
  public let batch: Int
  let labels: Span<Label>
  let lengths: Span<Int>?
  let isPadded: Bool

  /// Rows of equal width, one an utterance; without `lengths` all of the row counts.
  @_lifetime(copy labels, copy lengths)
  public init(padded labels: Span<Label>, batch: Int, lengths: Span<Int>? = nil) {
    self.batch = batch
    self.labels = labels
    self.lengths = lengths
    isPadded = true
  }

  /// The labels of all utterances one after the other; the lengths add up to their count.
  @_lifetime(copy labels, copy lengths)
  public init(concatenated labels: Span<Label>, lengths: Span<Int>) {
    batch = lengths.count
    self.labels = labels
    self.lengths = lengths
    isPadded = false
  }
}

extension CTCTargets {
  /// How many frames each utterance needs at least: one for every label, and one more for the blank between equal
  /// neighbours. With fewer its loss is +∞, or 0 with ``CTCLoss/zeroInfinity``.
  /// - Throws: ``BatchLossError`` for lengths that do not fit the labels.
  @_specialize(where Label == Int32)
  @_specialize(where Label == Int64)
  public func requiredFrames() throws(BatchLossError) -> [Int] {
    var counts: [Int] = []
    counts.reserveCapacity(max(0, batch))
    let labels = pointer(to: labels)
    try forEachUtterance { (_, start, count) throws(BatchLossError) in
      counts.append(ctcRequiredFrames(UnsafeBufferPointer(rebasing: labels[start..<start + count])))
    }
    return counts
  }

  /// Checks the shape and yields where each utterance's labels start and how many there are.
  func forEachUtterance(
    _ body: (_ utterance: Int, _ start: Int, _ count: Int) throws(BatchLossError) -> Void
  ) throws(BatchLossError) {
    guard batch >= 0 else {
      throw BatchLossError(
        .invalidShape, parameter: "targets", expected: "a batch of 0 or more utterances", actual: "\(batch)")
    }
    if let lengths, lengths.count != batch {
      throw BatchLossError(
        .invalidShape, parameter: "target lengths", expected: "one for each of \(batch) utterances",
        actual: "\(lengths.count)")
    }
    if isPadded, batch == 0 ? labels.count != 0 : labels.count % batch != 0 {
      throw BatchLossError(
        .invalidShape, parameter: "targets", expected: "\(batch) rows of equal length",
        actual: "\(labels.count) labels")
    }
    let columns = batch == 0 ? 0 : labels.count / batch
    var start = 0
    for utterance in 0..<batch {
      let available = isPadded ? columns : labels.count - start
      let count = lengths?[utterance] ?? columns
      guard count >= 0, count <= available else {
        throw BatchLossError(
          .invalidLength, parameter: "target lengths",
          expected: "0 to \(available) for utterance \(utterance)", actual: "\(count)")
      }
      try body(utterance, isPadded ? utterance * columns : start, count)
      start += count
    }
    guard isPadded || start == labels.count else {
      throw BatchLossError(
        .invalidShape, parameter: "target lengths", expected: "a sum of \(labels.count), the number of labels",
        actual: "\(start)")
    }
  }
}

/// The number of labels and of equal neighbours.
@inline(__always)
func ctcRequiredFrames<Label: Equatable>(_ labels: UnsafeBufferPointer<Label>) -> Int {
  var frames = labels.count
  for index in labels.indices.dropFirst() where labels[index - 1] == labels[index] { frames += 1 }
  return frames
}

extension ClassLabels {
  /// Writes every label as an `Int32`, −1 where it does not fit.
  static func narrow<Label: FixedWidthInteger>(
    _ labels: UnsafeBufferPointer<Label>, to classes: UnsafeMutablePointer<Int32>
  ) {
    @inline(__always)
    func convert<Concrete: FixedWidthInteger>(_ labels: UnsafePointer<Concrete>, _ count: Int) {
      for index in 0..<count {
        let label = Int(clamping: labels[index])
        classes[index] = label >= 0 && label <= Int(Int32.max) ? Int32(truncatingIfNeeded: label) : -1
      }
    }
    guard let base = labels.baseAddress else { return }
    // Concrete types, so that the loop is compiled for each and not run through witness tables.
    let raw = UnsafeRawPointer(base)
    switch (Label.bitWidth, Label.isSigned) {
    case (32, true): convert(raw.assumingMemoryBound(to: Int32.self), labels.count)
    case (64, true): convert(raw.assumingMemoryBound(to: Int64.self), labels.count)
    case (16, true): convert(raw.assumingMemoryBound(to: Int16.self), labels.count)
    case (8, false): convert(raw.assumingMemoryBound(to: UInt8.self), labels.count)
    default: convert(base, labels.count)
    }
  }
}
