import BatchLoss
import Testing

/// How a test calls the loss.
struct CTCRun {
  var layout = CTCLoss.Layout.batchMajor
  var input = CTCLoss.Input.logits
  var zeroInfinity = false
  var reduction = Reduction.sum
  var denominator: Double?
  var weights: [Double]?
  var isInPlace = false
  var isConcatenated = false
  var padding = 0
  var workers = 1

  struct Result<Scalar: LossScalar> {
    var cost: Cost
    var losses: [Scalar]
    /// batch × time × classes, whatever the layout was.
    var gradient: [Scalar]
  }

  func callAsFunction<Scalar: LossScalar>(_ sample: CTCSample, _: Scalar.Type) throws -> Result<Scalar> {
    let loss = try CTCLoss(blank: sample.blank, zeroInfinity: zeroInfinity, layout: layout, input: input)
    let rows = sample.batch * sample.time
    let stride = sample.classes + padding
    // What lies between rows must neither be read nor written.
    let poison = Scalar(-123.5)
    var logits = [Scalar](repeating: .nan, count: rows * stride)
    func rowIndex(_ utterance: Int, _ frame: Int) -> Int {
      layout == .batchMajor ? utterance * sample.time + frame : frame * sample.batch + utterance
    }
    for utterance in 0..<sample.batch {
      for frame in 0..<sample.time {
        let start = rowIndex(utterance, frame) * stride
        for (column, value) in sample.row(utterance, frame).enumerated() { logits[start + column] = Scalar(value) }
      }
    }
    var gradient = [Scalar](repeating: poison, count: rows * stride)
    if isInPlace {
      for row in 0..<rows { for column in sample.classes..<stride { logits[row * stride + column] = poison } }
    }
    var losses = [Scalar](repeating: poison, count: sample.batch)
    let engine = Engine(configuration: try .init(workerCount: workers))
    let labels = isConcatenated ? sample.labels.flatMap { $0 } : sample.padded
    let (lengths, frames) = (sample.targetLengths, sample.inputLengths)
    let targets =
      isConcatenated
      ? CTCTargets(concatenated: labels.span, lengths: lengths.span)
      : CTCTargets(padded: labels.span, batch: sample.batch, lengths: lengths.span)
    let factors = weights.map { $0.map { Scalar($0) } }
    let cost: Cost
    if isInPlace {
      cost = try loss.evaluateInPlace(
        MutableMatrixView(logits.mutableSpan, rows: rows, columns: sample.classes, stride: stride),
        targets: targets, inputLengths: frames.span, weights: factors?.span, reduction: reduction,
        denominator: denominator, losses: losses.mutableSpan, engine: engine)
      gradient = logits
    } else {
      cost = try loss.evaluate(
        MatrixView(logits.span, rows: rows, columns: sample.classes, stride: stride), targets: targets,
        inputLengths: frames.span, weights: factors?.span, reduction: reduction, denominator: denominator,
        losses: losses.mutableSpan,
        gradient: MutableMatrixView(gradient.mutableSpan, rows: rows, columns: sample.classes, stride: stride),
        engine: engine)
      let alone = try loss.evaluate(
        MatrixView(logits.span, rows: rows, columns: sample.classes, stride: stride), targets: targets,
        inputLengths: frames.span, weights: factors?.span, reduction: reduction, denominator: denominator,
        engine: engine)
      #expect(
        alone.sum.bitPattern == cost.sum.bitPattern && alone.denominator == cost.denominator,
        "the gradient must not change the value")
    }
    var collected: [Scalar] = []
    for utterance in 0..<sample.batch {
      for frame in 0..<sample.time {
        let start = rowIndex(utterance, frame) * stride
        collected += gradient[start..<start + sample.classes]
        let gap = gradient[(start + sample.classes)..<(start + stride)]
        #expect(gap.allSatisfy { $0 == poison }, "memory between rows was written")
      }
    }
    return Result(cost: cost, losses: losses, gradient: collected)
  }
}

/// The largest absolute difference; ∞ where one is NaN and the other is not.
func largestDifference<Scalar: LossScalar>(_ values: [Scalar], _ expected: [Double]) -> Double {
  precondition(values.count == expected.count)
  var largest = 0.0
  for (value, reference) in zip(values, expected) {
    let difference = abs(Double(value) - reference)
    if Double(value) == reference || (value.isNaN && reference.isNaN) { continue }
    largest = difference.isNaN ? .infinity : max(largest, difference)
  }
  return largest
}
