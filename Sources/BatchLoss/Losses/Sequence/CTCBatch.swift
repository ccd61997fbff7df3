import BatchLossFormulas
import BatchLossKernelInterface

/// The validated utterances of a batch: labels as 32-bit integers, lengths, and the order of work.
///
/// It lives in scratch memory of the call.
struct CTCBatch {
  let count: Int
  /// Frames of an utterance, padding included.
  let time: Int
  private let columns: Int

  /// Frames that count.
  let frames: UnsafeMutablePointer<Int>
  let labelStarts: UnsafeMutablePointer<Int>
  let labelCounts: UnsafeMutablePointer<Int>
  /// Frames that the target needs at least.
  let requiredFrames: UnsafeMutablePointer<Int>
  let losses: UnsafeMutablePointer<Double>
  /// Utterances, the most work first.
  let order: UnsafeMutablePointer<Int32>
  let labels: UnsafeMutablePointer<Int32>

  func isFeasible(_ utterance: Int) -> Bool { requiredFrames[utterance] <= frames[utterance] }

  func row(_ utterance: Int, _ frame: Int, _ layout: CTCLoss.Layout) -> Int {
    layout == .batchMajor ? utterance * time + frame : frame * count + utterance
  }

  /// Rows from one frame of an utterance to the next.
  func frameStride(_ layout: CTCLoss.Layout) -> Int { layout == .batchMajor ? 1 : count }

  /// The kernel's view of an utterance, without outputs.
  func arguments<Scalar: LossScalar>(
    of utterance: Int, _ logits: RowMajor<Scalar>, _ loss: CTCLoss, workspace: UnsafeMutablePointer<UInt8>
  ) -> CTCArguments<Scalar> {
    CTCArguments(
      input: UnsafePointer(logits.pointer(row(utterance, 0, loss.layout), 0)),
      inputStride: frameStride(loss.layout) * logits.stride, gradient: nil, gradientStride: 0,
      frames: frames[utterance], columns: logits.columns,
      labels: UnsafePointer(labels + labelStarts[utterance]), labelCount: labelCounts[utterance],
      blank: loss.blank, isNormalized: loss.input == .logProbabilities, streams: false, scale: 1,
      workspace: UnsafeMutableRawPointer(workspace))
  }

  /// Checks all there is to check about targets and lengths.
  init<Label: FixedWidthInteger>(
    targets: borrowing CTCTargets<Label>, inputLengths: Span<Int>?, rows: Int, columns: Int, loss: CTCLoss,
    scratch: Workspace
  ) throws(BatchLossError) {
    count = targets.batch
    guard count >= 0 else {
      throw BatchLossError(
        .invalidShape, parameter: "targets", expected: "a number of utterances ≥ 0", actual: "\(count)")
    }
    guard count == 0 ? rows == 0 : rows % count == 0 else {
      throw BatchLossError(
        .invalidShape, parameter: "logits",
        expected: "a multiple of \(count) rows, one for each utterance and frame",
        actual: "\(rows)")
    }
    time = count == 0 ? 0 : rows / count
    self.columns = columns
    guard columns <= Int(Int32.max) else {
      throw BatchLossError(
        .invalidShape, parameter: "logits", expected: "fewer than 2³¹ classes", actual: "\(columns)")
    }
    guard loss.blank < columns || count == 0 else {
      throw BatchLossError(
        .invalidParameter, parameter: "blank", expected: "less than the number of classes, \(columns)",
        actual: "\(loss.blank)")
    }
    if let inputLengths, inputLengths.count != count {
      throw BatchLossError(
        .invalidShape, parameter: "inputLengths", expected: "one for each of \(count) utterances",
        actual: "\(inputLengths.count)")
    }
    let labelTotal = targets.labels.count
    let memory = UnsafeMutableRawPointer(
      scratch.buffer(of: Int.self, count: 5 * count + (count + labelTotal + 1) / 2))
    let integers = memory.bindMemory(to: Int.self, capacity: 4 * count)
    frames = integers
    labelStarts = integers + count
    labelCounts = integers + 2 * count
    requiredFrames = integers + 3 * count
    losses = (memory + 32 * count).bindMemory(to: Double.self, capacity: count)
    order = (memory + 40 * count).bindMemory(to: Int32.self, capacity: count + labelTotal)
    labels = order + count
    for utterance in 0..<count {
      let length = inputLengths?[utterance] ?? time
      guard length >= 0, length <= time else {
        throw BatchLossError(
          .invalidLength, parameter: "inputLengths", expected: "0 to \(time) for utterance \(utterance)",
          actual: "\(length)")
      }
      frames[utterance] = length
      order[utterance] = Int32(truncatingIfNeeded: utterance)
    }
    try readLabels(of: targets, columns: columns, blank: loss.blank)
    sortByWork()
  }

  /// Scratch memory that any utterance of the batch needs.
  func workspaceBytes<Scalar: LossScalar>(_: Scalar.Type, hasTable: Bool) -> Int {
    (0..<count).reduce(0) { largest, utterance in
      guard isFeasible(utterance) else { return largest }
      let layout = CTCWorkspace(
        frames: frames[utterance], labels: labelCounts[utterance], columns: columns,
        scalarBytes: MemoryLayout<Scalar>.stride, hasTable: hasTable)
      return max(largest, layout.bytes)
    }
  }

  private func readLabels<Label: FixedWidthInteger>(
    of targets: borrowing CTCTargets<Label>, columns: Int, blank: Int
  ) throws(BatchLossError) {
    let source = pointer(to: targets.labels)
    ClassLabels.narrow(source, to: labels)
    let (labels, labelStarts, labelCounts, requiredFrames) = (labels, labelStarts, labelCounts, requiredFrames)
    try targets.forEachUtterance { (utterance, start, length) throws(BatchLossError) in
      for index in start..<start + length {
        let label = Int(labels[index])
        guard label >= 0, label < columns, label != blank else {
          throw BatchLossError(
            .invalidLabel, parameter: "targets",
            expected:
              "0 to \(columns - 1), not the blank \(blank), for label \(index - start) of utterance \(utterance)",
            actual: "\(source[index])")
        }
      }
      labelStarts[utterance] = start
      labelCounts[utterance] = length
      requiredFrames[utterance] = ctcRequiredFrames(UnsafeBufferPointer(start: labels + start, count: length))
    }
  }

  /// How many utterances of the order are handed to a worker at a time.
  func utterancesPerBlock(workers: Int) -> Int {
    guard count > 0 else { return 1 }
    // In floating point, for any number of utterances.
    let total = (0..<count).reduce(0.0) { $0 + Double(work($1)) }
    return Double(work(Int(order[0]))) * Double(count) <= 2 * total ? max(1, count / (32 * workers)) : 1
  }

  /// A measure of what an utterance costs.
  private func work(_ utterance: Int) -> Int {
    frames[utterance] * (columns + 16 * labelCounts[utterance] + 64)
  }

  /// The longest first, so that no worker is left with a long one at the end.
  private func sortByWork() {
    let isSorted = (1..<max(count, 1)).allSatisfy { work(Int(order[$0 - 1])) >= work(Int(order[$0])) }
    guard !isSorted else { return }
    var utterances = UnsafeMutableBufferPointer(start: order, count: count)
    utterances.sort { left, right in
      let (a, b) = (work(Int(left)), work(Int(right)))
      return a == b ? left < right : a > b
    }
  }
}
